package ca

import (
	"context"
	"crypto"
	"crypto/aes"
	"crypto/cipher"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/sha256"
	"crypto/sha512"
	"crypto/x509"
	"crypto/x509/pkix"
	"errors"
	"sync/atomic"
	"testing"
	"time"
)

// now is when the tests play.
var now = time.Date(2026, 11, 24, 8, 30, 15, 123, time.UTC)

// softSigner signs with a key in memory, and asks a policy first as the signer process does.
type softSigner struct {
	key    crypto.Signer
	policy *Policy
	signed atomic.Int64
	fail   atomic.Bool
}

func (s *softSigner) Sign(ctx context.Context, kind string, tbs [][]byte) (sigs [][]byte, errs []error) {
	sigs, errs = make([][]byte, len(tbs)), make([]error, len(tbs))
	for i := range tbs {
		if s.fail.Load() {
			errs[i] = errors.New("token is away")
			continue
		}
		if s.policy != nil {
			if errs[i] = s.policy.Check(kind, tbs[i], now); errs[i] != nil {
				continue
			}
		}
		sigs[i], errs[i] = signTBS(s.key, tbs[i])
		s.signed.Add(1)
	}
	return sigs, errs
}

func signTBS(key crypto.Signer, tbs []byte) ([]byte, error) {
	if k, ok := key.(*ecdsa.PrivateKey); ok && k.Curve == elliptic.P384() {
		d := sha512.Sum384(tbs)
		return key.Sign(rand.Reader, d[:], crypto.SHA384)
	}
	d := sha256.Sum256(tbs)
	return key.Sign(rand.Reader, d[:], crypto.SHA256)
}

func newKey(t testing.TB, kind string) crypto.Signer {
	t.Helper()
	var key crypto.Signer
	var err error
	switch kind {
	case keyP256:
		key, err = ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	case keyP384:
		key, err = ecdsa.GenerateKey(elliptic.P384(), rand.Reader)
	case "rsa2048":
		key, err = rsa.GenerateKey(rand.Reader, 2048)
	}
	if err != nil {
		t.Fatal(err)
	}
	return key
}

func newCSR(t testing.TB, key crypto.Signer, cn string) []byte {
	t.Helper()
	csr, err := x509.CreateCertificateRequest(rand.Reader, &x509.CertificateRequest{Subject: pkix.Name{CommonName: cn}}, key)
	if err != nil {
		t.Fatal(err)
	}
	return csr
}

func newRequest(t testing.TB, cn string) *Request {
	t.Helper()
	r, err := ParseRequest(newCSR(t, newKey(t, keyP256), cn))
	if err != nil {
		t.Fatal(err)
	}
	return r
}

// hierarchy is a root, an issuing and a plant CA with keys in memory.
type hierarchy struct {
	root, issuing, plant          *x509.Certificate
	rootKey, issuingKey, plantKey crypto.Signer
}

func newHierarchy(t testing.TB) hierarchy {
	t.Helper()
	h := hierarchy{rootKey: newKey(t, keyP384), issuingKey: newKey(t, keyP256), plantKey: newKey(t, keyP256)}
	h.root = makeCA(t, HierarchyConfig{Role: RoleRoot, CommonName: "Demo Root", NotAfter: now.AddDate(35, 0, 0)}, h.rootKey, nil, h.rootKey)
	h.issuing = makeCA(t, HierarchyConfig{Role: RoleIssuing, CommonName: "Demo Issuing", NotAfter: now.AddDate(30, 0, 0)}, h.issuingKey, h.root, h.rootKey)
	h.plant = makeCA(t, HierarchyConfig{Role: RolePlant, CommonName: "Demo Plant", NotAfter: now.AddDate(30, 0, 0)}, h.plantKey, nil, h.plantKey)
	return h
}

func makeCA(t testing.TB, cfg HierarchyConfig, key crypto.Signer, issuer *x509.Certificate, issuerKey crypto.Signer) *x509.Certificate {
	t.Helper()
	cfg.Organization, cfg.Country, cfg.Generation = "Demo", "DE", 1
	cfg.NotAfter = cfg.NotAfter.Truncate(time.Second)
	p, err := PrepareCA(cfg, key.Public(), issuer, testSerial(CeremonyPrefix, 7), now)
	if err != nil {
		t.Fatal(err)
	}
	sig, err := SignCA(t.Context(), &softSigner{key: issuerKey}, p)
	if err != nil {
		t.Fatal(err)
	}
	return parse(t, p.TBS(), sig)
}

func parse(t testing.TB, tbs, sig []byte) *x509.Certificate {
	t.Helper()
	der, err := Assemble(tbs, sig)
	if err != nil {
		t.Fatal(err)
	}
	c, err := x509.ParseCertificate(der)
	if err != nil {
		t.Fatal(err)
	}
	return c
}

func testCipher() cipher.Block {
	b, err := aes.NewCipher(make([]byte, 16))
	if err != nil {
		panic(err)
	}
	return b
}

