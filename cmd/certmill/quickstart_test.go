package main

import (
	"context"
	"encoding/json"
	"io"
	"math/rand/v2"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/certmill/certmill/hsm/hsmtest"
)

// quickstartIn runs `certmill quickstart -o json` in a process of its own; a limit kills it after that time.
func quickstartIn(t *testing.T, dir string, kill time.Duration, args ...string) (stdout, talk string, code int) {
	t.Helper()
	if _, err := exec.LookPath("softhsm2-util"); err != nil {
		t.Skip("softhsm2-util is not installed: make test installs it")
	}
	c := command(t, append([]string{"quickstart", "--dir", dir, "-o", "json"}, args...)...)
	out, log := &lockedBuffer{}, &lockedBuffer{}
	c.Stdout, c.Stderr = out, log
	c.Env = append(os.Environ(), "AWS_ENDPOINT_URL=http://127.0.0.1:1", "AWS_ACCESS_KEY_ID=caller", "AWS_SECRET_ACCESS_KEY=s", "AWS_PROFILE=nobody") // must be ignored
	if err := c.Start(); err != nil {
		t.Fatal(err)
	}
	if kill > 0 {
		timer := time.AfterFunc(kill, func() { c.Process.Kill() })
		defer timer.Stop()
	}
	c.Wait()
	return out.String(), log.String(), c.ProcessState.ExitCode()
}

// TestQuickstart holds the object of the contract: 200 issued, the four registrations of fleet.yaml, devices of both flows ACTIVE with
// their thing, one of them in two accounts with the same certificate. Then the folder goes on: serve, and the commands it printed.
func TestQuickstart(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "demo")
	stdout, talk, code := quickstartIn(t, dir, 0, "--devices", "200")
	if code != exitDone {
		t.Fatalf("exit %d\n%s%s", code, stdout, talk)
	}
	r := readReport(t, stdout)
	checkReport(t, r)
	again, _, code := quickstartIn(t, dir, 0)
	if code != exitDone || again != stdout {
		t.Errorf("a finished one is not printed again: exit %d\n%s", code, again)
	}
	if _, talk, code := quickstartIn(t, filepath.Dir(dir), 0); code != exitUsage {
		t.Errorf("a folder that is not quickstart's: exit %d, want %d\n%s", code, exitUsage, talk)
	}
	goesOn(t, r)
}

func readReport(t *testing.T, stdout string) *report {
	t.Helper()
	d := json.NewDecoder(strings.NewReader(stdout))
	d.DisallowUnknownFields()
	r := &report{}
	if err := d.Decode(r); err != nil {
		t.Fatalf("%v\n%s", err, stdout)
	}
	if d.More() {
		t.Fatal("more than one object")
	}
	return r
}

func checkReport(t *testing.T, r *report) {
	t.Helper()
	if r.Issued != 200 || r.Order.Issued != 200 || r.Order.Quantity < 1_000_000 {
		t.Errorf("issued %d, order %+v", r.Issued, r.Order)
	}
	want := map[string]string{"111111111111 eu-central-1": "DEFAULT", "111111111111 us-east-1": "SNI_ONLY", "222222222222 us-east-1": "SNI_ONLY", "222222222222 us-west-2": "SNI_ONLY"}
	for _, g := range r.Registrations {
		if want[g.Account+" "+g.Region] != g.Mode || g.Status != "ACTIVE" || g.AutoRegistration != "ENABLE" || g.CA != "issuing" || g.CACertificateID != r.Issuing.CertificateID {
			t.Errorf("registration %+v", g)
		}
		delete(want, g.Account+" "+g.Region)
	}
	if len(want) != 0 || len(r.Registrations) != 4 {
		t.Errorf("%d registrations; missing %v", len(r.Registrations), want)
	}
	flows := make(map[string]int)
	accounts := make(map[string]map[string]bool)
	for _, d := range r.Devices {
		if d.Status != "ACTIVE" || d.Thing != d.DeviceID || len(d.Serial) != 40 || len(d.CertificateID) != 64 || d.Endpoint == "" {
			t.Errorf("device %+v", d)
		}
		flows[d.Flow]++
		key := d.DeviceID + " " + d.Serial + " " + d.CertificateID + " " + d.Region
		if accounts[key] == nil {
			accounts[key] = make(map[string]bool)
		}
		accounts[key][d.Account] = true
	}
	twice := false
	for _, a := range accounts {
		twice = twice || len(a) == 2
	}
	if flows["JITP"] == 0 || flows["JITR"] == 0 || !twice {
		t.Errorf("flows %v; a device in two accounts of one region: %v", flows, twice)
	}
}

