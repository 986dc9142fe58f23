//go:build cgo && linux

package hsmtest_test

import (
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/certmill/certmill/hsm"
	"github.com/certmill/certmill/hsm/hsmtest"
	"github.com/miekg/pkcs11"
)

// faulty is a token behind the fault module, with the key "k".
func faulty(t *testing.T) (hsm.Config, *hsmtest.Faults) {
	t.Helper()
	cfg, f := hsmtest.Faulty(t, hsmtest.SoftHSM(t))
	p := readyPeer(t, cfg)
	p.want("generate 0 k 1", "ok")
	p.want("finalize", "ok")
	p.kill()
	return cfg, f
}

const (
	invalid     = "0xB3"  // CKR_SESSION_HANDLE_INVALID
	notLoggedIn = "0x101" // CKR_USER_NOT_LOGGED_IN
	removed     = "0x32"  // CKR_DEVICE_REMOVED
	signed      = "ok wrong 0"
)

// Without faults it is the token behind it, also for a program that is not ours.
func TestNoFaults(t *testing.T) {
	cfg, f := faulty(t)
	p := readyPeer(t, cfg)
	p.want("signatures 0 50", "ok wrong 0")
	p.want("close 0", "ok")
	p.want("finalize", "ok")
	c := f.Counts()
	if c.Signatures != 50 || c.Logins != 2 || c.WrongPINs != 0 || c.SessionsOpened != 2 || c.SessionsNow != 0 || c.SessionsPeak != 1 || c.Corrupted != 0 ||
		c.Calls[hsmtest.Initialize] != 2 || c.Calls[hsmtest.Sign] != 50 || len(c.Processes) != 0 {
		t.Errorf("counts %+v", c)
	}
	if out := pkcs11Tool(t, cfg, "--sign", "--mechanism", "ECDSA", "--label", "k", "--input-file", digestFile(t), "--output-file", os.DevNull); !strings.Contains(out, "Using signature algorithm ECDSA") {
		t.Error(out)
	}
	if c := f.Counts(); c.Signatures != 51 {
		t.Errorf("%d signatures with pkcs11-tool's, want 51", c.Signatures)
	}
}

