package ca

import (
	"bytes"
	"crypto/rand"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"
)

func TestHierarchy(t *testing.T) {
	h := newHierarchy(t)
	for _, c := range []struct {
		cert, issuer *x509.Certificate
		subject      string
		pathLen      int
		algorithm    x509.SignatureAlgorithm
	}{
		{h.root, h.root, "CN=Demo Root G1,O=Demo,C=DE", 1, x509.ECDSAWithSHA384},
		{h.issuing, h.root, "CN=Demo Issuing G1,O=Demo,C=DE", 0, x509.ECDSAWithSHA384},
		{h.plant, h.plant, "CN=Demo Plant G1,O=Demo,C=DE", 0, x509.ECDSAWithSHA256},
	} {
		if got := c.cert.Subject.String(); got != c.subject {
			t.Errorf("subject %s, want %s", got, c.subject)
		}
		if c.cert.MaxPathLen != c.pathLen || c.cert.SignatureAlgorithm != c.algorithm || c.cert.KeyUsage != x509.KeyUsageCertSign|x509.KeyUsageCRLSign {
			t.Errorf("%s: path length %d, %s, key usage %b", c.subject, c.cert.MaxPathLen, c.cert.SignatureAlgorithm, c.cert.KeyUsage)
		}
		if err := c.cert.CheckSignatureFrom(c.issuer); err != nil {
			t.Errorf("%s: %v", c.subject, err)
		}
		if !bytes.Equal(c.cert.AuthorityKeyId, c.issuer.SubjectKeyId) || len(c.cert.SubjectKeyId) != 20 {
			t.Errorf("%s: key identifiers %x, %x", c.subject, c.cert.SubjectKeyId, c.cert.AuthorityKeyId)
		}
	}
}

func TestPrepareCAIsWhatX509Writes(t *testing.T) {
	h := newHierarchy(t)
	for _, c := range []struct{ cert, issuer *x509.Certificate }{{h.root, h.root}, {h.issuing, h.root}, {h.plant, h.plant}} {
		template := *c.cert
		template.RawSubject = nil
		key := map[*x509.Certificate]any{h.root: h.rootKey, h.plant: h.plantKey}[c.issuer]
		template.SignatureAlgorithm = 0
		der, err := x509.CreateCertificate(rand.Reader, &template, c.issuer, c.cert.PublicKey, key)
		if err != nil {
			t.Fatal(err)
		}
		std, err := x509.ParseCertificate(der)
		if err != nil {
			t.Fatal(err)
		}
		if !bytes.Equal(std.RawTBSCertificate, c.cert.RawTBSCertificate) {
			t.Errorf("%s\n got %x\nwant %x", c.cert.Subject, c.cert.RawTBSCertificate, std.RawTBSCertificate)
		}
	}
}

func TestPrepareCARefuses(t *testing.T) {
	h := newHierarchy(t)
	good := HierarchyConfig{Role: RoleIssuing, CommonName: "Demo Issuing", Generation: 2, NotAfter: now.AddDate(20, 0, 0).Truncate(time.Second)}
	p256 := newKey(t, keyP256).Public()
	noCA := *h.root
	noCA.IsCA = false
	for _, c := range []struct {
		name   string
		change func(*HierarchyConfig)
		pub    any
		issuer *x509.Certificate
		want   string
	}{
		{"role", func(c *HierarchyConfig) { c.Role = "leaf" }, p256, h.root, `role "leaf"`},
		{"issuing by itself", func(*HierarchyConfig) {}, p256, nil, "self-signed: false"},
		{"plant by the root", func(c *HierarchyConfig) { c.Role = RolePlant }, p256, h.root, "self-signed: true"},
		{"root key", func(c *HierarchyConfig) { c.Role = RoleRoot }, p256, nil, "a root CA has a p384 key"},
		{"issuing key", func(*HierarchyConfig) {}, newKey(t, keyP384).Public(), h.root, "a issuing CA has a p256 key"},
		{"Ed25519", func(*HierarchyConfig) {}, newEd25519(t), h.root, "key is not acceptable"},
		{"generation", func(c *HierarchyConfig) { c.Generation = 0 }, p256, h.root, "generation 0"},
		{"no name", func(c *HierarchyConfig) { c.CommonName = "" }, p256, h.root, "common_name is missing"},
		{"name with its generation too long", func(c *HierarchyConfig) { c.CommonName = strings.Repeat("x", 62) }, p256, h.root, "common_name has 65 characters"},
		{"country", func(c *HierarchyConfig) { c.Country = "Deutschland" }, p256, h.root, "country"},
		{"code", func(c *HierarchyConfig) { c.Organization = strings.Repeat("0a", 32) }, p256, h.root, "64 hex digits"},
		{"past", func(c *HierarchyConfig) { c.NotAfter = now.AddDate(0, 0, -1) }, p256, h.root, "not_after"},
		{"after the root", func(c *HierarchyConfig) { c.NotAfter = h.root.NotAfter.Add(time.Second) }, p256, h.root, "after the issuer's end"},
		{"issues too long", func(c *HierarchyConfig) { c.IssueUntil = c.NotAfter.Add(1) }, p256, h.root, "issue_until"},
		{"issues no more", func(c *HierarchyConfig) { c.IssueUntil = now.AddDate(0, 0, -1) }, p256, h.root, "issue_until"},
		{"under a path length of 0", func(*HierarchyConfig) {}, p256, h.issuing, "path length is 0"},
		{"under no CA", func(*HierarchyConfig) {}, p256, &noCA, "not one of a CA"},
		{"the issuer's name", func(c *HierarchyConfig) {
			c.CommonName, c.Organization, c.Country, c.Generation = "Demo Root", "Demo", "DE", 1
		}, p256, h.root, "same subject as its issuer"},
	} {
		t.Run(c.name, func(t *testing.T) {
			cfg := good
			c.change(&cfg)
			_, err := PrepareCA(cfg, c.pub, c.issuer, testSerial(CeremonyPrefix, 1), now)
			if err == nil || !strings.Contains(err.Error(), c.want) {
				t.Fatalf("error %v, want one with %q", err, c.want)
			}
		})
	}
	if _, err := PrepareCA(good, p256, h.root, testSerial(issuingPrefix, 1), now); err == nil {
		t.Error("a CA certificate with a serial of the ledger's was prepared")
	}
	if _, err := PrepareCA(good, p256, h.root, testSerial(CeremonyPrefix, 1), now); err != nil {
		t.Error(err)
	}
}

