package main

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/certmill/certmill/hsm"
	"github.com/certmill/certmill/hsm/hsmtest"
)

// faultyPlant is a plant whose token stands behind the fault module.
func faultyPlant(t *testing.T) (*testPlant, *hsmtest.Faults) {
	t.Helper()
	p := newTestPlant(t)
	hc, err := p.cfg.tokenConfig("main")
	if err != nil {
		t.Fatal(err)
	}
	behind, faults := hsmtest.Faulty(t, hc)
	conf := filepath.Join(p.dir, "certmill.yaml")
	text, err := os.ReadFile(conf)
	if err != nil {
		t.Fatal(err)
	}
	var lines []string
	for line := range strings.SplitSeq(string(text), "\n") {
		switch {
		case strings.HasPrefix(line, "    module: "):
			line = "    module: " + behind.Module
		case strings.HasPrefix(line, "    env: "):
			line = "    env:"
			for _, kv := range behind.Env {
				k, v, _ := strings.Cut(kv, "=")
				line += fmt.Sprintf("\n      %s: %q", k, v)
			}
		}
		lines = append(lines, line)
	}
	if err := os.WriteFile(conf, []byte(strings.Join(lines, "\n")), modePublic); err != nil {
		t.Fatal(err)
	}
	p.load()
	return p, faults
}

func (p *testPlant) pinFile() string { return p.cfg.path(p.cfg.Tokens["main"].PIN.File) }

func (p *testPlant) writePIN(path, pin string) {
	p.t.Helper()
	if err := writeFile(path, []byte(pin), modeSecret); err != nil {
		p.t.Fatal(err)
	}
}

// start starts certmill in a process of its own.
func (p *testPlant) start(args ...string) *serving {
	p.t.Helper()
	s := &serving{cmd: command(p.t, append(args, "-c", filepath.Join(p.dir, "certmill.yaml"))...), log: &lockedBuffer{}}
	s.cmd.Stdout, s.cmd.Stderr = s.log, s.log
	if err := s.cmd.Start(); err != nil {
		p.t.Fatal(err)
	}
	p.t.Cleanup(func() { s.kill() })
	return s
}

// exit waits for the process and returns its code.
func (s *serving) exit() int {
	s.cmd.Wait()
	return s.cmd.ProcessState.ExitCode()
}

// TestP7WrongPINIsTriedOnce is a service manager that starts certmill serve 20 times with a wrong PIN: each start exits with 78, and the token sees one
// login. A PIN file that is replaced is tried by itself; the same file again only after pin-retry, once.
func TestP7WrongPINIsTriedOnce(t *testing.T) {
	p, faults := faultyPlant(t)
	right, err := os.ReadFile(p.pinFile())
	if err != nil {
		t.Fatal(err)
	}
	const starts = 20
	wrongStarts := func(n int) {
		t.Helper()
		for range n {
			s := p.start("serve")
			if code := s.exit(); code != exitConfig {
				t.Fatalf("exit %d, want 78: systemd would start it again\n%s", code, s.log)
			}
			if strings.Contains(s.log.String(), "not the PIN 1234") {
				t.Errorf("the PIN stands in\n%s", s.log)
			}
		}
	}
	want := func(logins, wrong uint64) {
		t.Helper()
		if c := faults.Counts(); c.Logins != logins || c.WrongPINs != wrong {
			t.Errorf("%d logins, %d wrong PINs; want %d and %d", c.Logins, c.WrongPINs, logins, wrong)
		}
	}
	p.writePIN(p.pinFile(), "not the PIN 1234")
	wrongStarts(starts)
	want(1, 1)
	once := faults.Counts().Logins

	if out := p.run("hsm", "pin-retry"); !strings.Contains(out, "forgotten") {
		t.Errorf("pin-retry: %s", out)
	}
	wrongStarts(3)
	want(2, 2)
	more := faults.Counts().Logins - once
	for _, args := range [][]string{{"hsm", "doctor"}, {"hsm", "keys"}, {"hsm", "pin-change", "--new-pin-file", p.pinFile()}} { // nobody else tries it either
		if code, out, talk := p.try(args...); code != exitConfig {
			t.Errorf("%v: exit %d\n%s%s", args, code, out, talk)
		}
	}
	want(2, 2)

	p.writePIN(p.pinFile(), string(right))
	s := p.serve()
	if code := s.stop(t); code != exitDone {
		t.Errorf("serve ended with %d\n%s", code, s.log)
	}
	c := faults.Counts()
	if c.WrongPINs != 2 {
		t.Errorf("%d wrong PINs", c.WrongPINs)
	}
	if out := p.run("hsm", "pin-retry", "-o", "json"); !strings.Contains(out, `"forgot": false`) {
		t.Errorf("nothing to forget: %s", out)
	}
	t.Logf("P7: %d starts of serve with a wrong PIN, as Restart=always makes them: exit 78 each, %d login at the token; after pin-retry %d more", starts, once, more)
}

