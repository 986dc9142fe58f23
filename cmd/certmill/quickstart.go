package main

import (
	"context"
	"crypto/x509"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"os"
	"path/filepath"
	"time"

	"github.com/spf13/cobra"

	"github.com/certmill/certmill/ca"
	"github.com/certmill/certmill/ca/ceremony"
	"github.com/certmill/certmill/internal/server"
	"github.com/certmill/certmill/issuer"
)

// quickOptions are the flags of quickstart.
type quickOptions struct {
	Dir         string
	Devices     int
	Token       tokenChoice
	KeepRunning bool
}

func newQuickstartCommand(e *env) *cobra.Command {
	var o quickOptions
	var tokenEnv []string
	c := &cobra.Command{
		Use:   "quickstart",
		Short: "The whole chain on this machine, nothing configured by hand",
		Long: "Makes a SoftHSM token, a root, an issuing CA and a plant CA in it; starts a simulated AWS and registers the issuing CA there in\n" +
			"DEFAULT and in SNI_ONLY mode; signs unique device certificates over mTLS; and has devices connect for the first time and be\n" +
			"provisioned, by JITP and by JITR, one of them in two accounts with the same certificate. Everything stays in --dir, where\n" +
			"certmill serve goes on. It never touches real AWS, whatever AWS_* says.\n\n" +
			"Interrupted, it is finished by running it again; a finished one is printed again.",
		Example: "  certmill quickstart\n  certmill quickstart --dir /tmp/demo --devices 1000 -o json",
		Args:    cobra.NoArgs,
		RunE: func(c *cobra.Command, _ []string) (err error) {
			if o.Devices < 1 || o.Devices > maxDemoDevices {
				return fail(exitUsage, "", "--devices %d: give a number from 1 to %d", o.Devices, maxDemoDevices)
			}
			if o.Token.Env, err = parseTokenEnv(tokenEnv); err != nil {
				return err
			}
			given, err := o.Token.given()
			if err == nil && given {
				o.Token.PINFile, err = filepath.Abs(o.Token.PINFile)
			}
			if err != nil {
				return err
			}
			return e.quickstart(c.Context(), o)
		},
	}
	f := c.Flags()
	f.StringVar(&o.Dir, "dir", "./demo", "`folder` of the demonstration: empty, missing, or one that quickstart began")
	f.IntVar(&o.Devices, "devices", 200, "how many devices get a certificate")
	f.BoolVar(&o.KeepRunning, "keep-running", false, "leave service and simulator up until interrupted")
	addTokenFlags(f, &o.Token, &tokenEnv)
	return c
}

// What the demonstration is made of (contract, design.md section 6).
const (
	maxDemoDevices = 999_999 // their ids have six digits
	demoQuantity   = 1_000_000
	demoProduct    = "demo"
	demoStation    = "line-1"
	demoOrder      = "O-1"
)

// quickState is D/quickstart.json: what a later call must know of an earlier one.
type quickState struct {
	Devices int         `json:"devices"`
	Token   tokenChoice `json:"token"` // as the flags name it; empty: a SoftHSM token of its own
	Ports   ports       `json:"ports"`
	Report  *report     `json:"report,omitempty"` // of a finished one
}

// ports are the addresses in use; they stay the same over restarts.
type ports struct {
	Stations string `json:"stations"`
	Public   string `json:"public"`
	Metrics  string `json:"metrics"`
	AWS      string `json:"aws"`
	MQTT     string `json:"mqtt"`
}

// quickstart is one run. Each step looks at what is there and does what is missing, so that a killed run is finished by the next.
type quickstart struct {
	e     *env
	o     quickOptions
	state quickState
	tell  *teller
	log   *slog.Logger
	cfg   *Config
	began time.Time
}

