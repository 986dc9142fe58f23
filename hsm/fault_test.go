package hsm_test

import (
	"context"
	"crypto"
	"crypto/ecdsa"
	"crypto/sha256"
	"errors"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"os"
	"runtime"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/certmill/certmill/hsm"
	"github.com/certmill/certmill/hsm/hsmtest"
)

// long is the full count with CERTMILL_TEST_LONG, else the quick one.
func long(quick, full int) int {
	if os.Getenv("CERTMILL_TEST_LONG") != "" {
		return full
	}
	return quick
}

// newFaultyKey makes a key in a SoftHSM token that stands behind the fault module.
func newFaultyKey(t testing.TB) (hsm.Config, crypto.PublicKey, *hsmtest.Faults) {
	t.Helper()
	cfg, public := newKey(t, hsm.P256)
	keys := cfg.Keys
	cfg, faults := hsmtest.Faulty(t, cfg)
	cfg.Keys, cfg.Signers = keys, 2
	return cfg, public, faults
}

// load asks for signatures from many goroutines, as connections do, until stop.
type load struct {
	t      testing.TB
	key    *hsm.Key
	public *ecdsa.PublicKey
	cancel context.CancelFunc
	work   sync.WaitGroup

	good, wrong, failed atomic.Int64
	slowest             atomic.Int64 // nanoseconds
}

const clientDeadline = 5 * time.Second

func startLoad(t testing.TB, key *hsm.Key, public crypto.PublicKey, connections int) *load {
	ctx, cancel := context.WithCancel(t.Context())
	l := &load{t: t, key: key, public: public.(*ecdsa.PublicKey), cancel: cancel}
	for c := range connections {
		l.work.Go(func() {
			for n := 0; ctx.Err() == nil; n++ {
				l.one(fmt.Appendf(nil, "connection %d, certificate %d", c, n))
			}
		})
	}
	return l
}

func (l *load) one(tbs []byte) {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(l.t.Context()), clientDeadline)
	defer cancel()
	began := time.Now()
	sigs, errs := l.key.Sign(ctx, "device", [][]byte{tbs})
	took := time.Since(began).Nanoseconds()
	for old := l.slowest.Load(); took > old && !l.slowest.CompareAndSwap(old, took); old = l.slowest.Load() {
	}
	if errs[0] != nil {
		if l.failed.Add(1) < 4 {
			l.t.Errorf("a request failed after %v: %v", time.Duration(took), errs[0])
		}
		return
	}
	digest := sha256.Sum256(tbs)
	if !ecdsa.VerifyASN1(l.public, digest[:], sigs[0]) {
		l.wrong.Add(1)
		l.t.Errorf("a wrong signature was released")
	}
	l.good.Add(1)
}

func (l *load) stop() { l.cancel(); l.work.Wait() }

// waitGood waits until n more signatures were made.
func (l *load) waitGood(n int64) {
	l.t.Helper()
	until := l.good.Load() + n
	wait(l.t, fmt.Sprintf("%d signatures", n), func() bool { return l.good.Load() >= until || l.t.Failed() })
}

// wait waits for what must come; a minute is for a test that hangs.
func wait(t testing.TB, what string, done func() bool) {
	t.Helper()
	for end := time.Now().Add(time.Minute); !done(); <-time.After(time.Millisecond) {
		if time.Now().After(end) {
			t.Fatalf("waited a minute for %s", what)
		}
	}
}

// A token that reboots loses every session and login, and is away for a while. Nobody is needed, and no request fails.
func TestP7TokenReboots(t *testing.T) {
	cfg, public, faults := newFaultyKey(t)
	token, key := openKey(t, cfg)
	l := startLoad(t, key, public, 64)
	reboots := long(20, 100)
	for range reboots {
		l.waitGood(100)
		faults.Reboot(time.Duration(rand.IntN(150)) * time.Millisecond)
	}
	l.waitGood(100)
	l.stop()
	s := token.Stats()
	if s.Wrong != 0 || s.Respawns < uint64(reboots) {
		t.Errorf("stats %+v", s)
	}
	t.Logf("P7: %d reboots of the token under 64 connections: %d signatures, %d wrong, %d failed, slowest %v", reboots, l.good.Load(), l.wrong.Load(), l.failed.Load(), time.Duration(l.slowest.Load()).Round(time.Millisecond))
}

