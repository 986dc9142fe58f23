package hsm_test

import (
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/miekg/pkcs11"

	"github.com/certmill/certmill/hsm"
	"github.com/certmill/certmill/hsm/hsmtest"
)

// Each attribute that is not as demanded keeps the key from being used, and is named; a waiver lets it pass and is shown.
func TestP6GateNamesTheAttribute(t *testing.T) {
	no, yes := []byte{0}, []byte{1}
	refused := 0
	for _, c := range []struct {
		name  string
		typ   uint
		value []byte
	}{
		{"CKA_SENSITIVE", pkcs11.CKA_SENSITIVE, no}, {"CKA_PRIVATE", pkcs11.CKA_PRIVATE, no}, {"CKA_EXTRACTABLE", pkcs11.CKA_EXTRACTABLE, yes},
		{"CKA_SIGN", pkcs11.CKA_SIGN, no}, {"CKA_DECRYPT", pkcs11.CKA_DECRYPT, yes}, {"CKA_UNWRAP", pkcs11.CKA_UNWRAP, yes},
		{"CKA_DERIVE", pkcs11.CKA_DERIVE, yes}, {"CKA_WRAP", pkcs11.CKA_WRAP, yes},
		{"CKA_ALWAYS_SENSITIVE", pkcs11.CKA_ALWAYS_SENSITIVE, no}, {"CKA_NEVER_EXTRACTABLE", pkcs11.CKA_NEVER_EXTRACTABLE, no},
	} {
		t.Run(c.name, func(t *testing.T) {
			cfg, _, faults := newFaultyKey(t)
			faults.Attributes(hsmtest.Attribute{Type: c.typ, Class: pkcs11.CKO_PRIVATE_KEY, Value: c.value})
			if _, err := hsm.Open(t.Context(), cfg); !errors.Is(err, hsm.ErrUnfit) || !strings.Contains(err.Error(), c.name+" is") || !strings.Contains(err.Error(), "ca-g1") {
				t.Fatalf("error %v, want ErrUnfit that names %s", err, c.name)
			}
			refused++
			cfg.Keys[0].Waivers = []hsm.Waiver{{Key: "ca-g1", Attribute: c.name, Reason: "the auditor said so"}}
			token := open(t, cfg)
			if f := findingOf(token, c.name); f.Level != hsm.LevelWaived || f.Reason != "the auditor said so" {
				t.Errorf("finding %+v", f)
			}
		})
	}
	t.Logf("P6: %d of 10 attributes that are not as demanded refused at start, each named", refused)
}

func findingOf(token *hsm.Token, attribute string) hsm.Finding {
	for _, f := range token.Reports()[0].Keys[0].Findings {
		if f.Attribute == attribute {
			return f
		}
	}
	return hsm.Finding{}
}

// CKA_LOCAL is a warning: some modules report 0 for what they made. What a token does not report is said. How a key is backed up decides what its history may be.
func TestGateJudgesByClass(t *testing.T) {
	no := []byte{0}
	cfg, _, faults := newFaultyKey(t)
	faults.Attributes(
		hsmtest.Attribute{Type: pkcs11.CKA_LOCAL, Class: pkcs11.CKO_PRIVATE_KEY, Value: no},
		hsmtest.Attribute{Type: pkcs11.CKA_WRAP, AnyClass: true, NotOffered: true},
		hsmtest.Attribute{Type: pkcs11.CKA_NEVER_EXTRACTABLE, Class: pkcs11.CKO_PRIVATE_KEY, Value: no})
	for _, backup := range []hsm.Backup{hsm.BackupWrapped, hsm.BackupClone} {
		cfg.Keys[0].Backup = backup
		token := open(t, cfg)
		for attribute, want := range map[string]hsm.Level{"CKA_LOCAL": hsm.LevelWarn, "CKA_WRAP": hsm.LevelUnknown, "CKA_NEVER_EXTRACTABLE": hsm.LevelWarn} {
			if f := findingOf(token, attribute); f.Level != want {
				t.Errorf("%s, backup %s: %+v, want %s", attribute, backup, f, want)
			}
		}
		token.Close()
	}
	for _, backup := range []hsm.Backup{hsm.BackupNone, ""} {
		cfg.Keys[0].Backup = backup
		if _, err := hsm.Open(t.Context(), cfg); !errors.Is(err, hsm.ErrUnfit) || !strings.Contains(err.Error(), "CKA_NEVER_EXTRACTABLE") {
			t.Errorf("backup %q: %v", backup, err)
		}
	}
}

