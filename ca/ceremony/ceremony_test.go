package ceremony

import (
	"bytes"
	"context"
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/sha256"
	"crypto/sha512"
	"crypto/x509"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/certmill/certmill/ca"
)

// softToken is a token in memory. It survives what ends a run, as a token survives a crash, and it demands the policy as the
// signer process does.
type softToken struct {
	keys      map[string]*ecdsa.PrivateKey
	generated int
	signed    map[string]bool // distinct TBS
}

func newToken() *softToken {
	return &softToken{keys: make(map[string]*ecdsa.PrivateKey), signed: make(map[string]bool)}
}

func (t *softToken) Generate(_ context.Context, label, algorithm string) (crypto.PublicKey, error) {
	if t.keys[label] != nil {
		return nil, fmt.Errorf("generate: %w", ErrKeyExists)
	}
	curve := elliptic.P256()
	if algorithm == "p384" {
		curve = elliptic.P384()
	}
	k, err := ecdsa.GenerateKey(curve, rand.Reader)
	if err != nil {
		return nil, err
	}
	t.keys[label] = k
	t.generated++
	return k.Public(), nil
}

func (t *softToken) Public(_ context.Context, label string) (crypto.PublicKey, error) {
	if t.keys[label] == nil {
		return nil, fmt.Errorf("find: %w", ErrNoKey)
	}
	return t.keys[label].Public(), nil
}

func (t *softToken) Signer(_ context.Context, label string, public crypto.PublicKey, policy []byte) (ca.Signer, error) {
	p, err := ca.ParsePolicy(policy)
	if err != nil {
		return nil, err
	}
	k := t.keys[label]
	if k == nil || !k.PublicKey.Equal(public) {
		return nil, ErrNoKey
	}
	return &softSigner{t, k, p}, nil
}

type softSigner struct {
	token  *softToken
	key    *ecdsa.PrivateKey
	policy *ca.Policy
}

func (s *softSigner) Sign(_ context.Context, kind string, tbs [][]byte) (sigs [][]byte, errs []error) {
	sigs, errs = make([][]byte, len(tbs)), make([]error, len(tbs))
	for i := range tbs {
		if errs[i] = s.policy.Check(kind, tbs[i], time.Now()); errs[i] != nil {
			continue
		}
		s.token.signed[string(tbs[i])] = true
		digest := sha256.Sum256(tbs[i])
		d := digest[:]
		if s.key.Curve == elliptic.P384() {
			long := sha512.Sum384(tbs[i])
			d = long[:]
		}
		sigs[i], errs[i] = ecdsa.SignASN1(rand.Reader, s.key, d)
	}
	return sigs, errs
}

// config is a ceremony with the template of a role, and a transcript of its own.
func config(t *testing.T, token *softToken, role string, issuer *Issuer) Config {
	t.Helper()
	return Config{File: Template(role, role), Transcript: filepath.Join(t.TempDir(), role+".jsonl"), Keys: token, Issuer: issuer}
}

func mustRun(t *testing.T, cfg Config) Result {
	t.Helper()
	r, err := Run(t.Context(), cfg)
	if err != nil {
		t.Fatal(err)
	}
	return r
}

func parse(t *testing.T, der []byte) *x509.Certificate {
	t.Helper()
	c, err := x509.ParseCertificate(der)
	if err != nil {
		t.Fatal(err)
	}
	return c
}

// root makes a root in a token, and returns it as the issuer of the next ceremony.
func root(t *testing.T, token *softToken) *Issuer {
	t.Helper()
	r := mustRun(t, config(t, token, ca.RoleRoot, nil))
	return &Issuer{Name: "root", Certificate: parse(t, r.Certificate), Label: r.File.Label}
}

func TestThreeCeremoniesMakeAPlant(t *testing.T) {
	token := newToken()
	issuer := root(t, token)
	cfg := config(t, token, ca.RoleIssuing, issuer)
	issuing := mustRun(t, cfg)
	plant := parse(t, mustRun(t, config(t, token, ca.RolePlant, nil)).Certificate)
	c := parse(t, issuing.Certificate)
	if got, want := c.Subject.String(), "CN=Demo Issuing G1,O=Demo"; got != want {
		t.Errorf("subject %s, want %s", got, want)
	}
	if err := c.CheckSignatureFrom(issuer.Certificate); err != nil {
		t.Error(err)
	}
	if err := plant.CheckSignatureFrom(plant); err != nil {
		t.Error(err)
	}
	if issuing.IssueUntil.Year() != c.NotBefore.Year()+3 || !issuing.NotAfter.Equal(c.NotAfter) {
		t.Errorf("ends %s, issues until %s; the certificate ends %s", issuing.NotAfter, issuing.IssueUntil, c.NotAfter)
	}
	if token.generated != 3 || len(token.signed) != 3 {
		t.Errorf("%d keys and %d certificates, want 3 of each", token.generated, len(token.signed))
	}
	text, err := os.ReadFile(cfg.Transcript)
	if err != nil || hash(text) != issuing.Transcript {
		t.Errorf("transcript %s, the result says %s (%v)", hash(text), issuing.Transcript, err)
	}
}

