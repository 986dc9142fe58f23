package ca

import (
	"context"
	"crypto/x509"
	"errors"
	"strings"
	"sync"
	"testing"
	"time"
)

func issuance(t testing.TB, profile *Profile, seq uint64) Issuance {
	t.Helper()
	return Issuance{Profile: profile, Request: newRequest(t, ""), DeviceID: "DEMO-1", Serial: testSerial(issuingPrefix, seq), Now: now}
}

func TestPrepareIsPure(t *testing.T) {
	h := newHierarchy(t)
	a, _ := newAuthority(t, h.issuing, h.issuingKey)
	in := issuance(t, mustProfile(t, base), 1)
	first, err := a.Prepare(in)
	if err != nil {
		t.Fatal(err)
	}
	again, err := a.Prepare(in)
	if err != nil || string(first.TBS()) != string(again.TBS()) {
		t.Fatalf("another TBS of the same input (%v)", err)
	}
	if first.Kind() != KindDevice || first.Serial() != in.Serial {
		t.Fatalf("kind %s, serial %s", first.Kind(), first.Serial())
	}
}

func TestPrepareRefuses(t *testing.T) {
	h := newHierarchy(t)
	a, _ := newAuthority(t, h.issuing, h.issuingKey)
	p := func(replace ...string) *Profile { return mustProfile(t, with(t, replace...)) }
	service := defaultProfile(t, KindService)
	for _, c := range []struct {
		name   string
		change func(*Issuance)
		err    error
		want   string
	}{
		{"no request", func(in *Issuance) { in.Request = nil }, nil, "profile or request is missing"},
		{"other CA", func(in *Issuance) { in.Profile = p("kind: device", "kind: device\nca: plant") }, ErrRefused, "wants CA plant, this is issuing"},
		{"no end", func(in *Issuance) { in.Profile = p("duration: 20y", "not_after: 9999-12-31T23:59:59Z") }, ErrRefused, "goes to 9999-12-31T23:59:59Z, CA issuing ends"},
		{"longer than the CA", func(in *Issuance) { in.Profile = p("20y", "31y") }, ErrRefused, "not_after: ca means the CA's own end"},
		{"past issue_until", func(in *Issuance) { in.Now = now.AddDate(3, 0, 1) }, ErrRefused, "issues until"},
		{"before the CA", func(in *Issuance) { in.Now = now.AddDate(0, 0, -1) }, ErrRefused, "not valid before"},
		{"profile that has ended", func(in *Issuance) { in.Profile = p("duration: 20y", "not_after: 2026-06-01T00:00:00Z") }, ErrRefused, "which is past"},
		{"key kind", func(in *Issuance) { in.Profile = p("[p256]", "[p384]") }, ErrWeakKey, "takes p384, not p256"},
		{"id", func(in *Issuance) { in.DeviceID = "demo" }, ErrRefused, "does not match"},
		{"no id", func(in *Issuance) { in.DeviceID = "" }, ErrRefused, "does not match"},
		{"code as id", func(in *Issuance) { in.DeviceID = strings.Repeat("0A", 32) }, ErrRefused, "64 hex digits"},
		{"names for a device", func(in *Issuance) { in.Names = []string{"localhost"} }, ErrRefused, "carries no names"},
		{"service without a name", func(in *Issuance) { in.Profile = service }, ErrRefused, "wants a name"},
		{"service with a wildcard", func(in *Issuance) { in.Profile, in.Names = service, []string{"*.example.com"} }, ErrRefused, "neither a DNS name"},
		{"foreign serial", func(in *Issuance) { in.Serial = testSerial(0x0102, 1) }, ErrRefused, "serial prefix is 0x0102, not 0x0101"},
	} {
		t.Run(c.name, func(t *testing.T) {
			in := issuance(t, mustProfile(t, base), 1)
			c.change(&in)
			_, err := a.Prepare(in)
			if err == nil || c.err != nil && !errors.Is(err, c.err) || !strings.Contains(err.Error(), c.want) {
				t.Fatalf("error %v, want %v with %q", err, c.err, c.want)
			}
		})
	}
}

// The three places where a registration code is refused, seen from the front: what a profile's text and an id make together.
func TestACodeMadeOfTextAndIDIsRefused(t *testing.T) {
	h := newHierarchy(t)
	a, _ := newAuthority(t, h.issuing, h.issuingKey)
	text := "'" + strings.Repeat("ab", 28) + "{device_id}'"
	if _, err := ParseProfile([]byte(with(t, "organization: Demo", "organization: "+text, "[A-Z0-9-]{1,40}", "[A-Z0-9]{8}"))); err == nil {
		t.Fatal("a profile that can make a code was taken")
	}
	// A pattern that nobody analysed: the value itself is looked at.
	p := mustProfile(t, with(t, "organization: Demo", "organization: '{device_id}x'"))
	unseen, err := parseText(strings.Repeat("ab", 28)+"{device_id}", p.placeholders)
	if err != nil {
		t.Fatal(err)
	}
	p.subject[0].text = unseen
	in := issuance(t, p, 1)
	in.DeviceID = "0123ABCD"
	if _, err := a.Prepare(in); !errors.Is(err, ErrRefused) || !strings.Contains(err.Error(), "64 hex digits") {
		t.Fatalf("error %v", err)
	}
}

