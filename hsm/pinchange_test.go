//go:build cgo && linux

package hsm_test

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/certmill/certmill/hsm"
	"github.com/certmill/certmill/hsm/hsmtest"
)

// pinToken is a token behind the fault module, with a PIN memory, that nobody has logged in to.
func pinToken(t *testing.T) (hsm.Config, *hsmtest.Faults) {
	t.Helper()
	cfg, faults := hsmtest.Faulty(t, hsmtest.SoftHSM(t))
	cfg.PINMemory = filepath.Join(t.TempDir(), "pin.json")
	return cfg, faults
}

// logIn lists the keys: one login.
func logIn(t *testing.T, cfg hsm.Config) error {
	t.Helper()
	_, err := hsm.Examine(t.Context(), cfg, hsm.ExamineOptions{KeysOnly: true})
	return err
}

func newPINFile(t *testing.T, pin string) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "new")
	if err := os.WriteFile(path, []byte(pin+"\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

func TestChangePIN(t *testing.T) {
	cfg, faults := pinToken(t)
	file := newPINFile(t, "second PIN")
	if _, err := hsm.ChangePIN(t.Context(), cfg, file); !errors.Is(err, hsm.ErrPIN) || !strings.Contains(err.Error(), "not known that the present PIN is right") {
		t.Fatalf("before any login: %v", err)
	}
	if c := faults.Counts(); c.Logins != 0 {
		t.Errorf("%d logins", c.Logins)
	}
	if err := logIn(t, cfg); err != nil {
		t.Fatal(err)
	}
	if _, err := hsm.ChangePIN(t.Context(), cfg, newPINFile(t, "abc")); !errors.Is(err, hsm.ErrRefused) || strings.Contains(err.Error(), "abc") {
		t.Errorf("a PIN that is too short: %v", err)
	}
	if _, err := os.Stat(cfg.PIN.File + ".new"); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("left behind: %v", err)
	}
	for _, pin := range []string{"second PIN", "third PIN"} {
		r, err := hsm.ChangePIN(t.Context(), cfg, newPINFile(t, pin))
		if err != nil || r.Finished || r.File != cfg.PIN.File {
			t.Fatalf("%+v, %v", r, err)
		}
		if got, err := os.ReadFile(cfg.PIN.File); err != nil || string(got) != pin {
			t.Errorf("file: %v", err)
		}
		if err := logIn(t, cfg); err != nil {
			t.Errorf("log in with the new PIN: %v", err)
		}
	}
	if _, err := hsm.ChangePIN(t.Context(), cfg, newPINFile(t, "third PIN")); !errors.Is(err, hsm.ErrPIN) {
		t.Errorf("the same PIN: %v", err)
	}
	if c := faults.Counts(); c.WrongPINs != 0 {
		t.Errorf("%d wrong PINs", c.WrongPINs)
	}
}

// Where the outcome of C_SetPIN is not known nobody else tries a PIN, and the next change finishes.
func TestChangePINIsCutOff(t *testing.T) {
	for name, fault := range map[string]func(*hsmtest.Faults){
		"crash":  func(f *hsmtest.Faults) { f.Crash(hsmtest.SetPIN, hsmtest.Next(1)) },
		"device": func(f *hsmtest.Faults) { f.Return(hsmtest.SetPIN, hsmtest.Next(1), 0x30) },
	} {
		t.Run(name, func(t *testing.T) {
			cfg, faults := pinToken(t)
			if err := logIn(t, cfg); err != nil {
				t.Fatal(err)
			}
			fault(faults)
			if _, err := hsm.ChangePIN(t.Context(), cfg, newPINFile(t, "second PIN")); !errors.Is(err, hsm.ErrUnavailable) || !strings.Contains(err.Error(), "pin-change again") {
				t.Fatalf("error %v", err)
			}
			before := faults.Counts().Logins
			if err := logIn(t, cfg); !errors.Is(err, hsm.ErrPIN) || !strings.Contains(err.Error(), "pin-change finishes it") {
				t.Errorf("a login meanwhile: %v", err)
			}
			if _, err := hsm.AllowPINRetry(cfg.PINMemory); !errors.Is(err, hsm.ErrPIN) {
				t.Errorf("pin-retry meanwhile: %v", err)
			}
			if n := faults.Counts().Logins; n != before {
				t.Errorf("%d logins meanwhile", n-before)
			}
			r, err := hsm.ChangePIN(t.Context(), cfg, newPINFile(t, "another PIN"))
			if err != nil || !r.Finished {
				t.Fatalf("%+v, %v", r, err)
			}
			if got, err := os.ReadFile(cfg.PIN.File); err != nil || string(got) != "second PIN" {
				t.Errorf("file: %v", err)
			}
			if err := logIn(t, cfg); err != nil {
				t.Error(err)
			}
			if c := faults.Counts(); c.WrongPINs != 1 {
				t.Errorf("%d wrong PINs, want 1: the new PIN, which the token did not have yet", c.WrongPINs)
			}
		})
	}
}

// TestChangePINKilled ends keeper and signer by SIGKILL between any two steps of the table in pinchange_linux.go. SoftHSM is not killed while it writes: it
// would lose the token.
func TestChangePINKilled(t *testing.T) {
	for _, c := range []struct {
		after string
		kill  func(t *testing.T, cfg hsm.Config, faults *hsmtest.Faults, change func() <-chan error)
		login error  // of what logs in next
		pin   string // in the file, when the next change has ended
		wrong uint64 // PINs tried, in all
	}{
		{"step 1", func(t *testing.T, _ hsm.Config, faults *hsmtest.Faults, change func() <-chan error) {
			faults.Hang(hsmtest.SlotList, hsmtest.Always(), hsmtest.Forever)
			ended := change()
			<-time.After(100 * time.Millisecond)
			killKeeper(t)
			<-ended
		}, nil, "third PIN", 0},
		{"step 2", func(t *testing.T, cfg hsm.Config, _ *hsmtest.Faults, _ func() <-chan error) {
			if err := os.WriteFile(cfg.PIN.File+".new", []byte("second PIN"), 0o600); err != nil {
				t.Fatal(err)
			}
		}, nil, "third PIN", 0},
		{"step 3", func(t *testing.T, _ hsm.Config, faults *hsmtest.Faults, change func() <-chan error) {
			ended := hangInSetPIN(t, faults, change)
			killKeeper(t)
			<-ended
		}, hsm.ErrPIN, "second PIN", 1},
		{"step 4", func(t *testing.T, _ hsm.Config, faults *hsmtest.Faults, change func() <-chan error) {
			ended := hangInSetPIN(t, faults, change)
			keeper := children(t, os.Getpid())[0]
			if err := syscall.Kill(keeper, syscall.SIGSTOP); err != nil {
				t.Fatal(err)
			}
			faults.Release()
			<-time.After(300 * time.Millisecond) // the token has the new PIN, and the keeper does not know
			killKeeper(t)
			<-ended
		}, hsm.ErrPIN, "second PIN", 0},
		{"step 5", func(t *testing.T, cfg hsm.Config, faults *hsmtest.Faults, change func() <-chan error) {
			ended := hangInSetPIN(t, faults, change)
			memory, err := os.ReadFile(cfg.PINMemory)
			if err != nil {
				t.Fatal(err)
			}
			faults.Release()
			if err := <-ended; err != nil {
				t.Fatal(err)
			}
			if err := os.WriteFile(cfg.PINMemory, memory, 0o600); err != nil {
				t.Fatal(err)
			}
		}, nil, "third PIN", 0},
	} {
		t.Run("after "+c.after, func(t *testing.T) {
			cfg, faults := pinToken(t)
			if err := logIn(t, cfg); err != nil {
				t.Fatal(err)
			}
			file := newPINFile(t, "second PIN")
			c.kill(t, cfg, faults, func() <-chan error {
				ended := make(chan error, 1)
				go func() {
					_, err := hsm.ChangePIN(t.Context(), cfg, file)
					ended <- err
				}()
				return ended
			})
			faults.Clear()
			before := faults.Counts().Logins
			if err := logIn(t, cfg); !errors.Is(err, c.login) || err != nil && faults.Counts().Logins != before {
				t.Errorf("a login after the kill: %v", err)
			}
			if _, err := hsm.ChangePIN(t.Context(), cfg, newPINFile(t, "third PIN")); err != nil {
				t.Fatal(err)
			}
			if got, err := os.ReadFile(cfg.PIN.File); err != nil || string(got) != c.pin {
				t.Errorf("the file holds another PIN than %q: %v", c.pin, err)
			}
			if err := logIn(t, cfg); err != nil {
				t.Errorf("a login afterwards: %v", err)
			}
			if n := faults.Counts().WrongPINs; n != c.wrong {
				t.Errorf("%d wrong PINs, want %d", n, c.wrong)
			}
		})
	}
}

// hangInSetPIN starts a change and waits until it hangs in C_SetPIN, before the token does anything.
func hangInSetPIN(t *testing.T, faults *hsmtest.Faults, change func() <-chan error) <-chan error {
	t.Helper()
	faults.Hang(hsmtest.SetPIN, hsmtest.Always(), hsmtest.Forever)
	ended := change()
	for faults.Counts().Calls[hsmtest.SetPIN] == 0 {
		select {
		case err := <-ended:
			t.Fatalf("ended too early: %v", err)
		case <-time.After(5 * time.Millisecond):
		}
	}
	return ended
}

// killKeeper kills the keepers of this process; their signers end with them.
func killKeeper(t *testing.T) {
	t.Helper()
	for _, pid := range children(t, os.Getpid()) {
		if err := syscall.Kill(pid, syscall.SIGKILL); err != nil && !errors.Is(err, syscall.ESRCH) {
			t.Fatal(err)
		}
	}
}
