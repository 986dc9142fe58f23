//go:build cgo && linux

package hsm_test

import (
	"context"
	"encoding/json"
	"errors"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/miekg/pkcs11"

	"github.com/certmill/certmill/hsm"
	"github.com/certmill/certmill/hsm/hsmtest"
)

// page is what an examination says, a line each.
func page(x *hsm.Examination) string {
	var b strings.Builder
	for _, l := range x.Lines {
		b.WriteString(strings.ToUpper(string(l.Level)) + " " + l.Name + " " + l.Text + "\n")
	}
	return b.String()
}

func labels(x *hsm.Examination) (all []string) {
	for _, k := range x.Keys {
		all = append(all, k.Label)
	}
	return all
}

// A sound token gets no FAIL, and is as it was before.
func TestExamineChangesNothing(t *testing.T) {
	cfg, _ := newKey(t, hsm.P256)
	cfg, faults := hsmtest.Faulty(t, cfg)
	cfg.PINMemory = filepath.Join(t.TempDir(), "pin.json")
	x, err := hsm.Examine(t.Context(), cfg, hsm.ExamineOptions{})
	if err != nil || x.Failed() {
		t.Fatalf("%v\n%s", err, page(x))
	}
	if got := labels(x); len(got) != 1 || got[0] != "ca-g1" || x.Keys[0].Verdict() != "OK" {
		t.Errorf("keys %v %+v", got, x.Keys)
	}
	if x.RoundTrip == nil || x.RoundTrip.Made == 0 || x.RoundTrip.Wrong != 0 || x.Advice == nil || len(x.Rates) < 3 {
		t.Errorf("round trip %+v, advice %+v, rates %+v", x.RoundTrip, x.Advice, x.Rates)
	}
	if c := faults.Counts(); c.WrongPINs != 0 || c.Logins > 2 {
		t.Errorf("%d logins, %d wrong", c.Logins, c.WrongPINs)
	}
	keys, err := hsm.Examine(t.Context(), cfg, hsm.ExamineOptions{KeysOnly: true})
	if err != nil || len(keys.Keys) != 1 || len(keys.Rates) != 0 {
		t.Errorf("keys only: %v %+v", err, keys)
	}
	if _, err := json.Marshal(x); err != nil {
		t.Error(err)
	}
	if left := children(t, os.Getpid()); len(left) != 0 {
		t.Errorf("processes left behind: %v", left)
	}
}

