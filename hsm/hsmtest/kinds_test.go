//go:build cgo && linux

package hsmtest_test

import (
	"os"
	"testing"
	"time"

	"github.com/certmill/certmill/hsm"
	"github.com/certmill/certmill/hsm/hsmtest"
	"github.com/miekg/pkcs11"
)

// Every kind of token that can be had here goes through the same suite.
func TestKinds(t *testing.T) {
	some := []hsm.Algorithm{hsm.P256, hsm.RSA2048} // of modules that stand in front of another
	for _, k := range []struct {
		name string
		only []hsm.Algorithm
		open func(testing.TB) hsm.Config
	}{
		{"SoftHSM", nil, hsmtest.SoftHSM},
		{"NSS", nil, hsmtest.NSS},
		{"opencryptoki", nil, hsmtest.OpenCryptoki},
		{"TPM 2.0", nil, hsmtest.TPM2},
		{"p11-kit proxy", some, hsmtest.P11Kit},
		{"NSS behind p11-kit proxy", some, hsmtest.NSSBehindP11Kit},
		{"p11-kit remote", some, hsmtest.P11KitRemote},
		{"pkcs11-spy", some, hsmtest.Spy},
		{"caml-crush", some, hsmtest.CamlCrush},
	} {
		t.Run(k.name, func(t *testing.T) {
			t.Parallel()
			hsmtest.Run(t, k.open, k.only...)
		})
	}
}

// Peculiarities that real tokens are known for, one at a time, in front of SoftHSM.
func TestPeculiarTokens(t *testing.T) {
	const private = pkcs11.CKO_PRIVATE_KEY
	ec, rsa := []hsm.Algorithm{hsm.P256, hsm.P384}, []hsm.Algorithm{hsm.P256, hsm.RSA2048}
	for _, k := range []struct {
		name   string
		only   []hsm.Algorithm
		change func(*hsm.Config, *hsmtest.Faults)
	}{
		{"refuses an explicit false", rsa, quirks(hsmtest.Quirks{RefuseFalse: pkcs11.CKR_ATTRIBUTE_VALUE_INVALID})},
		{"calls an explicit false inconsistent", ec, quirks(hsmtest.Quirks{RefuseFalse: pkcs11.CKR_TEMPLATE_INCONSISTENT, UniqueIDs: true})},
		{"hides new keys from running processes, refuses fork", ec, quirks(hsmtest.Quirks{HideNewKeys: true, RefuseFork: true})},
		{"no elliptic curves", rsa, quirks(hsmtest.Quirks{HideEC: true})},
		{"two sessions in all", rsa, func(_ *hsm.Config, f *hsmtest.Faults) { f.LimitSessions(2, 0) }},
		{"two sessions in all, lost ones linger", ec, func(_ *hsm.Config, f *hsmtest.Faults) { f.LimitSessions(2, 300*time.Millisecond) }},
		{"sixteen sessions, lost ones linger", ec, func(_ *hsm.Config, f *hsmtest.Faults) { f.LimitSessions(16, time.Second) }},
		{"5 ms a signature", rsa, func(_ *hsm.Config, f *hsmtest.Faults) { f.Delay(hsmtest.Sign, 5*time.Millisecond) }},
		{"1 s a signature", ec[:1], func(_ *hsm.Config, f *hsmtest.Faults) { f.Delay(hsmtest.Sign, time.Second) }},
		{"says little of its keys", rsa, attributes(
			hsmtest.Attribute{Type: pkcs11.CKA_LOCAL, Class: private, Value: []byte{0}},
			hsmtest.Attribute{Type: pkcs11.CKA_ALWAYS_SENSITIVE, Class: private, NotOffered: true},
			hsmtest.Attribute{Type: pkcs11.CKA_NEVER_EXTRACTABLE, Class: private, NotOffered: true},
			hsmtest.Attribute{Type: pkcs11.CKA_DERIVE, Class: private, NotOffered: true},
			hsmtest.Attribute{Type: pkcs11.CKA_UNWRAP, Class: private, NotOffered: true})},
		{"shows no CKA_ID", rsa, attributes(hsmtest.Attribute{Type: pkcs11.CKA_ID, AnyClass: true, NotOffered: true})},
		{"PIN at its own pad", ec, func(c *hsm.Config, f *hsmtest.Faults) {
			f.Quirks(hsmtest.Quirks{FlagsSet: pkcs11.CKF_PROTECTED_AUTHENTICATION_PATH, PadPIN: pinOf(t, *c)})
			c.PIN = hsm.PIN{ProtectedPath: true}
		}},
		{"no login", ec, func(c *hsm.Config, f *hsmtest.Faults) {
			f.Quirks(hsmtest.Quirks{FlagsCleared: pkcs11.CKF_LOGIN_REQUIRED, NoLogin: true, PadPIN: pinOf(t, *c)})
			c.NoLogin, c.PIN = true, hsm.PIN{}
		}},
	} {
		t.Run(k.name, func(t *testing.T) {
			t.Parallel()
			hsmtest.Run(t, func(t testing.TB) hsm.Config {
				cfg, f := hsmtest.Faulty(t, hsmtest.SoftHSM(t))
				k.change(&cfg, f)
				return cfg
			}, k.only...)
		})
	}
}

func quirks(q hsmtest.Quirks) func(*hsm.Config, *hsmtest.Faults) {
	return func(_ *hsm.Config, f *hsmtest.Faults) { f.Quirks(q) }
}

func attributes(all ...hsmtest.Attribute) func(*hsm.Config, *hsmtest.Faults) {
	return func(_ *hsm.Config, f *hsmtest.Faults) { f.Attributes(all...) }
}

func pinOf(t *testing.T, cfg hsm.Config) string {
	t.Helper()
	pin, err := os.ReadFile(cfg.PIN.File)
	if err != nil {
		t.Fatal(err)
	}
	return string(pin)
}