func TestSignCA(t *testing.T) {
	h := newHierarchy(t)
	cfg := HierarchyConfig{Role: RoleIssuing, CommonName: "Demo Issuing", Generation: 2, NotAfter: now.AddDate(20, 0, 0).Truncate(time.Second)}
	p, err := PrepareCA(cfg, newKey(t, keyP256).Public(), h.root, testSerial(CeremonyPrefix, 1), now)
	if err != nil {
		t.Fatal(err)
	}
	text, err := CeremonyPolicy(p, h.root)
	if err != nil {
		t.Fatal(err)
	}
	policy, err := ParsePolicy(text)
	if err != nil {
		t.Fatal(err)
	}
	if err := policy.Check(KindDevice, p.TBS(), now); err == nil {
		t.Error("a ceremony's signer signs for devices")
	}
	s := &softSigner{key: h.rootKey, policy: policy}
	sig, err := SignCA(t.Context(), s, p)
	if err != nil {
		t.Fatal(err)
	}
	if err := parse(t, p.TBS(), sig).CheckSignatureFrom(h.root); err != nil {
		t.Error(err)
	}
	if _, err := SignCA(t.Context(), s, p); !errors.Is(err, errRedeemed) {
		t.Errorf("second signature: %v", err)
	}
	a, _ := newAuthority(t, h.issuing, h.issuingKey)
	device, err := a.Prepare(issuance(t, mustProfile(t, base), 1))
	if err != nil {
		t.Fatal(err)
	}
	if _, err := SignCA(t.Context(), s, device); err == nil {
		t.Error("a ceremony signed a device certificate")
	}
	if _, err := RedeemCA(device.TBS()); err == nil {
		t.Error("a device certificate was redeemed as a CA's")
	}
}

// folder holds a chain in PEM, as strangers read it.
func folder(t *testing.T, certs map[string]*x509.Certificate) string {
	t.Helper()
	dir := t.TempDir()
	for name, c := range certs {
		block := pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: c.Raw})
		if err := os.WriteFile(filepath.Join(dir, name+".pem"), block, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	return dir
}

