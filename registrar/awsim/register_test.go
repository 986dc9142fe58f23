package awsim

import (
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"net/http"
	"strings"
	"testing"
	"time"
)

func (a *account) code() string {
	a.t.Helper()
	return a.ok("GET", "/registrationcode", nil)["registrationCode"].(string)
}

// register registers a CA with the mode and whatever goes with it, active and with auto-registration.
func (a *account) register(ca *authority, mode string, config *registrationConfig) {
	a.t.Helper()
	body := map[string]any{"caCertificate": ca.pem, "certificateMode": mode}
	if mode == modeDefault {
		body["verificationCertificate"] = ca.issue(a.t, a.code()).pem
	}
	if config != nil {
		body["registrationConfig"] = config
	}
	a.ok("POST", "/cacertificate?setAsActive=true&allowAutoRegistration=true", body)
}

// The decision table of RegisterCACertificate, row by row, in its order.
func TestRegisterCACertificate(t *testing.T) {
	s := start(t)
	a, other := s.as(t, first), s.as(t, second)
	ca := newAuthority(t, "Issuing")
	proof := func(by *authority, code string, c ...change) string { return by.issue(t, code, c...).pem }
	expired := func(c *x509.Certificate) {
		c.NotBefore, c.NotAfter = time.Now().Add(-2*time.Hour), time.Now().Add(-time.Hour)
	}
	code := a.code()
	def := newAuthority(t, "Default in the other account")
	other.register(def, modeDefault, nil)
	open := newAuthority(t, "SNI_ONLY in the other account")
	other.register(open, modeSNIOnly, nil)
	here := newAuthority(t, "Registered here")
	a.register(here, modeSNIOnly, nil)
	a.ok("POST", "/provisioning-templates", map[string]any{
		"templateName": "fleet", "templateBody": "{}", "provisioningRoleArn": "arn:aws:iam::111111111111:role/x", "type": "FLEET_PROVISIONING",
	})
	for range maxSameSubject {
		a.register(newAuthority(t, "Same"), modeSNIOnly, nil)
	}
	type body = map[string]any
	cases := []struct {
		rule string
		body body
		want int
		code string
	}{
		{"W-07 empty", body{"caCertificate": ""}, 400, "InvalidRequestException"},
		{"row 2 mode", body{"caCertificate": ca.pem, "certificateMode": "BOTH"}, 400, "InvalidRequestException"},
		{"row 2 too long", body{"caCertificate": strings.Repeat("x", 65537)}, 400, "InvalidRequestException"},
		{"CA-31", body{"caCertificate": "nonsense", "certificateMode": modeSNIOnly}, 400, "CertificateValidationException"},
		{"CA-42 bundle", body{"caCertificate": ca.pem + ca.pem, "certificateMode": modeSNIOnly}, 400, "CertificateValidationException"},
		{"CA-30", body{"caCertificate": ca.issue(t, "leaf").pem, "certificateMode": modeSNIOnly}, 400, "CertificateValidationException"},
		{"CA-32", body{"caCertificate": weakAuthority(t).pem, "certificateMode": modeSNIOnly}, 400, "CertificateValidationException"},
		{"CA-40", body{"caCertificate": newAuthority(t, "Old", expired).pem, "certificateMode": modeSNIOnly}, 400, "CertificateValidationException"},
		{"CA-10 CA-11", body{"caCertificate": ca.pem}, 400, "InvalidRequestException"},
		{"CA-12", body{"caCertificate": ca.pem, "certificateMode": modeSNIOnly, "verificationCertificate": proof(ca, code)}, 400, "InvalidRequestException"},
		{"CA-05 other signer", body{"caCertificate": ca.pem, "verificationCertificate": proof(newAuthority(t, "Issuing"), code)}, 400, "CertificateValidationException"},
		{"CA-06", body{"caCertificate": ca.pem, "verificationCertificate": proof(ca, code, expired)}, 400, "CertificateValidationException"},
		{"CA-03 code of another account", body{"caCertificate": ca.pem, "verificationCertificate": proof(ca, other.code())}, 400, "RegistrationCodeValidationException"},
		{"CA-03 code of another region", body{"caCertificate": ca.pem, "verificationCertificate": proof(ca, a.in("us-east-1").code())}, 400, "RegistrationCodeValidationException"},
		{"CA-54 half", body{"caCertificate": ca.pem, "certificateMode": modeSNIOnly, "registrationConfig": body{"templateBody": "{}"}}, 400, "InvalidRequestException"},
		{"CA-54 mixed", body{"caCertificate": ca.pem, "certificateMode": modeSNIOnly, "registrationConfig": body{"templateName": "x", "roleArn": "arn:aws:iam::111111111111:role/x"}}, 400, "InvalidRequestException"},
		{"CA-55 unknown", body{"caCertificate": ca.pem, "certificateMode": modeSNIOnly, "registrationConfig": body{"templateName": "x"}}, 404, "ResourceNotFoundException"},
		{"CA-55 type", body{"caCertificate": ca.pem, "certificateMode": modeSNIOnly, "registrationConfig": body{"templateName": "fleet"}}, 400, "InvalidRequestException"},
		{"PT-11", body{"caCertificate": ca.pem, "certificateMode": modeSNIOnly, "registrationConfig": body{"templateBody": "{}", "roleArn": "arn:aws:iam::111111111111:role/x"}}, 400, "InvalidRequestException"},
		{"CA-18", body{"caCertificate": here.pem, "certificateMode": modeSNIOnly}, 409, "ResourceAlreadyExistsException"},
		{"CA-18 other mode", body{"caCertificate": here.pem, "verificationCertificate": proof(here, code)}, 409, "ResourceAlreadyExistsException"},
		{"CA-13", body{"caCertificate": def.pem, "verificationCertificate": proof(def, code)}, 409, "ResourceAlreadyExistsException"},
		{"CA-16 SNI_ONLY beside DEFAULT", body{"caCertificate": def.pem, "certificateMode": modeSNIOnly}, 409, "ResourceAlreadyExistsException"},
		{"CA-16 DEFAULT beside SNI_ONLY", body{"caCertificate": open.pem, "verificationCertificate": proof(open, code)}, 409, "ResourceAlreadyExistsException"},
		{"CA-14", body{"caCertificate": open.pem, "certificateMode": modeSNIOnly}, 200, ""},
		{"CA-38", body{"caCertificate": newAuthority(t, "Same").pem, "certificateMode": modeSNIOnly}, 410, "LimitExceededException"},
		{"CA-05 CA-07 well", body{"caCertificate": ca.pem, "verificationCertificate": proof(ca, code)}, 200, ""},
	}
	for _, c := range cases {
		t.Run(c.rule, func(t *testing.T) { a.do("POST", "/cacertificate", c.body).want(t, c.want, c.code) })
	}
}