func (e *env) quickstart(ctx context.Context, o quickOptions) error {
	if err := needTokens(); err != nil {
		return err
	}
	q := &quickstart{e: e, o: o, began: time.Now(), tell: &teller{e: e}}
	if err := q.enter(); err != nil {
		return err
	}
	logFile, err := q.openLog()
	if err != nil {
		return err
	}
	defer logFile.Close()
	if q.state.Report != nil && !o.KeepRunning {
		q.tell.title(q.o.Dir)
		q.tell.story(q.state.Report)
		return q.print()
	}
	err = q.run(ctx)
	if ctx.Err() != nil && err != nil {
		return fail(exitInterrupted, "run it again: it goes on where it stopped", "interrupted")
	}
	return err
}

// enter takes the folder: an empty one, or one that quickstart began.
func (q *quickstart) enter() error {
	data, err := os.ReadFile(q.path("quickstart.json"))
	if err == nil {
		if err := json.Unmarshal(data, &q.state); err != nil {
			return fail(exitUsage, "choose another --dir", "%s: %w", q.path("quickstart.json"), err)
		}
		if q.o.Token.Module == "" { // the flags need not be given again
			q.o.Token = q.state.Token
		}
		q.state.Token = q.o.Token
		if q.state.Report != nil {
			q.state.Report.in(q.o.Dir)
		}
		return nil
	}
	if err := claimDir(q.o.Dir, quickMarker); err != nil {
		return err
	}
	q.state.Devices, q.state.Token = q.o.Devices, q.o.Token
	if err := q.save(); err != nil {
		return err
	}
	return os.Remove(q.path(quickMarker))
}

// quickMarker stands in the folder until quickstart.json does.
const quickMarker = ".certmill-quickstart"

func (q *quickstart) path(name string) string { return filepath.Join(q.o.Dir, name) }

func (q *quickstart) save() error {
	data, err := json.MarshalIndent(q.state, "", "  ")
	if err != nil {
		return err
	}
	return writeFile(q.path("quickstart.json"), append(data, '\n'), modePublic)
}

// openLog sends what service and simulator log into a file: the terminal belongs to the story.
func (q *quickstart) openLog() (*os.File, error) {
	if err := os.MkdirAll(q.path("log"), modeOwnDir); err != nil {
		return nil, err
	}
	f, err := os.OpenFile(q.path("log/quickstart.log"), os.O_WRONLY|os.O_CREATE|os.O_APPEND, modePublic)
	if err != nil {
		return nil, err
	}
	q.log = slog.New(slog.NewJSONHandler(f, nil))
	return f, nil
}

// print ends with the report as JSON on stdout, or with what to type next.
func (q *quickstart) print() error {
	if q.e.output != asTable {
		return q.e.printOne(q.state.Report, "")
	}
	q.tell.next(q.state.Report)
	return nil
}

// run goes through the steps. What it starts it stops.
func (q *quickstart) run(ctx context.Context) (err error) {
	q.tell.title(q.o.Dir)
	for _, step := range []func(context.Context) error{q.choosePorts, q.makePlant, q.makeCAs} {
		if err := step(ctx); err != nil {
			return err
		}
	}
	sim, err := q.startSimulator(ctx)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, sim.Close()) }()
	serving, stop := context.WithCancel(ctx)
	svc, err := startService(serving, q.cfg, q.log)
	if err != nil {
		stop()
		return err
	}
	defer func() { stop(); err = errors.Join(err, svc.wait()) }()
	admin := server.NewAdminClient(socketPath(q.cfg.path(q.cfg.Listen.Admin)))
	defer admin.Close()
	step := q.produce
	if q.state.Report != nil {
		step = q.again
	}
	if err := step(ctx, sim, admin); err != nil {
		return err
	}
	if !q.o.KeepRunning {
		return q.print()
	}
	if err := q.print(); err != nil {
		return err
	}
	q.e.talk("service and simulator are up; interrupt to stop")
	<-ctx.Done()
	return nil
}

// again writes down the addresses that a finished one has now.
func (q *quickstart) again(ctx context.Context, sim *simulator, admin *server.AdminClient) error {
	q.state.Report.Server, q.state.Report.Simulator = q.server(), sim.info()
	return errors.Join(q.addStation(ctx, admin), q.save())
}

func (q *quickstart) server() string { return "https://" + q.cfg.Listen.Stations }

