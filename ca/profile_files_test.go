package ca

import (
	"bytes"
	"crypto/x509"
	"encoding/json"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// profileFiles are the profiles of a folder of testdata/profiles, by name.
func profileFiles(t testing.TB, folder string) map[string][]byte {
	t.Helper()
	paths, err := filepath.Glob(filepath.Join("testdata/profiles", folder, "*.yaml"))
	if err != nil || len(paths) == 0 {
		t.Fatalf("no profiles in %s: %v", folder, err)
	}
	all := make(map[string][]byte)
	for _, path := range paths {
		if all[strings.TrimSuffix(filepath.Base(path), ".yaml")], err = os.ReadFile(path); err != nil {
			t.Fatal(err)
		}
	}
	return all
}

// Each bad profile says in its first line what is wrong with it, clause and all.
func TestBadProfileFiles(t *testing.T) {
	for name, yaml := range profileFiles(t, "bad") {
		first, _, _ := strings.Cut(string(yaml), "\n")
		want, ok := strings.CutPrefix(first, "# want: ")
		_, err := ParseProfile(yaml)
		if !ok || err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: error %v, want one with %q", name, err, want)
		}
	}
}

// What stands in the samples of the good ones: text that `openssl x509 -text` or `openssl asn1parse` prints.
func TestGoodProfileFilesAsOpenSSLReadsThem(t *testing.T) {
	if _, err := exec.LookPath("openssl"); err != nil {
		t.Skip("openssl is not installed")
	}
	wants := map[string][]string{
		"jitp": {"Subject: C = DE, ST = Bayern, O = Demo, OU = Line A, CN = A, serialNumber = A, dnQualifier = A"},
		"idevid": {"Not After : Dec 31 23:59:59 9999 GMT", "1.3.6.1.5.5.7.8.4", "serialNumber = A", "GENERALIZEDTIME   :99991231235959Z",
			"[HEX DUMP]:301EA01C06082B06010505070804A010300E06092B06010401868D1F07040141"},
		"alt-names":  {"DNS:a.a.devices.example.com", "URI:urn:example:a:A", "URI:https://devices.example.com/A", "email:A@devices.example.com", "IP Address:10.0.0.0", "IP Address:2001:DB8:0:0:0:0:0:1", "othername: 1.3.6.1.5.5.7.8.4", "L = Passau"},
		"extensions": {"1.3.6.1.4.1.99999.1.1:", "rev A", "1.3.6.1.4.1.99999.1.2", "[HEX DUMP]:0406000000000000", "[HEX DUMP]:040200FF", "[HEX DUMP]:3006020101020102"},
		"policies":   {"X509v3 Certificate Policies:", "Policy: 1.3.6.1.4.1.99999.2.1", "Policy: 1.3.6.1.4.1.99999.2.2", "URI:http://pki.example.com/crl/sample.crl", "-Authority Information Access"},
		"no-links":   {"CA:FALSE", "-URI:"},
		"fixed-end":  {"Not After : Jan  1 00:00:00 2051 GMT", "Not Before: Jan  1 00:00:00 2026 GMT"},
		"rsa":        {"Public-Key: (2048 bit)", "Digital Signature, Key Encipherment", "TLS Web Client Authentication, TLS Web Server Authentication"},
	}
	for name, yaml := range profileFiles(t, "good") {
		t.Run(name, func(t *testing.T) {
			certificate, err := mustProfile(t, string(yaml)).Sample()
			if err != nil {
				t.Fatal(err)
			}
			if _, err := x509.ParseCertificate(certificate); err != nil {
				t.Fatal(err)
			}
			text := opensslReads(t, certificate, "x509", "-inform", "DER", "-noout", "-text") + opensslReads(t, certificate, "asn1parse", "-inform", "DER")
			if len(wants[name]) == 0 {
				t.Error("nothing is said of it")
			}
			for _, want := range wants[name] {
				if absent, ok := strings.CutPrefix(want, "-"); ok == strings.Contains(text, absent) {
					t.Errorf("%q: printed %t", absent, ok)
				}
			}
		})
	}
}

// opensslReads runs openssl over a file.
func opensslReads(t testing.TB, in []byte, args ...string) string {
	t.Helper()
	cmd := exec.Command("openssl", args...)
	cmd.Stdin = bytes.NewReader(in)
	out, err := cmd.CombinedOutput()
	if err != nil {
		t.Fatalf("openssl %s: %v\n%s", strings.Join(args, " "), err, out)
	}
	return string(out)
}

// noEnd is the end of what has none (RFC 5280 4.1.2.5).
var noEnd = time.Date(9999, 12, 31, 23, 59, 59, 0, time.UTC)

// issuanceOf asks for a certificate of any profile.
func issuanceOf(t testing.TB, p *Profile) Issuance {
	t.Helper()
	r, err := ParseRequest(newCSR(t, newKey(t, p.config.Keys[0]), ""))
	if err != nil {
		t.Fatal(err)
	}
	attributes, err := p.sampleAttributes()
	if err != nil {
		t.Fatal(err)
	}
	return Issuance{Profile: p, Request: r, DeviceID: "DEMO-1", Attributes: attributes, Serial: testSerial(issuingPrefix, 1), Now: now}
}

// From the file to the signature: what a profile describes, the signer signs, for devices that differ, each structure linted once.
func TestGoodProfileFilesAreSigned(t *testing.T) {
	h := newHierarchy(t)
	h.issuing = makeCA(t, HierarchyConfig{Role: RoleIssuing, CommonName: "Demo Issuing", NotAfter: noEnd}, h.issuingKey,
		makeCA(t, HierarchyConfig{Role: RoleRoot, CommonName: "Demo Root", NotAfter: noEnd}, h.rootKey, nil, h.rootKey), h.rootKey)
	for name, yaml := range profileFiles(t, "good") {
		profile := mustProfile(t, string(yaml))
		plain, signer := newAuthority(t, h.issuing, h.issuingKey)
		a, err := NewAuthority(AuthorityConfig{Name: "issuing", Certificate: h.issuing, Prefix: issuingPrefix, Signer: signer,
			PublicURL: "http://pki.example.com", Allowance: Allow(profile)})
		if err != nil {
			t.Fatal(err)
		}
		signer.policy = signerPolicy(t, a.policy)
		in := issuanceOf(t, profile)
		for _, id := range []string{"DEMO-1", "DEMO-2000"} {
			in.DeviceID = id
			p, err := a.Prepare(in)
			if err != nil {
				t.Fatalf("%s: %v", name, err)
			}
			sigs, errs := a.Sign(t.Context(), []*Prepared{p})
			if errs[0] != nil {
				t.Fatalf("%s: %v", name, errs[0])
			}
			parse(t, p.TBS(), sigs[0])
		}
		if n := len(a.linted.passed); n > 1 {
			t.Errorf("%s: %d structures were linted for two devices", name, n)
		}
		if carries := len(profile.altNames)+len(profile.extensions)+len(profile.policies) > 0; carries {
			if _, err := plain.Prepare(in); err == nil || !strings.Contains(err.Error(), "has no place in a device certificate") {
				t.Errorf("%s: without an allowance: %v", name, err)
			}
		}
	}
}

// signerPolicy is a policy as the signer process gets it.
func signerPolicy(t testing.TB, p Policy) *Policy {
	t.Helper()
	text, err := json.Marshal(p)
	if err != nil {
		t.Fatal(err)
	}
	read, err := ParsePolicy(text)
	if err != nil {
		t.Fatal(err)
	}
	return read
}
