package ca

import (
	"bytes"
	"crypto"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/asn1"
	"encoding/json"
	"math/big"
	"net"
	"strings"
	"testing"
	"time"
)

// attacker has taken over the daemon: it makes any TBS that crypto/x509 can write, and asks for a signature.
type attacker struct {
	ca     *x509.Certificate
	key    crypto.Signer // only to make crypto/x509 write; the signature is thrown away
	policy *Policy
}

func newAttacker(t testing.TB) *attacker {
	t.Helper()
	h := newHierarchy(t)
	p := &Policy{Issuer: h.issuing.RawSubject, Kinds: []string{KindDevice, KindStation, KindService, KindProof, KindCA},
		SerialPrefix: issuingPrefix, NotAfter: h.issuing.NotAfter}
	return &attacker{h.issuing, h.issuingKey, p}
}

// ask is a device certificate that is in order, which each case spoils.
func ask() *x509.Certificate {
	serial := testSerial(issuingPrefix, 5)
	return &x509.Certificate{
		SerialNumber: new(big.Int).SetBytes(serial[:]), Subject: pkix.Name{CommonName: "DEMO-000001"},
		NotBefore: now.Add(-time.Minute), NotAfter: now.AddDate(20, 0, 0),
		KeyUsage: x509.KeyUsageDigitalSignature, ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth}, BasicConstraintsValid: true,
	}
}

func (a *attacker) tbs(t testing.TB, c *x509.Certificate, pub crypto.PublicKey) []byte {
	t.Helper()
	der, err := x509.CreateCertificate(rand.Reader, c, a.ca, pub, a.key)
	if err != nil {
		t.Fatal(err)
	}
	var whole struct {
		TBS asn1.RawValue
		Alg asn1.RawValue
		Sig asn1.BitString
	}
	if _, err := asn1.Unmarshal(der, &whole); err != nil {
		t.Fatal(err)
	}
	return whole.TBS.FullBytes
}

func TestPolicyTakesWhatIsInOrder(t *testing.T) {
	a := newAttacker(t)
	key := newKey(t, keyP256).Public()
	service := ask()
	service.ExtKeyUsage, service.DNSNames, service.IPAddresses = []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth}, []string{"localhost"}, []net.IP{{127, 0, 0, 1}}
	proof := ask()
	proof.Subject.CommonName, proof.ExtKeyUsage, proof.NotAfter = strings.Repeat("0a", 32), nil, now.AddDate(0, 0, 7)
	moto := ask()
	moto.Subject.CommonName, moto.ExtKeyUsage, moto.NotAfter = "1b4e28ba-2fa1-11d2-883f-0016d3cca427", nil, now.AddDate(0, 0, 7)
	issuing := ask()
	issuing.IsCA, issuing.MaxPathLenZero, issuing.KeyUsage, issuing.ExtKeyUsage = true, true, x509.KeyUsageCertSign|x509.KeyUsageCRLSign, nil
	issuing.NotBefore = now.AddDate(-1, 0, 0) // a ceremony may wait for its officers
	for _, c := range []struct {
		kind string
		cert *x509.Certificate
	}{{KindDevice, ask()}, {KindStation, ask()}, {KindService, service}, {KindProof, proof}, {KindProof, moto}, {KindCA, issuing}} {
		if err := a.policy.Check(c.kind, a.tbs(t, c.cert, key), now); err != nil {
			t.Errorf("%s %s: %v", c.kind, c.cert.Subject, err)
		}
	}
}

