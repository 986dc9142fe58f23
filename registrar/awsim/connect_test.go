package awsim

import (
	"bytes"
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"net"
	"strings"
	"testing"
	"time"

	mqtt "github.com/eclipse/paho.mqtt.golang"
)

// rules M-01, M-02, P-01, P-02, CA-52: the first connect is closed, the second gets CONNACK 0
func TestJITP(t *testing.T) {
	s := start(t)
	a, ca := s.as(t, first), newAuthority(t, "Issuing")
	a.register(ca, modeSNIOnly, a.jitpStack())
	unit := ca.issue(t, "unit-1")
	d := s.device(t, "unit-1", unit, a.endpoint())
	d.wantClosed()
	a.wantStatus(unit, statusActive)
	d.wantConnected()
	d.alpn = []string{"x-amzn-mqtt-ca"} // port 443
	d.wantConnected()
	thing := a.ok("GET", "/things/unit-1/principals", nil)["principals"].([]any)
	if len(thing) != 1 || !strings.HasSuffix(thing[0].(string), unit.id()) {
		t.Errorf("thing's principals are %v", thing)
	}
	desc := a.ok("GET", "/certificates/"+unit.id(), nil)["certificateDescription"].(map[string]any)
	if desc["certificateMode"] != modeSNIOnly || desc["caCertificateId"] != ca.id() { // rule CA-20
		t.Errorf("described as %v", desc)
	}
	if n := len(a.ok("GET", "/certificates-by-ca/"+ca.id(), nil)["certificates"].([]any)); n != 1 {
		t.Errorf("%d certificates by CA", n)
	}
}

// rules CA-14, DC-07, CA-21: one certificate in two accounts of a region, by nothing but the endpoint's name
func TestSameCertificateInTwoAccounts(t *testing.T) {
	s := start(t)
	ca := newAuthority(t, "Issuing")
	unit := ca.issue(t, "unit-1")
	var devices []*device
	for _, id := range []string{first, second} {
		a := s.as(t, id)
		a.register(ca, modeSNIOnly, a.jitpStack())
		d := s.device(t, "unit-1", unit, a.endpoint())
		d.wantClosed()
		d.wantConnected()
		a.wantStatus(unit, statusActive)
		devices = append(devices, d)
	}
	// Both at once: the accounts are brokers of their own, so neither takes the other's session over.
	one, two := devices[0].client(), devices[1].client()
	if !one.IsConnectionOpen() || !two.IsConnectionOpen() {
		t.Error("one of the connections is gone")
	}
}

// rule M-01: a handshake alone registers nothing
func TestHandshakeAloneRegistersNothing(t *testing.T) {
	s := start(t)
	a, ca := s.as(t, first), newAuthority(t, "Issuing")
	a.register(ca, modeSNIOnly, nil)
	unit := ca.issue(t, "unit-1")
	conn, err := s.device(t, "unit-1", unit, a.endpoint()).dial()
	if err != nil {
		t.Fatal(err)
	}
	if err := conn.Close(); err != nil {
		t.Fatal(err)
	}
	a.wantStatus(unit, "")
	s.device(t, "unit-1", unit, a.endpoint()).wantClosed()
	a.wantStatus(unit, statusPending)
}

// The rows of the decision table that close the connection and create nothing.
func TestConnectCreatesNothing(t *testing.T) {
	s := start(t)
	a := s.as(t, first)
	ca := newAuthority(t, "Issuing")
	a.register(ca, modeSNIOnly, nil)
	plant := newAuthority(t, "Plant") // never registered
	impostor := newAuthority(t, "Issuing")
	inactive, disabled, elsewhere := newAuthority(t, "Inactive"), newAuthority(t, "Disabled"), newAuthority(t, "Elsewhere")
	a.register(inactive, modeSNIOnly, nil)
	a.ok("PUT", "/cacertificate/"+inactive.id()+"?newStatus=INACTIVE", nil)
	a.register(disabled, modeSNIOnly, nil)
	a.ok("PUT", "/cacertificate/"+disabled.id()+"?newAutoRegistrationStatus=DISABLE", nil)
	a.in("us-east-1").register(elsewhere, modeSNIOnly, nil)
	s.as(t, second).register(elsewhere, modeDefault, nil)
	expired := func(c *x509.Certificate) { c.NotAfter = time.Now().Add(-time.Minute) }
	future := func(c *x509.Certificate) { c.NotBefore = time.Now().Add(time.Hour) }
	cases := map[string]*authority{
		"a station of the plant CA":                             plant.issue(t, "line-1"),
		"rule M-09 CA inactive":                                 inactive.issue(t, "unit"),
		"rule M-09 auto-registration off":                       disabled.issue(t, "unit"),
		"rule M-11 CA in another region and in another account": elsewhere.issue(t, "unit"),
		"the issuer's name, another key":                        impostor.issue(t, "unit"),
		"rule DC-15 expired":                                    ca.issue(t, "unit", expired),
		"rule DC-15 not yet valid":                              ca.issue(t, "unit", future),
	}
	endpoint := a.endpoint()
	for name, cert := range cases {
		t.Run(name, func(t *testing.T) {
			s.device(t, "unit", cert, endpoint).wantClosed()
			a.wantStatus(cert, "")
		})
	}
	for _, id := range []string{"", "$reserved", strings.Repeat("x", 129)} { // rule M-13
		cert := ca.issue(t, "unit")
		s.device(t, id, cert, endpoint).wantClosed()
		a.wantStatus(cert, "")
	}
}