// A call that never comes back holds up its own process alone, which is replaced after the deadline.
func TestP7HangingCall(t *testing.T) {
	cfg, public, faults := newFaultyKey(t)
	cfg.Deadline = 300 * time.Millisecond
	token, key := openKey(t, cfg)
	l := startLoad(t, key, public, 16)
	l.waitGood(100)
	faults.Hang(hsmtest.Sign, hsmtest.InOneProcess(), hsmtest.Forever)
	l.waitGood(2000)
	wait(t, "signers", func() bool { return token.Stats().Respawns > 0 })
	l.waitGood(500)
	l.stop()
	if s := token.Stats(); s.Respawns != 1 || s.Signers == 0 {
		t.Errorf("stats %+v", s)
	}
	t.Logf("P7: C_Sign hung for ever in one of 2 processes: %d signatures, %d failed, slowest %v at a deadline of %v", l.good.Load(), l.failed.Load(), time.Duration(l.slowest.Load()).Round(time.Millisecond), cfg.Deadline)
}

// A request that nobody can serve ends when its own time is over, not later.
func TestNoRequestWaitsLongerThanItsOwn(t *testing.T) {
	cfg, _, faults := newFaultyKey(t)
	_, key := openKey(t, cfg)
	faults.Away(hsmtest.Forever)
	faults.Reboot(hsmtest.Forever)
	for range 3 {
		ctx, cancel := context.WithTimeout(t.Context(), 200*time.Millisecond)
		began := time.Now()
		_, errs := key.Sign(ctx, "device", batch(1))
		cancel()
		if !errors.Is(errs[0], hsm.ErrUnavailable) {
			t.Errorf("error %v, want ErrUnavailable", errs[0])
		}
		if took := time.Since(began); took > 2*time.Second { // a bound that only a bug passes
			t.Errorf("waited %v for a request of 200 ms", took)
		}
	}
}

// A module that crashes takes its process along, never the daemon.
func TestP7ModuleCrashes(t *testing.T) {
	cfg, public, faults := newFaultyKey(t)
	token, key := openKey(t, cfg)
	l := startLoad(t, key, public, 64)
	crashes := long(20, 100)
	for n := range crashes {
		l.waitGood(100)
		faults.Crash(hsmtest.Sign, hsmtest.Next(1))
		wait(t, "signers", func() bool { return token.Stats().Respawns > uint64(n) })
	}
	l.waitGood(100)
	l.stop()
	t.Logf("P7: %d SIGSEGV in C_Sign under 64 connections: %d signatures, %d wrong, %d failed", crashes, l.good.Load(), l.wrong.Load(), l.failed.Load())
}

// A token that corrupts signatures: none is released, each is made again elsewhere.
func TestP7LyingToken(t *testing.T) {
	cfg, public, faults := newFaultyKey(t)
	token, key := openKey(t, cfg)
	seed := rand.Uint64()
	t.Logf("seed %d", seed)
	faults.Corrupt(hsmtest.Always(), 100, seed)
	l := startLoad(t, key, public, 64)
	l.waitGood(int64(long(10_000, 100_000)))
	l.stop()
	s := token.Stats()
	if s.Wrong == 0 || s.Respawns == 0 || faults.Counts().Corrupted < s.Wrong {
		t.Errorf("stats %+v, %d corrupted", s, faults.Counts().Corrupted)
	}
	t.Logf("P7: 1 in 100 signatures corrupted: %d released, %d wrong found, %d wrong released, %d failed", l.good.Load(), s.Wrong, l.wrong.Load(), l.failed.Load())
}

// Everything at once, in an order that a seed gives.
func TestP7RandomFaults(t *testing.T) {
	cfg, public, faults := newFaultyKey(t)
	cfg.Deadline = 300 * time.Millisecond
	token, key := openKey(t, cfg)
	seed := rand.Uint64()
	t.Logf("seed %d", seed)
	l := startLoad(t, key, public, 32)
	end := time.After(time.Duration(long(5, 120)) * time.Second)
	var done []string
steps:
	for step := range hsmtest.Schedule(seed) {
		select {
		case <-time.After(step.After):
			step.Do(faults)
			if done = append(done, step.Name); len(done)%3 == 0 {
				l.waitGood(20) // three at a time: more than that lasts longer than a request
			}
		case <-end:
			break steps
		}
	}
	faults.Clear()
	l.waitGood(100)
	l.stop()
	if t.Failed() {
		t.Logf("faults, in order: %s", strings.Join(done, ", "))
	}
	s := token.Stats()
	t.Logf("P7: %d random faults: %d signatures, %d wrong released, %d failed, %d respawns", len(done), l.good.Load(), l.wrong.Load(), l.failed.Load(), s.Respawns)
}

