package ca

import (
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/asn1"
	"encoding/hex"
	"net"
	"net/url"
	"strings"
	"testing"
)

// everything is the allowance of a profile with every kind of name and extension.
func everything(t testing.TB) Allowance {
	t.Helper()
	return Allow(mustProfile(t, base+`attributes: {site: "[a-z]{1,16}", mac: "[0-9a-f]{12}"}
alt_names:
  - dns: "{device_id}.devices.example.com"
  - uri: "urn:example:{attribute.site}:{device_id}"
  - email: "{device_id}@example.com"
  - ip: 10.0.0.1
  - hardware_module: {type: 1.3.6.1.4.1.99999.7, serial: "{device_id}"}
extensions:
  - {oid: 1.3.6.1.4.1.99999.1, utf8: "rev {attribute.site}"}
  - {oid: 1.3.6.1.4.1.99999.2, octets: "{attribute.mac}"}
  - {oid: 1.3.6.1.4.1.99999.3, der: "3000"}
policies: [1.3.6.1.4.1.99999.9]
`))
}

// A taken daemon asks for what the profiles do not describe: other names, other values, other extensions.
func TestPolicyHoldsDevicesToTheAllowance(t *testing.T) {
	a := newAttacker(t)
	a.policy.Devices = everything(t)
	policy := signerPolicy(t, *a.policy)
	key := newKey(t, keyP256).Public()
	private := func(last int) asn1.ObjectIdentifier { return asn1.ObjectIdentifier{1, 3, 6, 1, 4, 1, 99999, last} }
	extra := func(id asn1.ObjectIdentifier, critical bool, value string) func(*x509.Certificate) {
		der, err := hex.DecodeString(value)
		if err != nil {
			t.Fatal(err)
		}
		return func(c *x509.Certificate) {
			c.ExtraExtensions = append(c.ExtraExtensions, pkix.Extension{Id: id, Critical: critical, Value: der})
		}
	}
	names := asn1.ObjectIdentifier{2, 5, 29, 17}
	dns := func(name string) func(*x509.Certificate) {
		return func(c *x509.Certificate) { c.DNSNames = []string{name} }
	}
	uri := func(text string) func(*x509.Certificate) {
		return func(c *x509.Certificate) { c.URIs = []*url.URL{{Scheme: "urn", Opaque: text}} }
	}
	const module = "301ea01c06082b06010505070804a010300e06092b06010401868d1f07040141"
	for _, c := range []struct {
		name string
		ask  func(*x509.Certificate)
		want string // "" taken
	}{
		{"plain", func(*x509.Certificate) {}, ""},
		{"its DNS name", dns("demo-1.devices.example.com"), ""},
		{"its DNS name in capitals", dns("DEMO-1.devices.example.com"), ""},
		{"another DNS name", dns("pki.example.com"), "none that a profile describes"},
		{"a DNS name that ends alike", dns("a.evil-devices.example.com"), "none that a profile describes"},
		{"a longer DNS name", dns("demo-1.devices.example.com.evil.org"), "none that a profile describes"},
		{"its URI", uri("example:passau:DEMO-1"), ""},
		{"another URI", uri("example:passau:DEMO-1/x"), "none that a profile describes"},
		{"its mail address", func(c *x509.Certificate) { c.EmailAddresses = []string{"DEMO-1@example.com"} }, ""},
		{"another mail address", func(c *x509.Certificate) { c.EmailAddresses = []string{"root@example.com.evil.org"} }, "none that a profile describes"},
		{"its address", func(c *x509.Certificate) { c.IPAddresses = []net.IP{{10, 0, 0, 1}} }, ""},
		{"another address", func(c *x509.Certificate) { c.IPAddresses = []net.IP{{10, 0, 0, 2}} }, "none that a profile describes"},
		{"one good name of two", func(c *x509.Certificate) { c.DNSNames = []string{"a.devices.example.com", "example.com"} }, "none that a profile describes"},
		{"seventeen names", func(c *x509.Certificate) {
			for range 17 {
				c.DNSNames = append(c.DNSNames, "a.devices.example.com")
			}
		}, "none that a profile describes"},
		{"its hardware", extra(names, false, module), ""},
		{"hardware of another type", extra(names, false, strings.Replace(module, "8d1f07", "8d1f08", 1)), "none that a profile describes"},
		{"hardware of another id", extra(names, false, strings.Replace(module, "040141", "040161", 1)), "none that a profile describes"},
		{"another otherName", extra(names, false, strings.Replace(module, "0505070804", "0505070803", 1)), "none that a profile describes"},
		{"a directory name", extra(names, false, "3004a4023000"), "none that a profile describes"},
		{"no names", extra(names, false, "3000"), "none that a profile describes"},
		{"critical names", extra(names, true, module), "2.5.29.17 (critical true) has no place"},
		{"its text", extra(private(1), false, "0c0572657620"+"61"), ""},
		{"other text", extra(private(1), false, "0c0572657620"+"41"), "says what no profile describes"},
		{"its text in another type", extra(private(1), false, "130572657620"+"61"), "says what no profile describes"},
		{"its octets", extra(private(2), false, "0406aabbccddeeff"), ""},
		{"more octets", extra(private(2), false, "0407aabbccddeeff00"), "says what no profile describes"},
		{"its DER", extra(private(3), false, "3000"), ""},
		{"other DER", extra(private(3), false, "30020500"), "says what no profile describes"},
		{"DER with something behind", extra(private(3), false, "30000500"), "not one element in DER"},
		{"critical", extra(private(3), true, "3000"), "(critical true) has no place"},
		{"another extension", extra(private(4), false, "3000"), "1.3.6.1.4.1.99999.4 (critical false) has no place"},
		{"an extension whose name begins alike", extra(append(private(1), 5), false, "3000"), "has no place"},
		{"its policy with a qualifier", extra(asn1.ObjectIdentifier{2, 5, 29, 32}, false, "300f300d06092b06010401868d1f093000"), "none that a profile names"},
		{"any policy", extra(asn1.ObjectIdentifier{2, 5, 29, 32}, false, "30083006"+"0604551d2000"), "none that a profile names"},
	} {
		t.Run(c.name, func(t *testing.T) {
			cert := ask()
			c.ask(cert)
			err := policy.Check(KindDevice, a.tbs(t, cert, key), now)
			if (err == nil) != (c.want == "") || err != nil && !strings.Contains(err.Error(), c.want) {
				t.Fatalf("error %v, want %q", err, c.want)
			}
		})
	}
	good := ask()
	policyOID, err := x509.ParseOID("1.3.6.1.4.1.99999.9")
	if err != nil {
		t.Fatal(err)
	}
	good.Policies = []x509.OID{policyOID}
	if err := policy.Check(KindDevice, a.tbs(t, good, key), now); err != nil {
		t.Error(err)
	}
	for _, kind := range []string{KindStation, KindProof, KindCA} { // the allowance is for devices alone
		cert := ask()
		cert.DNSNames = []string{"demo-1.devices.example.com"}
		if err := policy.Check(kind, a.tbs(t, cert, key), now); err == nil {
			t.Errorf("a %s took a device's name", kind)
		}
	}
}