// rules T-05, T-06, T-07, T-10
func TestSNI(t *testing.T) {
	s := start(t)
	a := s.as(t, first)
	def, open := newAuthority(t, "Default"), newAuthority(t, "Open")
	a.register(def, modeDefault, a.jitpStack())
	a.register(open, modeSNIOnly, &registrationConfig{TemplateName: "sensor"})
	endpoint := a.endpoint()

	for _, name := range []string{"example.com", "a0000000000000-ats.iot.eu-central-1.amazonaws.com", strings.Replace(endpoint, region, "us-east-1", 1)} {
		if _, err := s.device(t, "unit", def.issue(t, "unit"), name).connack(); err == nil { // rule T-06
			t.Errorf("a device got through to %s", name)
		}
	}
	without := s.device(t, "unit", def.issue(t, "unit"), "") // rule T-07: unknown, and no CA presented
	without.wantClosed()
	a.wantStatus(without.cert, "")
	without.chain = []*authority{def}
	without.wantClosed()
	a.wantStatus(without.cert, statusActive)
	without.chain = nil // rule T-07: known, its id is enough
	without.wantConnected()

	multi := s.device(t, "multi", open.issue(t, "multi"), "") // rule T-10
	multi.chain = []*authority{open}
	multi.wantClosed()
	a.wantStatus(multi.cert, "")
	multi.sni = endpoint // rule T-09: with the CA, and SNI
	multi.wantClosed()
	a.wantStatus(multi.cert, statusActive)
	multi.sni = "" // rule T-05
	multi.wantClosed()
}

func TestTLS(t *testing.T) {
	s := start(t)
	a, ca := s.as(t, first), newAuthority(t, "Issuing")
	a.register(ca, modeSNIOnly, nil)
	d := s.device(t, "unit", ca.issue(t, "unit"), a.endpoint())
	d.alpn = []string{"h2"}
	if _, err := d.connack(); err == nil {
		t.Error("a foreign ALPN got through")
	}
	d.alpn = nil
	cfg := d.tls()
	cfg.Certificates = nil
	conn, err := tls.Dial("tcp", s.MQTTAddr(), cfg)
	if err == nil { // TLS 1.3: the refusal shows on the first read
		_, err = conn.Read(make([]byte, 1))
		conn.Close()
	}
	if err == nil || !strings.Contains(err.Error(), "certificate required") {
		t.Errorf("without a certificate: %v", err)
	}
}

// rules M-06, M-08, M-10, DC-33, CA-76
func TestKnownCertificates(t *testing.T) {
	s := start(t)
	a, ca := s.as(t, first), newAuthority(t, "Issuing")
	a.register(ca, modeSNIOnly, nil)
	unit := ca.issue(t, "unit-1")
	a.ok("POST", "/certificate/register", map[string]any{"certificatePem": unit.pem, "status": "ACTIVE"})
	d := s.device(t, "unit-1", unit, a.endpoint())
	d.wantClosed() // rule M-06: ACTIVE, and no policy
	a.ok("POST", "/policies/all", map[string]any{"policyDocument": `{"Version":"2012-10-17","Statement":[{"Effect":"Allow","Action":"iot:*","Resource":"*"}]}`})
	a.ok("PUT", "/target-policies/all", map[string]any{"target": a.arnOf(unit)})
	d.wantConnected()
	a.ok("PUT", "/cacertificate/"+ca.id()+"?newStatus=INACTIVE", nil)
	d.wantConnected() // rules CA-76, M-10
	path := "/certificates/" + unit.id() + "?newStatus="
	a.ok("PUT", path+"INACTIVE", nil)
	d.wantClosed() // rule M-08
	a.ok("PUT", path+"ACTIVE", nil)
	d.wantConnected()
	a.ok("PUT", path+"REVOKED", nil)
	d.wantClosed()
	a.do("PUT", path+"ACTIVE", nil).want(t, 406, "CertificateStateException")           // rule DC-33
	a.do("PUT", path+"PENDING_ACTIVATION", nil).want(t, 400, "InvalidRequestException") // rule DC-30
}

