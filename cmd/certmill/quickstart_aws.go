package main

import (
	"bytes"
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/certmill/certmill/internal/server"
	"github.com/certmill/certmill/issuer/client"
	"github.com/certmill/certmill/registrar"
	"github.com/certmill/certmill/registrar/awsapi"
	"github.com/certmill/certmill/registrar/awsim"
)

// connecting is how many devices meet the simulator.
const connecting = 8

// demoTable is the allow-list's table, as fleet.yaml names it.
const demoTable = "certmill-allow-list"

// place is an account in a region.
type place struct{ account, region string }

// Where the demonstration's devices connect, in turn; the second of them in two accounts, by changing nothing but its endpoint.
var (
	europe   = place{"111111111111", "eu-central-1"}
	east     = place{"111111111111", "us-east-1"}
	eastToo  = place{"222222222222", "us-east-1"}
	westJITR = place{"222222222222", "us-west-2"}
)

// destinations are the places where the nth device connects.
func destinations(n int) []place {
	switch {
	case n == 2:
		return []place{east, eastToo}
	case n%3 == 1:
		return []place{europe}
	case n%3 == 2:
		return []place{eastToo}
	}
	return []place{westJITR}
}

// flow is how AWS provisions a device there.
func (p place) flow() string {
	if p == westJITR {
		return "JITR"
	}
	return "JITP"
}

// simulator is the simulated AWS of this run, and the way a registrar gets into it.
type simulator struct {
	sim *awsim.Sim
	dir string
}

func (q *quickstart) startSimulator(ctx context.Context) (*simulator, error) {
	sim, err := awsim.Start(ctx, awsim.Config{Listen: q.state.Ports.AWS, MQTT: q.state.Ports.MQTT, Dir: q.path("aws"), Log: q.log})
	if err != nil {
		return nil, fmt.Errorf("simulator: %w", err)
	}
	q.tell.line("aws", "simulator: 2 accounts, 3 regions, MQTT on %s", sim.MQTTAddr())
	return &simulator{sim: sim, dir: q.path("aws")}, nil
}

func (s *simulator) Close() error { return s.sim.Close() }

func (s *simulator) info() simulatorInfo {
	return simulatorInfo{Endpoint: s.sim.Endpoint(), MQTT: s.sim.MQTTAddr(), CAFile: filepath.Join(s.dir, "ca.pem")}
}

// simulatorKeys are all the credentials that a quickstart has: the caller's AWS_* are never looked at.
func simulatorKeys() *awsapi.Keys { return &awsapi.Keys{ID: europe.account, Secret: "simulated"} }

// register brings the simulator to the state of fleet.yaml, through the code of `aws plan` and `aws apply`.
func (q *quickstart) register(ctx context.Context, admin *server.AdminClient) ([]registration, error) {
	fleet, err := registrar.LoadFleet(q.path("fleet.yaml"))
	if err != nil {
		return nil, fail(exitConfig, "", "fleet.yaml: %w", err)
	}
	cas, err := caCertificates(ctx, admin, fleet.CAs())
	if err != nil {
		return nil, err
	}
	r, err := registrar.New(registrar.Config{Fleet: fleet, CAs: cas, Prover: admin, Keys: simulatorKeys(), Log: q.log})
	if err != nil {
		return nil, err
	}
	plan, err := r.Plan(ctx)
	if err != nil {
		return nil, err
	}
	done, err := r.Apply(ctx, plan)
	if err != nil {
		return nil, err
	}
	if !done.Complete() {
		return nil, fail(exitPartly, "see "+q.path("log/quickstart.log")+" and run it again", "aws apply: %s", firstFailure(done))
	}
	rows, err := r.Status(ctx)
	if err != nil {
		return nil, err
	}
	registrations := make([]registration, len(rows))
	for i, row := range rows {
		registrations[i] = registration{CA: row.CA, Account: row.Account, Region: row.Region, Mode: row.Mode, Status: row.Status,
			AutoRegistration: row.AutoRegistration, CACertificateID: row.CACertificateID}
		q.tell.more("%s  %-13s %-8s %s", row.Account, row.Region, row.Mode, row.Provisioning)
	}
	return registrations, nil
}

// firstFailure says why an apply is not complete.
func firstFailure(r *registrar.Report) string {
	for _, o := range r.Outcomes {
		if o.Result == registrar.Failed || o.Result == registrar.Uncertain {
			return fmt.Sprintf("%s %s in %s: %s", o.Verb, o.Object, o.Place, o.Reason)
		}
	}
	return "not everything was tried"
}