func TestOptionalFieldsAreLeftOutWhereTheIDDoesNotFit(t *testing.T) {
	h := newHierarchy(t)
	a, signer := newAuthority(t, h.issuing, h.issuingKey)
	for id, want := range map[string]string{
		"DEMO-1": "SERIALNUMBER=DEMO-1,CN=DEMO-1,O=Demo",
		"DEMO_1": "CN=DEMO_1,O=Demo",
	} {
		in := issuance(t, defaultProfile(t, KindDevice), 1)
		in.DeviceID = id
		p, err := a.Prepare(in)
		if err != nil {
			t.Fatal(err)
		}
		sig, err := signTBS(signer.key, p.TBS())
		if err != nil {
			t.Fatal(err)
		}
		if got := parse(t, p.TBS(), sig).Subject.String(); got != want {
			t.Errorf("%s: subject %s, want %s", id, got, want)
		}
	}
}

func TestPublicURL(t *testing.T) {
	h := newHierarchy(t)
	for url, want := range map[string]links{
		"":                           {},
		"http://pki.example.com":     {"http://pki.example.com/ocsp/issuing", "http://pki.example.com/ca/issuing.cer", "http://pki.example.com/crl/issuing.crl"},
		"http://127.0.0.1:8080/pki/": {"http://127.0.0.1:8080/pki/ocsp/issuing", "http://127.0.0.1:8080/pki/ca/issuing.cer", "http://127.0.0.1:8080/pki/crl/issuing.crl"},
	} {
		a, err := NewAuthority(AuthorityConfig{Name: "issuing", Certificate: h.issuing, Prefix: issuingPrefix, Signer: &softSigner{}, PublicURL: url})
		if err != nil {
			t.Fatal(err)
		}
		p, err := a.Prepare(issuance(t, mustProfile(t, base), 1))
		if err != nil {
			t.Fatal(err)
		}
		c := parse(t, p.TBS(), []byte{0})
		var got links
		if len(c.OCSPServer) == 1 && len(c.IssuingCertificateURL) == 1 && len(c.CRLDistributionPoints) == 1 {
			got = links{c.OCSPServer[0], c.IssuingCertificateURL[0], c.CRLDistributionPoints[0]}
		}
		if got != want {
			t.Errorf("public_url %q: %+v, want %+v", url, got, want)
		}
	}
}

func TestNewAuthorityRefuses(t *testing.T) {
	h := newHierarchy(t)
	good := AuthorityConfig{Name: "issuing", Certificate: h.issuing, Prefix: issuingPrefix, Signer: &softSigner{}}
	if _, err := NewAuthority(good); err != nil {
		t.Fatal(err)
	}
	leaf := *h.issuing
	leaf.IsCA = false
	for _, c := range []struct {
		name   string
		change func(*AuthorityConfig)
		want   string
	}{
		{"name", func(c *AuthorityConfig) { c.Name = "Issuing CA" }, "CA name"},
		{"no signer", func(c *AuthorityConfig) { c.Signer = nil }, "missing"},
		{"no certificate", func(c *AuthorityConfig) { c.Certificate = nil }, "missing"},
		{"no CA", func(c *AuthorityConfig) { c.Certificate = &leaf }, "not one of a CA"},
		{"prefix", func(c *AuthorityConfig) { c.Prefix = 0x00ff }, "serial prefix"},
		{"issue_until", func(c *AuthorityConfig) { c.IssueUntil = h.issuing.NotAfter.Add(1) }, "issue_until"},
		{"URL", func(c *AuthorityConfig) { c.PublicURL = "ldap://x" }, "public_url"},
		{"URL with a question", func(c *AuthorityConfig) { c.PublicURL = "http://x/?a=b" }, "public_url"},
	} {
		cfg := good
		c.change(&cfg)
		if _, err := NewAuthority(cfg); err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: error %v, want one with %q", c.name, err, c.want)
		}
	}
}