func TestPolicyRefuses(t *testing.T) {
	a := newAttacker(t)
	key := newKey(t, keyP256).Public()
	code := strings.Repeat("0A", 32)
	extra := func(id asn1.ObjectIdentifier, critical bool, value []byte) func(*x509.Certificate) {
		return func(c *x509.Certificate) {
			c.ExtraExtensions = append(c.ExtraExtensions, pkix.Extension{Id: id, Critical: critical, Value: value})
		}
	}
	basicConstraints, keyUsage, extKeyUsage := asn1.ObjectIdentifier{2, 5, 29, 19}, asn1.ObjectIdentifier{2, 5, 29, 15}, asn1.ObjectIdentifier{2, 5, 29, 37}
	for _, c := range []struct {
		name, kind string
		spoil      func(*x509.Certificate)
		want       string
	}{
		{"a kind that is not for this key", "crl", func(*x509.Certificate) {}, `does not sign kind "crl"`},
		{"no kind", "", func(*x509.Certificate) {}, `does not sign kind ""`},
		{"CA certificate", KindDevice, func(c *x509.Certificate) { c.IsCA = true }, "not CA:FALSE"},
		{"CA that signs", KindDevice, func(c *x509.Certificate) { c.KeyUsage |= x509.KeyUsageCertSign }, "keyCertSign"},
		{"CRL signer", KindStation, func(c *x509.Certificate) { c.KeyUsage |= x509.KeyUsageCRLSign }, "keyCertSign or cRLSign"},
		{"CA:FALSE written out", KindDevice, func(c *x509.Certificate) {
			c.BasicConstraintsValid = false
			extra(basicConstraints, true, []byte{0x30, 3, 1, 1, 0})(c)
		}, "not CA:FALSE"},
		{"no basicConstraints", KindDevice, func(c *x509.Certificate) { c.BasicConstraintsValid = false }, "2.5.29.19 is missing"},
		{"basicConstraints not critical", KindDevice, func(c *x509.Certificate) {
			c.BasicConstraintsValid = false
			extra(basicConstraints, false, []byte{0x30, 0})(c)
		}, "2.5.29.19 is missing or not critical"},
		{"no keyUsage", KindDevice, func(c *x509.Certificate) { c.KeyUsage = 0 }, "2.5.29.15 is missing"},
		{"empty keyUsage", KindDevice, func(c *x509.Certificate) { c.KeyUsage = 0; extra(keyUsage, true, []byte{3, 1, 0})(c) }, "keyUsage is not DER"},
		{"keyUsage with a wrong count", KindDevice, func(c *x509.Certificate) { c.KeyUsage = 0; extra(keyUsage, true, []byte{3, 2, 0, 0x80})(c) }, "keyUsage is not DER"},
		{"keyUsage of two octets", KindDevice, func(c *x509.Certificate) { c.KeyUsage = 0; extra(keyUsage, true, []byte{3, 3, 7, 4, 0x80})(c) }, "keyUsage is not DER"},
		{"two basicConstraints", KindDevice, func(c *x509.Certificate) {
			extra(basicConstraints, true, []byte{0x30, 0})(c)
			extra(basicConstraints, true, []byte{0x30, 3, 1, 1, 0xff})(c)
		}, "2.5.29.19 stands twice"},
		{"unknown extension", KindDevice, extra(asn1.ObjectIdentifier{1, 2, 3}, false, []byte{5, 0}), "1.2.3 (critical false) has no place"},
		{"unknown critical extension", KindDevice, extra(asn1.ObjectIdentifier{1, 2, 3}, true, []byte{5, 0}), "1.2.3 (critical true) has no place"},
		{"name constraints", KindCA, extra(asn1.ObjectIdentifier{2, 5, 29, 30}, true, []byte{0x30, 0}), "has no place in a ca certificate"},
		{"names of a device", KindDevice, func(c *x509.Certificate) { c.DNSNames = []string{"example.com"} }, "2.5.29.17 (critical false) has no place in a device certificate"},
		{"authority named by its certificate", KindService, func(c *x509.Certificate) {
			c.DNSNames = []string{"localhost"}
			extra(asn1.ObjectIdentifier{2, 5, 29, 35}, false, []byte{0x30, 6, 0x80, 1, 1, 0x82, 1, 1})(c)
		}, "2.5.29.35 is not in the form"},
		{"CRLs of another issuer", KindDevice, extra(asn1.ObjectIdentifier{2, 5, 29, 31}, false, []byte{0x30, 7, 0x30, 5, 0xa2, 3, 0x82, 1, 'x'}), "2.5.29.31 is not in the form"},
		{"access by another method", KindDevice, extra(asn1.ObjectIdentifier{1, 3, 6, 1, 5, 5, 7, 1, 1}, false, []byte{0x30, 9, 0x30, 7, 6, 2, 0x2a, 3, 0x86, 1, 'x'}), "5.5.7.1.1 is not in the form"},
		{"service with a mail address", KindService, func(c *x509.Certificate) {
			c.ExtKeyUsage, c.EmailAddresses = []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth}, []string{"a@example.com"}
		}, "2.5.29.17 is not in the form"},
		{"service with a wildcard", KindService, func(c *x509.Certificate) {
			c.ExtKeyUsage, c.DNSNames = []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth}, []string{"*.example.com"}
		}, "2.5.29.17 is not in the form"},
		{"no extended key usage", KindDevice, func(c *x509.Certificate) { c.ExtKeyUsage = nil }, "extendedKeyUsage is missing"},
		{"any purpose", KindDevice, func(c *x509.Certificate) { c.ExtKeyUsage = []x509.ExtKeyUsage{x509.ExtKeyUsageAny} }, "extendedKeyUsage 2.5.29.37.0"},
		{"OCSP signer", KindDevice, func(c *x509.Certificate) { c.ExtKeyUsage = append(c.ExtKeyUsage, x509.ExtKeyUsageOCSPSigning) }, "1.3.6.1.5.5.7.3.9"},
		{"station that is a server", KindStation, func(c *x509.Certificate) { c.ExtKeyUsage = []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth} }, "1.3.6.1.5.5.7.3.1"},
		{"service that is a station", KindService, func(*x509.Certificate) {}, "1.3.6.1.5.5.7.3.2"},
		{"critical extended key usage", KindDevice, func(c *x509.Certificate) {
			c.ExtKeyUsage = nil
			extra(extKeyUsage, true, []byte{0x30, 0})(c)
		}, "(critical true) has no place"},
		{"registration code", KindDevice, func(c *x509.Certificate) { c.Subject.CommonName = code }, "64 hex digits"},
		{"registration code after 0x", KindDevice, func(c *x509.Certificate) { c.Subject.CommonName = "0x" + code }, "64 hex digits"},
		{"registration code of a station", KindStation, func(c *x509.Certificate) { c.Subject.CommonName = code }, "64 hex digits"},
		{"registration code of a CA", KindCA, func(c *x509.Certificate) { c.Subject.CommonName = code }, "64 hex digits"},
		{"registration code elsewhere", KindDevice, func(c *x509.Certificate) { c.Subject.Locality = []string{"x", code} }, "64 hex digits"},
		{"registration code as IA5String", KindDevice, func(c *x509.Certificate) { c.RawSubject = nameOf(22, code) }, "neither PrintableString nor UTF8String"},
		{"device as a proof", KindProof, func(*x509.Certificate) {}, "the subject of a proof is one common name"},
		{"proof with more", KindProof, func(c *x509.Certificate) {
			c.Subject = pkix.Name{CommonName: code, Organization: []string{"Demo"}}
		}, "the subject of a proof is one common name"},
		{"proof in another field", KindProof, func(c *x509.Certificate) { c.Subject = pkix.Name{Organization: []string{code}} }, "the subject of a proof is one common name"},
		{"long proof", KindProof, func(c *x509.Certificate) { c.Subject = pkix.Name{CommonName: code} }, "a proof lives"},
		{"proof that may connect", KindProof, func(c *x509.Certificate) {
			c.Subject, c.NotAfter = pkix.Name{CommonName: code}, now.AddDate(0, 0, 3)
		}, "2.5.29.37 (critical false) has no place in a proof"},
		{"empty subject", KindDevice, func(c *x509.Certificate) { c.Subject = pkix.Name{} }, "subject is empty"},
		{"control character", KindDevice, func(c *x509.Certificate) { c.RawSubject = nameOf(12, "a\nb") }, "control character"},
		{"past the CA's end", KindDevice, func(c *x509.Certificate) { c.NotAfter = now.AddDate(31, 0, 0) }, "after the CA's end"},
		{"without end", KindDevice, func(c *x509.Certificate) { c.NotAfter = time.Date(9999, 12, 31, 23, 59, 59, 0, time.UTC) }, "after the CA's end"},
		{"ends before it begins", KindDevice, func(c *x509.Certificate) { c.NotAfter = now.AddDate(0, 0, -1) }, "before notBefore"},
		{"old", KindDevice, func(c *x509.Certificate) { c.NotBefore = now.AddDate(0, 0, -8) }, "is not within"},
		{"from the future", KindDevice, func(c *x509.Certificate) { c.NotBefore = now.Add(2 * time.Hour) }, "is not within"},
		{"foreign prefix", KindDevice, func(c *x509.Certificate) { s := testSerial(0x0102, 5); c.SerialNumber.SetBytes(s[:]) }, "serial prefix is 0x0102"},
		{"short serial", KindDevice, func(c *x509.Certificate) { c.SerialNumber = big.NewInt(5) }, "serial has not 20 octets"},
		{"device as a CA", KindCA, func(*x509.Certificate) {}, "has no place in a ca certificate"},
		{"CA without limit", KindCA, func(c *x509.Certificate) { c.IsCA, c.ExtKeyUsage = true, nil }, "path length"},
		{"CA with a long path", KindCA, func(c *x509.Certificate) { c.IsCA, c.ExtKeyUsage, c.MaxPathLen = true, nil, 2 }, "path length"},
		{"CA that does more", KindCA, func(c *x509.Certificate) {
			c.IsCA, c.ExtKeyUsage, c.MaxPathLen, c.KeyUsage = true, nil, 1, x509.KeyUsageCertSign|x509.KeyUsageCRLSign|x509.KeyUsageDigitalSignature
		}, "keyUsage of a CA"},
	} {
		t.Run(c.name, func(t *testing.T) {
			cert := ask()
			c.spoil(cert)
			err := a.policy.Check(c.kind, a.tbs(t, cert, key), now)
			if err == nil {
				t.Fatal("taken")
			}
			if !strings.Contains(err.Error(), c.want) {
				t.Fatalf("error %v, want one with %q", err, c.want)
			}
		})
	}
}

