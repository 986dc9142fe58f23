package main

import (
	"bytes"
	"context"
	"io/fs"
	"net"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
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