// The first certificate of a structure is linted, the next ones are not; what differs in structure is linted again.
func TestEachStructureIsLintedOnce(t *testing.T) {
	h := newHierarchy(t)
	a, _ := newAuthority(t, h.issuing, h.issuingKey)
	profile := defaultProfile(t, KindDevice)
	prepare := func(change func(*Issuance)) int {
		in := issuance(t, profile, 1)
		change(&in)
		if _, err := a.Prepare(in); err != nil {
			t.Fatal(err)
		}
		return len(a.linted.passed)
	}
	rsa, err := ParseRequest(newCSR(t, newKey(t, "rsa2048"), ""))
	if err != nil {
		t.Fatal(err)
	}
	for i, c := range []struct {
		name   string
		change func(*Issuance)
		want   int
	}{
		{"first", func(*Issuance) {}, 1},
		{"other key, serial, time and id", func(in *Issuance) {
			in.DeviceID, in.Serial, in.Now = "OTHER:2", testSerial(issuingPrefix, 9), now.AddDate(1, 0, 0)
		}, 1},
		{"an id that leaves a field out", func(in *Issuance) { in.DeviceID = "DEMO_1" }, 2},
		{"an end past 2049", func(in *Issuance) {
			in.Profile = defaultProfile(t, KindDevice)
			in.Profile.validity.years = 25
		}, 3},
		{"another kind of key", func(in *Issuance) { in.Request, in.Profile = rsa, mustProfile(t, with(t, "[p256]", "[rsa2048]")) }, 4},
	} {
		if got := prepare(c.change); got != c.want {
			t.Errorf("%d, %s: %d structures linted, want %d", i, c.name, got, c.want)
		}
	}
}

func TestStructureSeesWhatALintCouldSee(t *testing.T) {
	h := newHierarchy(t)
	a, _ := newAuthority(t, h.issuing, h.issuingKey)
	profile := mustProfile(t, with(t, "[A-Z0-9-]{1,40}", "[A-Za-z0-9&ä_-]{1,40}"))
	of := func(id string) string {
		in := issuance(t, profile, 1)
		in.DeviceID = id
		p, err := a.Prepare(in)
		if err != nil {
			t.Fatal(err)
		}
		return string(p.parsed.structure())
	}
	if of("A") != of("B-1") {
		t.Error("plain ids differ in structure")
	}
	if of("A") == of("A_1") {
		t.Error("another string type is the same structure")
	}
	if of("a&amp") == of("a&b") || of("ä") == of("ää") {
		t.Error("characters that a lint looks at are masked")
	}
}

func TestSign(t *testing.T) {
	h := newHierarchy(t)
	a, signer := newAuthority(t, h.issuing, h.issuingKey)
	other, _ := newAuthority(t, h.issuing, h.issuingKey)
	profile := mustProfile(t, base)
	var batch []*Prepared
	for n := range 5 {
		p, err := a.Prepare(issuance(t, profile, uint64(n)))
		if err != nil {
			t.Fatal(err)
		}
		batch = append(batch, p)
	}
	proof, err := a.PrepareProof(strings.Repeat("0a", 32), newKey(t, keyP256).Public(), testSerial(issuingPrefix, 9), now)
	if err != nil {
		t.Fatal(err)
	}
	if _, errs := other.Sign(t.Context(), batch[:1]); errs[0] == nil {
		t.Error("another authority signed it")
	}
	signer.fail.Store(true)
	if _, errs := a.Sign(t.Context(), batch[:1]); errs[0] == nil {
		t.Error("no error from a token that is away")
	}
	signer.fail.Store(false)
	sigs, errs := a.Sign(t.Context(), []*Prepared{batch[0], proof, batch[1], batch[0]}) // its first try failed: it may be signed now, once
	if errs[0] != nil || errs[1] == nil || errs[2] != nil || !errors.Is(errs[3], errRedeemed) {
		t.Fatalf("errors %v", errs)
	}
	for i, p := range map[int]*Prepared{0: batch[0], 2: batch[1]} {
		if err := parse(t, p.TBS(), sigs[i]).CheckSignatureFrom(h.issuing); err != nil {
			t.Error(err)
		}
	}
	if sigs, errs := a.Sign(t.Context(), nil); len(sigs) != 0 || len(errs) != 0 {
		t.Error("an empty batch")
	}
}

// Sixty-four callers and one Prepared: one signature.
func TestAPreparedIsSignedOnce(t *testing.T) {
	h := newHierarchy(t)
	a, signer := newAuthority(t, h.issuing, h.issuingKey)
	in := issuance(t, mustProfile(t, base), 1)
	p, err := a.Prepare(in)
	if err != nil {
		t.Fatal(err)
	}
	var wg sync.WaitGroup
	for range 64 {
		wg.Go(func() {
			a.Sign(context.Background(), []*Prepared{p})
			if _, err := a.Prepare(in); err != nil {
				t.Error(err)
			}
		})
	}
	wg.Wait()
	if n := signer.signed.Load(); n != 1 {
		t.Fatalf("%d signatures", n)
	}
}

