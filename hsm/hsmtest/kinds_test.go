//go:build cgo && linux

package hsmtest_test

import (
	"crypto/ecdsa"
	"os"
	"os/exec"
	"strings"
	"testing"
	"time"

	"github.com/certmill/certmill/hsm"
	"github.com/certmill/certmill/hsm/hsmtest"
	"github.com/miekg/pkcs11"
)

// Every kind of token that can be had here goes through the same suite.
func TestKinds(t *testing.T) {
	some := []hsm.Algorithm{hsm.P256} // of modules that stand in front of another
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
	ec, rsa := []hsm.Algorithm{hsm.P256}, []hsm.Algorithm{hsm.P256, hsm.RSA2048}
	for _, k := range []struct {
		name   string
		only   []hsm.Algorithm
		change func(*hsm.Config, *hsmtest.Faults)
	}{
		{"refuses an explicit false", rsa, quirks(hsmtest.Quirks{RefuseFalse: pkcs11.CKR_ATTRIBUTE_VALUE_INVALID})},
		{"calls an explicit false inconsistent", ec, quirks(hsmtest.Quirks{RefuseFalse: pkcs11.CKR_TEMPLATE_INCONSISTENT, UniqueIDs: true})},
		{"hides new keys from running processes, refuses fork", ec, quirks(hsmtest.Quirks{HideNewKeys: true, RefuseFork: true})},
		{"no elliptic curves", rsa, quirks(hsmtest.Quirks{HideEC: true})},
		{"two sessions in all", append(ec, hsm.P384), func(_ *hsm.Config, f *hsmtest.Faults) { f.LimitSessions(2, 0) }},
		{"two sessions in all, lost ones linger", ec, func(_ *hsm.Config, f *hsmtest.Faults) { f.LimitSessions(2, 300*time.Millisecond) }},
		{"sixteen sessions, lost ones linger", ec, func(_ *hsm.Config, f *hsmtest.Faults) { f.LimitSessions(16, time.Second) }},
		{"5 ms a signature", ec, func(_ *hsm.Config, f *hsmtest.Faults) { f.Delay(hsmtest.Sign, 5*time.Millisecond) }},
		{"1 s a signature", ec, func(_ *hsm.Config, f *hsmtest.Faults) { f.Delay(hsmtest.Sign, time.Second) }},
		{"says little of its keys", rsa, attributes(
			hsmtest.Attribute{Type: pkcs11.CKA_LOCAL, Class: private, Value: []byte{0}},
			hsmtest.Attribute{Type: pkcs11.CKA_ALWAYS_SENSITIVE, Class: private, NotOffered: true},
			hsmtest.Attribute{Type: pkcs11.CKA_NEVER_EXTRACTABLE, Class: private, NotOffered: true},
			hsmtest.Attribute{Type: pkcs11.CKA_DERIVE, Class: private, NotOffered: true},
			hsmtest.Attribute{Type: pkcs11.CKA_UNWRAP, Class: private, NotOffered: true})},
		{"shows no CKA_ID", ec, attributes(hsmtest.Attribute{Type: pkcs11.CKA_ID, AnyClass: true, NotOffered: true})},
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

// made is a token behind the fault module with one key, and the configuration that signs with it.
func made(t *testing.T) (hsm.Config, *hsmtest.Faults, *ecdsa.PublicKey) {
	t.Helper()
	cfg, f := hsmtest.Faulty(t, hsmtest.SoftHSM(t))
	ceremony := cfg
	ceremony.Ceremony, ceremony.Signers = true, 1
	token, err := hsm.Open(t.Context(), ceremony)
	if err != nil {
		t.Fatal(err)
	}
	defer token.Close()
	public, err := token.Generate(t.Context(), "ca", hsm.P256)
	if err != nil {
		t.Fatal(err)
	}
	cfg.Keys = []hsm.KeyConfig{{Label: "ca", Public: public}}
	return cfg, f, public.(*ecdsa.PublicKey)
}

// signs opens a token and signs n messages; package hsm verifies each.
func signs(t *testing.T, cfg hsm.Config, n int) *hsm.Token {
	t.Helper()
	token, err := hsm.Open(t.Context(), cfg)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { token.Close() })
	key, err := token.Key("ca")
	if err != nil {
		t.Fatal(err)
	}
	for range n {
		if _, errs := key.Sign(t.Context(), "device", [][]byte{[]byte("tbs")}); errs[0] != nil {
			t.Fatal(errs[0])
		}
	}
	if s := token.Stats(); s.Respawns != 0 {
		t.Errorf("stats %+v", s)
	}
	return token
}

// The public half may be shown bare, with the curve by name, or not at all: crypto11 cannot use such keys, and we sign without it.
func TestPublicHalfAsModulesShowIt(t *testing.T) {
	cfg, f, public := made(t)
	point, err := public.Bytes()
	if err != nil {
		t.Fatal(err)
	}
	name := append([]byte{0x13, 10}, "prime256v1"...)
	bare := hsmtest.Attribute{Type: pkcs11.CKA_EC_POINT, AnyClass: true, Value: point}
	for _, c := range []struct {
		name string
		kind string
		list []hsmtest.Attribute
	}{
		{"as PKCS#11 says", "EC P-256", nil},
		{"bare", "EC P-256", []hsmtest.Attribute{bare}},
		{"bare, curve by name", "EC P-256", []hsmtest.Attribute{bare, {Type: pkcs11.CKA_EC_PARAMS, AnyClass: true, Value: name}}},
		{"not at all", "unknown", []hsmtest.Attribute{{Type: pkcs11.CKA_EC_POINT, AnyClass: true, NotOffered: true}}},
	} {
		t.Run(c.name, func(t *testing.T) {
			f.Attributes(c.list...)
			token := signs(t, cfg, 8)
			if kind := token.Reports()[0].Keys[0].Kind; kind != c.kind {
				t.Errorf("kind %s, want %s", kind, c.kind)
			}
		})
	}
}

// crypto11 gives up at the first slot that does not answer, whichever token is meant.
func TestSlotThatDoesNotAnswer(t *testing.T) {
	cfg, f, _ := made(t)
	f.Return(hsmtest.TokenInfo, hsmtest.Next(1), pkcs11.CKR_TOKEN_NOT_RECOGNIZED)
	signs(t, cfg, 1)
}

// crypto11's pool goes through all the sessions it may open, one after another: of a token with 16 it took 15 for one lane, and the second process found
// none left.
func TestSessionsWithinTheBudget(t *testing.T) {
	cfg, f, _ := made(t)
	f.LimitSessions(16, time.Second)
	cfg.Signers = 2
	token := signs(t, cfg, 64)
	lanes := uint64(token.Reports()[0].Lanes)
	for pid, p := range f.Counts().Processes {
		if p.Sessions > 1+lanes {
			t.Errorf("process %d has %d sessions for %d lanes", pid, p.Sessions, lanes)
		}
	}
}

// A token with one session in all is refused in words: crypto11 panicked.
func TestOneSessionInAll(t *testing.T) {
	cfg, f := hsmtest.Faulty(t, hsmtest.SoftHSM(t))
	f.LimitSessions(1, 0)
	if _, err := hsm.Open(t.Context(), cfg); err == nil || !strings.Contains(err.Error(), "certmill needs two") {
		t.Errorf("error %v", err)
	}
}

// Of tokens with one label the serial number tells which is meant, and of tokens with one serial number the label.
func TestTokensOfOneName(t *testing.T) {
	cfg, f, _ := made(t)
	pin := pinOf(t, cfg)
	for _, label := range []string{"other", "twin", "twin"} {
		c := exec.CommandContext(t.Context(), "softhsm2-util", "--init-token", "--free", "--label", label, "--so-pin", "12345678", "--pin", pin)
		c.Env = append(os.Environ(), cfg.Env...)
		if out, err := c.CombinedOutput(); err != nil {
			t.Fatalf("%v: %s", err, out)
		}
	}
	serial := signs(t, cfg, 1).Reports()[0].Serial
	both := cfg
	both.Serial = serial
	signs(t, both, 1)
	both.Token = ""
	signs(t, both, 1)
	twin := cfg
	twin.Token = "twin"
	if _, err := hsm.Open(t.Context(), twin); err == nil || !strings.Contains(err.Error(), "2 tokens are called twin") {
		t.Errorf("two tokens of one name: %v", err)
	}
	f.Quirks(hsmtest.Quirks{Serial: "0000"}) // as all tokens of tpm2-pkcs11 have
	cfg.Serial = "0000"
	signs(t, cfg, 1)
	cfg.Token, cfg.Keys, cfg.Ceremony = "other", nil, true
	token, err := hsm.Open(t.Context(), cfg)
	if err != nil {
		t.Fatal(err)
	}
	defer token.Close()
	public, err := token.Generate(t.Context(), "theirs", hsm.P256)
	if err != nil {
		t.Fatal(err)
	}
	key, err := token.Use(t.Context(), hsm.KeyConfig{Label: "theirs", Public: public})
	if err != nil {
		t.Fatal(err)
	}
	if _, errs := key.Sign(t.Context(), "device", [][]byte{[]byte("tbs")}); errs[0] != nil {
		t.Error(errs[0])
	}
}