// An allowance that was not compiled, or holds no pattern, lets nothing through.
func TestAllowanceThatWasNotCompiled(t *testing.T) {
	a := newAttacker(t)
	a.policy.Devices = everything(t)
	cert := ask()
	cert.DNSNames = []string{"demo-1.devices.example.com"}
	if err := a.policy.Check(KindDevice, a.tbs(t, cert, newKey(t, keyP256).Public()), now); err == nil {
		t.Fatal("taken")
	}
	if _, err := (Allowance{Names: []string{"("}}).compile(); err == nil {
		t.Fatal("a pattern that is none was taken")
	}
}

// Whatever the octets of names or an extension are: what the signer takes, crypto/x509 can read.
func FuzzAllowance(f *testing.F) {
	for _, seed := range []string{"301ea01c06082b06010505070804a010300e06092b06010401868d1f07040141", "3000", "301c821a612e646576696365732e6578616d706c652e636f6d"} {
		b, err := hex.DecodeString(seed)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(b)
	}
	a := newAttacker(f)
	a.policy.Devices = everything(f)
	policy := signerPolicy(f, *a.policy)
	key := newKey(f, keyP256).Public()
	f.Fuzz(func(t *testing.T, value []byte) {
		for _, id := range []asn1.ObjectIdentifier{{2, 5, 29, 17}, {2, 5, 29, 32}, {1, 3, 6, 1, 4, 1, 99999, 1}, {1, 3, 6, 1, 4, 1, 99999, 3}} {
			cert := ask()
			cert.ExtraExtensions = []pkix.Extension{{Id: id, Value: value}}
			tbs := a.tbs(t, cert, key)
			if policy.Check(KindDevice, tbs, now) != nil {
				continue
			}
			if why := shapeOf(tbs, a); why != "" {
				t.Fatal(why)
			}
		}
	})
}

// Devices of one profile share a structure, and names that a lint could see more in stand as they are.
func TestNameShapes(t *testing.T) {
	shape := func(dns ...string) string {
		var n altNames
		for _, name := range dns {
			if err := n.add(name); err != nil {
				t.Fatal(err)
			}
		}
		tpl := template{algorithm: oidECDSAWithSHA256, issuer: encodeName(nil), serial: testSerial(issuingPrefix, 1), notBefore: now, notAfter: now, names: n}
		key, err := sampleKey(keyP256)
		if err != nil {
			t.Fatal(err)
		}
		tpl.key, tpl.issuerKeyID = key, []byte{1}
		tbs, err := tpl.encode()
		if err != nil {
			t.Fatal(err)
		}
		parsed, err := parseTBS(tbs)
		if err != nil {
			t.Fatal(err)
		}
		return string(parsed.structure())
	}
	if shape("a-1.example.com") != shape("demo-2000.example.com") {
		t.Error("two devices have two structures")
	}
	for _, other := range []string{"a-1.x.example.com", "a.example.com", "xn--a.example.com"} {
		if shape("a-1.example.com") == shape(other) {
			t.Errorf("%s has the structure of another shape", other)
		}
	}
	if shape("xn--a.example.com") == shape("xn--b.example.com") {
		t.Error("what is international is masked")
	}
}