// goesOn starts the folder again with serve, and runs what quickstart printed.
func goesOn(t *testing.T, r *report) {
	t.Helper()
	p := &testPlant{t: t, dir: r.Dir}
	p.load()
	s := p.serve()
	code, stdout, talk := p.try("issue", "--order", r.Order.ID, "--csr", filepath.Join(r.Dir, "devices", r.Devices[0].DeviceID, "csr.pem"))
	if cert, err := os.ReadFile(filepath.Join(r.Dir, "devices", r.Devices[0].DeviceID, "cert.pem")); err != nil || code != exitDone || stdout != string(cert) {
		t.Errorf("the same request again: exit %d, same certificate %v\n%s", code, stdout == string(cert), talk)
	}
	if out, err := exec.Command("openssl", "verify", "-x509_strict", "-CAfile", r.Dir+"/ca/root.pem", "-untrusted", r.Dir+"/ca/issuing.pem",
		r.Dir+"/devices/"+r.Devices[0].DeviceID+"/cert.pem").CombinedOutput(); err != nil {
		t.Errorf("openssl verify: %v\n%s", err, out)
	}
	sim := command(t, "simulate", "aws", "--dir", r.Dir+"/aws", "--listen", strings.TrimPrefix(r.Simulator.Endpoint, "http://"), "--mqtt", r.Simulator.MQTT)
	ready, err := sim.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := sim.Start(); err != nil {
		t.Fatal(err)
	}
	defer func() { sim.Process.Kill(); sim.Wait() }()
	var info simulatorInfo
	if err := json.NewDecoder(ready).Decode(&info); err != nil || info != r.Simulator {
		t.Fatalf("simulator %+v, want %+v, %v", info, r.Simulator, err)
	}
	if code, stdout, talk := p.try("aws", "plan", "--detailed-exitcode"); code != exitDone {
		t.Errorf("plan on the simulator's saved state: exit %d\n%s%s", code, stdout, talk)
	}
	if code := s.stop(t); code != exitDone {
		t.Errorf("serve ended with %d\n%s", code, s.log)
	}
}

// TestQuickstartKilled kills quickstart at any time, again and again; the run that is left alone finishes what the others began, and
// nothing was made twice.
func TestQuickstartKilled(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "demo")
	for range 8 {
		_, talk, code := quickstartIn(t, dir, time.Duration(30+rand.IntN(450))*time.Millisecond, "--devices", "200")
		if code != -1 && code != exitDone {
			t.Fatalf("exit %d\n%s", code, talk)
		}
	}
	stdout, talk, code := quickstartIn(t, dir, 0, "--devices", "200")
	if code != exitDone {
		t.Fatalf("exit %d\n%s", code, talk)
	}
	checkReport(t, readReport(t, stdout))
}

// TestQuickstartKeepRunning makes the demonstration on a token that is there, moves the folder, and keeps it running while a port of the
// first run is taken: the new address is written down wherever it stands. An interrupt ends it well.
func TestQuickstartKeepRunning(t *testing.T) {
	token := hsmtest.SoftHSM(t)
	made, dir := filepath.Join(t.TempDir(), "made"), filepath.Join(t.TempDir(), "moved")
	stdout, talk, code := quickstartIn(t, made, 0, "--devices", "8", "--module", token.Module, "--token", token.Token, "--pin-file", token.PIN.File, "--token-env", token.Env[0])
	if code != exitDone || exists(made+"/tokens/softhsm") {
		t.Fatalf("exit %d\n%s", code, talk)
	}
	before := readReport(t, stdout)
	taken, err := net.Listen("tcp", strings.TrimPrefix(before.Server, "https://"))
	if err != nil {
		t.Fatal(err)
	}
	defer taken.Close()
	if err := os.Rename(made, dir); err != nil {
		t.Fatal(err)
	}
	c := command(t, "quickstart", "--dir", dir, "--keep-running", "-o", "json")
	out, err := c.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	log := &lockedBuffer{}
	c.Stderr = log
	if err := c.Start(); err != nil {
		t.Fatal(err)
	}
	defer c.Process.Kill()
	r := &report{}
	if err := json.NewDecoder(out).Decode(r); err != nil {
		t.Fatalf("%v\n%s", err, log)
	}
	if r.Server == before.Server || r.Dir != dir || r.Root.File != dir+"/ca/root.pem" || r.Simulator.CAFile != dir+"/aws/ca.pem" {
		t.Errorf("before %+v\nnow %+v", before, r)
	}
	p := &testPlant{t: t, dir: dir}
	p.load()
	if code, _, talk := p.try("issue", "--order", r.Order.ID, "--csr", filepath.Join(dir, "devices/DEMO-000001/csr.pem")); code != exitDone {
		t.Errorf("issue at the new address: exit %d\n%s", code, talk)
	}
	if err := c.Process.Signal(os.Interrupt); err != nil {
		t.Fatal(err)
	}
	if err := c.Wait(); err != nil {
		t.Errorf("interrupted: %v\n%s", err, log)
	}
}

// TestQuickstartInterrupted ends runs by Ctrl-C: 130, and the next goes on.
func TestQuickstartInterrupted(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "demo")
	stopped, cancel := context.WithTimeout(t.Context(), 300*time.Millisecond)
	defer cancel()
	e := &env{stdin: strings.NewReader(""), stdout: io.Discard, stderr: io.Discard, getenv: os.Getenv}
	if code := run(stopped, e, []string{"quickstart", "--dir", dir, "--devices", "8"}); code != exitInterrupted {
		t.Errorf("exit %d, want %d", code, exitInterrupted)
	}
	if _, talk, code := quickstartIn(t, dir, 0, "--devices", "8"); code != exitDone {
		t.Errorf("exit %d\n%s", code, talk)
	}
}
