package ca

import (
	"fmt"
	"strings"
	"testing"
)

func TestDescribe(t *testing.T) {
	wants := map[string][]string{
		"jitp":      {"subject C=DE, ST=Bayern, O=Demo, OU=Line A, CN=A, serialNumber=A, dnQualifier=A", "keyUsage true [digitalSignature]", "basicConstraints true [CA:FALSE]", "extKeyUsage false [clientAuth]"},
		"alt-names": {"subjectAltName false [dns:a.a.devices.example.com email:A@devices.example.com ip:10.0.0.0 ip:2001:db8::1 uri:urn:example:a:A uri:https://devices.example.com/A hardware_module:1.3.6.1.4.1.99999.7:A]"},
		"policies":  {"certificatePolicies false [1.3.6.1.4.1.99999.2.1 1.3.6.1.4.1.99999.2.2]", "cRLDistributionPoints false [http://pki.example.com/crl/sample.crl]"},
		"extensions": {"1.3.6.1.4.1.99999.1.1 false [utf8:rev A]", "1.3.6.1.4.1.99999.1.2 false [octets:000000000000]", "1.3.6.1.4.1.99999.1.4 false [der:3006020101020102]",
			"authorityInfoAccess false [ocsp http://pki.example.com/ocsp/sample caIssuers http://pki.example.com/ca/sample.cer]"},
		"rsa": {"keyUsage true [digitalSignature keyEncipherment]", "extKeyUsage false [clientAuth serverAuth]"},
	}
	for name, yaml := range profileFiles(t, "good") {
		certificate, err := mustProfile(t, string(yaml)).Sample()
		if err != nil {
			t.Fatal(err)
		}
		d, err := Describe(certificate)
		if err != nil {
			t.Fatal(err)
		}
		text := "subject " + d.Subject + "\n"
		for _, e := range d.Extensions {
			what := e.Name
			if what == "" {
				what = e.OID
			}
			text += fmt.Sprintf("%s %t %v\n", what, e.Critical, e.Values)
		}
		for _, want := range wants[name] {
			if !strings.Contains(text, want+"\n") {
				t.Errorf("%s: no %q in\n%s", name, want, text)
			}
		}
	}
	for _, none := range [][]byte{nil, {0x30, 0}, {0x30, 2, 0x30, 0}} {
		if _, err := Describe(none); err == nil {
			t.Errorf("%x is described", none)
		}
	}
}
