package hsm_test

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/miekg/pkcs11"

	"github.com/certmill/certmill/hsm"
	"github.com/certmill/certmill/hsm/hsmtest"
)

// newRememberedKey is a key whose token remembers what became of its PIN.
func newRememberedKey(t *testing.T) (hsm.Config, *hsmtest.Faults) {
	cfg, _, faults := newFaultyKey(t)
	cfg.PINMemory = filepath.Join(t.TempDir(), "pin.json")
	return cfg, faults
}

func pinOf(t *testing.T, cfg hsm.Config) string {
	t.Helper()
	pin, err := os.ReadFile(cfg.PIN.File)
	if err != nil {
		t.Fatal(err)
	}
	return string(pin)
}

func replacePIN(t *testing.T, cfg hsm.Config, pin string) {
	t.Helper()
	if err := os.WriteFile(cfg.PIN.File+".new", []byte(pin), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.Rename(cfg.PIN.File+".new", cfg.PIN.File); err != nil {
		t.Fatal(err)
	}
}

// One wrong PIN is tried once, over all starts; a replaced file and AllowPINRetry allow one try each; the right one works at once.
func TestP7OneWrongPINOneTry(t *testing.T) {
	cfg, faults := newRememberedKey(t)
	right := pinOf(t, cfg)
	refused := func(starts int) {
		t.Helper()
		for range starts {
			if _, err := hsm.Open(t.Context(), cfg); !errors.Is(err, hsm.ErrPIN) || strings.Contains(err.Error(), "not the one") {
				t.Fatalf("error %v, want ErrPIN without the PIN", err)
			}
		}
	}
	replacePIN(t, cfg, "not the one")
	refused(20)
	if c := faults.Counts(); c.WrongPINs != 1 {
		t.Errorf("20 starts with a wrong PIN: %d tries", c.WrongPINs)
	}
	if forgot, err := hsm.AllowPINRetry(cfg.PINMemory); !forgot || err != nil {
		t.Errorf("retry: %v %v", forgot, err)
	}
	refused(5)
	if c := faults.Counts(); c.WrongPINs != 2 {
		t.Errorf("after a retry was allowed: %d tries in all", c.WrongPINs)
	}
	replacePIN(t, cfg, "not the one either")
	refused(5)
	if c := faults.Counts(); c.WrongPINs != 3 {
		t.Errorf("after the file was replaced: %d tries in all", c.WrongPINs)
	}
	replacePIN(t, cfg, right)
	open(t, cfg)
	if forgot, err := hsm.AllowPINRetry(cfg.PINMemory); forgot || err != nil {
		t.Errorf("a good PIN is nothing to forget: %v %v", forgot, err)
	}
	if m, err := os.ReadFile(cfg.PINMemory); err != nil || strings.Contains(string(m), right) || !strings.Contains(string(m), `"good"`) {
		t.Errorf("memory %s, %v", m, err)
	}
	t.Logf("P7: 20 starts with one wrong PIN: 1 login; 30 starts with it, a retry and a second wrong one: 3")
}

// A PIN that is changed on the token while the service runs is tried once more, and the signers that are logged in go on.
func TestPINChangedUnderRunningSigners(t *testing.T) {
	cfg, faults := newRememberedKey(t)
	token, key := openKey(t, cfg)
	wait(t, "both signers", func() bool { return token.Stats().Signers == 2 })
	faults.Return(hsmtest.Login, hsmtest.Always(), pkcs11.CKR_PIN_INCORRECT)
	killSigner(t, token)
	wait(t, "the refused login", func() bool { m, _ := os.ReadFile(cfg.PINMemory); return strings.Contains(string(m), `"wrong"`) })
	for range 20 {
		if _, errs := key.Sign(t.Context(), "device", batch(5)); errs[0] != nil {
			t.Fatal(errs[0])
		}
	}
	if s := token.Stats(); s.Signers != 1 {
		t.Errorf("stats %+v", s)
	}
	killSigner(t, token)
	wait(t, "the end", func() bool { return errors.Is(token.Ready(), hsm.ErrPIN) })
	if c := faults.Counts(); c.Calls[hsmtest.Login] != 3 {
		t.Errorf("%d logins, want 2 good ones and 1 that was refused", c.Calls[hsmtest.Login])
	}
}

// The token's own flags are read before each login.
func TestPINFlags(t *testing.T) {
	for _, c := range []struct {
		name   string
		flags  uint
		logins uint64
	}{{"count low", pkcs11.CKF_USER_PIN_COUNT_LOW, 1}, {"final try", pkcs11.CKF_USER_PIN_FINAL_TRY, 0}, {"locked", pkcs11.CKF_USER_PIN_LOCKED, 0}} {
		t.Run(c.name, func(t *testing.T) {
			cfg, faults := newRememberedKey(t)
			cfg.Signers = 1
			faults.Quirks(hsmtest.Quirks{FlagsSet: c.flags})
			token, err := hsm.Open(t.Context(), cfg)
			if err == nil {
				token.Close()
			}
			if (c.logins == 0) != errors.Is(err, hsm.ErrPIN) {
				t.Errorf("error %v", err)
			}
			if got := faults.Counts().Logins; got != c.logins {
				t.Errorf("%d logins, want %d", got, c.logins)
			}
		})
	}
}

// A crash in the middle of a login leaves "trying": one more try where the token has counted nothing, none where it has.
func TestCrashDuringLogin(t *testing.T) {
	for _, dirty := range []bool{false, true} {
		cfg, faults := newRememberedKey(t)
		cfg.Signers = 1
		faults.Hang(hsmtest.Login, hsmtest.Next(1), hsmtest.Forever)
		token := hsm.Start(t.Context(), cfg)
		wait(t, "the try", func() bool { m, _ := os.ReadFile(cfg.PINMemory); return strings.Contains(string(m), `"trying"`) })
		if dirty {
			faults.Quirks(hsmtest.Quirks{FlagsSet: pkcs11.CKF_USER_PIN_COUNT_LOW})
		}
		for _, pid := range descendants(t) {
			syscall.Kill(pid, syscall.SIGKILL)
		}
		if dirty {
			wait(t, "the refusal", func() bool { return errors.Is(token.Ready(), hsm.ErrPIN) })
		} else {
			wait(t, "the next try", func() bool { return token.Ready() == nil })
		}
		token.Close()
	}
}

// Two services, or one and a doctor, share a PIN memory: the second does not try before it is known what became of the first one's try.
func TestTwoKeepersOneWrongPIN(t *testing.T) {
	cfg, faults := newRememberedKey(t)
	replacePIN(t, cfg, "not the one")
	faults.Delay(hsmtest.Login, 200*time.Millisecond)
	var both sync.WaitGroup
	for range 2 {
		both.Go(func() {
			if _, err := hsm.Open(t.Context(), cfg); !errors.Is(err, hsm.ErrPIN) {
				t.Errorf("error %v, want ErrPIN", err)
			}
		})
	}
	both.Wait()
	if c := faults.Counts(); c.WrongPINs != 1 {
		t.Errorf("two keepers tried a wrong PIN %d times", c.WrongPINs)
	}
}

// A keeper that is killed does not take its signer along in the middle of a login: SoftHSM, which rewrites the token's file at each, would leave a token
// that nobody finds again.
func TestLoginOutlivesItsKeeper(t *testing.T) {
	cfg, faults := newRememberedKey(t)
	cfg.Signers = 1
	faults.Delay(hsmtest.Login, time.Second)
	token := hsm.Start(t.Context(), cfg)
	defer token.Close()
	wait(t, "the login", func() bool { return faults.Counts().Calls[hsmtest.Login] == 1 })
	keeper := children(t, os.Getpid())[0]
	signer := children(t, keeper)[0]
	kill(t, keeper)
	wait(t, "its end", func() bool { return !runs(keeper) })
	<-time.After(50 * time.Millisecond) // a signal would have come by now
	if !runs(signer) {
		t.Fatal("the signer was killed while it logged in")
	}
	wait(t, "the signer's own end", func() bool { return !runs(signer) })
}

// runs reports whether a process has not ended.
func runs(pid int) bool {
	stat, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	return err == nil && !strings.Contains(string(stat), ") Z ")
}

// A login that fails for the token's sake says nothing of the PIN.
func TestLoginFailsForTheTokensSake(t *testing.T) {
	cfg, faults := newRememberedKey(t)
	faults.Return(hsmtest.Login, hsmtest.Next(3), pkcs11.CKR_DEVICE_ERROR)
	began := time.Now()
	open(t, cfg)
	t.Logf("ready after %v and %d logins", time.Since(began).Round(time.Millisecond), faults.Counts().Logins)
}

// No terminal, no prompt.
func TestPromptWithoutTerminal(t *testing.T) {
	cfg, _ := newRememberedKey(t)
	cfg.PIN = hsm.PIN{Prompt: true}
	if tty, err := os.Open("/dev/tty"); err == nil {
		tty.Close()
		t.Skip("this test has a terminal")
	}
	if _, err := hsm.Open(t.Context(), cfg); !errors.Is(err, hsm.ErrPIN) || !strings.Contains(err.Error(), "no terminal") {
		t.Errorf("error %v", err)
	}
}