// The PIN is in no argument, environment, log or error of serve, doctor and keys; no process of theirs leaves a core file, and none that holds the PIN can be read.
func TestPINIsNowhere(t *testing.T) {
	p := newTestPlant(t)
	pin, err := os.ReadFile(p.pinFile())
	if err != nil {
		t.Fatal(err)
	}
	said := new(bytes.Buffer)
	s := p.start("serve", "--log-level", "debug")
	a := p.admin()
	defer a.Close()
	waitFor(t, 20*time.Second, func() error { _, err := a.Status(t.Context()); return err }, s.log)
	p.station("line-1")
	holders := 0
	look := func(pid int) {
		for _, file := range []string{"cmdline", "environ"} {
			text, err := os.ReadFile(fmt.Sprintf("/proc/%d/%s", pid, file))
			if err != nil && os.Geteuid() == 0 && !os.IsNotExist(err) && !errors.Is(err, syscall.ESRCH) { // it may end while we look
				t.Error(err)
			}
			if bytes.Contains(text, pin) {
				t.Errorf("PIN in /proc/%d/%s", pid, file)
			}
		}
		if limits, err := os.ReadFile(fmt.Sprintf("/proc/%d/limits", pid)); err == nil && !strings.Contains(strings.Join(strings.Fields(string(limits)), " "), "Max core file size 0 0") {
			t.Errorf("process %d may leave a core file\n%s", pid, limits)
		}
		holders++
	}
	for _, pid := range family(t, s.cmd.Process.Pid) {
		look(pid)
	}
	if holders < 3 {
		t.Errorf("%d processes, want serve, its keeper and signers", holders)
	}
	seen := 0 // commands whose keeper and signer were looked at
	for _, args := range [][]string{{"hsm", "doctor", "--write-test-key"}, {"hsm", "doctor", "-o", "json"}, {"hsm", "keys"}, {"hsm", "keys", "-o", "jsonl"}} {
		c := p.start(append(args, "--log-level", "debug")...)
		for n := 0; n < 3; { // while it runs: its keeper and signer
			members := family(t, c.cmd.Process.Pid)
			if n = len(members); n == 0 {
				break // it ended before anybody looked
			}
			if n >= 3 {
				seen++
				for _, pid := range members[1:] {
					look(pid)
				}
			}
		}
		if code := c.exit(); code != exitDone {
			t.Errorf("%v: exit %d\n%s", args, code, c.log)
		}
		said.WriteString(c.log.String())
	}
	if seen == 0 {
		t.Error("every command ended before anybody looked")
	}
	s.stop(t)
	said.WriteString(s.log.String())
	p.writePIN(p.pinFile(), "wrong-"+string(pin))
	for _, args := range [][]string{{"serve"}, {"hsm", "doctor"}, {"hsm", "keys"}} {
		c := p.start(append(args, "--log-level", "debug")...)
		if code := c.exit(); code != exitConfig {
			t.Errorf("%v with a wrong PIN: exit %d\n%s", args, code, c.log)
		}
		said.WriteString(c.log.String())
	}
	memory, err := os.ReadFile(p.cfg.path("state/pin-main.json"))
	if err != nil {
		t.Fatal(err)
	}
	said.Write(memory)
	if bytes.Contains(said.Bytes(), pin) {
		t.Errorf("the PIN stands in what was said:\n%s", said)
	}
}

