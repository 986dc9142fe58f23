package main

import (
	"errors"
	"fmt"
)

// Exit codes (contract, design.md section 5).
const (
	exitDone        = 0
	exitFailed      = 1
	exitDifferences = 2
	exitPartly      = 3
	exitWaiting     = 4
	exitNoHSM       = 5
	exitNotAllowed  = 6
	exitVerify      = 7
	exitUsage       = 64
	exitStorage     = 74
	exitTryAgain    = 75
	exitConfig      = 78
	exitInterrupted = 130
)

// exitError is an error that knows its exit code and what to do next.
type exitError struct {
	code int
	err  error
	hint string // what to do next; printed on a line of its own
}

func (e *exitError) Error() string { return e.err.Error() }
func (e *exitError) Unwrap() error { return e.err }

// fail makes an error with an exit code and a hint ("" none).
func fail(code int, hint, format string, args ...any) error {
	return &exitError{code: code, hint: hint, err: fmt.Errorf(format, args...)}
}

// silent ends a command with a code and no message: everything was said already.
func silent(code int) error { return &exitError{code: code, err: errSilent} }

var errSilent = errors.New("exit")