// Each fault stands on the page, on the line where one looks for it.
func TestExamineSaysWhatIsWrong(t *testing.T) {
	cfg, _ := newKey(t, hsm.P256)
	cfg, faults := hsmtest.Faulty(t, cfg)
	yes, no := []byte{1}, []byte{0}
	attribute := func(typ uint, value []byte) func(*hsm.Config) {
		return func(*hsm.Config) {
			faults.Attributes(hsmtest.Attribute{Type: typ, Class: pkcs11.CKO_PRIVATE_KEY, Label: "ca-g1", Value: value})
		}
	}
	whole := []string{"lies", "slow", "few sessions", "two sessions", "crash"}
	quirks := func(q hsmtest.Quirks) func(*hsm.Config) { return func(*hsm.Config) { faults.Quirks(q) } }
	for _, c := range []struct {
		name   string
		change func(*hsm.Config)
		want   error // nil: the examination goes to its end
		lines  []string
	}{
		{"no EC", quirks(hsmtest.Quirks{HideEC: true}), nil, []string{"FAIL mechanism CKM_ECDSA is not offered, and key ca-g1 needs it", "WARN mechanism CKM_EC_KEY_PAIR_GEN"}},
		{"count low", quirks(hsmtest.Quirks{FlagsSet: pkcs11.CKF_USER_PIN_COUNT_LOW}), nil, []string{"WARN flags a wrong PIN was entered"}},
		{"final try", quirks(hsmtest.Quirks{FlagsSet: pkcs11.CKF_USER_PIN_FINAL_TRY}), hsm.ErrPIN, []string{"FAIL flags one last try", "OK token test"}},
		{"locked", quirks(hsmtest.Quirks{FlagsSet: pkcs11.CKF_USER_PIN_LOCKED}), hsm.ErrPIN, []string{"FAIL flags the user PIN is locked"}},
		{"no user PIN", quirks(hsmtest.Quirks{FlagsCleared: pkcs11.CKF_USER_PIN_INITIALIZED}), nil, []string{"FAIL flags the user PIN is not initialised"}},
		{"write protected", quirks(hsmtest.Quirks{FlagsSet: pkcs11.CKF_WRITE_PROTECTED}), nil, []string{"WARN flags the token is write protected"}},
		{"no random numbers", quirks(hsmtest.Quirks{FlagsCleared: pkcs11.CKF_RNG}), nil, []string{"WARN flags the token names no random"}},
		{"extractable", attribute(pkcs11.CKA_EXTRACTABLE, yes), nil, []string{"FAIL key ca-g1, EC P-256, backup none: CKA_EXTRACTABLE is true"}},
		{"imported", attribute(pkcs11.CKA_NEVER_EXTRACTABLE, no), nil, []string{"FAIL key ca-g1", "CKA_NEVER_EXTRACTABLE is false"}},
		{"decrypts", attribute(pkcs11.CKA_DECRYPT, yes), nil, []string{"FAIL key ca-g1", "CKA_DECRYPT is true"}},
		{"not local", attribute(pkcs11.CKA_LOCAL, no), nil, []string{"WARN key ca-g1", "CKA_LOCAL is false"}},
		{"no such key", func(c *hsm.Config) { c.Keys[0].Label = "nobody" }, nil, []string{"FAIL key nobody, EC P-256", "0 keys with this label", "OK keys 1 more"}},
		{"lies", func(*hsm.Config) { faults.Corrupt(hsmtest.Always(), 2, 7) }, nil, []string{"FAIL round trip", "signatures do not verify"}},
		{"slow", func(c *hsm.Config) {
			faults.Delay(hsmtest.Sign, 20*time.Millisecond)
			c.Deadline = 100 * time.Millisecond
		}, nil,
			[]string{"OK rate 1 process, 4 sessions each", "WARN advice deadline: 100ms is less than 20 signatures"}},
		{"few sessions", func(c *hsm.Config) { faults.LimitSessions(6, 0); c.Sessions, c.Signers = 6, 4 }, nil, []string{"OK sessions 6 at a time", "WARN advice signers: 4 is more"}},
		{"two sessions", func(c *hsm.Config) { faults.LimitSessions(2, 0); c.Sessions = 2 }, nil, []string{"OK sessions 2 at a time"}},
		{"away", func(*hsm.Config) { faults.Away(hsmtest.Forever) }, hsm.ErrUnavailable, []string{"FAIL slots 0 with a token"}},
		{"another token", func(c *hsm.Config) { c.Token = "other" }, hsm.ErrUnavailable, []string{"FAIL slots", "test "}},
		{"no module", func(c *hsm.Config) { c.Module = "/nowhere/p11.so" }, hsm.ErrUnavailable, []string{"FAIL module /nowhere/p11.so"}},
		{"no PIN file", func(c *hsm.Config) { c.PIN.File = "/nowhere/pin" }, hsm.ErrPIN, []string{"OK token test", "/nowhere/pin"}},
		{"crash", func(*hsm.Config) { faults.Crash(hsmtest.Sign, hsmtest.Next(1)) }, hsm.ErrUnavailable, []string{"OK token test", "OK key ca-g1", "the module may have crashed"}},
		{"clock of ours", func(*hsm.Config) {}, nil, []string{"FAIL clock system"}},
	} {
		t.Run(c.name, func(t *testing.T) {
			defer faults.Clear()
			changed := cfg
			changed.Keys = append([]hsm.KeyConfig(nil), cfg.Keys...)
			c.change(&changed)
			o := hsm.ExamineOptions{KeysOnly: !slices.Contains(whole, c.name)} // which ends before it measures
			if c.name == "clock of ours" {
				o.NotBefore = time.Now().Add(time.Hour)
			}
			x, err := hsm.Examine(t.Context(), changed, o)
			if !errors.Is(err, c.want) {
				t.Errorf("error %v, want %v", err, c.want)
			}
			if wantFail := c.want != nil || strings.HasPrefix(c.lines[0], "FAIL"); x.Failed() != wantFail {
				t.Errorf("failed %v, want %v", x.Failed(), wantFail)
			}
			for _, line := range c.lines {
				if !strings.Contains(page(x), line) {
					t.Errorf("no line %q on\n%s", line, page(x))
				}
			}
		})
	}
	if c := faults.Counts(); c.WrongPINs != 0 {
		t.Errorf("%d wrong PINs", c.WrongPINs)
	}
}