func digestFile(t *testing.T) string {
	path := filepath.Join(t.TempDir(), "digest")
	if err := os.WriteFile(path, make([]byte, 32), 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

// pkcs11Tool runs OpenSC's tool, logged in.
func pkcs11Tool(t *testing.T, cfg hsm.Config, args ...string) string {
	t.Helper()
	tool, err := exec.LookPath("pkcs11-tool")
	if err != nil {
		t.Skip("pkcs11-tool is not installed: make test installs it")
	}
	pin, err := os.ReadFile(cfg.PIN.File)
	if err != nil {
		t.Fatal(err)
	}
	c := exec.CommandContext(t.Context(), tool, append([]string{"--module", cfg.Module, "--token-label", cfg.Token, "--login", "--pin", string(pin)}, args...)...)
	c.Env = append(os.Environ(), cfg.Env...)
	out, err := c.CombinedOutput()
	if err != nil {
		return err.Error() + "\n" + string(out)
	}
	return string(out)
}

func TestReboot(t *testing.T) {
	cfg, f := faulty(t)
	p := readyPeer(t, cfg)
	p.want("sign 0", signed)
	f.Reboot(hsmtest.Forever)
	p.want("slots", "ok 0")
	p.want("sign 0", invalid)
	f.Away(50 * time.Millisecond)
	waitFor(t, "the token is back", func() bool { return p.do("slots") == "ok 2" })
	p.want("sign 0", invalid)
	p.want("close 0", invalid)
	p.want("open", "ok 1")
	p.want("sign 1", "0 objects") // private, and nobody is logged in
	p.want("login 1 "+p.pin, "ok")
	p.want("sign 1", signed)
	p.want("sign 0", invalid)
	for range 1100 { // past the module's table of sessions
		f.Reboot(0)
		p.do("open")
	}
	p.want("login 1101 "+p.pin, "ok")
	p.want("sign 1101", signed)
}

// Many a module is of no use after a reboot until it is initialized again.
func TestRebootBreaksProcess(t *testing.T) {
	cfg, f := faulty(t)
	f.Quirks(hsmtest.Quirks{StayBroken: true, DeadCode: pkcs11.CKR_TOKEN_NOT_PRESENT})
	p := readyPeer(t, cfg)
	f.Reboot(0)
	p.want("sign 0", "0xE0")
	p.want("open", "no slots")
	readyPeer(t, cfg).want("sign 0", signed)
	p.want("finalize", "ok")
	p.want("init", "ok")
	p.want("open", "ok 1")
	p.want("login 1 "+p.pin, "ok")
	p.want("sign 1", signed)
}

func TestAway(t *testing.T) {
	cfg, f := faulty(t)
	p := readyPeer(t, cfg)
	f.Away(hsmtest.Forever)
	p.want("sign 0", removed)
	p.want("slots", "ok 0")
	f.Away(0)
	p.want("sign 0", signed)
}

// A session that ends takes no login with it, and a login that ends no session.
func TestLoseSessionsOrLogin(t *testing.T) {
	cfg, f := faulty(t)
	p := readyPeer(t, cfg)
	f.LoseSessions()
	p.want("sign 0", invalid)
	p.want("open", "ok 1")
	p.want("sign 1", signed)
	f.LoseLogins()
	p.want("generate 1 other 2", notLoggedIn)
	p.want("sign 1", "0 objects")
	p.want("login 1 "+p.pin, "ok")
	p.want("sign 1", signed)
}

// An operation ends with the error: the next one begins anew.
func TestLossWithinAnOperation(t *testing.T) {
	cfg, f := faulty(t)
	p := readyPeer(t, cfg)
	p.want("begin 0", "ok")
	f.LoseLogins()
	p.want("finish 0", notLoggedIn)
	p.want("login 0 "+p.pin, "ok")
	p.want("begin 0", "ok")
	f.Return(hsmtest.Sign, hsmtest.Next(1), pkcs11.CKR_FUNCTION_FAILED)
	p.want("finish 0", "0x6")
	p.want("sign 0", signed)
	f.Delay(hsmtest.Sign, 200*time.Millisecond) // a signature that is on its way is lost with its session
	p.tell("sign 0")
	waitFor(t, "the signature is on its way", func() bool { return f.Counts().Calls[hsmtest.Sign] == 4 })
	f.Reboot(0)
	if got := p.answer(); got != invalid {
		t.Errorf("a signature that a reboot overtook: %s, want %s", got, invalid)
	}
}

// The module itself stands what it does: threads that sign while sessions vanish under them, in two processes.
func TestStorm(t *testing.T) {
	cfg, f := faulty(t)
	seed := rand.Uint64()
	t.Logf("seed %d", seed)
	peers := []*peer{readyPeer(t, cfg), readyPeer(t, cfg)}
	for _, p := range peers {
		p.tell("storm 4 3s " + p.pin)
	}
	end := time.Now().Add(2500 * time.Millisecond)
	for step := range hsmtest.Schedule(seed) {
		if time.Now().After(end) {
			break
		}
		if strings.HasPrefix(step.Name, "crash") || strings.HasPrefix(step.Name, "hang") || strings.HasPrefix(step.Name, "corrupt") {
			continue // here, a process that ends or waits is a bug of the module, and so is a wrong signature
		}
		time.Sleep(step.After)
		step.Do(f)
	}
	for _, p := range peers {
		if got := p.answer(); got != "ok wrong 0 signed true" {
			t.Error(got)
		}
	}
	t.Logf("%+v", f.Counts())
}

// A module may refuse to be initialized once its process has forked, and so it may in the child.
func TestRefuseFork(t *testing.T) {
	cfg, f := faulty(t)
	compiler, err := exec.LookPath("cc")
	if err != nil {
		t.Skip("no C compiler")
	}
	forks := filepath.Join(t.TempDir(), "forks")
	if out, err := exec.CommandContext(t.Context(), compiler, "-Wall", "-Wextra", "-Werror", "-o", forks, "testdata/forks.c", "-ldl").CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	for _, c := range []struct {
		refuse bool
		want   string
	}{{false, "child 0\nparent 0\n"}, {true, "child 5\nparent 5\n"}} {
		f.Quirks(hsmtest.Quirks{RefuseFork: c.refuse})
		run := exec.CommandContext(t.Context(), forks, cfg.Module)
		run.Env = append(os.Environ(), cfg.Env...)
		if out, err := run.CombinedOutput(); err != nil || string(out) != c.want {
			t.Errorf("refuse %v: %v, %q, want %q", c.refuse, err, out, c.want)
		}
	}
}

func TestHang(t *testing.T) {
	cfg, f := faulty(t)
	p, q := readyPeer(t, cfg), readyPeer(t, cfg)
	f.Hang(hsmtest.Sign, hsmtest.Next(1), 100*time.Millisecond)
	start := time.Now()
	p.want("sign 0", signed)
	if took := time.Since(start); took < 100*time.Millisecond {
		t.Errorf("took %v", took)
	}
	f.Hang(hsmtest.Sign, hsmtest.InOneProcess(), hsmtest.Forever)
	p.tell("sign 0")
	waitFor(t, "p hangs", func() bool { return f.Counts().Calls[hsmtest.Sign] == 2 })
	for range 3 {
		q.want("sign 0", signed)
	}
	f.Hang(hsmtest.Sign, hsmtest.Never(), 0)
	f.Release()
	if got := p.answer(); got != signed {
		t.Errorf("after the release: %s", got)
	}
}

func waitFor(t *testing.T, what string, ok func() bool) {
	t.Helper()
	for end := time.Now().Add(5 * time.Second); !ok(); time.Sleep(time.Millisecond) {
		if time.Now().After(end) {
			t.Fatalf("not within 5 s: %s", what)
		}
	}
}

func TestReturn(t *testing.T) {
	cfg, f := faulty(t)
	p := readyPeer(t, cfg)
	for _, c := range []struct {
		fn   hsmtest.Function
		line string
		ok   string
	}{
		{hsmtest.Sign, "sign 0", signed}, {hsmtest.SignInit, "sign 0", signed}, {hsmtest.Find, "find 0 k", "ok 1"},
		{hsmtest.GetAttribute, "attribute 0 k 258", "ok k 31"}, {hsmtest.OpenSession, "open", "ok 1"}, {hsmtest.Login, "login 0 " + p.pin, "0x100"},
		{hsmtest.SlotList, "slots", "ok 2"}, {hsmtest.TokenInfo, "token", "-"}, {hsmtest.Generate, "generate 0 g 2", "ok"}, {hsmtest.CloseSession, "close 0", "ok"},
	} {
		f.Return(c.fn, hsmtest.Next(2), pkcs11.CKR_DEVICE_ERROR)
		p.want(c.line, "0x30")
		p.want(c.line, "0x30")
		if c.ok == "-" {
			p.do(c.line)
		} else {
			p.want(c.line, c.ok)
		}
	}
	if c := f.Counts(); c.WrongPINs != 0 || c.Logins != 5 {
		t.Errorf("counts %+v", c)
	}
	f.Return(hsmtest.Initialize, hsmtest.Next(1), pkcs11.CKR_ARGUMENTS_BAD)
	barePeer(t, cfg).want("init", "0x7")
}

func TestWrongPINsAreCounted(t *testing.T) {
	cfg, f := faulty(t)
	p := newPeer(t, cfg)
	p.want("open", "ok 0")
	p.want("login 0 wrong", "0xA0")
	f.Return(hsmtest.Login, hsmtest.Next(1), pkcs11.CKR_PIN_LOCKED)
	p.want("login 0 "+p.pin, "0xA4")
	p.want("login 0 "+p.pin, "ok")
	if c := f.Counts(); c.Logins != 4 || c.WrongPINs != 2 { // one login of faulty's
		t.Errorf("%d logins, %d wrong; want 4 and 2", c.Logins, c.WrongPINs)
	}
}

func TestCorrupt(t *testing.T) {
	cfg, f := faulty(t)
	p, q := readyPeer(t, cfg), readyPeer(t, cfg)
	f.Corrupt(hsmtest.Next(1), 1, 0)
	p.want("signatures 0 2", "ok wrong 1")
	f.Corrupt(hsmtest.InOneProcess(), 1, 0)
	p.want("signatures 0 3", "ok wrong 3")
	q.want("signatures 0 3", "ok wrong 0")
	before := f.Counts().Corrupted
	f.Corrupt(hsmtest.Always(), 10, 1)
	first := p.do("signatures 0 1000")
	var wrong uint64
	if wrong = f.Counts().Corrupted - before; wrong < 50 || wrong > 200 {
		t.Errorf("%d of 1000 corrupted, want one in ten", wrong)
	}
	if want := "ok wrong " + fmt.Sprint(wrong); first != want {
		t.Errorf("%s, want %s", first, want)
	}
}

func TestCrash(t *testing.T) {
	cfg, f := faulty(t)
	p, q := readyPeer(t, cfg), readyPeer(t, cfg)
	f.Crash(hsmtest.Sign, hsmtest.Next(1))
	p.want("sign 0", "ended")
	q.want("sign 0", signed)
	f.Crash(hsmtest.Login, hsmtest.Times{N: hsmtest.Forever, PID: q.cmd.Process.Pid})
	readyPeer(t, cfg)
	q.want("login 0 "+q.pin, "ended")
}

// 32 sessions make 32 signatures in the time of one: one after another, these would take 6.4 s.
func TestDelayOverlaps(t *testing.T) {
	cfg, f := faulty(t)
	p := readyPeer(t, cfg)
	for range 31 {
		p.do("open")
	}
	f.Delay(hsmtest.Sign, 50*time.Millisecond)
	took, err := time.ParseDuration(strings.TrimPrefix(p.do("together 4"), "ok "))
	if err != nil || took < 200*time.Millisecond || took > 3*time.Second {
		t.Errorf("4 times 50 ms in 32 sessions took %v, %v", took, err)
	}
}

func TestSessionLimit(t *testing.T) {
	cfg, f := faulty(t)
	f.LimitSessions(4, 700*time.Millisecond)
	p, q := readyPeer(t, cfg), readyPeer(t, cfg)
	p.want("open", "ok 1")
	q.want("open", "ok 1")
	p.want("open", "0xB1") // CKR_SESSION_COUNT
	if got := q.do("token"); !strings.HasSuffix(got, "sessions 4/4") {
		t.Error(got)
	}
	q.want("close 1", "ok")
	p.want("open", "ok 2")
	p.kill()
	killed := time.Now()
	waitFor(t, "the death is noticed", func() bool { _, there := f.Counts().Processes[p.cmd.Process.Pid]; return !there })
	q.want("open", "0xB1")
	if n := f.Counts().SessionsNow; n != 4 {
		t.Errorf("%d sessions, want 4 with those that linger", n)
	}
	waitFor(t, "lost sessions are freed", func() bool { return q.do("open") != "0xB1" })
	if after := time.Since(killed); after < 690*time.Millisecond {
		t.Errorf("freed after %v", after)
	}
	r := newPeer(t, cfg)
	r.want("open", "ok 0")
	r.want("open", "ok 1")
	r.want("open", "0xB1")
	r.want("finalize", "ok") // a proper end frees at once
	q.want("open", "ok 3")
	f.Reboot(0) // and so does a reboot
	q.want("open", "ok 4")
	if c := f.Counts(); c.SessionsNow != 1 || c.SessionsPeak != 4 {
		t.Errorf("%d sessions, peak %d; want 1 and 4", c.SessionsNow, c.SessionsPeak)
	}
}

func TestAttributes(t *testing.T) {
	cfg, f := faulty(t)
	p := readyPeer(t, cfg)
	p.want("generate 0 other 2", "ok")
	ask := func(label string, typ uint, want string) {
		t.Helper()
		p.want("attribute 0 "+label+" "+fmt.Sprint(typ), want)
	}
	ask("k", pkcs11.CKA_EXTRACTABLE, "ok k 00")
	f.Attributes(hsmtest.Attribute{Type: pkcs11.CKA_EXTRACTABLE, Class: pkcs11.CKO_PRIVATE_KEY, Label: "k", Value: []byte{1}},
		hsmtest.Attribute{Type: pkcs11.CKA_LOCAL, AnyClass: true, NotOffered: true},
		hsmtest.Attribute{Type: pkcs11.CKA_SIGN, Class: pkcs11.CKO_PUBLIC_KEY, Value: []byte{0}})
	ask("k", pkcs11.CKA_EXTRACTABLE, "ok k 01")
	ask("other", pkcs11.CKA_EXTRACTABLE, "ok other 00")
	ask("k", pkcs11.CKA_LOCAL, "0x12") // CKR_ATTRIBUTE_TYPE_INVALID
	ask("k", pkcs11.CKA_SIGN, "ok k 01")
	f.Clear()
	ask("k", pkcs11.CKA_EXTRACTABLE, "ok k 00")
	ask("k", pkcs11.CKA_LOCAL, "ok k 01")
}

func TestQuirks(t *testing.T) {
	cfg, f := faulty(t)
	p := newPeer(t, cfg)
	p.want("ec", "ok 2 of 3, <nil>")
	f.Quirks(hsmtest.Quirks{FlagsSet: pkcs11.CKF_USER_PIN_COUNT_LOW | pkcs11.CKF_PROTECTED_AUTHENTICATION_PATH, Serial: "0815", Firmware: [2]byte{7, 9},
		PadPIN: p.pin, HideEC: true})
	if got := p.do("token"); !strings.HasPrefix(got, "ok serial 0815 firmware 7.9 low true") {
		t.Error(got)
	}
	p.want("ec", "ok 0 of 3, pkcs11: 0x70: CKR_MECHANISM_INVALID")
	p.want("open", "ok 0")
	p.want("login 0", "ok")
	p.want("sign 0", "0x70")
	p.want("generate 0 g 2", "0x70")
	f.Quirks(hsmtest.Quirks{RefuseFalse: pkcs11.CKR_TEMPLATE_INCONSISTENT})
	p.want("generate 0 g 2 no-decrypt", "0xD1")
	p.want("generate 0 g 2", "ok")
	f.Quirks(hsmtest.Quirks{UniqueIDs: true})
	p.want("generate 0 h 2", "0x13")    // CKR_ATTRIBUTE_VALUE_INVALID
	p.want("generate 0 h none", "0xD0") // CKR_TEMPLATE_INCOMPLETE
	p.want("generate 0 h 3", "ok")
}

// New keys are seen by the process that made them and by those that start later.
func TestHideNewKeys(t *testing.T) {
	cfg, f := faulty(t)
	f.Quirks(hsmtest.Quirks{HideNewKeys: true})
	p, q := readyPeer(t, cfg), readyPeer(t, cfg)
	p.want("generate 0 new 77", "ok")
	p.want("find 0 new", "ok 1")
	q.want("find 0 new", "ok 0")
	q.want("find 0 k", "ok 1")
	readyPeer(t, cfg).want("find 0 new", "ok 1")
}

// The module says why it cannot be loaded.
func TestNoState(t *testing.T) {
	cfg, _ := faulty(t)
	cfg.Env = slices.DeleteFunc(slices.Clone(cfg.Env), func(s string) bool { return strings.HasPrefix(s, "CERTMILL_FAULT_DIR=") })
	if out := pkcs11Tool(t, cfg, "--list-slots"); !strings.Contains(out, "fault module: CERTMILL_FAULT_DIR is not set") {
		t.Error(out)
	}
}

// The keeper's signers run behind the module, and package hsm's own cure of a wrong signature and of a crash works on it.
func TestBehindPackageHSM(t *testing.T) {
	cfg, f := hsmtest.Faulty(t, hsmtest.SoftHSM(t))
	ceremony := cfg
	ceremony.Ceremony, ceremony.Signers = true, 1
	token, err := hsm.Open(t.Context(), ceremony)
	if err != nil {
		t.Fatal(err)
	}
	public, err := token.Generate(t.Context(), "ca", hsm.P256)
	if err != nil {
		t.Fatal(err)
	}
	if err := token.Close(); err != nil {
		t.Fatal(err)
	}
	cfg.Signers, cfg.Keys = 2, []hsm.KeyConfig{{Label: "ca", Public: public}}
	if token, err = hsm.Open(t.Context(), cfg); err != nil {
		t.Fatal(err)
	}
	defer token.Close()
	key, err := token.Key("ca")
	if err != nil {
		t.Fatal(err)
	}
	for _, fail := range []func(){
		func() {}, func() { f.Corrupt(hsmtest.Next(1), 1, 0) }, func() { f.Crash(hsmtest.Sign, hsmtest.Next(1)) },
		func() { f.Return(hsmtest.Sign, hsmtest.Next(1), pkcs11.CKR_DEVICE_ERROR) }, f.LoseSessions,
		func() { f.Reboot(50 * time.Millisecond) },
	} {
		fail()
		if _, errs := key.Sign(t.Context(), "device", [][]byte{[]byte("tbs")}); errs[0] != nil {
			t.Error(errs[0])
		}
	}
	if s := token.Stats(); s.Wrong != 1 || s.Signatures != 6 || f.Counts().Corrupted != 1 {
		t.Errorf("stats %+v", s)
	}
}

// The same seed is the same series.
func TestSchedule(t *testing.T) {
	names := func(seed uint64) (names []string) {
		for step := range hsmtest.Schedule(seed) {
			if names = append(names, step.After.String()+" "+step.Name); len(names) == 100 {
				break
			}
		}
		return names
	}
	if one := names(1); !slices.Equal(one, names(1)) || slices.Equal(one, names(2)) {
		t.Errorf("not as the seed says: %v", one)
	}
}
