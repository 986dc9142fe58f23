package ca

import (
	"bytes"
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/sha256"
	"crypto/x509"
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"golang.org/x/crypto/cryptobyte"
	der "golang.org/x/crypto/cryptobyte/asn1"
)

const csrFolder = "../testdata/csr"

// openSSLRequests are what OpenSSL made; the prefix of a name says what becomes of it.
func openSSLRequests(t testing.TB) map[string][]byte {
	t.Helper()
	paths, err := filepath.Glob(filepath.Join(csrFolder, "*.der"))
	if err != nil || len(paths) == 0 {
		t.Fatalf("no CSRs in %s: %v", csrFolder, err)
	}
	all := make(map[string][]byte)
	for _, path := range paths {
		csr, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		all[strings.TrimSuffix(filepath.Base(path), ".der")] = csr
	}
	return all
}

func TestParseRequestOfOpenSSL(t *testing.T) {
	wants := map[string]error{"ok": nil, "weak": ErrWeakKey, "signature": ErrSignature, "code": ErrRefused, "malformed": ErrMalformed}
	for name, csr := range openSSLRequests(t) {
		prefix, _, _ := strings.Cut(name, "-")
		want, known := wants[prefix]
		r, err := ParseRequest(csr)
		switch {
		case !known:
			t.Errorf("%s: the prefix says nothing", name)
		case !errors.Is(err, want):
			t.Errorf("%s: error %v, want %v", name, err, want)
		case err != nil:
			t.Logf("%s: %v", name, err)
		default:
			checkAgainstX509(t, name, r, csr)
		}
	}
}

// checkAgainstX509 compares what was taken from a CSR with what crypto/x509 takes.
func checkAgainstX509(t *testing.T, name string, r *Request, csr []byte) {
	t.Helper()
	std, err := x509.ParseCertificateRequest(csr)
	if err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(r.SPKI(), std.RawSubjectPublicKeyInfo) || r.KeyID() != sha256.Sum256(std.RawSubjectPublicKeyInfo) {
		t.Errorf("%s: another key", name)
	}
	if key, ok := r.PublicKey().(interface{ Equal(x any) bool }); ok && !key.Equal(std.PublicKey) {
		t.Errorf("%s: another key", name)
	}
	if r.CommonName() != std.Subject.CommonName {
		t.Errorf("%s: common name %q, want %q", name, r.CommonName(), std.Subject.CommonName)
	}
}