func TestPolicyRefusesOtherIssuersKeysAndDocuments(t *testing.T) {
	a := newAttacker(t)
	key := newKey(t, keyP256)
	foreign := *a
	foreign.ca = stdCA(t, a.key)
	ed := newEd25519(t)
	crl, err := x509.CreateRevocationList(rand.Reader, &x509.RevocationList{Number: big.NewInt(1), ThisUpdate: now, NextUpdate: now.AddDate(0, 0, 1)}, a.ca, a.key)
	if err != nil {
		t.Fatal(err)
	}
	list, err := x509.ParseRevocationList(crl)
	if err != nil {
		t.Fatal(err)
	}
	good := a.tbs(t, ask(), key.Public())
	for _, c := range []struct {
		name, want string
		tbs        []byte
	}{
		{"foreign issuer", "issuer is another CA", foreign.tbs(t, ask(), key.Public())},
		{"Ed25519", "public key is neither", a.tbs(t, ask(), ed)},
		{"CRL", "not version 3", list.RawTBSRevocationList},
		{"CSR", "not version 3", newCSRInfo(t, key)},
		{"nothing", "not one DER sequence", nil},
		{"trailing octet", "not one DER sequence", append(bytes.Clone(good), 0)},
		{"digest", "not one DER sequence", bytes.Repeat([]byte{0x30}, 32)},
	} {
		if err := a.policy.Check(KindDevice, c.tbs, now); err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: error %v, want one with %q", c.name, err, c.want)
		}
	}
	if err := a.policy.Check(KindDevice, good, now); err != nil {
		t.Error(err)
	}
}