func weakAuthority(t *testing.T) *authority {
	t.Helper()
	key, err := rsa.GenerateKey(rand.Reader, 1024)
	if err != nil {
		t.Fatal(err)
	}
	tmpl := template509("Weak")
	tmpl.IsCA, tmpl.BasicConstraintsValid = true, true
	return sign(t, tmpl, tmpl, key, key)
}

// rule CA-16: the switch
func TestMixedModes(t *testing.T) {
	s := start(t, func(c *Config) { c.MixedModes = true })
	ca := newAuthority(t, "Issuing")
	s.as(t, first).register(ca, modeDefault, nil)
	s.as(t, second).register(ca, modeSNIOnly, nil)
}

// rules CA-43, CA-44, CA-50, CA-51, CA-70, CA-80, CA-17
func TestDescribeCACertificate(t *testing.T) {
	s := start(t)
	a, ca := s.as(t, first), newAuthority(t, "Issuing")
	body := map[string]any{"caCertificate": ca.pem, "certificateMode": modeSNIOnly, "tags": []tag{{"product", "demo"}}}
	res := a.ok("POST", "/cacertificate", body)
	arn := "arn:aws:iot:eu-central-1:111111111111:cacert/" + ca.id()
	if res["certificateId"] != ca.id() || res["certificateArn"] != arn {
		t.Errorf("registered as %v", res)
	}
	d := a.ok("GET", "/cacertificate/"+ca.id(), nil)["certificateDescription"].(map[string]any)
	for member, want := range map[string]any{
		"certificateArn": arn, "certificateId": ca.id(), "status": statusInactive, "autoRegistrationStatus": autoDisable,
		"certificateMode": modeSNIOnly, "certificatePem": ca.pem, "ownedBy": first, "customerVersion": 1.0,
	} {
		if d[member] != want {
			t.Errorf("%s is %v, want %v", member, d[member], want)
		}
	}
	if got := d["validity"].(map[string]any)["notAfter"].(float64); got != float64(ca.cert.NotAfter.Unix()) {
		t.Errorf("notAfter is %v", got)
	}
	if got := a.ok("GET", "/tags?resourceArn="+arn, nil)["tags"]; len(got.([]any)) != 1 { // rule CA-65
		t.Errorf("tags are %v", got)
	}
	a.in("us-east-1").do("GET", "/cacertificate/"+ca.id(), nil).want(t, 404, "ResourceNotFoundException")
	a.in("us-east-1").ok("POST", "/cacertificate", body) // rule CA-17
}