// Sessions of killed processes linger, as in a YubiHSM 2: respawns stay within what the token has left, and no request fails for it.
func TestRespawnsStayWithinTheSessions(t *testing.T) {
	for _, sessions := range []int{16, 4, 2} {
		t.Run(fmt.Sprint(sessions), func(t *testing.T) {
			cfg, public, faults := newFaultyKey(t)
			faults.LimitSessions(sessions, 500*time.Millisecond)
			faults.Delay(hsmtest.Sign, 2*time.Millisecond) // a token worth many sessions
			token, key := openKey(t, cfg)
			l := startLoad(t, key, public, 32)
			for range long(3, 10) {
				l.waitGood(200)
				killSigner(t, token)
			}
			l.waitGood(200)
			l.stop()
			c := faults.Counts()
			if c.SessionsPeak > uint64(sessions) {
				t.Errorf("%d sessions at a time", c.SessionsPeak)
			}
			r := token.Reports()[0]
			t.Logf("%d sessions: %d processes with %d lanes, %d at a time at most; %d signatures, %d failed", sessions, r.Processes, r.Lanes, c.SessionsPeak, l.good.Load(), l.failed.Load())
		})
	}
}

// killSigner kills one of the signers.
func killSigner(t *testing.T, token *hsm.Token) {
	t.Helper()
	wait(t, "a signer", func() bool { return len(token.InService()) > 0 })
	kill(t, token.InService()[0])
}

func kill(t *testing.T, pid int) {
	t.Helper()
	if err := syscall.Kill(pid, syscall.SIGKILL); err != nil && !errors.Is(err, syscall.ESRCH) {
		t.Fatal(err)
	}
}

// After many respawns the daemon holds what it held before.
func TestRespawnsLeaveNothing(t *testing.T) {
	cfg, public, faults := newFaultyKey(t)
	token, key := openKey(t, cfg)
	l := startLoad(t, key, public, 4)
	lose := func(times int) {
		for range times {
			wait(t, "both signers", func() bool { return token.Stats().Signers == 2 })
			before := token.Stats().Respawns
			faults.LoseSessions()
			wait(t, "signers", func() bool { return token.Stats().Respawns > before })
		}
		l.waitGood(200)
	}
	lose(5)
	before := holding(t)
	lose(long(50, 500))
	after := holding(t)
	l.stop()
	if after.goroutines > before.goroutines+8 || after.files > before.files+40 || after.heap > before.heap+4<<20 {
		t.Errorf("before %+v, after %d respawns %+v", before, token.Stats().Respawns, after)
	}
	t.Logf("%d respawns: %+v before, %+v after", token.Stats().Respawns, before, after)
}

type held struct {
	goroutines, files int
	heap              uint64
}

func holding(t *testing.T) held {
	t.Helper()
	runtime.GC()
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	files, err := os.ReadDir("/proc/self/fd")
	if err != nil {
		t.Fatal(err)
	}
	return held{runtime.NumGoroutine(), len(files), m.HeapAlloc}
}

// Signers start one after another, and every one starts: SoftHSM fails one start in six when four log in at once.
func TestSiblingsStartOneAfterAnother(t *testing.T) {
	cfg, _, faults := newFaultyKey(t)
	cfg.Signers, cfg.Log = 4, slog.New(slog.NewTextHandler(t.Output(), nil))
	starts := long(10, 100)
	for range starts {
		token := open(t, cfg)
		wait(t, "signers", func() bool { return token.Stats().Signers == 4 })
		if err := token.Close(); err != nil {
			t.Fatal(err)
		}
	}
	if c := faults.Counts(); c.Logins != uint64(4*starts) || c.WrongPINs != 0 {
		t.Errorf("%d logins for %d starts of 4", c.Logins, starts)
	}
}

// Codes of a start that SoftHSM gives when a sibling logs in mean "again", never "wrong PIN".
func TestCodesAtStartMeanAgain(t *testing.T) {
	const generalError, notInitialized = 0x5, 0x102 // CKR_GENERAL_ERROR, CKR_USER_PIN_NOT_INITIALIZED
	for _, f := range []struct {
		in   hsmtest.Function
		code uint
	}{{hsmtest.Login, generalError}, {hsmtest.Login, notInitialized}, {hsmtest.OpenSession, generalError}, {hsmtest.SlotList, generalError}, {hsmtest.Initialize, generalError}} {
		cfg, public, faults := newFaultyKey(t)
		cfg.PINMemory = t.TempDir() + "/pin.json"
		faults.Return(f.in, hsmtest.Next(3), f.code)
		_, key := openKey(t, cfg)
		signAndVerify(t, key, public, 3)
	}
}

// More than the rate cap is refused by the signer.
func TestRateCap(t *testing.T) {
	cfg, _ := newKey(t, hsm.P256)
	cfg.Signers, cfg.RateCap = 1, 50
	_, key := openKey(t, cfg)
	_, errs := key.Sign(t.Context(), "device", batch(500))
	refused := 0
	for _, err := range errs {
		if errors.Is(err, hsm.ErrBusy) {
			refused++
		}
	}
	if refused < 300 {
		t.Errorf("%d of 500 refused at a cap of 50 a second", refused)
	}
}