func testSerial(prefix uint16, seq uint64) Serial {
	return NewSerial(prefix, 1, testCipher(), seq, [8]byte{byte(seq), 2, 3, 4, 5, 6, 7, 8})
}

const issuingPrefix = 0x0101

func newAuthority(t testing.TB, c *x509.Certificate, key crypto.Signer) (*Authority, *softSigner) {
	t.Helper()
	s := &softSigner{key: key}
	a, err := NewAuthority(AuthorityConfig{Name: "issuing", Certificate: c, Prefix: issuingPrefix, IssueUntil: now.AddDate(3, 0, 0),
		Signer: s, PublicURL: "http://pki.example.com"})
	if err != nil {
		t.Fatal(err)
	}
	s.policy = &a.policy
	return a, s
}

func mustProfile(t testing.TB, yaml string) *Profile {
	t.Helper()
	p, err := ParseProfile([]byte(yaml))
	if err != nil {
		t.Fatal(err)
	}
	return p
}

func defaultProfile(t testing.TB, kind string) *Profile {
	t.Helper()
	return mustProfile(t, string(DefaultProfile(kind)))
}

func TestADeviceCertificateFromCSRToChain(t *testing.T) {
	h := newHierarchy(t)
	a, signer := newAuthority(t, h.issuing, h.issuingKey)
	profile := defaultProfile(t, KindDevice)
	r := newRequest(t, "DEMO-000001")
	id, err := profile.DeviceID("", r)
	if err != nil {
		t.Fatal(err)
	}
	p, err := a.Prepare(Issuance{Profile: profile, Request: r, DeviceID: id, Serial: testSerial(issuingPrefix, 1), Now: now})
	if err != nil {
		t.Fatal(err)
	}
	sigs, errs := a.Sign(t.Context(), []*Prepared{p})
	if errs[0] != nil {
		t.Fatal(errs[0])
	}
	if _, errs := a.Sign(t.Context(), []*Prepared{p}); !errors.Is(errs[0], errRedeemed) || signer.signed.Load() != 1 {
		t.Fatalf("second signature: error %v, %d made", errs[0], signer.signed.Load())
	}
	c := parse(t, p.TBS(), sigs[0])
	roots, between := x509.NewCertPool(), x509.NewCertPool()
	roots.AddCert(h.root)
	between.AddCert(h.issuing)
	if _, err := c.Verify(x509.VerifyOptions{Roots: roots, Intermediates: between, CurrentTime: now, KeyUsages: []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth}}); err != nil {
		t.Fatal(err)
	}
	if got, want := c.Subject.String(), "SERIALNUMBER=DEMO-000001,CN=DEMO-000001,O=Demo"; got != want {
		t.Fatalf("subject %s, want %s", got, want)
	}
	if p.Serial().Sequence(testCipher()) != 1 || !c.NotAfter.Equal(p.NotAfter()) || !c.NotBefore.Equal(p.NotBefore()) {
		t.Fatalf("serial %s, %s to %s", p.Serial(), p.NotBefore(), p.NotAfter())
	}
}

func BenchmarkPrepare(b *testing.B) {
	h := newHierarchy(b)
	a, _ := newAuthority(b, h.issuing, h.issuingKey)
	in := Issuance{Profile: defaultProfile(b, KindDevice), Request: newRequest(b, ""), DeviceID: "DEMO-000001", Serial: testSerial(issuingPrefix, 1), Now: now}
	b.ReportAllocs()
	for b.Loop() {
		if _, err := a.Prepare(in); err != nil {
			b.Fatal(err)
		}
	}
}

func BenchmarkParseRequest(b *testing.B) {
	csr := newCSR(b, newKey(b, keyP256), "DEMO-000001")
	b.ReportAllocs()
	for b.Loop() {
		if _, err := ParseRequest(csr); err != nil {
			b.Fatal(err)
		}
	}
}

func BenchmarkPolicyCheck(b *testing.B) {
	h := newHierarchy(b)
	a, _ := newAuthority(b, h.issuing, h.issuingKey)
	p, err := a.Prepare(Issuance{Profile: defaultProfile(b, KindDevice), Request: newRequest(b, ""), DeviceID: "DEMO-000001", Serial: testSerial(issuingPrefix, 1), Now: now})
	if err != nil {
		b.Fatal(err)
	}
	b.ReportAllocs()
	for b.Loop() {
		if err := a.policy.Check(KindDevice, p.TBS(), now); err != nil {
			b.Fatal(err)
		}
	}
}

func newEd25519(t testing.TB) crypto.PublicKey {
	t.Helper()
	pub, _, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	return pub
}

// newCSRInfo is what a CSR's signature is over.
func newCSRInfo(t testing.TB, key crypto.Signer) []byte {
	t.Helper()
	r, err := x509.ParseCertificateRequest(newCSR(t, key, "x"))
	if err != nil {
		t.Fatal(err)
	}
	return r.RawTBSCertificateRequest
}