// A wrong PIN is tried once by an examination, and not again by the next.
func TestExamineTriesAWrongPINOnce(t *testing.T) {
	cfg, _ := newKey(t, hsm.P256)
	cfg, faults := hsmtest.Faulty(t, cfg)
	cfg.PINMemory = filepath.Join(t.TempDir(), "pin.json")
	if err := os.WriteFile(cfg.PIN.File, []byte("wrong pin"), 0o600); err != nil {
		t.Fatal(err)
	}
	for range 3 {
		x, err := hsm.Examine(t.Context(), cfg, hsm.ExamineOptions{})
		if !errors.Is(err, hsm.ErrPIN) || !x.Failed() || x.Token == nil || strings.Contains(page(x)+err.Error(), "wrong pin ") {
			t.Errorf("%v\n%s", err, page(x))
		}
	}
	if c := faults.Counts(); c.Logins != 1 || c.WrongPINs != 1 {
		t.Errorf("%d logins, %d wrong; want 1 and 1", c.Logins, c.WrongPINs)
	}
}

// The test key is gone afterwards; one that a kill left is told of, and removed by the next run that may write.
func TestExamineTestKey(t *testing.T) {
	cfg, _ := newKey(t, hsm.P256)
	cfg, faults := hsmtest.Faulty(t, cfg)
	write := hsm.ExamineOptions{TestKey: true}
	x, err := hsm.Examine(t.Context(), cfg, write)
	if err != nil || x.Failed() || x.TestKey == nil || !x.TestKey.Verified || !x.TestKey.Destroyed || x.TestKey.Report.Backup != hsm.BackupNone {
		t.Fatalf("%v %+v\n%s", err, x.TestKey, page(x))
	}
	before := faults.Counts().Calls[hsmtest.Generate]
	faults.Delay(hsmtest.Sign, 200*time.Millisecond)
	faults.Delay(hsmtest.Generate, 100*time.Millisecond)
	ended := make(chan error, 1)
	go func() {
		_, err := hsm.Examine(t.Context(), cfg, write)
		ended <- err
	}()
	until := func(done func(c hsmtest.Counts) bool) {
		for !done(faults.Counts()) {
			select {
			case err := <-ended:
				t.Fatalf("ended too early: %v", err)
			case <-time.After(5 * time.Millisecond):
			}
		}
	}
	until(func(c hsmtest.Counts) bool { return c.Calls[hsmtest.Generate] >= before+3 }) // two of sessions, then the test key
	signs := faults.Counts().Calls[hsmtest.Sign]
	until(func(c hsmtest.Counts) bool { return c.Calls[hsmtest.Sign] > signs }) // it was made, and signs
	for _, pid := range descendants(t) {
		if err := syscall.Kill(pid, syscall.SIGKILL); err != nil && !errors.Is(err, syscall.ESRCH) {
			t.Fatal(err)
		}
	}
	if err := <-ended; !errors.Is(err, hsm.ErrUnavailable) {
		t.Errorf("after the kill: %v", err)
	}
	faults.Clear()
	x, err = hsm.Examine(t.Context(), cfg, hsm.ExamineOptions{})
	if err != nil || len(x.Leftovers) == 0 || !strings.Contains(page(x), "WARN keys left by an examination") {
		t.Fatalf("%v, left %v\n%s", err, x.Leftovers, page(x))
	}
	x, err = hsm.Examine(t.Context(), cfg, write)
	if err != nil || x.Failed() || len(x.TestKey.Removed) != 1 {
		t.Errorf("%v %+v\n%s", err, x.TestKey, page(x))
	}
	x, err = hsm.Examine(t.Context(), cfg, hsm.ExamineOptions{KeysOnly: true})
	if err != nil || len(x.Keys) != 1 || len(x.Leftovers) != 0 {
		t.Errorf("%v, keys %v", err, labels(x))
	}
	faults.Attributes(hsmtest.Attribute{Type: pkcs11.CKA_EXTRACTABLE, Class: pkcs11.CKO_PRIVATE_KEY, Value: []byte{1}})
	x, err = hsm.Examine(t.Context(), cfg, write)
	if err != nil || !strings.Contains(page(x), "FAIL test key CKA_EXTRACTABLE") || !x.TestKey.Destroyed {
		t.Errorf("a token that makes unfit keys: %v\n%s", err, page(x))
	}
}

// An examination that nobody waits for ends, and leaves no process.
func TestExamineIsInterrupted(t *testing.T) {
	cfg, _ := newKey(t, hsm.P256)
	cfg, faults := hsmtest.Faulty(t, cfg)
	faults.Hang(hsmtest.Sign, hsmtest.Always(), hsmtest.Forever)
	ctx, cancel := context.WithTimeout(t.Context(), 700*time.Millisecond)
	defer cancel()
	if _, err := hsm.Examine(ctx, cfg, hsm.ExamineOptions{}); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("error %v", err)
	}
	if left := children(t, os.Getpid()); len(left) != 0 {
		t.Errorf("processes left behind: %v", left)
	}
}
