package issuer

import (
	"bytes"
	"context"
	"crypto/x509"
	"errors"
	"testing"

	"github.com/certmill/certmill/ca"
)

func TestStationsLife(t *testing.T) {
	p, o := readyPlant(t, 10)
	s, der := p.station("line-2")
	again, sameDER := p.station("line-2")
	if !bytes.Equal(der, sameDER) || s != again || s.State != stationActive || s.By != "test" {
		t.Errorf("asked twice: %+v and %+v, same bytes %t", s, again, bytes.Equal(der, sameDER))
	}
	if _, _, err := p.AddStation(p.Context(), "line-2", p.csr("another"), "test"); !errors.Is(err, ErrExists) {
		t.Errorf("same name, another key: %v", err)
	}
	cert := mustParse(t, der)
	it := p.item(o.ID, "DEMO-000001")
	it.Station = "line-2"
	c := p.submit(it)

	known := func(when string, want error) {
		t.Helper()
		got, err := p.Identify(cert)
		if !errors.Is(err, want) || want == nil && got.Name != "line-2" {
			t.Errorf("%s: identified as %q, %v, want %v", when, got.Name, err, want)
		}
		if _, err := p.Submit(p.Context(), it); !errors.Is(err, want) {
			t.Errorf("%s: its certificate again: %v, want %v", when, err, want)
		}
	}
	known("active", nil)
	target := Target{"station", "line-2"}
	p.must(p.Freeze(p.Context(), target, "stolen?", "test"))
	known("frozen", ErrStation)
	p.stop()
	p.start()
	known("frozen, after a restart", ErrStation)
	if s, err := p.Station("line-2"); err != nil || s.State != stationFrozen {
		t.Errorf("state %s, %v", s.State, err)
	}
	p.must(p.Unfreeze(p.Context(), target, "found", "test"))
	known("active again", nil)
	p.must(p.DisableStation(p.Context(), "line-2", "sold", "test"))
	p.must(p.DisableStation(p.Context(), "line-2", "sold", "test"))
	known("disabled", ErrStation)
	p.stop()
	p.start()
	known("disabled, after a restart", ErrStation)
	if err := p.DisableStation(p.Context(), "nosuch", "sold", "test"); !errors.Is(err, ErrNotFound) {
		t.Errorf("disable a station that is not there: %v", err)
	}
	if _, err := p.Identify(mustParse(t, c.DER)); !errors.Is(err, ErrStation) {
		t.Errorf("a device's certificate: %v", err)
	}
	all, err := p.Stations()
	p.must(err)
	if len(all) != 2 || all[0].Name != "line-1" || all[1].State != stationDisabled || all[1].Serial != s.Serial || all[1].CertificateID != s.CertificateID {
		t.Errorf("stations %+v", all)
	}
	p.must(p.ledger.Check())
}

// A station's certificate is asked for on every request: its end counts, whatever the connection is.
func TestStationsCertificateEnds(t *testing.T) {
	p := newPlant(t)
	_, der := p.station("line-1")
	cert := mustParse(t, der)
	p.clock.advance(cert.NotAfter.Sub(epoch))
	if _, err := p.Identify(cert); err != nil {
		t.Errorf("in its last second: %v", err)
	}
	p.clock.advance(1e9)
	if _, err := p.Identify(cert); !errors.Is(err, ErrStation) {
		t.Errorf("after its end: %v", err)
	}
}

// A station that was recorded while the token was away is known once its certificate is signed, with nobody waiting for it.
func TestStationSignedLater(t *testing.T) {
	p := newPlant(t)
	p.tokens["plant"].breakWith(func(context.Context, [][]byte) error { return errAway })
	if _, _, err := p.AddStation(p.Context(), "line-1", p.csr("station line-1"), "test"); !errors.Is(err, errAway) {
		t.Fatalf("with the token away: %v", err)
	}
	if s, err := p.Station("line-1"); err != nil || s.CertificateID != "" || p.OpenIntents() != 1 {
		t.Errorf("%+v, %v, %d open", s, err, p.OpenIntents())
	}
	p.tokens["plant"].breakWith(nil)
	p.clock.advance(firstRetry)
	p.eventually("signed", func() bool { return p.OpenIntents() == 0 })
	s, der := p.station("line-1")
	if got, err := p.Identify(mustParse(t, der)); err != nil || got != s {
		t.Errorf("identified %+v, %v, want %+v", got, err, s)
	}
	for _, name := range []string{"", "a/b", "a b", "../x", testCode[:63] + "é"} {
		if _, _, err := p.AddStation(p.Context(), name, p.csr("other"), "test"); !errors.Is(err, ErrInvalid) {
			t.Errorf("name %q: %v", name, err)
		}
	}
}

// Promise of design.md section 3: plant certificates are none of devices, and the CA that AWS knows signs no plant certificate.
func TestKindsOfCertificates(t *testing.T) {
	p, o := readyPlant(t, 1)
	_, station := p.station("line-2")
	der, err := p.ServiceCertificate(p.Context(), p.csr("service"), []string{"localhost", "127.0.0.1"}, "service")
	p.must(err)
	service := mustParse(t, der)
	device := mustParse(t, p.submit(p.item(o.ID, "DEMO-000001")).DER)
	for _, c := range []struct {
		cert   *x509.Certificate
		issuer string
		usage  x509.ExtKeyUsage
	}{
		{mustParse(t, station), "Test plant G1", x509.ExtKeyUsageClientAuth},
		{service, "Test plant G1", x509.ExtKeyUsageServerAuth},
		{device, "Test issuing G1", x509.ExtKeyUsageClientAuth},
	} {
		if c.cert.Issuer.CommonName != c.issuer || len(c.cert.ExtKeyUsage) != 1 || c.cert.ExtKeyUsage[0] != c.usage || c.cert.IsCA {
			t.Errorf("%s by %s, usage %v", c.cert.Subject, c.cert.Issuer, c.cert.ExtKeyUsage)
		}
	}
	if err := service.VerifyHostname("localhost"); err != nil {
		t.Error(err)
	}
	same, err := p.ServiceCertificate(p.Context(), p.csr("service"), []string{"localhost", "127.0.0.1"}, "service")
	if err != nil || !bytes.Equal(same, der) {
		t.Errorf("asked again: %v, same bytes %t", err, bytes.Equal(same, der))
	}
	if _, err := p.ServiceCertificate(p.Context(), p.csr("service"), []string{"other.example"}, "service"); !errors.Is(err, ErrKeyInUse) {
		t.Errorf("same key for other names: %v", err)
	}
	if _, err := p.ServiceCertificate(p.Context(), p.csr("nameless"), nil, "service"); !errors.Is(err, ca.ErrRefused) {
		t.Errorf("without names: %v", err)
	}
}