func (a *account) arnOf(cert *authority) string {
	return place{a.id, a.region}.arn("cert/" + cert.id())
}

// rules P-04, P-08, CA-58, CA-60, PT-53: the run fails, the certificate stays pending, and the next connect succeeds once
// the cause is mended
func TestJITPFailsAndHeals(t *testing.T) {
	s := start(t)
	a := s.as(t, first)
	good := `{"Statement":[{"Effect":"Allow","Principal":{"Service":"iot.amazonaws.com"},"Action":"sts:AssumeRole"}]}`
	rc := a.jitpStack()
	ca := newAuthority(t, "Issuing")
	a.register(ca, modeSNIOnly, rc)
	endpoint := a.endpoint()
	alter := func(change func(*role)) {
		err := s.store.update(func(tx *tx) error {
			r := &role{Name: "jitp", Path: "/", Trust: good, Attached: []string{managedRegistration}}
			change(r)
			return roles.put(tx, global(first).key("jitp"), r)
		})
		if err != nil {
			t.Fatal(err)
		}
	}
	cases := map[string]func(*role){
		"role trusts another service": func(r *role) { r.Trust = strings.Replace(good, "iot.", "ec2.", 1) },
		"role trusts another account's templates": func(r *role) {
			r.Trust = strings.Replace(good, `"sts:AssumeRole"`, `"sts:AssumeRole","Condition":{"StringEquals":{"aws:SourceAccount":"999999999999"}}`, 1)
		},
		"role has no rights": func(r *role) { r.Attached = nil },
		"role may not attach the policy": func(r *role) {
			r.Inline = map[string]string{"no": `{"Statement":[{"Effect":"Deny","Action":"iot:AttachPolicy","Resource":"*"}]}`}
		},
	}
	for name, change := range cases {
		t.Run(name, func(t *testing.T) {
			alter(change)
			unit := ca.issue(t, strings.NewReplacer(" ", "-", "'", "").Replace(name))
			d := s.device(t, unit.cert.Subject.CommonName, unit, endpoint)
			d.wantClosed()
			d.wantClosed()
			a.wantStatus(unit, statusPending)
			alter(func(*role) {})
			d.wantClosed() // rule M-05: pending, and the template runs again
			a.wantStatus(unit, statusActive)
			d.wantConnected()
		})
	}
	odd := ca.issue(t, "a b.c") // rule PT-56
	s.device(t, "x", odd, endpoint).wantClosed()
	a.wantStatus(odd, statusPending)
}

// rules DC-18 and row 9
func TestRegistrationThrottle(t *testing.T) {
	now := time.Now()
	s := start(t, func(c *Config) { c.RegistrationsPerSecond, c.Now = 2, func() time.Time { return now } })
	a, ca := s.as(t, first), newAuthority(t, "Issuing")
	a.register(ca, modeSNIOnly, nil)
	endpoint := a.endpoint()
	for i, want := range []string{statusPending, statusPending, ""} {
		unit := ca.issue(t, "unit")
		s.device(t, "unit", unit, endpoint).wantClosed()
		if got := a.status(unit); got != want {
			t.Errorf("device %d is %q, want %q", i+1, got, want)
		}
	}
}

// rules M-20, F-08 (the publish drops the connection), M-13
func TestPoliciesOfTopics(t *testing.T) {
	s := start(t)
	a, ca := s.as(t, first), newAuthority(t, "Issuing")
	a.register(ca, modeSNIOnly, a.jitpStack())
	endpoint := a.endpoint()
	connect := func(id string) (mqtt.Client, <-chan error) {
		unit := ca.issue(t, id)
		d := s.device(t, id, unit, endpoint)
		d.wantClosed()
		lost := make(chan error, 1)
		return d.client(func(o *mqtt.ClientOptions) {
			o.SetConnectionLostHandler(func(_ mqtt.Client, err error) { lost <- err })
		}), lost
	}
	one, _ := connect("unit-1")
	got := make(chan string, 1)
	wait(t, one.Subscribe("dt/unit-1/#", 1, func(_ mqtt.Client, m mqtt.Message) { got <- m.Topic() + " " + string(m.Payload()) }))
	wait(t, one.Publish("dt/unit-1/up", 1, false, "hello"))
	select {
	case m := <-got:
		if m != "dt/unit-1/up hello" {
			t.Errorf("got %q", m)
		}
	case <-time.After(5 * time.Second):
		t.Error("own message did not come back")
	}
	foreign := one.Subscribe("dt/unit-2/#", 1, nil)
	foreign.Wait()
	if code := foreign.(*mqtt.SubscribeToken).Result()["dt/unit-2/#"]; code != 0x80 {
		t.Errorf("subscribing to another's topic gives %#x", code)
	}
	for _, topic := range []string{"dt/unit-1/up", "$aws/events/presence/connected/x", "dt/unit-2/1/2/3/4/5/6/7/8"} {
		two, lost := connect("unit-2")
		two.Publish(topic, 0, false, "mine now")
		select {
		case <-lost:
		case <-time.After(5 * time.Second):
			t.Errorf("still connected after publishing on %s", topic)
		}
	}
	stranger := s.device(t, "unit-1", ca.issue(t, "unit-9"), endpoint) // rule M-20: client id is not the thing's name
	stranger.wantClosed()
	stranger.wantClosed()
}

