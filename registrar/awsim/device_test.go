package awsim

import (
	"crypto/tls"
	"crypto/x509"
	"errors"
	"io"
	"net"
	"os"
	"testing"
	"time"

	mqtt "github.com/eclipse/paho.mqtt.golang"
	"github.com/eclipse/paho.mqtt.golang/packets"
)

// endpoint asks for the name that devices of an account connect to.
func (a *account) endpoint() string {
	a.t.Helper()
	return a.ok("GET", "/endpoint?endpointType=iot:Data-ATS", nil)["endpointAddress"].(string)
}

// device is a real MQTT client with a certificate.
type device struct {
	t     *testing.T
	sim   *Sim
	id    string // client id
	cert  *authority
	chain []*authority // sent behind the certificate
	sni   string       // "" sends none
	alpn  []string
}

func (s *Sim) device(t *testing.T, id string, cert *authority, sni string) *device {
	return &device{t: t, sim: s, id: id, cert: cert, sni: sni}
}

func (d *device) tls() *tls.Config {
	d.t.Helper()
	pem, err := os.ReadFile(d.sim.CAFile())
	if err != nil {
		d.t.Fatal(err)
	}
	pool := x509.NewCertPool()
	pool.AppendCertsFromPEM(pem)
	own := tls.Certificate{Certificate: [][]byte{d.cert.cert.Raw}, PrivateKey: d.cert.key}
	for _, ca := range d.chain {
		own.Certificate = append(own.Certificate, ca.cert.Raw)
	}
	cfg := &tls.Config{RootCAs: pool, ServerName: d.sni, NextProtos: d.alpn, Certificates: []tls.Certificate{own}}
	if d.sni == "" {
		cfg.ServerName = "127.0.0.1" // crypto/tls sends no SNI for an address
	}
	return cfg
}

// dial gets as far as the end of the TLS handshake.
func (d *device) dial() (*tls.Conn, error) {
	dialer := &net.Dialer{Timeout: 5 * time.Second}
	return tls.DialWithDialer(dialer, "tcp", d.sim.MQTTAddr(), d.tls())
}

var errClosedEarly = errors.New("closed without CONNACK")

// connack sends a CONNECT of MQTT 3.1.1 and gives the return code of the answer.
func (d *device) connack() (byte, error) {
	d.t.Helper()
	conn, err := d.dial()
	if err != nil {
		return 0, err
	}
	defer conn.Close()
	if err := conn.SetDeadline(time.Now().Add(5 * time.Second)); err != nil {
		d.t.Fatal(err)
	}
	connect := packets.NewControlPacket(packets.Connect).(*packets.ConnectPacket)
	connect.ProtocolName, connect.ProtocolVersion = "MQTT", 4
	connect.CleanSession, connect.ClientIdentifier, connect.Keepalive = true, d.id, 30
	if err := connect.Write(conn); err != nil {
		return 0, err
	}
	answer, err := packets.ReadPacket(conn)
	if errors.Is(err, io.EOF) {
		return 0, errClosedEarly
	}
	if err != nil {
		return 0, err
	}
	return answer.(*packets.ConnackPacket).ReturnCode, nil
}

func (d *device) wantConnected() {
	d.t.Helper()
	if code, err := d.connack(); err != nil || code != 0 {
		d.t.Errorf("device %s: CONNACK %d, %v; want 0", d.id, code, err)
	}
}

// wantClosed wants the connection closed without a CONNACK (M-02).
func (d *device) wantClosed() {
	d.t.Helper()
	if code, err := d.connack(); !errors.Is(err, errClosedEarly) {
		d.t.Errorf("device %s: CONNACK %d, %v; want it closed", d.id, code, err)
	}
}

// client is a connection that stays, with paho.
func (d *device) client(change ...func(*mqtt.ClientOptions)) mqtt.Client {
	d.t.Helper()
	o := mqtt.NewClientOptions().AddBroker("ssl://" + d.sim.MQTTAddr()).SetClientID(d.id).SetTLSConfig(d.tls()).
		SetProtocolVersion(4).SetAutoReconnect(false).SetConnectRetry(false).SetConnectTimeout(5 * time.Second)
	for _, c := range change {
		c(o)
	}
	c := mqtt.NewClient(o)
	wait(d.t, c.Connect())
	d.t.Cleanup(func() { c.Disconnect(0) })
	return c
}

func wait(t *testing.T, token mqtt.Token) {
	t.Helper()
	if !token.WaitTimeout(5 * time.Second) {
		t.Fatal("no answer in 5 s")
	}
	if err := token.Error(); err != nil {
		t.Fatal(err)
	}
}

// status gives the status of a registered certificate, "" where there is none.
func (a *account) status(cert *authority) string {
	a.t.Helper()
	res := a.do("GET", "/certificates/"+cert.id(), nil)
	if res.status == 404 {
		return ""
	}
	return a.ok("GET", "/certificates/"+cert.id(), nil)["certificateDescription"].(map[string]any)["status"].(string)
}

func (a *account) wantStatus(cert *authority, want string) {
	a.t.Helper()
	if got := a.status(cert); got != want {
		a.t.Errorf("certificate in %s %s is %q, want %q", a.id, a.region, got, want)
	}
}

// jitpStack makes role, policy and template, and gives the configuration of a CA.
func (a *account) jitpStack() *registrationConfig {
	a.t.Helper()
	a.role("jitp", `{"Version":"2012-10-17","Statement":{"Effect":"Allow","Principal":{"Service":"iot.amazonaws.com"},"Action":"sts:AssumeRole",
	 "Condition":{"StringEquals":{"aws:SourceAccount":"`+a.id+`"},"ArnLike":{"aws:SourceArn":"arn:aws:iot:*:`+a.id+`:provisioningtemplate/sensor"}}}}`)
	a.ok("POST", "/policies/fleet-device", map[string]any{"policyDocument": devicePolicy})
	a.ok("POST", "/provisioning-templates", map[string]any{
		"templateName": "sensor", "templateBody": minimalTemplate, "provisioningRoleArn": "arn:aws:iam::" + a.id + ":role/jitp", "type": "JITP", "enabled": true,
	})
	return &registrationConfig{TemplateName: "sensor"}
}

// role makes a role with the managed policy for registration, unless there is one.
func (a *account) role(name, trust string) {
	a.t.Helper()
	err := a.sim.store.update(func(tx *tx) error {
		return roles.put(tx, global(a.id).key(name), &role{Name: name, Path: "/", Trust: trust, MaxSession: 3600, Attached: []string{managedRegistration}})
	})
	if err != nil {
		a.t.Fatal(err)
	}
}
