package lint

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"crypto/x509/pkix"
	"math/big"
	"slices"
	"strings"
	"testing"
	"time"
)

func newLinter(t testing.TB) *Linter {
	t.Helper()
	l, err := New()
	if err != nil {
		t.Fatal(err)
	}
	return l
}

// device is a certificate that nobody finds anything about.
func device() *x509.Certificate {
	begin := time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)
	return &x509.Certificate{
		SerialNumber: new(big.Int).Lsh(big.NewInt(1), 150), Subject: pkix.Name{CommonName: "DEMO-1", SerialNumber: "DEMO-1", Organization: []string{"Demo"}},
		NotBefore: begin, NotAfter: begin.AddDate(20, 0, 0), KeyUsage: x509.KeyUsageDigitalSignature,
		ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth}, BasicConstraintsValid: true, SubjectKeyId: []byte{1, 2, 3, 4},
	}
}

func key(t testing.TB, curve elliptic.Curve) *ecdsa.PrivateKey {
	t.Helper()
	k, err := ecdsa.GenerateKey(curve, rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	return k
}

func certificate(t testing.TB, c *x509.Certificate, pub crypto.PublicKey) []byte {
	t.Helper()
	issuer := &x509.Certificate{Subject: pkix.Name{CommonName: "Issuer"}, SubjectKeyId: []byte{9, 9, 9, 9}}
	der, err := x509.CreateCertificate(rand.Reader, c, issuer, pub, key(t, elliptic.P256()))
	if err != nil {
		t.Fatal(err)
	}
	return der
}

func names(findings []Finding) (all []string) {
	for _, f := range findings {
		all = append(all, f.Lint)
	}
	return all
}

func TestLint(t *testing.T) {
	l := newLinter(t)
	p256 := key(t, elliptic.P256()).Public()
	rsa1024 := &rsa.PublicKey{N: new(big.Int).SetBit(big.NewInt(12345677), 1023, 1), E: 65537}
	rsa8192 := &rsa.PublicKey{N: new(big.Int).SetBit(big.NewInt(12345677), 8191, 1), E: 65537}
	code := strings.Repeat("0a", 32)
	for _, c := range []struct {
		name   string
		change func(*x509.Certificate)
		key    crypto.PublicKey
		proof  bool
		want   string // a lint of error severity; "" none
	}{
		{"good", func(*x509.Certificate) {}, p256, false, ""},
		{"P-384", func(*x509.Certificate) {}, key(t, elliptic.P384()).Public(), false, ""},
		{"P-521", func(*x509.Certificate) {}, key(t, elliptic.P521()).Public(), false, ""},
		{"without end", func(c *x509.Certificate) { c.NotAfter = time.Date(9999, 12, 31, 23, 59, 59, 0, time.UTC) }, p256, false, ""},
		{"P-224", func(*x509.Certificate) {}, key(t, elliptic.P224()).Public(), false, "e_certmill_key"},
		{"RSA-1024", func(*x509.Certificate) {}, rsa1024, false, "e_certmill_key"},
		{"RSA-8192", func(*x509.Certificate) {}, rsa8192, false, "e_certmill_key"},
		{"code", func(c *x509.Certificate) { c.Subject.CommonName = code }, p256, false, "e_certmill_registration_code"},
		{"code as organization", func(c *x509.Certificate) { c.Subject.Organization = []string{"0x" + code} }, p256, false, "e_certmill_registration_code"},
		{"code of a proof", func(c *x509.Certificate) { c.Subject = pkix.Name{CommonName: code} }, p256, true, ""},
		{"serialNumber as UTF8String", func(c *x509.Certificate) { c.Subject.SerialNumber = "DEMO_1" }, p256, false, "e_subject_dn_serial_number_not_printable_string"},
		{"long name", func(c *x509.Certificate) { c.Subject.CommonName = strings.Repeat("x", 65) }, p256, false, "e_subject_common_name_max_length"},
		{"country", func(c *x509.Certificate) { c.Subject.Country = []string{"Germany"} }, p256, false, "e_subj_country_not_uppercase"},
	} {
		t.Run(c.name, func(t *testing.T) {
			cert := device()
			c.change(cert)
			findings, err := l.Lint(certificate(t, cert, c.key), c.proof)
			if err != nil {
				t.Fatal(err)
			}
			got := names(Errors(findings))
			if c.want == "" && len(got) > 0 || c.want != "" && !slices.Contains(got, c.want) {
				t.Fatalf("errors %v, want %q", got, c.want)
			}
		})
	}
}

func TestSignatureAlgorithms(t *testing.T) {
	l := newLinter(t)
	k, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		t.Fatal(err)
	}
	for algorithm, good := range map[x509.SignatureAlgorithm]bool{
		x509.SHA256WithRSA: true, x509.SHA512WithRSA: true, x509.SHA384WithRSAPSS: true, x509.PureEd25519: false,
	} {
		cert := device()
		cert.SignatureAlgorithm = algorithm
		issuer := &x509.Certificate{Subject: pkix.Name{CommonName: "Issuer"}, SubjectKeyId: []byte{9}}
		var signer crypto.Signer = k
		if algorithm == x509.PureEd25519 {
			signer = newEd25519(t)
		}
		der, err := x509.CreateCertificate(rand.Reader, cert, issuer, k.Public(), signer)
		if err != nil {
			t.Fatal(err)
		}
		findings, err := l.Lint(der, false)
		if err != nil {
			t.Fatal(err)
		}
		if bad := slices.Contains(names(findings), "e_certmill_signature_algorithm"); bad == good {
			t.Errorf("%s: findings %v", algorithm, findings)
		}
	}
}

func TestLintOfWhatIsNoCertificate(t *testing.T) {
	if _, err := newLinter(t).Lint([]byte("no DER"), false); err == nil {
		t.Fatal("no error")
	}
}

func TestFindingOnOneLine(t *testing.T) {
	f := Finding{"e_x", Error, "RFC5280", "why"}
	if got, want := f.String(), "error e_x (RFC5280): why"; got != want {
		t.Fatalf("%q, want %q", got, want)
	}
}

// The rule that takes 3.5 ms is out, and the sources that are about browsers.
func TestChosenRules(t *testing.T) {
	l := newLinter(t)
	if n := len(l.rules.Names()); n < 100 || n > 300 {
		t.Errorf("%d rules", n)
	}
	if l.rules.CertificateLints().ByName(excluded) != nil {
		t.Errorf("%s is in", excluded)
	}
	for _, name := range []string{"e_sub_cert_aia_missing", "e_ext_key_usage_without_bits"} {
		if in := l.rules.CertificateLints().ByName(name) != nil; in != (name == "e_ext_key_usage_without_bits") {
			t.Errorf("%s in: %t", name, in)
		}
	}
}

func BenchmarkLint(b *testing.B) {
	l := newLinter(b)
	der := certificate(b, device(), key(b, elliptic.P256()).Public())
	for b.Loop() {
		if _, err := l.Lint(der, false); err != nil {
			b.Fatal(err)
		}
	}
}

func BenchmarkNew(b *testing.B) {
	for b.Loop() {
		if _, err := New(); err != nil {
			b.Fatal(err)
		}
	}
}

func newEd25519(t testing.TB) crypto.Signer {
	t.Helper()
	_, k, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	return k
}