// Every octet of a TBS is changed in every bit: what the policy still takes, crypto/x509 reads as a certificate of the same shape.
func TestPolicyOnDamagedTBS(t *testing.T) {
	a := newAttacker(t)
	good := a.tbs(t, ask(), newKey(t, keyP256).Public())
	for n := range good {
		if a.policy.Check(KindDevice, good[:n], now) == nil {
			t.Fatalf("cut after %d octets, and taken", n)
		}
		for bit := range 8 {
			changed := bytes.Clone(good)
			changed[n] ^= 1 << bit
			if a.policy.Check(KindDevice, changed, now) != nil {
				continue
			}
			if err := shapeOf(changed, a); err != "" {
				t.Errorf("octet %d, bit %d: %s", n, bit, err)
			}
		}
	}
}

// shapeOf says what crypto/x509 sees in a TBS that may not be signed; a key off its curve stops it before it sees more.
func shapeOf(tbs []byte, a *attacker) string {
	der, err := Assemble(tbs, []byte{1})
	if err != nil {
		return err.Error()
	}
	c, err := x509.ParseCertificate(der)
	switch {
	case err != nil && strings.Contains(err.Error(), "point not on curve"):
		return ""
	case err != nil:
		return err.Error()
	case c.IsCA || !c.BasicConstraintsValid || c.KeyUsage&(x509.KeyUsageCertSign|x509.KeyUsageCRLSign) != 0:
		return "it is a CA"
	case !bytes.Equal(c.RawIssuer, a.policy.Issuer):
		return "it has another issuer"
	case isRegistrationCode(c.Subject.CommonName):
		return "it has a registration code"
	case c.NotAfter.After(a.policy.NotAfter):
		return "it lives too long"
	}
	return ""
}