func TestACeremonyThatIsOverSaysTheSameAgain(t *testing.T) {
	token := newToken()
	cfg := config(t, token, ca.RolePlant, nil)
	first := mustRun(t, cfg)
	cfg.Now = func() time.Time { return time.Now().AddDate(1, 0, 0) }
	again := mustRun(t, cfg)
	if !bytes.Equal(first.Certificate, again.Certificate) || first.Transcript != again.Transcript || !first.NotAfter.Equal(again.NotAfter) {
		t.Fatal("another result")
	}
	if token.generated != 1 || len(token.signed) != 1 {
		t.Fatalf("%d keys and %d certificates", token.generated, len(token.signed))
	}
}

// Each point of a run is once the last thing that happens; then the same file is run again.
func TestCrashAtEveryPoint(t *testing.T) {
	for _, role := range []string{ca.RoleRoot, ca.RoleIssuing} {
		for n := 0; ; n++ {
			reached, crashed := crashAt(t, role, n)
			if !crashed {
				if n != 20 { // three for each of the six lines, one after generating, one after signing
					t.Errorf("%s: %d points, want 20", role, n)
				}
				break
			}
			t.Log(role, "crashed at", reached)
		}
	}
}

// crashAt runs a ceremony that ends at its n-th point, and runs it again.
func crashAt(t *testing.T, role string, n int) (point string, crashed bool) {
	t.Helper()
	token := newToken()
	var issuer *Issuer
	if role == ca.RoleIssuing {
		issuer = root(t, token)
	}
	keys, certificates := token.generated, len(token.signed)
	cfg := config(t, token, role, issuer)
	crash := errors.New("crash")
	_, err := run(t.Context(), cfg, func(p string) error {
		if n--; n < 0 {
			point = p
			return crash
		}
		return nil
	})
	if err == nil {
		return "", false
	}
	if !errors.Is(err, crash) {
		t.Fatal(err)
	}
	r := mustRun(t, cfg)
	if got := token.generated - keys; got != 1 {
		t.Errorf("crash at %s: %d keys", point, got)
	}
	if got := len(token.signed) - certificates; got != 1 {
		t.Errorf("crash at %s: %d different TBS signed", point, got)
	}
	if again := mustRun(t, cfg); !bytes.Equal(again.Certificate, r.Certificate) {
		t.Errorf("crash at %s: another certificate", point)
	}
	return point, true
}

// A power cut may leave any beginning of the transcript that was not synced.
func TestTornTranscript(t *testing.T) {
	token := newToken()
	cfg := config(t, token, ca.RoleRoot, nil)
	mustRun(t, cfg)
	text, err := os.ReadFile(cfg.Transcript)
	if err != nil {
		t.Fatal(err)
	}
	key := bytes.Index(text, []byte(`"step":"key"`))
	for n := key; n < len(text); n += 1 + n%7 {
		if err := os.WriteFile(cfg.Transcript, text[:n], 0o644); err != nil {
			t.Fatal(err)
		}
		if r, err := Run(t.Context(), cfg); err != nil || r.File.Name != "root" {
			t.Fatalf("torn after %d octets: %v", n, err)
		}
	}
	if token.generated != 1 {
		t.Fatalf("%d keys", token.generated)
	}
}

func TestAChangedTranscriptIsRefused(t *testing.T) {
	token := newToken()
	cfg := config(t, token, ca.RolePlant, nil)
	mustRun(t, cfg)
	text, err := os.ReadFile(cfg.Transcript)
	if err != nil {
		t.Fatal(err)
	}
	for n := 0; n < len(text); n += 1 + n%5 {
		changed := bytes.Clone(text)
		changed[n] ^= 1
		if err := os.WriteFile(cfg.Transcript, changed, 0o644); err != nil {
			t.Fatal(err)
		}
		last := bytes.LastIndexByte(text[:len(text)-1], '\n')
		if _, err := Run(t.Context(), cfg); err == nil && n < last && changed[n] != '\n' {
			t.Fatalf("octet %d changed from %q to %q, and nobody saw it", n, text[n], changed[n])
		}
	}
	if token.generated != 1 || len(token.signed) != 1 {
		t.Fatalf("%d keys, %d certificates", token.generated, len(token.signed))
	}
}

