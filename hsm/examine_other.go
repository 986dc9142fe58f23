//go:build !linux

package hsm

import "context"

// doctor has no use on a system without token support.
type doctor struct{}

// Examine says that this system has no token support.
func Examine(context.Context, Config, ExamineOptions) (*Examination, error) {
	return nil, ErrUnsupported
}

// ChangePIN says that this system has no token support.
func ChangePIN(context.Context, Config, string) (PINChange, error) {
	return PINChange{}, ErrUnsupported
}