// rules section 4.7: what a person at the MQTT test client sees
func TestLifecycleEvents(t *testing.T) {
	s := start(t)
	a, ca := s.as(t, first), newAuthority(t, "Issuing")
	a.register(ca, modeSNIOnly, nil)
	a.ok("POST", "/policies/all", map[string]any{"policyDocument": `{"Statement":{"Effect":"Allow","Action":"iot:*","Resource":"*"}}`})
	endpoint := a.endpoint()
	known := func(id string, policy bool) *device {
		cert := ca.issue(t, id)
		a.ok("POST", "/certificate/register", map[string]any{"certificatePem": cert.pem, "status": "ACTIVE"})
		if policy {
			a.ok("PUT", "/target-policies/all", map[string]any{"target": a.arnOf(cert)})
		}
		return s.device(t, id, cert, endpoint)
	}
	events := make(chan map[string]any, 16)
	watcher := known("watcher", true).client()
	wait(t, watcher.Subscribe("$aws/events/#", 0, func(_ mqtt.Client, m mqtt.Message) {
		e := map[string]any{}
		if err := json.Unmarshal(m.Payload(), &e); err != nil {
			t.Error(err)
		}
		e["topic"] = m.Topic()
		events <- e
	}))
	next := func(topic string, want map[string]any) {
		t.Helper()
		for {
			select {
			case e := <-events:
				if e["topic"] != topic {
					continue // the watcher's own
				}
				for k, v := range want {
					if e[k] != v {
						t.Errorf("%s: %s is %v, want %v", topic, k, e[k], v)
					}
				}
				return
			case <-time.After(5 * time.Second):
				t.Fatalf("no event on %s", topic)
			}
		}
	}
	one := known("unit-1", true)
	c := one.client()
	next("$aws/events/presence/connected/unit-1", map[string]any{"clientId": "unit-1", "principalIdentifier": one.cert.id()})
	one.client() // rule M-13: the second session kicks the first
	next("$aws/events/presence/disconnected/unit-1", map[string]any{"disconnectReason": "DUPLICATE_CLIENTID"})
	c.Disconnect(0)
	known("unit-2", false).wantClosed()
	next("$aws/events/presence/connect_failed/unit-2", map[string]any{"connectFailureReason": "AUTHORIZATION_FAILED"})
	fresh := s.device(t, "unit-3", ca.issue(t, "unit-3"), endpoint)
	fresh.wantClosed()
	next("$aws/events/certificates/registered/"+ca.id(), map[string]any{ // rules J-01, J-03, J-04
		"certificateId": fresh.cert.id(), "caCertificateId": ca.id(), "certificateStatus": statusPending, "awsAccountId": first,
	})
	fresh.wantClosed()
	next("$aws/events/certificates/registered/"+ca.id(), map[string]any{"certificateId": fresh.cert.id()}) // rule J-02: again
}

// An idle connection is closed, and the end of the simulator does not wait for one.
func TestEndsWithIdleConnections(t *testing.T) {
	s, err := Start(context.Background(), Config{Dir: t.TempDir()})
	if err != nil {
		t.Fatal(err)
	}
	conn, err := net.Dial("tcp", s.MQTTAddr())
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	began := time.Now()
	if err := s.Close(); err != nil {
		t.Error(err)
	}
	if took := time.Since(began); took > helloTime/2 {
		t.Errorf("it took %v", took)
	}
}

// Nothing that TLS lets through may bring the listener down.
func TestGarbageAfterHandshake(t *testing.T) {
	s := start(t)
	a, ca := s.as(t, first), newAuthority(t, "Issuing")
	a.register(ca, modeSNIOnly, a.jitpStack())
	d := s.device(t, "unit-1", ca.issue(t, "unit-1"), a.endpoint())
	for _, garbage := range [][]byte{{}, {0xff}, bytes.Repeat([]byte{0xff}, 1000), {0x10, 0xff, 0xff, 0xff, 0x7f}, {0x10, 4, 0, 4, 'M', 'Q'}} {
		conn, err := d.dial()
		if err != nil {
			t.Fatal(err)
		}
		if _, err := conn.Write(garbage); err != nil {
			t.Fatal(err)
		}
		conn.Close()
	}
	d.wantClosed()
	d.wantConnected()
}
