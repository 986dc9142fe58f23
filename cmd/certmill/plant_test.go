package main

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/certmill/certmill/internal/server"
	"github.com/certmill/certmill/issuer"
	"github.com/certmill/certmill/issuer/client"
)

// testPlant is a plant in a temporary folder: SoftHSM token, root, issuing and plant CA, made by the commands that users type.
type testPlant struct {
	t   testing.TB
	dir string
	cfg *Config
}

func newTestPlant(t testing.TB) *testPlant {
	t.Helper()
	if _, err := exec.LookPath("softhsm2-util"); err != nil {
		t.Skip("softhsm2-util is not installed: make test installs it")
	}
	p := &testPlant{t: t, dir: filepath.Join(t.TempDir(), "plant")}
	p.run("init", "--dir", p.dir, "--softhsm")
	usePorts(t, filepath.Join(p.dir, "certmill.yaml"))
	for _, role := range []string{"root", "issuing", "plant"} {
		file := filepath.Join(p.dir, "ca", role+".yaml")
		p.run("ceremony", "new", role, "-f", file)
		p.run("ceremony", "run", file)
	}
	p.load()
	return p
}

// usePorts replaces the usual ports of a configuration by free ones.
func usePorts(t testing.TB, conf string) {
	t.Helper()
	text, err := os.ReadFile(conf)
	if err != nil {
		t.Fatal(err)
	}
	for _, port := range []string{"8443", "8080", "9464"} {
		text = bytes.ReplaceAll(text, []byte("127.0.0.1:"+port), []byte(freePort(t)))
	}
	if err := os.WriteFile(conf, text, modePublic); err != nil {
		t.Fatal(err)
	}
}

func (p *testPlant) load() {
	p.t.Helper()
	e := &env{config: filepath.Join(p.dir, "certmill.yaml"), getenv: os.Getenv}
	var err error
	if p.cfg, err = e.loadConfig(); err != nil {
		p.t.Fatal(err)
	}
}

func freePort(t testing.TB) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	return l.Addr().String()
}

// run runs a command of this plant in the test's process and returns its standard output.
func (p *testPlant) run(args ...string) string {
	p.t.Helper()
	code, stdout, stderr := p.try(args...)
	if code != exitDone {
		p.t.Fatalf("certmill %s: exit %d\n%s%s", strings.Join(args, " "), code, stdout, stderr)
	}
	return stdout
}

// try runs a command and returns its exit code and what it said.
func (p *testPlant) try(args ...string) (code int, stdout, stderr string) {
	p.t.Helper()
	var out, talk bytes.Buffer
	e := &env{stdin: strings.NewReader(""), stdout: &out, stderr: &talk, getenv: os.Getenv}
	if args[0] != "init" && !contains(args, "-c") {
		args = append(args, "-c", filepath.Join(p.dir, "certmill.yaml"))
	}
	code = run(p.t.Context(), e, args)
	return code, out.String(), talk.String()
}

func contains(args []string, s string) bool {
	for _, a := range args {
		if a == s {
			return true
		}
	}
	return false
}

// serving is a `certmill serve` in a process of its own.
type serving struct {
	cmd *exec.Cmd
	log *lockedBuffer
}

// begin starts the service.
func (p *testPlant) begin() *serving {
	p.t.Helper()
	s := &serving{cmd: command(p.t, "serve", "-c", filepath.Join(p.dir, "certmill.yaml")), log: &lockedBuffer{}}
	s.cmd.Stderr = s.log
	if err := s.cmd.Start(); err != nil {
		p.t.Fatal(err)
	}
	p.t.Cleanup(func() { s.kill() })
	return s
}

// serve starts the service and waits until it answers.
func (p *testPlant) serve() *serving {
	p.t.Helper()
	s := p.begin()
	a := p.admin()
	defer a.Close()
	waitFor(p.t, 20*time.Second, func() error { _, err := a.Status(p.t.Context()); return err }, s.log)
	return s
}

// admin speaks to the running service.
func (p *testPlant) admin() *server.AdminClient {
	return server.NewAdminClient(socketPath(p.cfg.path(p.cfg.Listen.Admin)))
}

// kill ends the process as a power cut would, and waits for it.
func (s *serving) kill() {
	s.cmd.Process.Kill()
	s.cmd.Wait()
}

// stop ends it as an operator would and returns its exit code.
func (s *serving) stop(t testing.TB) int {
	t.Helper()
	if err := s.cmd.Process.Signal(syscall.SIGTERM); err != nil {
		t.Fatal(err)
	}
	s.cmd.Wait()
	return s.cmd.ProcessState.ExitCode()
}

// command is this test binary as the certmill command.
func command(t testing.TB, args ...string) *exec.Cmd {
	t.Helper()
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	c := exec.Command(self)
	c.Args = append([]string{"certmill"}, args...)
	return c
}

// waitFor asks until the answer is nil.
func waitFor(t testing.TB, limit time.Duration, ask func() error, log fmt.Stringer) {
	t.Helper()
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	end := time.After(limit)
	for {
		err := ask()
		if err == nil {
			return
		}
		select {
		case <-tick.C:
		case <-end:
			t.Fatalf("after %v: %v\n%s", limit, err, log)
		}
	}
}

// lockedBuffer collects what a process says while the test reads it.
type lockedBuffer struct {
	mu sync.Mutex
	b  bytes.Buffer // guarded by mu
}

func (l *lockedBuffer) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.Write(p)
}

func (l *lockedBuffer) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.String()
}

// station adds a station and returns its client.
func (p *testPlant) station(name string) *client.Client {
	p.t.Helper()
	dir := filepath.Join(p.dir, "stations", name)
	p.run("station", "add", name, "--out", dir)
	s, err := client.LoadStation(filepath.Join(dir, "station.yaml"))
	if err != nil {
		p.t.Fatal(err)
	}
	cl, err := client.New(s)
	if err != nil {
		p.t.Fatal(err)
	}
	p.t.Cleanup(cl.Close)
	return cl
}

// order opens an order and returns its id.
func (p *testPlant) order(quantity int) string {
	p.t.Helper()
	a := p.admin()
	defer a.Close()
	o, err := a.CreateOrder(p.t.Context(), issuer.OrderSpec{Product: "sensor", Profile: "device", Quantity: uint64(quantity)})
	if err != nil {
		p.t.Fatal(err)
	}
	return o.ID
}

// newCSR makes a key and a CSR in PEM.
func newCSR(t testing.TB, cn string) string {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	der, err := x509.CreateCertificateRequest(rand.Reader, &x509.CertificateRequest{Subject: pkix.Name{CommonName: cn}}, key)
	if err != nil {
		t.Fatal(err)
	}
	return string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE REQUEST", Bytes: der}))
}