func FuzzPolicyCheck(f *testing.F) {
	a := newAttacker(f)
	f.Add(a.tbs(f, ask(), newKey(f, keyP256).Public()))
	rsa := ask()
	rsa.Subject = pkix.Name{CommonName: "x", Country: []string{"DE"}, ExtraNames: []pkix.AttributeTypeAndValue{{Type: asn1.ObjectIdentifier{2, 5, 4, 46}, Value: "q"}}}
	f.Add(a.tbs(f, rsa, newKey(f, "rsa2048").Public()))
	f.Fuzz(func(t *testing.T, tbs []byte) {
		for _, kind := range a.policy.Kinds {
			err := a.policy.Check(kind, tbs, now)
			if err != nil || kind == KindCA || kind == KindProof {
				continue
			}
			if why := shapeOf(tbs, a); why != "" && !strings.HasPrefix(why, "x509: ") { // what x509 cannot read, nobody takes for a certificate
				t.Fatalf("%s: %s", kind, why)
			}
		}
	})
}

func TestParsePolicy(t *testing.T) {
	h := newHierarchy(t)
	good := Policy{Issuer: h.issuing.RawSubject, Kinds: []string{KindDevice}, SerialPrefix: issuingPrefix, NotAfter: h.issuing.NotAfter}
	for _, c := range []struct {
		name  string
		spoil func(*Policy)
		want  string
	}{
		{"good", func(*Policy) {}, ""},
		{"no issuer", func(p *Policy) { p.Issuer = nil }, "issuer"},
		{"issuer that is no name", func(p *Policy) { p.Issuer = []byte{1} }, "issuer"},
		{"empty issuer", func(p *Policy) { p.Issuer = []byte{0x30, 0} }, "issuer"},
		{"no kinds", func(p *Policy) { p.Kinds = nil }, "kinds"},
		{"unknown kind", func(p *Policy) { p.Kinds = []string{KindDevice, "crl"} }, "kinds"},
		{"prefix", func(p *Policy) { p.SerialPrefix = 0x8001 }, "serial prefix"},
		{"no end", func(p *Policy) { p.NotAfter = time.Time{} }, "not_after"},
	} {
		p := good
		c.spoil(&p)
		text, err := json.Marshal(p)
		if err != nil {
			t.Fatal(err)
		}
		_, err = ParsePolicy(text)
		if (err == nil) != (c.want == "") || err != nil && !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: error %v, want %q", c.name, err, c.want)
		}
	}
	for _, text := range []string{"", "{}", `{"issuer":"","more":1}`, "null"} {
		if _, err := ParsePolicy([]byte(text)); err == nil {
			t.Errorf("%q was taken", text)
		}
	}
}