// Requests that no tool makes, each with one thing wrong.
func TestParseRequestRefuses(t *testing.T) {
	key := newKey(t, keyP256)
	good := newCSR(t, key, "DEMO-000001")
	spki, err := x509.MarshalPKIXPublicKey(key.Public())
	if err != nil {
		t.Fatal(err)
	}
	offCurve := bytes.Clone(spki)
	offCurve[len(offCurve)-1] ^= 1
	for _, c := range []struct {
		name string
		csr  []byte
		want error
	}{
		{"empty", nil, ErrMalformed},
		{"not DER", []byte("-----BEGIN CERTIFICATE REQUEST-----"), ErrMalformed},
		{"trailing octet", append(bytes.Clone(good), 0), ErrMalformed},
		{"too large", make([]byte, MaxRequest+1), ErrMalformed},
		{"another signature", withLastOctet(good), ErrSignature},
		{"version 2", forge(t, key, 1, nameOf(der.UTF8String, "x"), spki), ErrMalformed},
		{"point not on the curve", forge(t, key, 0, nameOf(der.UTF8String, "x"), offCurve), ErrWeakKey},
		{"point at infinity", forge(t, key, 0, nameOf(der.UTF8String, "x"), spkiOf([]byte{0})), ErrWeakKey},
		{"no point", forge(t, key, 0, nameOf(der.UTF8String, "x"), spkiOf(nil)), ErrWeakKey},
		{"indefinite length", append([]byte{0x30, 0x80}, append(bytes.Clone(good[3:]), 0, 0)...), ErrMalformed},
		{"long form of a short length", forge(t, key, 0, []byte{0x30, 0x81, 0x00}, spki), ErrMalformed},
		{"NUL in the name", forge(t, key, 0, nameOf(der.UTF8String, "DEMO\x00-1"), spki), ErrMalformed},
		{"newline in the name", forge(t, key, 0, nameOf(der.PrintableString, "DEMO\n1"), spki), ErrMalformed},
		{"newline in an IA5String", forge(t, key, 0, nameOf(der.IA5String, "DEMO\n1"), spki), ErrMalformed},
		{"line separator", forge(t, key, 0, nameOf(der.UTF8String, "DEMO\u20281"), spki), ErrMalformed},
		{"right-to-left override", forge(t, key, 0, nameOf(der.UTF8String, "DEMO\u202e1"), spki), ErrMalformed},
		{"invalid UTF-8", forge(t, key, 0, nameOf(der.UTF8String, "DEMO\xff"), spki), ErrMalformed},
		{"BMPString of odd length", forge(t, key, 0, nameOf(tagBMPString, "\x00D\x00"), spki), ErrMalformed},
		{"surrogate in a BMPString", forge(t, key, 0, nameOf(tagBMPString, "\xd8\x00\xdc\x00"), spki), ErrMalformed},
		{"control in a BMPString", forge(t, key, 0, nameOf(tagBMPString, "\x00D\x00\x0a"), spki), ErrMalformed},
		{"control in a T61String", forge(t, key, 0, nameOf(der.T61String, "D\x85"), spki), ErrMalformed},
		{"UniversalString out of range", forge(t, key, 0, nameOf(tagUniversalString, "\x7f\xff\xff\xff"), spki), ErrMalformed},
		{"a code in a UniversalString", forge(t, key, 0, nameOf(tagUniversalString, strings.Repeat("\x00\x00\x00a", 64)), spki), ErrRefused},
		{"a code with spaces", forge(t, key, 0, nameOf(der.UTF8String, " "+strings.Repeat("aB", 32)+" "), spki), ErrRefused},
		{"value that is no text", forge(t, key, 0, nameOf(der.INTEGER, "\x01"), spki), ErrMalformed},
		{"empty RDN", forge(t, key, 0, []byte{0x30, 2, 0x31, 0}, spki), ErrMalformed},
		{"key with other parameters", forge(t, key, 0, nameOf(der.UTF8String, "x"), rsaWithoutNull(t)), ErrMalformed},
	} {
		t.Run(c.name, func(t *testing.T) {
			_, err := ParseRequest(c.csr)
			if !errors.Is(err, c.want) {
				t.Fatalf("error %v, want %v", err, c.want)
			}
		})
	}
}

// forge signs a CertificationRequest of any name and key with a P-256 key that need not be the same.
func forge(t *testing.T, key crypto.Signer, version uint64, name, spki []byte) []byte {
	t.Helper()
	info := cryptobyte.NewBuilder(nil)
	info.AddASN1(der.SEQUENCE, func(b *cryptobyte.Builder) {
		b.AddASN1Uint64(version)
		b.AddBytes(name)
		b.AddBytes(spki)
		b.AddASN1(contextTag(0), func(*cryptobyte.Builder) {})
	})
	signed := info.BytesOrPanic()
	digest := sha256.Sum256(signed)
	sig, err := ecdsa.SignASN1(rand.Reader, key.(*ecdsa.PrivateKey), digest[:])
	if err != nil {
		t.Fatal(err)
	}
	b := cryptobyte.NewBuilder(nil)
	b.AddASN1(der.SEQUENCE, func(b *cryptobyte.Builder) {
		b.AddBytes(signed)
		addAlgorithm(b, oidECDSAWithSHA256)
		b.AddASN1BitString(sig)
	})
	return b.BytesOrPanic()
}

func nameOf(tag der.Tag, value string) []byte {
	b := cryptobyte.NewBuilder(nil)
	b.AddASN1(der.SEQUENCE, func(b *cryptobyte.Builder) {
		b.AddASN1(der.SET, func(b *cryptobyte.Builder) {
			b.AddASN1(der.SEQUENCE, func(b *cryptobyte.Builder) {
				addOID(b, oidOrganization)
				b.AddASN1(tag, func(b *cryptobyte.Builder) { b.AddBytes([]byte(value)) })
			})
		})
	})
	return b.BytesOrPanic()
}

// spkiOf is a P-256 key with any octets in the place of its point.
func spkiOf(point []byte) []byte {
	b := cryptobyte.NewBuilder(nil)
	b.AddASN1(der.SEQUENCE, func(b *cryptobyte.Builder) {
		b.AddASN1(der.SEQUENCE, func(b *cryptobyte.Builder) {
			addOID(b, oidEC)
			addOID(b, oidP256)
		})
		b.AddASN1BitString(point)
	})
	return b.BytesOrPanic()
}