// connectDevices fills the allow-list and has devices connect for the first time.
func (q *quickstart) connectDevices(ctx context.Context, sim *simulator, admin *server.AdminClient, answers map[string]client.Answer) ([]deviceInfo, error) {
	if err := q.allow(ctx, sim, admin); err != nil {
		return nil, err
	}
	pool, err := sim.serverCAs()
	if err != nil {
		return nil, err
	}
	var all []deviceInfo
	for n := 1; n <= min(connecting, q.state.Devices); n++ {
		for _, at := range destinations(n) {
			d := &firstConnect{id: deviceID(n), dir: q.path("devices/" + deviceID(n)), at: at, answer: answers[deviceID(n)], pool: pool, mqtt: sim.sim.MQTTAddr()}
			info, steps, err := d.run(ctx, sim)
			if err != nil {
				return nil, fmt.Errorf("device %s at %s/%s: %w", d.id, at.account, at.region, err)
			}
			q.tell.device(info, stepsText(steps))
			all = append(all, info)
		}
	}
	return all, nil
}

// serverCAs are the CAs of the simulator's MQTT listener.
func (s *simulator) serverCAs() (*x509.CertPool, error) {
	pem, err := os.ReadFile(s.sim.CAFile())
	if err != nil {
		return nil, err
	}
	pool := x509.NewCertPool()
	if !pool.AppendCertsFromPEM(pem) {
		return nil, fmt.Errorf("no certificate in %s", s.sim.CAFile())
	}
	return pool, nil
}

// allow sends the order's manifest to the allow-list of the place where JITR asks for it.
func (q *quickstart) allow(ctx context.Context, sim *simulator, admin *server.AdminClient) error {
	var manifest bytes.Buffer
	enc := json.NewEncoder(&manifest)
	for line, err := range admin.Manifest(ctx, demoOrder) {
		if err != nil {
			return problemError(err)
		}
		if err := enc.Encode(line); err != nil {
			return err
		}
	}
	url := strings.Join([]string{sim.sim.Endpoint(), "_awsim/allow-list", westJITR.account, westJITR.region, demoTable}, "/")
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, url, &manifest)
	if err != nil {
		return err
	}
	res, err := http.DefaultClient.Do(req)
	if err != nil {
		return err
	}
	defer res.Body.Close()
	if res.StatusCode != http.StatusOK {
		text, _ := io.ReadAll(io.LimitReader(res.Body, 4<<10))
		return fmt.Errorf("fill the allow-list: %s: %s", res.Status, text)
	}
	return nil
}

// firstConnect is one device at one endpoint.
type firstConnect struct {
	id, dir string
	at      place
	answer  client.Answer
	pool    *x509.CertPool
	mqtt    string // address of the simulator's listener
}

// run connects until AWS has provisioned the device, and asks AWS what became of it.
func (d *firstConnect) run(ctx context.Context, sim *simulator) (info deviceInfo, steps []registrar.ConnectStep, err error) {
	caller := awsapi.NewCaller(awsapi.Config{Keys: simulatorKeys()})
	role := fmt.Sprintf("arn:aws:iam::%s:role/certmill-registrar", d.at.account)
	target, err := caller.Connect(ctx, awsapi.Access{Role: role, Endpoint: sim.sim.Endpoint()}, d.at.account, d.at.region)
	if err != nil {
		return info, steps, err
	}
	endpoint, err := target.Endpoint(ctx)
	if err != nil {
		return info, steps, err
	}
	pair, err := tls.LoadX509KeyPair(filepath.Join(d.dir, "chain.pem"), filepath.Join(d.dir, "key.pem"))
	if err != nil {
		return info, steps, err
	}
	ctx, cancel := context.WithTimeout(ctx, time.Minute)
	defer cancel()
	steps, err = registrar.FirstConnect{Endpoint: endpoint, Address: d.mqtt, ServerCAs: d.pool, Certificate: pair, ClientID: d.id,
		Topic: registrar.DeviceTopic(d.id, "hello"), Payload: []byte("hello"), FirstPause: 100 * time.Millisecond}.Run(ctx)
	if err != nil {
		return info, steps, err
	}
	is, err := target.Device(ctx, d.answer.CertificateID)
	if err != nil {
		return info, steps, err
	}
	if is.Status != "ACTIVE" || len(is.Things) != 1 {
		return info, steps, errors.New("connected, but AWS says that its certificate is " + is.Status + " with things " + strings.Join(is.Things, ", "))
	}
	info = deviceInfo{DeviceID: d.id, Serial: d.answer.Serial, CertificateID: d.answer.CertificateID, Flow: d.at.flow(), Account: d.at.account,
		Region: d.at.region, Endpoint: endpoint, Status: is.Status, Thing: is.Things[0]}
	return info, steps, nil
}

// stepsText names what happened: refused, connected, published.
func stepsText(steps []registrar.ConnectStep) (text string) {
	last := ""
	for _, s := range steps {
		if s.What != last {
			text += s.What + ", "
		}
		last = s.What
	}
	return strings.TrimSuffix(text, ", ") + "  "
}