// Keys that another tool made: extractable, with decrypt, imported. Each is refused at start and named.
func TestP6KeysOfOtherTools(t *testing.T) {
	for _, tool := range []string{"pkcs11-tool", "openssl"} {
		if _, err := exec.LookPath(tool); err != nil {
			t.Skipf("%s is not installed: make test installs it", tool)
		}
	}
	run := func(t *testing.T, env []string, name string, args ...string) {
		t.Helper()
		c := exec.CommandContext(t.Context(), name, args...)
		c.Env = append(os.Environ(), env...)
		if out, err := c.CombinedOutput(); err != nil {
			t.Fatalf("%s %v: %v\n%s", name, args, err, out)
		}
	}
	for _, c := range []struct {
		name string
		make func(t *testing.T, cfg hsm.Config, pin string)
		want []string
	}{
		{"extractable", func(t *testing.T, cfg hsm.Config, pin string) {
			run(t, cfg.Env, "pkcs11-tool", "--module", cfg.Module, "--token-label", cfg.Token, "--login", "--pin", pin, "--keypairgen", "--key-type", "EC:prime256v1", "--label", "made", "--id", "01", "--usage-sign", "--extractable")
		}, []string{"CKA_EXTRACTABLE is true", "CKA_NEVER_EXTRACTABLE is false"}},
		{"with decrypt", func(t *testing.T, cfg hsm.Config, pin string) {
			run(t, cfg.Env, "pkcs11-tool", "--module", cfg.Module, "--token-label", cfg.Token, "--login", "--pin", pin, "--keypairgen", "--key-type", "rsa:2048", "--label", "made", "--id", "01", "--usage-sign", "--usage-decrypt")
		}, []string{"CKA_DECRYPT is true"}},
		{"imported", func(t *testing.T, cfg hsm.Config, pin string) {
			pem := filepath.Join(t.TempDir(), "key.pem")
			run(t, nil, "openssl", "genpkey", "-algorithm", "EC", "-pkeyopt", "ec_paramgen_curve:P-256", "-out", pem)
			run(t, cfg.Env, "softhsm2-util", "--import", pem, "--token", cfg.Token, "--label", "made", "--id", "01", "--pin", pin)
		}, []string{"CKA_ALWAYS_SENSITIVE is false", "CKA_NEVER_EXTRACTABLE is false"}},
	} {
		t.Run(c.name, func(t *testing.T) {
			cfg := hsmtest.SoftHSM(t)
			pin, err := os.ReadFile(cfg.PIN.File)
			if err != nil {
				t.Fatal(err)
			}
			c.make(t, cfg, string(pin))
			ceremony := cfg
			ceremony.Ceremony = true
			token := open(t, ceremony)
			public, err := token.Public(t.Context(), "made")
			if err != nil {
				t.Fatal(err)
			}
			token.Close()
			cfg.Keys = []hsm.KeyConfig{{Label: "made", Public: public}}
			_, err = hsm.Open(t.Context(), cfg)
			if !errors.Is(err, hsm.ErrUnfit) {
				t.Fatalf("error %v, want ErrUnfit", err)
			}
			for _, want := range c.want {
				if !strings.Contains(err.Error(), want) {
					t.Errorf("error %v does not say %q", err, want)
				}
			}
		})
	}
	t.Log("P6: keys that were made extractable, with decrypt, or imported are refused at start, each attribute named")
}