// Who holds the PIN is not dumpable: its memory and environment are root's alone, not even its own user's.
func TestPINHoldersAreNotDumpable(t *testing.T) {
	p := newTestPlant(t)
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	c := exec.Command(self)
	if os.Geteuid() == 0 { // as another user, so that the difference shows
		c = exec.Command(filepath.Join(p.dir, "certmill.test"))
		c.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: nobody, Gid: nobody}}
		for dir := filepath.Dir(p.dir); dir != os.TempDir() && dir != "/"; dir = filepath.Dir(dir) {
			if err := os.Chmod(dir, 0o755); err != nil {
				t.Fatal(err)
			}
		}
		for _, do := range [][]string{{"cp", self, c.Path}, {"chown", "-R", fmt.Sprintf("%d:%d", nobody, nobody), p.dir}} {
			if out, err := exec.Command(do[0], do[1:]...).CombinedOutput(); err != nil {
				t.Fatalf("%v: %v\n%s", do, err, out)
			}
		}
	}
	c.Args = []string{"certmill", "serve", "-c", filepath.Join(p.dir, "certmill.yaml")}
	s := &serving{cmd: c, log: &lockedBuffer{}}
	c.Stderr = s.log
	if err := c.Start(); err != nil {
		t.Fatal(err)
	}
	defer s.kill()
	waitFor(t, 20*time.Second, func() error {
		if n := len(family(t, c.Process.Pid)); n < 3 {
			return fmt.Errorf("%d processes, want serve, its keeper and signers", n)
		}
		_, err := os.Stat(p.cfg.path("run/admin.sock")) // the signers are ready
		return err
	}, s.log)
	for i, pid := range family(t, c.Process.Pid) {
		info, err := os.Stat(fmt.Sprintf("/proc/%d/environ", pid))
		if err != nil {
			t.Fatal(err)
		}
		if uid := info.Sys().(*syscall.Stat_t).Uid; i > 0 && uid != 0 { // 0 is serve, which holds no PIN
			t.Errorf("/proc/%d/environ belongs to uid %d: the process may be dumped", pid, uid)
		}
	}
}

const nobody = 65534

// family is a process and all it has started, parents first; ended ones are left out.
func family(t *testing.T, pid int) (pids []int) {
	t.Helper()
	if stat, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid)); err != nil || bytes.Contains(stat, []byte(") Z ")) {
		return nil
	}
	pids = []int{pid}
	tasks, err := filepath.Glob(fmt.Sprintf("/proc/%d/task/*/children", pid))
	if err != nil {
		t.Fatal(err)
	}
	for _, task := range tasks {
		text, err := os.ReadFile(task)
		if err != nil {
			continue // it has ended
		}
		for child := range strings.FieldsSeq(string(text)) {
			n, err := strconv.Atoi(child)
			if err != nil {
				t.Fatal(err)
			}
			pids = append(pids, family(t, n)...)
		}
	}
	return pids
}

