package main

import (
	"bytes"
	"context"
	"io/fs"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"
)

// TestServeDoor is what an operator meets at the door of the service, with its exit codes.
func TestServeDoor(t *testing.T) {
	p := newTestPlant(t)
	s := p.serve()
	socket := p.cfg.path(p.cfg.Listen.Admin)
	if info, err := os.Stat(socket); err != nil || info.Mode() != fs.ModeSocket|0o600 {
		t.Errorf("admin socket: %v, %v", info, err)
	}
	limits, err := os.ReadFile("/proc/" + strconv.Itoa(s.cmd.Process.Pid) + "/limits")
	if err == nil && !strings.Contains(string(limits), "Max core file size        0                    0") {
		t.Errorf("a crash would leave a core file:\n%s", limits)
	}
	if code, _, talk := p.try("serve"); code != exitTryAgain || !strings.Contains(talk, "in use by another process") {
		t.Errorf("a second serve: exit %d, want %d\n%s", code, exitTryAgain, talk)
	}
	if code := s.stop(t); code != exitDone || exists(socket) {
		t.Errorf("SIGTERM: exit %d, want 0; socket left: %v\n%s", code, exists(socket), s.log)
	}
	l, err := net.Listen("tcp", p.cfg.Listen.Metrics)
	if err != nil {
		t.Fatal(err)
	}
	if code, _, talk := p.try("serve"); code != exitConfig || strings.Count(talk, "listen.metrics") != 1 {
		t.Errorf("a port that is taken: exit %d, want %d, said once\n%s", code, exitConfig, talk)
	}
	l.Close()
	stopped, cancel := context.WithCancel(t.Context())
	cancel()
	for args, want := range map[string]int{"serve": exitDone, "ceremony run " + p.dir + "/ca/root.yaml": exitInterrupted} { // it said 5
		var talk bytes.Buffer
		e := &env{stdin: strings.NewReader(""), stdout: &talk, stderr: &talk, getenv: os.Getenv, config: p.dir + "/certmill.yaml"}
		if code := run(stopped, e, append(strings.Fields(args), "-c", e.config)); code != want {
			t.Errorf("%s, stopped while it starts: exit %d, want %d\n%s", args, code, want, talk.String())
		}
	}
	if err := os.WriteFile(filepath.Join(p.dir, "tokens/pin"), []byte("wrong"), modeSecret); err != nil {
		t.Fatal(err)
	}
	if code, _, talk := p.try("serve"); code != exitConfig || !strings.Contains(talk, "did not accept the PIN") {
		t.Errorf("wrong PIN: exit %d, want %d\n%s", code, exitConfig, talk)
	}
	if err := os.Rename(filepath.Join(p.dir, "ledger"), filepath.Join(p.dir, "elsewhere")); err != nil {
		t.Fatal(err)
	}
	if code, _, talk := p.try("serve"); code != exitStorage || !strings.Contains(talk, "comes from a backup") {
		t.Errorf("no ledger: exit %d, want %d\n%s", code, exitStorage, talk)
	}
}

// A listener on all addresses was written into station.yaml as 0.0.0.0, which no other machine can reach and no certificate names.
func TestStationsAddress(t *testing.T) {
	host, err := os.Hostname()
	if err != nil {
		t.Fatal(err)
	}
	for listen, want := range map[string]string{"127.0.0.1:8443": "127.0.0.1:8443", "pki:8443": "pki:8443", "0.0.0.0:8443": host + ":8443",
		":8443": host + ":8443", "[::]:8443": host + ":8443"} {
		if got := stationsAddress(&Config{Listen: ListenConfig{Stations: listen}}); got != want {
			t.Errorf("%s: got %s, want %s", listen, got, want)
		}
	}
}

// TestOtherUsers: who is neither the user of serve nor root is told so, with exit 6, with serve and without.
func TestOtherUsers(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("needs root, to be somebody else")
	}
	p := newTestPlant(t)
	for _, dir := range []string{p.dir, p.dir + "/run", p.dir + "/profiles", filepath.Dir(p.dir), filepath.Dir(filepath.Dir(p.dir))} {
		if err := os.Chmod(dir, 0o755); err != nil {
			t.Fatal(err)
		}
	}
	self := filepath.Join(p.dir, "certmill")
	if out, err := exec.Command("cp", command(t).Path, self).CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	nobody := func(args string) {
		t.Helper()
		c := exec.Command(self, append(strings.Fields(args), "-c", p.dir+"/certmill.yaml")...)
		c.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: 65534, Gid: 65534}}
		if out, _ := c.CombinedOutput(); c.ProcessState.ExitCode() != exitNotAllowed || !strings.Contains(string(out), "run it as the user of certmill serve") {
			t.Errorf("%s: exit %d, want %d\n%s", args, c.ProcessState.ExitCode(), exitNotAllowed, out)
		}
	}
	nobody("order list")
	nobody("freeze all --reason x --offline")
	p.serve()
	nobody("order list")
	nobody("freeze all --reason x")
}

// TestKilledCommands kills each command that changes something, again and again, and then lets it end: it finds what it did before.
// An order without an id is the exception: each create that got through is an order.
func TestKilledCommands(t *testing.T) {
	if _, err := exec.LookPath("softhsm2-util"); err != nil {
		t.Skip("softhsm2-util is not installed: make test installs it")
	}
	dir := filepath.Join(t.TempDir(), "plant")
	p := &testPlant{t: t, dir: dir}
	conf := " -c " + dir + "/certmill.yaml"
	for _, args := range []string{
		"init --softhsm --dir " + dir,
		"ceremony run " + dir + "/ca/root.yaml" + conf,
		"ceremony run " + dir + "/ca/issuing.yaml" + conf,
		"ceremony run " + dir + "/ca/plant.yaml" + conf,
		"station add line-1 --offline --out " + dir + "/stations/line-1" + conf,
		"order create --offline --product p --profile device --quantity 10" + conf,
		"order create --offline --id spring --product p --profile device --quantity 10 --until 24h" + conf,
		"order close spring --offline --reason killed" + conf,
		"freeze all --offline --reason killed" + conf,
		"unfreeze all --offline --reason killed" + conf,
		"station disable line-1 --offline" + conf,
	} {
		if role := strings.TrimSuffix(filepath.Base(strings.Fields(args)[2]), ".yaml"); strings.HasPrefix(args, "ceremony") {
			p.run("ceremony", "new", role, "-f", dir+"/ca/"+role+".yaml")
		}
		killing{within: 140 * time.Millisecond, most: 5, ends: func(code int, talk string) bool {
			return code == exitDone || code == exitUsage && strings.Contains(talk, "holds a certmill.yaml already")
		}}.run(t, strings.Fields(args)...)
	}
	p.load()
	cas, stations := p.run("ca", "list", "-o", "jsonl"), p.run("station", "list", "-o", "jsonl")
	if strings.Count(cas, "\n") != 3 || strings.Count(stations, "\n") != 1 || !strings.Contains(stations, `"state":"disabled"`) {
		t.Errorf("CAs\n%sstations\n%s", cas, stations)
	}
	if orders := p.run("order", "list", "-o", "jsonl"); !strings.Contains(orders, `"id":"O-1"`) || strings.Contains(orders, "frozen") ||
		strings.Count(orders, `"id":"spring"`) != 1 || strings.Count(orders, `"state":"closed"`) != 1 {
		t.Errorf("orders\n%s", orders)
	}
	if code, text, talk := p.try("status"); code != exitDone {
		t.Errorf("status: exit %d\n%s%s", code, text, talk)
	}
}
