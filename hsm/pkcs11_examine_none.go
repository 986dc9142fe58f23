//go:build !cgo && linux

package hsm

import "time"

type probe struct{}

func surveyModule(start, *Examination) {}

func (*pkcs11Token) survey(*Examination)            {}
func (*pkcs11Token) newProbe() (*probe, error)      { return nil, ErrUnsupported }
func (*pkcs11Token) dismiss(*probe)                 {}
func (*pkcs11Token) roundTrip(*probe) *RoundTrip    { return nil }
func (*pkcs11Token) tryTestKey([]startKey) *TestKey { return nil }
func (*pkcs11Token) setPIN(string, string) error    { return ErrUnsupported }
func (*pkcs11Token) examineKeys([]startKey) ([]ExaminedKey, []string, error) {
	return nil, nil, ErrUnsupported
}

func (*pkcs11Token) rate(*probe, int, time.Duration) (int, time.Duration, error) {
	return 0, 0, ErrUnsupported
}