// TestHSMDoctor runs doctor and keys to their ends: beside a running serve, without one, and over a token that is not as it should be.
func TestHSMDoctor(t *testing.T) {
	p, faults := faultyPlant(t)
	s := p.serve()
	out := p.run("hsm", "doctor")
	for _, want := range []string{"OK    key         issuing-g1, EC P-256", "OK    key         root-g1, EC P-384", "OK    round trip", "2 processes", "OK    advice"} {
		if !strings.Contains(out, want) {
			t.Errorf("no line %q on\n%s", want, out)
		}
	}
	var rows []keyRow
	if err := json.Unmarshal([]byte(p.run("hsm", "keys", "-o", "json")), &rows); err != nil || len(rows) != 3 {
		t.Fatalf("keys: %v, %+v", err, rows)
	}
	for _, r := range rows {
		if len(r.CAs) != 1 || r.Label != r.CAs[0]+"-g1" || r.Verdict != "OK" || r.Backup != hsm.BackupNone || !r.Private || !r.Public {
			t.Errorf("key %+v", r)
		}
	}
	if code, _, talk := p.try("hsm", "pin-change", "--new-pin-file", p.pinFile()); code != exitTryAgain || !strings.Contains(talk, "stop certmill serve") {
		t.Errorf("pin-change beside serve: exit %d\n%s", code, talk)
	}
	s.stop(t)

	var x hsm.Examination
	if err := json.Unmarshal([]byte(p.run("hsm", "doctor", "--write-test-key", "-o", "json")), &x); err != nil || x.TestKey == nil || !x.TestKey.Destroyed || len(x.Rates) < 3 {
		t.Errorf("test key: %v, %+v", err, x.TestKey)
	}
	faults.Attributes(hsmtest.Attribute{Type: 0x162, Class: 3, Label: "plant-g1", Value: []byte{1}}) // CKA_EXTRACTABLE of a private key
	if code, out, _ := p.try("hsm", "doctor"); code != exitFailed || !strings.Contains(out, "FAIL  key         plant-g1, EC P-256, backup none: CKA_EXTRACTABLE is true") {
		t.Errorf("an unfit key: exit %d\n%s", code, out)
	}
	if code, out, _ := p.try("hsm", "keys"); code != exitFailed || !strings.Contains(out, "FAIL") {
		t.Errorf("an unfit key: exit %d\n%s", code, out)
	}
	if os.Geteuid() == 0 { // the PIN memory must stay one that serve can read
		state := p.cfg.path(p.cfg.State)
		for _, owner := range []int{nobody, 0} {
			if err := os.Chown(state, owner, owner); err != nil {
				t.Fatal(err)
			}
			if code, _, talk := p.try("hsm", "pin-retry"); (code == exitNotAllowed) != (owner == nobody) {
				t.Errorf("pin-retry in a state of uid %d: exit %d\n%s", owner, code, talk)
			}
		}
	}
	if code, _, talk := p.try("hsm", "doctor", "nobody"); code != exitConfig {
		t.Errorf("a token that is not there: exit %d\n%s", code, talk)
	}
	faults.Away(hsmtest.Forever)
	if code, out, talk := p.try("hsm", "doctor"); code != exitNoHSM || !strings.Contains(out, "FAIL  slots") {
		t.Errorf("no token: exit %d\n%s%s", code, out, talk)
	}
	if code, _, talk := p.try("hsm", "keys"); code != exitNoHSM {
		t.Errorf("no token: exit %d\n%s", code, talk)
	}
	if c := faults.Counts(); c.WrongPINs != 0 {
		t.Errorf("%d wrong PINs", c.WrongPINs)
	}
}

