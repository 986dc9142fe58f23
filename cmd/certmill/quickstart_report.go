package main

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"time"
)

// report is what quickstart prints with -o json (contract, design.md section 6).
type report struct {
	Dir           string         `json:"dir"`
	Server        string         `json:"server"`
	Simulator     simulatorInfo  `json:"simulator"`
	Root          caInfo         `json:"root"`
	Issuing       caInfo         `json:"issuing"`
	Plant         caInfo         `json:"plant"`
	Registrations []registration `json:"registrations"`
	Order         orderInfo      `json:"order"`
	Issued        int            `json:"issued"`
	Seconds       float64        `json:"seconds"` // of the run that finished
	Devices       []deviceInfo   `json:"devices"`
}

// in puts the report's files into dir: it may have been moved, or be called by another name.
func (r *report) in(dir string) {
	r.Dir, r.Simulator.CAFile = dir, filepath.Join(dir, "aws/ca.pem")
	for _, c := range []*caInfo{&r.Root, &r.Issuing, &r.Plant} {
		c.File = filepath.Join(dir, "ca", c.Name+".pem")
	}
}

// simulatorInfo is also the line that `certmill simulate aws` prints when it is ready.
type simulatorInfo struct {
	Endpoint string `json:"endpoint"`
	MQTT     string `json:"mqtt"`
	CAFile   string `json:"ca_file"`
}

type caInfo struct {
	Name          string    `json:"name"`
	Subject       string    `json:"subject"`
	Key           string    `json:"key"` // P-256 or P-384; the private half stays in the token
	CertificateID string    `json:"certificate_id"`
	NotAfter      time.Time `json:"not_after"`
	IssueUntil    time.Time `json:"issue_until,omitzero"`
	File          string    `json:"file"`
}

type registration struct {
	CA               string `json:"ca"`
	Account          string `json:"account"`
	Region           string `json:"region"`
	Mode             string `json:"mode"`
	Status           string `json:"status"`
	AutoRegistration string `json:"auto_registration"`
	CACertificateID  string `json:"ca_certificate_id"`
}

type orderInfo struct {
	ID       string `json:"id"`
	Quantity uint64 `json:"quantity"`
	Issued   uint64 `json:"issued"`
}

// deviceInfo is one device at one endpoint.
type deviceInfo struct {
	DeviceID      string `json:"device_id"`
	Serial        string `json:"serial"`
	CertificateID string `json:"certificate_id"`
	Flow          string `json:"flow"` // JITP or JITR
	Account       string `json:"account"`
	Region        string `json:"region"`
	Endpoint      string `json:"endpoint"`
	Status        string `json:"status"` // at AWS, after it connected
	Thing         string `json:"thing"`
}

// teller prints quickstart's story on stderr, a line for each thing done.
type teller struct{ e *env }

func (t *teller) title(dir string) {
	t.e.talk("certmill quickstart · everything on this machine, in %s", dir)
}

func (t *teller) line(what, format string, args ...any) {
	t.e.talk("  %-9s %s", what, fmt.Sprintf(format, args...))
}

func (t *teller) more(format string, args ...any) { t.line("", format, args...) }

// story prints a finished report again.
func (t *teller) story(r *report) {
	t.ca(r.Root)
	t.ca(r.Issuing)
	t.ca(r.Plant)
	for _, g := range r.Registrations {
		t.line("aws", "%s  %-13s %-8s %s, auto-registration %s", g.Account, g.Region, g.Mode, g.Status, g.AutoRegistration)
	}
	t.line("order", "%s, %d of %d issued", r.Order.ID, r.Order.Issued, r.Order.Quantity)
	for _, d := range r.Devices {
		t.device(d, "")
	}
}

func (t *teller) ca(c caInfo) {
	t.line(c.Name, "%s, %s, to %d, signs until %d   key in the token, never in clear outside it", c.Subject, c.Key, c.NotAfter.Year(), c.IssueUntil.Year())
}

// device tells how one device met AWS; steps is "" where that is long ago.
func (t *teller) device(d deviceInfo, steps string) {
	t.line("connect", "%s  %s/%-13s %s  %s→ thing %s %s", d.DeviceID, d.Account, d.Region, d.Flow, steps, d.Thing, d.Status)
}

// next says what to type now. Every command has been run by a test as it is printed.
func (t *teller) next(r *report) {
	self := ownName()
	mqttListen, httpListen := r.Simulator.MQTT, strings.TrimPrefix(r.Simulator.Endpoint, "http://")
	device := r.Dir + "/devices/" + r.Devices[0].DeviceID
	t.e.talk("Next   %s serve -c %s/certmill.yaml        the factory goes on", self, r.Dir)
	t.e.talk("       openssl verify -x509_strict -CAfile %s/ca/root.pem -untrusted %s/ca/issuing.pem %s/cert.pem", r.Dir, r.Dir, device)
	t.e.talk("       %s simulate aws --dir %s/aws --listen %s --mqtt %s &", self, r.Dir, httpListen, mqttListen)
	t.e.talk("       %s aws plan --detailed-exitcode -c %s/certmill.yaml", self, r.Dir)
}

// ownName is how this program was called, so that what is printed can be typed: bin/certmill after make demo.
func ownName() string {
	if strings.Contains(os.Args[0], "/") && filepath.Base(os.Args[0]) == "certmill" {
		return os.Args[0]
	}
	return "certmill"
}