// rsaWithoutNull is an RSA key without the NULL that RFC 3279 2.3.1 demands: a second encoding of a key that exists already.
func rsaWithoutNull(t *testing.T) []byte {
	t.Helper()
	k, err := sampleRSA(2048)
	if err != nil {
		t.Fatal(err)
	}
	b := cryptobyte.NewBuilder(nil)
	b.AddASN1(der.SEQUENCE, func(b *cryptobyte.Builder) {
		b.AddASN1(der.SEQUENCE, func(b *cryptobyte.Builder) { addOID(b, oidRSA) })
		b.AddASN1BitString(x509.MarshalPKCS1PublicKey(k))
	})
	return b.BytesOrPanic()
}

func withLastOctet(csr []byte) []byte {
	changed := bytes.Clone(csr)
	changed[len(changed)-1] ^= 1
	return changed
}

// Whatever is cut off or changed in a CSR, the answer is an error of ours; only what the signature does not cover may change and pass.
func TestParseRequestOfDamagedOnes(t *testing.T) {
	for name, csr := range openSSLRequests(t) {
		if !strings.HasPrefix(name, "ok-p256") {
			continue
		}
		for n := range csr {
			if _, err := ParseRequest(csr[:n]); !isRequestError(err) {
				t.Fatalf("%s cut after %d octets: %v", name, n, err)
			}
			changed := bytes.Clone(csr)
			changed[n] ^= 1 << (n % 8)
			if _, err := ParseRequest(changed); !isRequestError(err) {
				t.Fatalf("%s, octet %d changed: %v", name, n, err)
			}
		}
	}
}

func isRequestError(err error) bool {
	for _, known := range []error{ErrMalformed, ErrSignature, ErrWeakKey, ErrRefused} {
		if errors.Is(err, known) {
			return true
		}
	}
	return false
}

func FuzzParseRequest(f *testing.F) {
	for _, csr := range openSSLRequests(f) {
		f.Add(csr)
	}
	f.Fuzz(func(t *testing.T, csr []byte) {
		r, err := ParseRequest(csr)
		if (r == nil) == (err == nil) || err != nil && !isRequestError(err) {
			t.Fatalf("request %v, error %v", r, err)
		}
		if err == nil && isRegistrationCode(r.CommonName()) {
			t.Fatal("a registration code came through")
		}
	})
}

// What the extensions ask for is in no certificate.
func TestExtensionsOfARequestAreIgnored(t *testing.T) {
	r, err := ParseRequest(openSSLRequests(t)["ok-p256-extensions-asked"])
	if err != nil {
		t.Fatal(err)
	}
	h := newHierarchy(t)
	a, _ := newAuthority(t, h.issuing, h.issuingKey)
	p, err := a.Prepare(Issuance{Profile: defaultProfile(t, KindDevice), Request: r, DeviceID: "DEMO-000001", Serial: testSerial(issuingPrefix, 1), Now: now})
	if err != nil {
		t.Fatal(err)
	}
	constraints, _ := p.parsed.extension(oidBasicConstraints)
	if _, found := p.parsed.extension(oidSubjectAltName); found || string(constraints.value) != "\x30\x00" {
		t.Fatal("the certificate holds what the CSR asked for")
	}
}

// OpenSSL on the machine that tests run on may be another than the one that made testdata/csr.
func TestParseRequestOfThisOpenSSL(t *testing.T) {
	if _, err := exec.LookPath("openssl"); err != nil {
		t.Skip("openssl is not installed")
	}
	key := filepath.Join(t.TempDir(), "key.pem")
	csr, err := exec.Command("openssl", "req", "-new", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-keyout", key,
		"-subj", "/CN=DEMO-000001", "-outform", "DER").Output()
	if err != nil {
		t.Fatal(err)
	}
	r, err := ParseRequest(csr)
	if err != nil {
		t.Fatal(err)
	}
	if pub, ok := r.PublicKey().(*ecdsa.PublicKey); !ok || pub.Curve != elliptic.P256() || r.CommonName() != "DEMO-000001" {
		t.Fatalf("read %T, %q", r.PublicKey(), r.CommonName())
	}
}