// produce registers, issues, connects, and writes the report.
func (q *quickstart) produce(ctx context.Context, sim *simulator, admin *server.AdminClient) error {
	r := &report{Dir: q.o.Dir, Server: q.server(), Simulator: sim.info()}
	var err error
	if r.Root, r.Issuing, r.Plant, err = q.describeCAs(ctx, admin); err != nil {
		return err
	}
	if r.Registrations, err = q.register(ctx, admin); err != nil {
		return err
	}
	run, err := q.issueDevices(ctx, admin)
	if err != nil {
		return err
	}
	order, err := admin.Order(ctx, demoOrder)
	if err != nil {
		return err
	}
	r.Order = orderInfo{ID: order.ID, Quantity: order.Quantity, Issued: order.Issued}
	r.Issued = q.state.Devices
	if order.Issued != uint64(q.state.Devices) {
		return fmt.Errorf("order %s counts %d certificates, %d devices have one", order.ID, order.Issued, q.state.Devices)
	}
	if r.Devices, err = q.connectDevices(ctx, sim, admin, run.answers); err != nil {
		return err
	}
	r.Seconds = time.Since(q.began).Seconds()
	q.state.Report = r
	return q.save()
}

// choosePorts keeps the addresses of an earlier run where they are free, prefers the usual ones, and writes down what it chose.
func (q *quickstart) choosePorts(context.Context) error {
	p := &q.state.Ports
	for _, a := range []struct {
		address *string
		usual   string
	}{{&p.Stations, "127.0.0.1:8443"}, {&p.Public, "127.0.0.1:8080"}, {&p.Metrics, "127.0.0.1:9464"}, {&p.AWS, "127.0.0.1:4566"}, {&p.MQTT, "127.0.0.1:8883"}} {
		setDefault(a.address, a.usual)
		if err := freeAddress(a.address); err != nil {
			return err
		}
	}
	return q.save()
}

// freeAddress replaces an address that is taken by a free one.
func freeAddress(address *string) error {
	l, err := net.Listen("tcp", *address)
	if err != nil {
		if l, err = net.Listen("tcp", "127.0.0.1:0"); err != nil {
			return err
		}
		*address = l.Addr().String()
	}
	return l.Close()
}

// makePlant writes token, configuration, profiles, ledger and fleet.yaml.
func (q *quickstart) makePlant(ctx context.Context) error {
	p := q.state.Ports
	o := initOptions{Dir: q.o.Dir, Node: "demo", Stations: p.Stations, Public: p.Public, Metrics: p.Metrics, Token: q.o.Token, AWS: "http://" + p.AWS}
	o.SoftHSM = o.Token.Module == "" // then none of its flags was given
	if err := fillPlant(ctx, o); err != nil {
		return err
	}
	if err := writeFile(q.path("external-id"), []byte("certmill-demo\n"), modeSecret); err != nil {
		return err
	}
	e := &env{stdin: q.e.stdin, stdout: q.e.stdout, stderr: q.e.stderr, getenv: q.e.getenv, config: q.path("certmill.yaml")}
	var err error
	if q.cfg, err = e.loadConfig(); err != nil {
		return err
	}
	t := q.cfg.Tokens["main"]
	q.tell.line("token", "%q in %s", t.Token, t.Module)
	return nil
}

// makeCAs performs the three ceremonies.
func (q *quickstart) makeCAs(ctx context.Context) error {
	for _, role := range []string{ca.RoleRoot, ca.RoleIssuing, ca.RolePlant} {
		file := q.path("ca/" + role + ".yaml")
		if !exists(file) {
			if err := writeFile(file, ceremony.Template(role, role), modePublic); err != nil {
				return err
			}
		}
		r, err := runCeremony(ctx, q.cfg, file, q.log)
		if err != nil {
			return err
		}
		info, err := describeCA(q.o.Dir, r)
		if err != nil {
			return err
		}
		q.tell.ca(info)
	}
	return nil
}