// TestHSMCommandsKilled kills each command while it works; what it leaves harms nobody, and the next call of it ends well.
func TestHSMCommandsKilled(t *testing.T) {
	p, faults := faultyPlant(t)
	p.run("hsm", "keys") // the PIN is known to be right
	newPIN := filepath.Join(p.dir, "new-pin")
	p.writePIN(newPIN, "quite another PIN")
	for _, c := range []struct {
		hang hsmtest.Function
		args []string
	}{
		{hsmtest.Find, []string{"hsm", "keys"}},
		{hsmtest.Sign, []string{"hsm", "doctor"}},
		{hsmtest.Generate, []string{"hsm", "doctor", "--write-test-key"}},
		{hsmtest.SetPIN, []string{"hsm", "pin-change", "--new-pin-file", newPIN}},
	} {
		calls := faults.Counts().Calls[c.hang]
		faults.Hang(c.hang, hsmtest.Always(), hsmtest.Forever)
		s := p.start(c.args...)
		waitFor(t, 20*time.Second, func() error {
			if faults.Counts().Calls[c.hang] == calls {
				return fmt.Errorf("%v does not come to its place", c.args)
			}
			return nil
		}, s.log)
		members := family(t, s.cmd.Process.Pid)
		s.kill()
		waitFor(t, 10*time.Second, func() error { // keeper and signer end with it
			for _, pid := range members {
				if alive(pid) {
					return fmt.Errorf("%v: process %d runs on", c.args, pid)
				}
			}
			return nil
		}, s.log)
		faults.Clear() // not before: a signer that is let go would finish what it has begun
		if out := p.run(c.args...); out == "" {
			t.Errorf("%v says nothing", c.args)
		}
	}
	if pin, err := os.ReadFile(p.pinFile()); err != nil || string(pin) != "quite another PIN" {
		t.Errorf("the PIN file does not hold the new PIN: %v", err)
	}
	if c := faults.Counts(); c.WrongPINs != 1 {
		t.Errorf("%d wrong PINs; want 1, of the change that was killed before C_SetPIN", c.WrongPINs)
	}
	if out := p.run("hsm", "keys"); strings.Contains(out, hsm.TestKeyPrefix) {
		t.Errorf("left in the token:\n%s", out)
	}
	s := p.serve()
	if code := s.stop(t); code != exitDone {
		t.Errorf("serve with the new PIN: exit %d\n%s", code, s.log)
	}
}

func alive(pid int) bool {
	stat, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	return err == nil && !bytes.Contains(stat, []byte(") Z "))
}

// A PIN is typed at the terminal, although the keeper that asks is in no foreground group.
func TestPINAtTheTerminal(t *testing.T) {
	p := newTestPlant(t)
	pin, err := os.ReadFile(p.pinFile())
	if err != nil {
		t.Fatal(err)
	}
	conf := filepath.Join(p.dir, "certmill.yaml")
	text, err := os.ReadFile(conf)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(conf, bytes.Replace(text, []byte("pin: {file: tokens/pin}"), []byte("pin: {prompt: true}"), 1), modePublic); err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		args    []string
		answers []string
	}{
		{[]string{"hsm", "keys"}, []string{string(pin)}},
		{[]string{"hsm", "pin-change"}, []string{string(pin), "typed PIN", "typed PIN"}},
		{[]string{"hsm", "keys"}, []string{"typed PIN"}},
	} {
		if err := runAtTerminal(command(t, append(c.args, "-c", conf)...), c.answers...); err != nil {
			t.Errorf("%v: %v", c.args, err)
		}
	}
	c := command(t, "hsm", "keys", "-c", conf)
	c.SysProcAttr = &syscall.SysProcAttr{Setsid: true}
	if out, _ := c.CombinedOutput(); c.ProcessState.ExitCode() != exitConfig {
		t.Errorf("without a terminal: exit %d\n%s", c.ProcessState.ExitCode(), out)
	}
}

// The unit starts the command that is there, does not start it again after 78 and 64, and lets it make unix sockets and processes.
func TestUnit(t *testing.T) {
	unit, err := os.ReadFile("../../docs/certmill.service")
	if err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{"RestartPreventExitStatus=78 64", "Restart=always", "LimitCORE=0", "LoadCredential=", "AF_UNIX", "ExecStart=/usr/bin/certmill serve -c /etc/certmill/certmill.yaml"} {
		if !strings.Contains(string(unit), want) {
			t.Errorf("no %s in the unit", want)
		}
	}
	analyze, err := exec.LookPath("systemd-analyze")
	if err != nil {
		t.Skip("systemd-analyze is not installed: the unit's syntax was not checked")
	}
	path := filepath.Join(t.TempDir(), "certmill.service")
	if err := os.WriteFile(path, bytes.ReplaceAll(unit, []byte("/usr/bin/certmill"), []byte("/bin/true")), modePublic); err != nil {
		t.Fatal(err)
	}
	if out, err := exec.Command(analyze, "verify", path).CombinedOutput(); err != nil {
		t.Errorf("%v\n%s", err, out)
	}
}
