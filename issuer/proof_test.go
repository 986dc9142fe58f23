package issuer

import (
	"bytes"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/certmill/certmill/ca"
	"github.com/certmill/certmill/internal/ledger"
)

func TestProve(t *testing.T) {
	p := newPlant(t)
	const account, region = "111111111111", "eu-central-1"
	prove := func() []byte {
		t.Helper()
		text, err := p.Prove(p.Context(), "issuing", account, region, testCode, "local:1000")
		p.must(err)
		return text
	}
	first := prove()
	block, _ := pem.Decode(first)
	cert := mustParse(t, block.Bytes)
	issuing := mustParse(t, p.records[1].Certificate)
	if err := cert.CheckSignatureFrom(issuing); err != nil || cert.Subject.CommonName != testCode {
		t.Errorf("subject %s: %v", cert.Subject, err)
	}
	if !bytes.Equal(first, prove()) {
		t.Error("the same question got another certificate")
	}
	p.stop()
	p.start()
	if !bytes.Equal(first, prove()) {
		t.Error("the same question got another certificate after a restart")
	}
	p.clock.advance(cert.NotAfter.Sub(epoch) - 23*time.Hour)
	if bytes.Equal(first, prove()) {
		t.Error("a proof with less than a day left was handed out again")
	}
	p.must(p.ledger.View(func(v *ledger.View) error {
		for e, err := range v.Entries(0) {
			p.must(err)
			if e.Kind != entryIntent {
				continue
			}
			in, err := decodeIntent(e.Payload)
			p.must(err)
			for _, want := range []string{`"by":"local:1000"`, account, region, `"code_hash":"`} {
				if !strings.Contains(string(in.right), want) {
					t.Errorf("recorded authority %s lacks %s", in.right, want)
				}
			}
		}
		return nil
	}))
	p.must(p.ledger.Check())
}

func TestProveRefuses(t *testing.T) {
	p := newPlant(t)
	for _, c := range []struct {
		name, ca, account, region, code string
		want                            error
	}{
		{"unknown CA", "nosuch", "111111111111", "r-1", testCode, ErrNotFound},
		{"plant CA", "plant", "111111111111", "r-1", testCode, ErrInvalid},
		{"root", "root", "111111111111", "r-1", testCode, ErrInvalid},
		{"account of 11 digits", "issuing", "11111111111", "r-1", testCode, ErrInvalid},
		{"region with a slash", "issuing", "111111111111", "r/1", testCode, ErrInvalid},
		{"no code", "issuing", "111111111111", "r-1", "", ErrInvalid},
		{"code with newline", "issuing", "111111111111", "r-1", "a\nb", ErrInvalid},
		{"code past a common name", "issuing", "111111111111", "r-1", testCode + "0", ErrInvalid},
		{"a device's name as code", "issuing", "111111111111", "r-1", "DEMO-000001", ca.ErrRefused},
	} {
		if _, err := p.Prove(p.Context(), c.ca, c.account, c.region, c.code, "test"); !errors.Is(err, c.want) {
			t.Errorf("%s: %v, want %v", c.name, err, c.want)
		}
	}
	p.must(p.Freeze(p.Context(), Target{"ca", "issuing"}, "test", "test"))
	if _, err := p.Prove(p.Context(), "issuing", "111111111111", "r-1", testCode, "test"); !errors.Is(err, ErrFrozen) {
		t.Errorf("frozen CA: %v", err)
	}
	if p.OpenIntents() != 0 || p.tokens["issuing"].signed.Load() != 0 {
		t.Error("a refusal left something behind")
	}
}

func TestAdoptCA(t *testing.T) {
	p := newPlant(t)
	p.stop()
	l, err := ledger.Open(p.cfg)
	p.must(err)
	defer l.Close()
	all, err := CAs(l)
	p.must(err)
	for n, want := range []struct {
		name, state string
		prefix      uint16
	}{{"issuing", stateIssuing, 0x0102}, {"plant", stateIssuing, 0x0103}, {"root", stateOffline, 0x0101}} {
		if got := all[n]; got.Name != want.name || got.State != want.state || got.Prefix != want.prefix {
			t.Errorf("CA %d: %s, %s, %#x, want %+v", n, got.Name, got.State, got.Prefix, want)
		}
	}
	issuing := all[0]
	if again, err := AdoptCA(l, issuing); err != nil || again.Prefix != issuing.Prefix || !bytes.Equal(again.Certificate, issuing.Certificate) {
		t.Errorf("adopted again: %+v, %v", again, err)
	}
	other := issuing
	other.Certificate = all[1].Certificate
	if _, err := AdoptCA(l, other); !errors.Is(err, ErrExists) {
		t.Errorf("another certificate under the same name: %v", err)
	}
	device := all[0]
	device.Name, device.Role = "x", "nosuch"
	if _, err := AdoptCA(l, device); !errors.Is(err, ErrInvalid) {
		t.Errorf("unknown role: %v", err)
	}
	twice := issuing
	twice.Name = "issuing-again"
	if _, err := AdoptCA(l, twice); !errors.Is(err, ErrKeyInUse) {
		t.Errorf("one key adopted under two names: %v", err)
	}
	// A CA that the ledger does not know cannot sign here.
	cert, err := x509.ParseCertificate(issuing.Certificate)
	p.must(err)
	for _, cfg := range []ca.AuthorityConfig{
		{Name: "stranger", Certificate: cert, Prefix: issuing.Prefix, Signer: p.tokens["issuing"]},
		{Name: "issuing", Certificate: cert, Prefix: 0x0200, Signer: p.tokens["issuing"]},
	} {
		a, err := ca.NewAuthority(cfg)
		p.must(err)
		if _, err := New(Config{Ledger: l, Authorities: []*ca.Authority{a}}); err == nil {
			t.Errorf("New took CA %s with prefix %#x", cfg.Name, cfg.Prefix)
		}
	}
}
