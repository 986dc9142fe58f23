package jitp

import (
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/asn1"
	"errors"
	"maps"
	"reflect"
	"strings"
	"testing"
)

func TestResolve(t *testing.T) {
	tmpl := parse(t, string(read(t, "testdata/good/join-and-attributes.json")))
	params := sample()
	delete(params, parameterPrefix+"Country") // rule PT-53: the default steps in
	got, err := tmpl.Resolve(params)
	if err != nil {
		t.Fatal(err)
	}
	want := &Resources{
		Thing: Thing{
			Name: "demo-DEMO-000001", Attributes: map[string]string{"country": "XX", "line": "a"}, Type: "sensor",
			Groups: []string{"v1", "XX"}, BillingGroup: "factory",
			Override: map[string]string{"AttributePayload": "MERGE", "ThingTypeName": "REPLACE", "ThingGroups": "DO_NOTHING"},
		},
		Certificate: Certificate{ID: params[parameterID], Status: StatusActive, ThingPrincipalType: NonExclusiveThing},
		Policies:    []Policy{{Name: "fleet-device"}},
	}
	if !reflect.DeepEqual(got, want) {
		t.Errorf("got  %+v\nwant %+v", got, want)
	}
}

func TestResolveFunctions(t *testing.T) { // rule PT-36
	got, err := parse(t, string(read(t, "testdata/good/select-split-sub.json"))).Resolve(sample())
	if err != nil {
		t.Fatal(err)
	}
	if got.Thing.Name != "t-000001" || got.Thing.Attributes["full"] != "cn:DEMO-000001" {
		t.Errorf("got %+v", got.Thing)
	}
}

func TestResolveRefuses(t *testing.T) {
	minimal := string(read(t, "testdata/good/minimal.json"))
	cases := []struct {
		name, template string
		params         map[string]string
		rule           string
	}{
		{"attribute missing", minimal, map[string]string{parameterID: "ab"}, "PT-53"},
		{"attribute missing though never used", strings.Replace(minimal, `"Parameters": {`, `"Parameters": {"AWS::IoT::Certificate::StateName":{"Type":"String"},`, 1), sample(), "PT-53"},
		{"blank in the thing's name", minimal, with(sample(), "CommonName", "a b"), "PT-56"},
		{"dot in the thing's name", minimal, with(sample(), "CommonName", "a.b"), "PT-56"},
		{"empty thing name", minimal, with(sample(), "CommonName", ""), "PT-56"},
		{"index out of range", string(read(t, "testdata/good/select-split-sub.json")), with(sample(), "CommonName", "nodash"), "PT-37"},
		{"attribute value", string(read(t, "testdata/good/join-and-attributes.json")), with(sample(), "Country", "ä"), "PT-56"},
	}
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			_, err := parse(t, c.template).Resolve(c.params)
			var f *Fault
			if !errors.As(err, &f) || f.Rule != c.rule {
				t.Errorf("got %v, want a fault for %s", err, c.rule)
			}
		})
	}
}

func TestLint(t *testing.T) {
	minimal := string(read(t, "testdata/good/minimal.json"))
	ref := `{"Ref":"AWS::IoT::Certificate::CommonName"}`
	cases := []struct {
		name, template string
		params         map[string]string
		want           string // in the path of the one fault; "" none
	}{
		{"minimal", minimal, sample(), ""},
		{"template alone", minimal, nil, ""},
		{"policy name from the certificate", strings.Replace(minimal, `"fleet-device"`, ref, 1), sample(), "PolicyName"},
		{"policy document from the certificate", strings.Replace(minimal, `"PolicyName": "fleet-device"`, `"PolicyDocument":{"Resource":[`+ref+`]}`, 1), sample(), "PolicyDocument"},
		{"one thing for all", strings.Replace(minimal, `"ThingName": {
     "Ref": "AWS::IoT::Certificate::CommonName"
    }`, `"ThingName":"all"`, 1), sample(), "ThingName"},
		{"odd characters", minimal, with(sample(), "CommonName", "a/b"), "CommonName"},
		{"attribute missing", minimal, map[string]string{parameterID: "ab"}, "CommonName"},
		{"odd default", strings.Replace(minimal, `"Parameters": {`, `"Parameters": {"AWS::IoT::Certificate::StateName":{"Type":"String","Default":"*"},`, 1), nil, "Default"},
	}
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			faults := parse(t, c.template).Lint(c.params)
			switch {
			case c.want == "" && len(faults) != 0:
				t.Errorf("got %v, want none", faults)
			case c.want != "" && (len(faults) != 1 || !strings.Contains(faults[0].Path, c.want)):
				t.Errorf("got %v, want one at %s", faults, c.want)
			}
		})
	}
}

// rules PT-50, PT-52, PT-54, PT-55
func TestSubjectParameters(t *testing.T) {
	oid := func(n int) asn1.ObjectIdentifier { return asn1.ObjectIdentifier{2, 5, 4, n} }
	names := []pkix.AttributeTypeAndValue{{Type: oid(6), Value: "DE"}, {Type: oid(10), Value: "Org"}, {Type: oid(11), Value: "Unit"},
		{Type: oid(46), Value: "q"}, {Type: oid(8), Value: "BY"}, {Type: oid(3), Value: "cn"}, {Type: oid(5), Value: "sn"}, {Type: oid(7), Value: "locality"}}
	cert := &x509.Certificate{Raw: []byte("der"), Subject: pkix.Name{Names: names}}
	got, err := SubjectParameters(cert)
	if err != nil {
		t.Fatal(err)
	}
	want := map[string]string{}
	for name, v := range map[string]string{"Id": CertificateID(cert), "Country": "DE", "Organization": "Org", "OrganizationalUnit": "Unit",
		"DistinguishedNameQualifier": "q", "StateName": "BY", "CommonName": "cn", "SerialNumber": "sn"} {
		want[parameterPrefix+name] = v
	}
	if !maps.Equal(got, want) {
		t.Errorf("got %v, want %v", got, want)
	}
	cert.Subject.Names = append(names, pkix.AttributeTypeAndValue{Type: oid(11), Value: "second"})
	if _, err := SubjectParameters(cert); err == nil {
		t.Error("two OUs were taken")
	}
}

func parse(t *testing.T, body string) *Template {
	t.Helper()
	tmpl, err := Parse([]byte(body))
	if err != nil {
		t.Fatal(err)
	}
	return tmpl
}

func with(params map[string]string, name, value string) map[string]string {
	params[parameterPrefix+name] = value
	return params
}