func TestRefused(t *testing.T) {
	token := newToken()
	issuer := root(t, token)
	file := func(role string, replace ...string) []byte {
		return []byte(strings.NewReplacer(replace...).Replace(string(Template(role, role))))
	}
	for _, c := range []struct {
		name   string
		file   []byte
		issuer *Issuer
		want   string
	}{
		{"label taken", file(ca.RolePlant, "plant-g1", "root-g1"), nil, "with this label is in the token"},
		{"no issuer", file(ca.RoleIssuing), nil, "names the issuer root, which was not given"},
		{"another issuer", file(ca.RoleIssuing, "issuer: root", "issuer: other"), issuer, "names the issuer other"},
		{"issuer for a root", file(ca.RoleRoot), issuer, "self-signed, and an issuer was given"},
		{"beyond the issuer", file(ca.RoleIssuing, "years: 30", "years: 40"), issuer, "after the issuer's end"},
		{"issues too long", file(ca.RoleIssuing, "3y", "31y"), issuer, "issue_until"},
		{"past", file(ca.RolePlant, "years: 30", "not_after: 2020-01-01T00:00:00Z"), nil, "not_after 2020-01-01"},
		{"long name", file(ca.RolePlant, "common_name: Demo Plant", "common_name: "+strings.Repeat("x", 62)), nil, "common_name has 65 characters"},
		{"country", file(ca.RolePlant, "# country: DE", "country: Germany"), nil, "country"},
		{"a code", file(ca.RolePlant, "organization: Demo", "organization: "+strings.Repeat("ab", 32)), nil, "64 hex digits"},
		{"unknown key", file(ca.RolePlant, "label:", "lable:"), nil, `did you mean "label"`},
		{"both ends", file(ca.RolePlant, "years: 30", "years: 30\nnot_after: 2056-01-01T00:00:00Z"), nil, "one of years and not_after"},
		{"role", file(ca.RolePlant, "role: plant", "role: leaf"), nil, `role "leaf"`},
		{"version", file(ca.RolePlant, "version: 1", "version: 2"), nil, "version is 2"},
	} {
		t.Run(c.name, func(t *testing.T) {
			cfg := config(t, token, ca.RolePlant, c.issuer)
			cfg.File = c.file
			_, err := Run(t.Context(), cfg)
			if err == nil || !strings.Contains(err.Error(), c.want) {
				t.Fatalf("error %v, want one with %q", err, c.want)
			}
			if token.generated != 1 || len(token.signed) != 1 {
				t.Fatal("a key or a signature was made")
			}
		})
	}
}

func TestATranscriptBelongsToItsFile(t *testing.T) {
	token := newToken()
	cfg := config(t, token, ca.RolePlant, nil)
	mustRun(t, cfg)
	cfg.File = append(cfg.File, "# reviewed\n"...)
	if _, err := Run(t.Context(), cfg); !errors.Is(err, ErrOtherFile) {
		t.Fatalf("error %v, want %v", err, ErrOtherFile)
	}
}

func TestAnotherKeyUnderTheLabelDoesNotSign(t *testing.T) {
	token := newToken()
	cfg := config(t, token, ca.RolePlant, nil)
	if _, err := run(t.Context(), cfg, func(p string) error {
		if p == "recorded intent" {
			return errors.New("crash")
		}
		return nil
	}); err == nil {
		t.Fatal("no crash")
	}
	delete(token.keys, "plant-g1")
	if _, err := token.Generate(t.Context(), "plant-g1", "p256"); err != nil {
		t.Fatal(err)
	}
	if _, err := Run(t.Context(), cfg); !errors.Is(err, ErrNoKey) {
		t.Fatalf("error %v, want %v", err, ErrNoKey)
	}
}

func TestTemplates(t *testing.T) {
	for _, role := range []string{ca.RoleRoot, ca.RoleIssuing, ca.RolePlant} {
		f, err := Parse(Template(role, "mine"))
		if err != nil || f.Role != role || f.Name != "mine" || f.Label != "mine-g1" {
			t.Errorf("%s: %+v, %v", role, f, err)
		}
	}
	if Template("leaf", "x") != nil {
		t.Error("a template for a role that is none")
	}
}