// issued is one certificate of each kind, under a hierarchy that is valid now.
func issued(t *testing.T, h hierarchy) map[string]*x509.Certificate {
	t.Helper()
	issuing, issuingSigner := newAuthority(t, h.issuing, h.issuingKey)
	plant, err := NewAuthority(AuthorityConfig{Name: "plant", Certificate: h.plant, Prefix: issuingPrefix, Signer: &softSigner{key: h.plantKey}, PublicURL: "http://pki.example.com"})
	if err != nil {
		t.Fatal(err)
	}
	issuingSigner.policy = nil
	all := map[string]*x509.Certificate{"root": h.root, "issuing": h.issuing, "plant": h.plant}
	sign := func(name string, a *Authority, p *Prepared, err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
		sigs, errs := a.Sign(t.Context(), []*Prepared{p})
		if errs[0] != nil {
			t.Fatal(errs[0])
		}
		all[name] = parse(t, p.TBS(), sigs[0])
	}
	in := issuance(t, defaultProfile(t, KindDevice), 1)
	p, err := issuing.Prepare(in)
	sign("device", issuing, p, err)
	in.Profile = mustProfile(t, with(t, "duration: 20y", "not_after: ca", "organization: Demo", "country: DE\n  state: Bayern\n  organization: Gerätebau\n  dn_qualifier: x"))
	p, err = issuing.Prepare(in)
	sign("device-long", issuing, p, err)
	in.Profile = defaultProfile(t, KindStation)
	p, err = plant.Prepare(in)
	sign("station", plant, p, err)
	in.Profile, in.Names = defaultProfile(t, KindService), []string{"localhost", "127.0.0.1"}
	p, err = plant.Prepare(in)
	sign("service", plant, p, err)
	p, err = issuing.PrepareProof(strings.Repeat("0a", 32), newKey(t, keyP256).Public(), testSerial(issuingPrefix, 2), now)
	sign("proof", issuing, p, err)
	return all
}

// OpenSSL, which shares no line with us, verifies every chain by the letter.
func TestOpenSSLVerifiesStrictly(t *testing.T) {
	if _, err := exec.LookPath("openssl"); err != nil {
		t.Skip("openssl is not installed")
	}
	dir := folder(t, issued(t, newHierarchy(t)))
	at := strconv.FormatInt(now.Add(time.Minute).Unix(), 10)
	for _, c := range []struct{ leaf, anchor, purpose string }{
		{"device", "root", "sslclient"}, {"device-long", "root", "sslclient"}, {"proof", "root", "any"}, {"issuing", "root", "any"},
		{"station", "plant", "sslclient"}, {"service", "plant", "sslserver"}, {"root", "root", "any"}, {"plant", "plant", "any"},
	} {
		out, err := openssl(t, dir, "verify", "-x509_strict", "-check_ss_sig", "-policy_check", "-purpose", c.purpose, "-attime", at,
			"-CAfile", c.anchor+".pem", "-untrusted", "issuing.pem", c.leaf+".pem")
		if err != nil || !strings.Contains(out, c.leaf+".pem: OK") {
			t.Errorf("%s: %v\n%s", c.leaf, err, out)
		}
	}
	for _, c := range [][3]string{{"station", "root", "sslclient"}, {"device", "plant", "sslclient"}, {"device", "root", "sslserver"}, {"station", "plant", "sslserver"}} {
		out, err := openssl(t, dir, "verify", "-x509_strict", "-purpose", c[2], "-attime", at, "-CAfile", c[1]+".pem", "-untrusted", "issuing.pem", c[0]+".pem")
		if err == nil {
			t.Errorf("%s under %s for %s was taken: %s", c[0], c[1], c[2], out)
		}
	}
	out, err := openssl(t, dir, "x509", "-in", "device.pem", "-noout", "-text")
	for _, want := range []string{"CA:FALSE", "TLS Web Client Authentication", "O = Demo, CN = DEMO-1, serialNumber = DEMO-1", "OCSP - URI:http://pki.example.com/ocsp/issuing",
		"CA Issuers - URI:http://pki.example.com/ca/issuing.cer", "URI:http://pki.example.com/crl/issuing.crl", "ecdsa-with-SHA256"} {
		if err != nil || !strings.Contains(out, want) {
			t.Errorf("openssl x509 -text shows no %q (%v)", want, err)
		}
	}
	if t.Failed() {
		t.Log(out)
	}
}

func openssl(t *testing.T, dir string, args ...string) (string, error) {
	t.Helper()
	cmd := exec.Command("openssl", args...)
	cmd.Dir = dir
	out, err := cmd.CombinedOutput()
	return string(out), err
}

// zlint's own command has every source; only what browsers want may be found.
func TestZlintCommand(t *testing.T) {
	zlint, err := exec.LookPath("zlint")
	if err != nil {
		t.Skip("zlint is not in PATH: make test installs it")
	}
	dir := folder(t, issued(t, newHierarchy(t)))
	for _, name := range []string{"root", "issuing", "plant", "device", "device-long", "station", "service", "proof"} {
		cmd := exec.Command(zlint, "-includeSources", "RFC3279,RFC5280,RFC5480,RFC5891,RFC8813,Community", name+".pem")
		cmd.Dir = dir
		out, err := cmd.CombinedOutput()
		if err != nil {
			t.Fatalf("%s: %v\n%s", name, err, out)
		}
		for _, bad := range []string{`"error"`, `"fatal"`, `"warn"`} {
			if bytes.Contains(out, []byte(bad)) {
				t.Errorf("%s: zlint says %s: %s", name, bad, out)
			}
		}
	}
}
