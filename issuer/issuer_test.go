package issuer

import (
	"bytes"
	"crypto/x509"
	"encoding/pem"
	"testing"
)

// The thread of one certificate: order, station, CSR, certificate, chain.
func TestOneCertificate(t *testing.T) {
	p, o := readyPlant(t, 10)
	if o.ID != "O-1" || o.State != OrderOpen || o.CA != "issuing" {
		t.Fatalf("order is %+v", o)
	}
	it := p.item(o.ID, "DEMO-000001")
	c := p.submit(it)
	cert, err := x509.ParseCertificate(c.DER)
	p.must(err)
	chain, err := p.Chain("issuing")
	p.must(err)
	between, roots := x509.NewCertPool(), x509.NewCertPool()
	first, rest := pem.Decode(chain)
	between.AddCert(mustParse(t, first.Bytes))
	top, _ := pem.Decode(rest)
	roots.AddCert(mustParse(t, top.Bytes))
	if _, err := cert.Verify(x509.VerifyOptions{Roots: roots, Intermediates: between, CurrentTime: epoch, KeyUsages: []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth}}); err != nil {
		t.Error(err)
	}
	if cert.Subject.CommonName != "DEMO-000001" || c.DeviceID != "DEMO-000001" || c.Slot != "main" || c.Replayed {
		t.Errorf("subject %s, device %s, slot %s, replayed %t", cert.Subject, c.DeviceID, c.Slot, c.Replayed)
	}
	again := p.submit(it)
	if !bytes.Equal(again.DER, c.DER) || !again.Replayed || again.Index != c.Index {
		t.Errorf("asked again: replayed %t, index %d of %d, same bytes %t", again.Replayed, again.Index, c.Index, bytes.Equal(again.DER, c.DER))
	}
	found, err := p.Certificate(c.Serial)
	p.must(err)
	if !bytes.Equal(found.DER, c.DER) {
		t.Error("found another certificate by its serial")
	}
	if now, err := p.Order(o.ID); err != nil || now.Issued != 1 {
		t.Errorf("order stands at %d, %v", now.Issued, err)
	}
	for line, err := range p.Manifest(o.ID) {
		p.must(err)
		if line.Serial != c.Serial.String() || line.DeviceID != "DEMO-000001" {
			t.Errorf("manifest says %+v", line)
		}
	}
	p.must(p.ledger.Check())
}

func mustParse(t testing.TB, der []byte) *x509.Certificate {
	t.Helper()
	c, err := x509.ParseCertificate(der)
	if err != nil {
		t.Fatal(err)
	}
	return c
}
