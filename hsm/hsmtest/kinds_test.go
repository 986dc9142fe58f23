//go:build cgo && linux

package hsmtest_test

import (
	"testing"

	"github.com/certmill/certmill/hsm"
	"github.com/certmill/certmill/hsm/hsmtest"
)

// Every kind of token that can be had here goes through the same suite.
func TestKinds(t *testing.T) {
	for _, k := range []struct {
		name string
		open func(testing.TB) hsm.Config
	}{
		{"SoftHSM", hsmtest.SoftHSM},
		{"NSS", hsmtest.NSS},
		{"opencryptoki", hsmtest.OpenCryptoki},
		{"TPM 2.0", hsmtest.TPM2},
		{"p11-kit proxy", hsmtest.P11Kit},
		{"NSS behind p11-kit proxy", hsmtest.NSSBehindP11Kit},
		{"p11-kit remote", hsmtest.P11KitRemote},
		{"pkcs11-spy", hsmtest.Spy},
		{"caml-crush", hsmtest.CamlCrush},
	} {
		t.Run(k.name, func(t *testing.T) {
			t.Parallel()
			hsmtest.Run(t, k.open)
		})
	}
}