// rules CA-61, CA-62, CA-76, CA-77, CA-78, CA-79
func TestUpdateAndDeleteCACertificate(t *testing.T) {
	s := start(t)
	a, ca := s.as(t, first), newAuthority(t, "Issuing")
	a.register(ca, modeSNIOnly, &registrationConfig{TemplateBody: minimalTemplate, RoleARN: "arn:aws:iam::111111111111:role/jitp"})
	device := ca.issue(t, "d1")
	a.ok("POST", "/certificate/register", map[string]any{"certificatePem": device.pem})
	path := "/cacertificate/" + ca.id()
	config := func() any { return a.ok("GET", path, nil)["registrationConfig"] }
	state := func(member string) any {
		return a.ok("GET", path, nil)["certificateDescription"].(map[string]any)[member]
	}

	a.ok("PUT", path+"?newAutoRegistrationStatus=DISABLE", nil)
	if config() == nil || state("status") != statusActive || state("autoRegistrationStatus") != autoDisable {
		t.Error("rule CA-61: only what is sent changes")
	}
	a.ok("PUT", path, map[string]any{"removeAutoRegistration": true})
	if config() != nil {
		t.Error("rule CA-62: the configuration is still there")
	}
	a.do("PUT", path+"?newStatus=REVOKED", nil).want(t, 400, "InvalidRequestException")
	a.do("DELETE", path, nil).want(t, 406, "CertificateStateException") // rule CA-77
	a.ok("PUT", path+"?newStatus=INACTIVE", nil)
	a.do("POST", "/certificate/register", map[string]any{"certificatePem": ca.issue(t, "d2").pem}).want(t, 406, "CertificateStateException") // rule DC-02
	a.ok("DELETE", path, nil)
	a.do("GET", path, nil).want(t, 404, "ResourceNotFoundException")
	a.do("GET", "/cacertificate/12", nil).want(t, 400, "InvalidRequestException") // rule CA-79
	d := a.ok("GET", "/certificates/"+device.id(), nil)["certificateDescription"].(map[string]any)
	if d["caCertificateId"] != ca.id() { // rule CA-78
		t.Errorf("device's CA is %v", d["caCertificateId"])
	}
	a.register(ca, modeSNIOnly, nil) // rule CA-19: delete, then register again
}

// rules CA-01, CA-02, CA-04
func TestRegistrationCode(t *testing.T) {
	s := start(t)
	a := s.as(t, first)
	a.do("DELETE", "/registrationcode", nil).want(t, 404, "ResourceNotFoundException")
	code := a.code()
	if len(code) != 64 || a.code() != code || s.as(t, second).code() == code {
		t.Errorf("code %s is not stable or not its own", code)
	}
	a.ok("DELETE", "/registrationcode", nil)
	ca := newAuthority(t, "Issuing")
	a.do("POST", "/cacertificate", map[string]any{"caCertificate": ca.pem, "verificationCertificate": ca.issue(t, code).pem}).
		want(t, http.StatusBadRequest, "RegistrationCodeValidationException")
	if a.code() == code {
		t.Error("the code came back")
	}
}

// rules CA-71, CA-72, CA-73
func TestListCACertificates(t *testing.T) {
	now := time.Now()
	s := start(t, func(c *Config) { c.Now = func() time.Time { now = now.Add(time.Millisecond); return now } })
	a := s.as(t, first)
	a.ok("POST", "/provisioning-templates", map[string]any{
		"templateName": "sensor", "templateBody": minimalTemplate, "provisioningRoleArn": "arn:aws:iam::111111111111:role/jitp", "type": "JITP",
	})
	var ids []string
	for i := range 7 {
		ca := newAuthority(t, "Issuing")
		var config *registrationConfig
		if i == 3 {
			config = &registrationConfig{TemplateName: "sensor"}
		}
		a.register(ca, modeSNIOnly, config)
		ids = append([]string{ca.id()}, ids...) // newest first
	}
	var got []string
	for path := "/cacertificates?pageSize=3"; path != ""; {
		res := a.ok("GET", path, nil)
		for _, c := range res["certificates"].([]any) {
			got = append(got, c.(map[string]any)["certificateId"].(string))
		}
		path = ""
		if next, more := res["nextMarker"]; more {
			path = "/cacertificates?pageSize=3&marker=" + next.(string)
		}
	}
	if strings.Join(got, " ") != strings.Join(ids, " ") {
		t.Errorf("listed %v, want %v", got, ids)
	}
	oldest := a.ok("GET", "/cacertificates?isAscendingOrder=true&pageSize=1", nil)["certificates"].([]any)[0].(map[string]any)
	if oldest["certificateId"] != ids[6] || len(oldest) != 4 {
		t.Errorf("oldest is %v", oldest)
	}
	if named := a.ok("GET", "/cacertificates?templateName=sensor", nil)["certificates"].([]any); len(named) != 1 {
		t.Errorf("with template: %v", named)
	}
	a.do("GET", "/cacertificates?pageSize=251", nil).want(t, 400, "InvalidRequestException")
	a.do("GET", "/cacertificates?marker=!", nil).want(t, 400, "InvalidRequestException")
}

const minimalTemplate = `{"Parameters":{"AWS::IoT::Certificate::CommonName":{"Type":"String"},"AWS::IoT::Certificate::Id":{"Type":"String"}},
 "Resources":{"thing":{"Type":"AWS::IoT::Thing","Properties":{"ThingName":{"Ref":"AWS::IoT::Certificate::CommonName"}},
   "OverrideSettings":{"AttributePayload":"MERGE","ThingTypeName":"REPLACE","ThingGroups":"DO_NOTHING"}},
  "certificate":{"Type":"AWS::IoT::Certificate","Properties":{"CertificateId":{"Ref":"AWS::IoT::Certificate::Id"},"Status":"ACTIVE"}},
  "policy":{"Type":"AWS::IoT::Policy","Properties":{"PolicyName":"fleet-device"}}}}`