// describeCAs is the report's part about the CAs.
func (q *quickstart) describeCAs(ctx context.Context, admin *server.AdminClient) (root, issuing, plant caInfo, err error) {
	records, err := admin.CAs(ctx)
	if err != nil {
		return root, issuing, plant, problemError(err)
	}
	for _, r := range records {
		info, err := describeCA(q.o.Dir, r)
		if err != nil {
			return root, issuing, plant, err
		}
		switch r.Role {
		case ca.RoleRoot:
			root = info
		case ca.RoleIssuing:
			issuing = info
		case ca.RolePlant:
			plant = info
		}
	}
	return root, issuing, plant, nil
}

func describeCA(dir string, r issuer.CARecord) (caInfo, error) {
	cert, err := x509.ParseCertificate(r.Certificate)
	if err != nil {
		return caInfo{}, err
	}
	return caInfo{Name: r.Name, Subject: cert.Subject.String(), Key: keyText(cert.PublicKey), CertificateID: certificateID(r.Certificate),
		NotAfter: r.NotAfter, IssueUntil: r.IssueUntil, File: filepath.Join(dir, "ca", r.Name+".pem")}, nil
}

// issueDevices adds the station, opens the order, and has every device's CSR signed over mTLS.
func (q *quickstart) issueDevices(ctx context.Context, admin *server.AdminClient) (*lineRun, error) {
	if err := q.addStation(ctx, admin); err != nil {
		return nil, err
	}
	o, err := q.openOrder(ctx, admin)
	if err != nil {
		return nil, err
	}
	q.tell.line("order", "%s, %s, %d units, profile %s", o.ID, o.Product, o.Quantity, o.Profile)
	devices, err := q.missingDevices(ctx, admin)
	if err != nil {
		return nil, err
	}
	cl, _, err := q.e.stationClientFile(q.path("stations/" + demoStation + "/station.yaml"))
	if err != nil {
		return nil, err
	}
	defer cl.Close()
	issuing, err := os.ReadFile(q.path("ca/issuing.pem"))
	if err != nil {
		return nil, err
	}
	bar := q.e.newProgress("issued", int64(len(devices)))
	run, err := line(ctx, cl, demoOrder, devices, issuing, func() { bar.add(1) })
	bar.done()
	if err != nil {
		return nil, problemError(err)
	}
	q.tell.line("issued", "%d of %d   %.0f/s, p99 %v, each recorded before it was signed", q.state.Devices, q.state.Devices,
		run.perSecond(), run.p99().Round(100*time.Microsecond))
	return run, nil
}

func (q *quickstart) addStation(ctx context.Context, admin *server.AdminClient) error {
	dir := q.path("stations/" + demoStation)
	csr, err := q.e.stationRequest(demoStation, dir, "")
	if err != nil {
		return err
	}
	_, err = addStation(ctx, admin, q.cfg, newStation{demoStation, dir, csr})
	return problemError(err)
}

func (q *quickstart) openOrder(ctx context.Context, admin *server.AdminClient) (issuer.Order, error) {
	orders, err := admin.Orders(ctx)
	if err != nil {
		return issuer.Order{}, problemError(err)
	}
	for _, o := range orders {
		if o.ID == demoOrder {
			return o, nil
		}
	}
	o, err := admin.CreateOrder(ctx, issuer.OrderSpec{ID: demoOrder, Product: demoProduct, Profile: "device", Quantity: demoQuantity})
	return o, problemError(err)
}

// missingDevices makes keys and CSRs for the devices that have no certificate yet, and for those that connect in any case.
func (q *quickstart) missingDevices(ctx context.Context, admin *server.AdminClient) (missing []*demoDevice, err error) {
	made := make(map[string]bool)
	for l, err := range admin.Manifest(ctx, demoOrder) {
		if err != nil {
			return nil, problemError(err)
		}
		made[l.DeviceID] = true
	}
	for n := 1; n <= q.state.Devices; n++ {
		id, dir := deviceID(n), ""
		if n <= connecting {
			dir = q.path("devices/" + id)
		}
		if made[id] && dir == "" {
			continue
		}
		d, err := makeDevice(id, dir)
		if err != nil {
			return nil, err
		}
		missing = append(missing, d)
	}
	return missing, nil
}
