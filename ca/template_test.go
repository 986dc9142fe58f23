package ca

import (
	"bytes"
	"crypto"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/asn1"
	"fmt"
	"math/big"
	mrand "math/rand/v2"
	"net"
	"net/url"
	"slices"
	"testing"
	"time"
)

// The encoder is held to crypto/x509 byte by byte, over everything it can be told to write.
func TestEncodeIsWhatX509Writes(t *testing.T) {
	rng := mrand.New(mrand.NewPCG(1, 2))
	issuers := []struct {
		cert *x509.Certificate
		key  crypto.Signer
	}{}
	for _, kind := range []string{keyP256, keyP384, "rsa2048"} {
		key := newKey(t, kind)
		issuers = append(issuers, struct {
			cert *x509.Certificate
			key  crypto.Signer
		}{stdCA(t, key), key})
	}
	var keys []publicKey
	for _, kind := range []string{keyP256, keyP384, "rsa2048"} {
		key, err := newPublicKey(newKey(t, kind).Public())
		if err != nil {
			t.Fatal(err)
		}
		keys = append(keys, key)
	}
	n := 3000
	if testing.Short() {
		n = 300
	}
	for i := range n {
		issuer := issuers[i%len(issuers)]
		tpl := randomTemplate(rng, keys[rng.IntN(len(keys))])
		tpl.issuer, tpl.issuerKeyID = issuer.cert.RawSubject, issuer.cert.SubjectKeyId
		var err error
		if tpl.algorithm, err = signatureAlgorithm(issuer.key.Public()); err != nil {
			t.Fatal(err)
		}
		got, err := tpl.encode()
		if err != nil {
			t.Fatal(err)
		}
		der, err := x509.CreateCertificate(rand.Reader, stdTemplate(tpl), issuer.cert, tpl.key.key, issuer.key)
		if err != nil {
			t.Fatalf("%+v: %v", tpl, err)
		}
		want, err := x509.ParseCertificate(der)
		if err != nil {
			t.Fatal(err)
		}
		if !bytes.Equal(got, want.RawTBSCertificate) {
			t.Fatalf("template %d, subject %v\n got %x\nwant %x", i, tpl.subject, got, want.RawTBSCertificate)
		}
		if whole, err := Assemble(got, want.Signature); err != nil || !bytes.Equal(whole, der) {
			t.Fatalf("assembled %x, %v\n     want %x", whole, err, der)
		}
	}
}

func randomTemplate(rng *mrand.Rand, key publicKey) template {
	t := template{key: key, keyUsage: usageDigitalSignature, serial: testSerial(0x0100+uint16(rng.IntN(0x7eff)), rng.Uint64())}
	t.notBefore = time.Unix(rng.Int64N(3_000_000_000), 0).UTC() // to 2065
	t.notAfter = t.notBefore.AddDate(rng.IntN(60), 0, rng.IntN(400))
	if rng.IntN(4) == 0 {
		t.notAfter = time.Date(9999, 12, 31, 23, 59, 59, 0, time.UTC)
	}
	for _, f := range subjectFields() {
		if rng.IntN(2) == 0 && f.oid != oidCommonName {
			continue
		}
		text := randomText(rng, f)
		t.subject = append(t.subject, subjectAttribute{f.oid, text, f.printable || allPrintable(text)})
	}
	if rng.IntN(2) == 0 {
		t.links, _ = newLinks("http://pki.example.com/certmill/", "issuing")
	}
	switch rng.IntN(4) {
	case 0:
		t.isCA, t.pathLen, t.keyUsage = true, uint8(rng.IntN(2)), usageCertSign|usageCRLSign
	case 1:
		t.extKeyUsage = []oid{oidServerAuth}
		t.names, _ = altNames{}.join([]string{"localhost", fmt.Sprintf("h%d.example.com", rng.IntN(99)), "127.0.0.1", "::1"}[rng.IntN(3):])
	case 2:
		t.keyUsage |= usageKeyAgreement
		t.extKeyUsage = []oid{oidClientAuth, oidServerAuth}
	default:
		t.extKeyUsage = []oid{oidClientAuth}
		randomExtras(rng, &t)
	}
	return t
}

// randomExtras adds what device certificates may carry beyond the rest, but for hardware module names, which crypto/x509 cannot write.
func randomExtras(rng *mrand.Rand, t *template) {
	if rng.IntN(2) == 0 {
		t.names.emails = []string{"a@example.com", "b.c@example.com"}[:1+rng.IntN(2)]
	}
	if rng.IntN(2) == 0 {
		t.names.uris = []string{"urn:example:1", "https://example.com/a?b=c"}[rng.IntN(2):]
	}
	if rng.IntN(2) == 0 {
		t.policies = []oid{"\x2b\x06\x01\x04\x01\x86\x8d\x1f\x02", "\x2a\x03\x04"}[rng.IntN(2):]
	}
	for n := range rng.IntN(3) {
		t.custom = append(t.custom, customExtension{oid([]byte{0x2a, 3, byte(n)}), []byte{0x0c, 1, byte('a' + n)}})
	}
}

func randomText(rng *mrand.Rand, f field) string {
	alphabet := []rune("ABCXYZabcxyz0189 '()+,-./:=?")
	if !f.printable {
		alphabet = append(alphabet, []rune("_@äß漢")...)
	}
	text := make([]rune, 1+rng.IntN(f.max))
	for i := range text {
		text[i] = alphabet[rng.IntN(len(alphabet))]
	}
	return string(text)
}