func TestRedeem(t *testing.T) {
	h := newHierarchy(t)
	a, _ := newAuthority(t, h.issuing, h.issuingKey)
	p, err := a.Prepare(issuance(t, mustProfile(t, base), 1))
	if err != nil {
		t.Fatal(err)
	}
	restarted, _ := newAuthority(t, h.issuing, h.issuingKey)
	again, err := restarted.Redeem(KindDevice, p.TBS())
	if err != nil || again.Serial() != p.Serial() || string(again.TBS()) != string(p.TBS()) {
		t.Fatalf("redeemed %v, %v", again, err)
	}
	plant, err := NewAuthority(AuthorityConfig{Name: "plant", Certificate: h.plant, Prefix: issuingPrefix, Signer: &softSigner{}})
	if err != nil {
		t.Fatal(err)
	}
	for name, try := range map[string]func() error{
		"another kind": func() error { _, err := a.Redeem(KindProof, p.TBS()); return err },
		"a CA's kind":  func() error { _, err := a.Redeem(KindCA, p.TBS()); return err },
		"another CA":   func() error { _, err := plant.Redeem(KindDevice, p.TBS()); return err },
		"half a TBS":   func() error { _, err := a.Redeem(KindDevice, p.TBS()[:100]); return err },
	} {
		if err := try(); !errors.Is(err, ErrRefused) {
			t.Errorf("%s: error %v, want %v", name, err, ErrRefused)
		}
	}
}

func TestPrepareProof(t *testing.T) {
	h := newHierarchy(t)
	a, signer := newAuthority(t, h.issuing, h.issuingKey)
	key := newKey(t, keyP256)
	for _, code := range []string{strings.Repeat("0a", 32), "1b4e28ba-2fa1-11d2-883f-0016d3cca427"} {
		p, err := a.PrepareProof(code, key.Public(), testSerial(issuingPrefix, 3), now)
		if err != nil {
			t.Fatal(err)
		}
		sigs, errs := a.Sign(t.Context(), []*Prepared{p})
		if errs[0] != nil {
			t.Fatal(errs[0])
		}
		c := parse(t, p.TBS(), sigs[0])
		if err := c.CheckSignatureFrom(h.issuing); err != nil {
			t.Error(err)
		}
		if c.Subject.CommonName != code || c.Subject.String() != "CN="+code || c.IsCA || len(c.ExtKeyUsage) != 0 || c.NotAfter.Sub(c.NotBefore) > proofLife {
			t.Errorf("proof for %s: %s to %s, usages %v", c.Subject, c.NotBefore, c.NotAfter, c.ExtKeyUsage)
		}
	}
	if n := signer.signed.Load(); n != 2 {
		t.Errorf("%d signatures", n)
	}
	for _, code := range []string{"", "DEMO-000001", strings.Repeat("0a", 31), strings.Repeat("0a", 33), strings.Repeat("0g", 32), "1b4e28ba-2fa1-11d2-883f-0016d3cca42z", strings.Repeat("-", 36)} {
		if _, err := a.PrepareProof(code, key.Public(), testSerial(issuingPrefix, 3), now); !errors.Is(err, ErrRefused) {
			t.Errorf("code %q: error %v, want %v", code, err, ErrRefused)
		}
	}
	if _, err := a.PrepareProof(strings.Repeat("0a", 32), newEd25519(t), testSerial(issuingPrefix, 3), now); !errors.Is(err, ErrWeakKey) {
		t.Errorf("Ed25519: error %v", err)
	}
}

func TestServiceCertificate(t *testing.T) {
	h := newHierarchy(t)
	signer := &softSigner{key: h.plantKey}
	a, err := NewAuthority(AuthorityConfig{Name: "plant", Certificate: h.plant, Prefix: issuingPrefix, Signer: signer})
	if err != nil {
		t.Fatal(err)
	}
	in := issuance(t, defaultProfile(t, KindService), 1)
	in.DeviceID, in.Names = "", []string{"localhost", "127.0.0.1", "LOCALHOST", "::1", "::ffff:127.0.0.1"}
	p, err := a.Prepare(in)
	if err != nil {
		t.Fatal(err)
	}
	sigs, errs := a.Sign(t.Context(), []*Prepared{p})
	if errs[0] != nil {
		t.Fatal(errs[0])
	}
	c := parse(t, p.TBS(), sigs[0])
	pool := x509.NewCertPool()
	pool.AddCert(h.plant)
	for _, name := range []string{"localhost", "127.0.0.1", "::1"} {
		if _, err := c.Verify(x509.VerifyOptions{Roots: pool, DNSName: name, CurrentTime: now.Add(time.Hour)}); err != nil {
			t.Error(err)
		}
	}
	if len(c.DNSNames) != 1 || len(c.IPAddresses) != 2 {
		t.Errorf("names %v %v", c.DNSNames, c.IPAddresses)
	}
}