// stdTemplate says the same to crypto/x509.
func stdTemplate(t template) *x509.Certificate {
	c := &x509.Certificate{
		SerialNumber: new(big.Int).SetBytes(t.serial[:]), NotBefore: t.notBefore, NotAfter: t.notAfter,
		BasicConstraintsValid: true, IsCA: t.isCA, SubjectKeyId: t.key.id, DNSNames: t.names.dns,
	}
	if t.isCA {
		c.MaxPathLen, c.MaxPathLenZero = int(t.pathLen), t.pathLen == 0
	}
	for i, bit := range []byte{usageDigitalSignature, usageContentCommitment, usageKeyEncipherment, usageDataEncipherment, usageKeyAgreement, usageCertSign, usageCRLSign} {
		if t.keyUsage&bit != 0 {
			c.KeyUsage |= 1 << i
		}
	}
	for _, id := range t.extKeyUsage {
		c.ExtKeyUsage = append(c.ExtKeyUsage, map[oid]x509.ExtKeyUsage{oidClientAuth: x509.ExtKeyUsageClientAuth, oidServerAuth: x509.ExtKeyUsageServerAuth}[id])
	}
	for _, ip := range t.names.ips {
		c.IPAddresses = append(c.IPAddresses, net.IP(ip))
	}
	if t.links != (links{}) {
		c.OCSPServer, c.IssuingCertificateURL, c.CRLDistributionPoints = []string{t.links.ocsp}, []string{t.links.caIssuers}, []string{t.links.crl}
	}
	c.EmailAddresses = t.names.emails
	for _, text := range t.names.uris {
		u, err := url.Parse(text)
		if err != nil {
			panic(err)
		}
		c.URIs = append(c.URIs, u)
	}
	for _, id := range t.policies {
		policy, err := x509.ParseOID(id.String())
		if err != nil {
			panic(err)
		}
		c.Policies = append(c.Policies, policy)
	}
	for _, e := range t.custom {
		var id asn1.ObjectIdentifier
		if _, err := asn1.Unmarshal(append([]byte{6, byte(len(e.id))}, e.id...), &id); err != nil {
			panic(err)
		}
		c.ExtraExtensions = append(c.ExtraExtensions, pkix.Extension{Id: id, Value: e.value})
	}
	for _, a := range t.subject {
		switch a.oid {
		case oidCountry:
			c.Subject.Country = []string{a.text}
		case oidOrganization:
			c.Subject.Organization = []string{a.text}
		case oidOrganizationalUnit:
			c.Subject.OrganizationalUnit = []string{a.text}
		case oidLocality:
			c.Subject.Locality = []string{a.text}
		case oidState:
			c.Subject.Province = []string{a.text}
		case oidCommonName:
			c.Subject.CommonName = a.text
		case oidSerialNumber:
			c.Subject.SerialNumber = a.text
		case oidDNQualifier:
			c.Subject.ExtraNames = []pkix.AttributeTypeAndValue{{Type: asn1.ObjectIdentifier{2, 5, 4, 46}, Value: a.text}}
		}
	}
	return c
}

// stdCA is a CA that crypto/x509 made alone.
func stdCA(t *testing.T, key crypto.Signer) *x509.Certificate {
	t.Helper()
	c := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "Issuer ä", Organization: []string{"Demo"}}, NotBefore: now, NotAfter: now.AddDate(30, 0, 0),
		IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageCertSign, SubjectKeyId: bytes.Repeat([]byte{7}, 20),
	}
	der, err := x509.CreateCertificate(rand.Reader, c, c, key.Public(), key)
	if err != nil {
		t.Fatal(err)
	}
	parsed, err := x509.ParseCertificate(der)
	if err != nil {
		t.Fatal(err)
	}
	return parsed
}

// What the encoder writes, the parser of the signer process reads as it was meant.
func TestParseTBSReadsWhatEncodeWrites(t *testing.T) {
	rng := mrand.New(mrand.NewPCG(3, 4))
	key, err := sampleKey(keyP256)
	if err != nil {
		t.Fatal(err)
	}
	for range 500 {
		in := randomTemplate(rng, key)
		in.algorithm, in.issuer, in.issuerKeyID = oidECDSAWithSHA256, encodeName(in.subject), key.id
		tbs, err := in.encode()
		if err != nil {
			t.Fatal(err)
		}
		got, err := parseTBS(tbs)
		if err != nil {
			t.Fatalf("%+v: %v", in, err)
		}
		if got.serial != in.serial || !got.notBefore.Equal(in.notBefore) || !got.notAfter.Equal(in.notAfter) || !bytes.Equal(got.issuer, in.issuer) {
			t.Fatalf("read %+v of %+v", got, in)
		}
		same := slices.EqualFunc(got.subject, in.subject, func(a attribute, b subjectAttribute) bool { return a.oid == b.oid && a.text == b.text })
		if !same {
			t.Fatalf("subject %+v, wrote %+v", got.subject, in.subject)
		}
	}
}

func TestAssembleTakesTheAlgorithmFromTheTBS(t *testing.T) {
	for _, tbs := range [][]byte{nil, {0x30, 0}, []byte("no DER")} {
		if _, err := Assemble(tbs, []byte{1}); err == nil {
			t.Errorf("%x was taken for a TBS", tbs)
		}
	}
}
