//go:build cgo && linux

package hsm_test

import (
	"context"
	"crypto"
	"crypto/ecdsa"
	"crypto/rand"
	"crypto/sha256"
	"fmt"
	"os"
	"runtime"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/ThalesIgnite/crypto11"

	"github.com/certmill/certmill/hsm"
	"github.com/certmill/certmill/hsm/hsmtest"
)

const (
	benchRound  = 2 * time.Second
	benchRounds = 3
)

// BenchmarkToken prints what the package reaches, each beside what bounds it, measured in the same run in alternating rounds. Run it with: make bench.
func BenchmarkToken(b *testing.B) {
	fmt.Printf("\n| work | reached | bound, measured beside it | ratio |\n|---|---|---|---|\n")
	benchThroughput(b)
	benchSlowToken(b)
	benchReboot(b)
}

func row(work, reached, bound string, ratio float64) {
	fmt.Printf("| %s | %s | %s | %.2f |\n", work, reached, bound, ratio)
}

func medianOf(v []float64) float64 { return slices.Sorted(slices.Values(v))[len(v)/2] }

// benchThroughput compares with what the cores could do if a signature cost only C_Sign, one verification and the check.
func benchThroughput(b *testing.B) {
	cfg, public := newKey(b, hsm.P256)
	_, key := openKey(b, cfg)
	sign, done := rawSigner(b, cfg)
	var rates, bounds []float64
	for range benchRounds {
		rates = append(rates, signatures(b, key, 8, 100))
		sig := sign(digestOf(0))
		verify := func([]byte) {
			if !ecdsa.VerifyASN1(public.(*ecdsa.PublicKey), digestOf(0), sig) {
				b.Error("does not verify")
			}
		}
		one, check := perCall(func(digest []byte) { sign(digest) }, verify), perCall(verify, verify)
		bounds = append(bounds, float64(runtime.NumCPU())/(one+check).Seconds())
	}
	done()
	row("P-256, batches of 100, 8 callers", fmt.Sprintf("%.0f/s", medianOf(rates)), fmt.Sprintf("%.0f/s: %d cores / (C_Sign + verification)", medianOf(bounds), runtime.NumCPU()), medianOf(rates)/medianOf(bounds))
}

// inParallel is how many calls a second n goroutines make.
func inParallel(n int, call func() bool) float64 {
	var made atomic.Int64
	var work sync.WaitGroup
	began := time.Now()
	for range n {
		work.Go(func() {
			for time.Since(began) < benchRound && call() {
				made.Add(1)
			}
		})
	}
	work.Wait()
	return float64(made.Load()) / time.Since(began).Seconds()
}

// rawSigner signs with the key through crypto11 alone, in this process.
func rawSigner(b *testing.B, cfg hsm.Config) (sign func(digest []byte) []byte, done func()) {
	pin, err := os.ReadFile(cfg.PIN.File)
	if err != nil {
		b.Fatal(err)
	}
	for _, kv := range cfg.Env {
		k, v, _ := strings.Cut(kv, "=")
		b.Setenv(k, v)
	}
	token, err := crypto11.Configure(&crypto11.Config{Path: cfg.Module, TokenLabel: cfg.Token, Pin: string(pin), MaxSessions: 32})
	if err != nil {
		b.Fatal(err)
	}
	key, err := token.FindKeyPair(nil, []byte("ca-g1"))
	if err != nil || key == nil {
		b.Fatal(key, err)
	}
	return func(digest []byte) []byte {
		sig, err := key.Sign(rand.Reader, digest, crypto.SHA256)
		if err != nil {
			b.Fatal(err)
		}
		return sig
	}, func() { token.Close() }
}

func digestOf(n int) []byte { d := sha256.Sum256(fmt.Appendf(nil, "tbs %d", n)); return d[:] }

// perCall is what a call takes while the other core is busy with others: two cores of a virtual machine may be one and a half.
func perCall(f, others func(digest []byte)) time.Duration {
	var busy sync.WaitGroup
	var over atomic.Bool
	busy.Go(func() {
		for !over.Load() {
			others(nil)
		}
	})
	defer busy.Wait()
	defer over.Store(true)
	n, began := 0, time.Now()
	for ; time.Since(began) < benchRound/4; n++ {
		f(digestOf(n))
	}
	return time.Since(began) / time.Duration(n)
}

// signatures is how many a second the package makes for so many callers with batches of a size.
func signatures(b *testing.B, key *hsm.Key, callers, size int) float64 {
	ctx, cancel := context.WithTimeout(b.Context(), benchRound)
	defer cancel()
	var made atomic.Int64
	var work sync.WaitGroup
	began := time.Now()
	for range callers {
		work.Go(func() {
			for tbs := batch(size); ctx.Err() == nil; {
				_, errs := key.Sign(context.WithoutCancel(ctx), "device", tbs)
				for _, err := range errs {
					if err != nil {
						b.Error(err)
						return
					}
				}
				made.Add(int64(size))
			}
		})
	}
	work.Wait()
	return float64(made.Load()) / time.Since(began).Seconds()
}

// benchSlowToken compares with what a token makes that needs 5 ms a signature and has 32 sessions, and with what crypto11 alone gets out of it here, in one
// process, verifying as we do: a sleep of 5 ms takes longer on a virtual machine whose processors are busy.
func benchSlowToken(b *testing.B) {
	cfg, public, faults := newFaultyKey(b)
	cfg.Signers = 0
	faults.LimitSessions(32, 0)
	faults.Delay(hsmtest.Sign, 5*time.Millisecond)
	token, key := openKey(b, cfg)
	r := token.Reports()[0]
	wait(b, "all signers", func() bool { return token.Stats().Signers == r.Processes })
	var rates, alone []float64
	for range benchRounds {
		rates = append(rates, signatures(b, key, 8, 100))
	}
	token.Close()
	sign, done := rawSigner(b, cfg)
	for range benchRounds {
		alone = append(alone, inParallel(31, func() bool {
			return ecdsa.VerifyASN1(public.(*ecdsa.PublicKey), digestOf(0), sign(digestOf(0)))
		}))
	}
	done()
	row(fmt.Sprintf("5 ms a signature, 32 sessions (%d processes with %d lanes)", r.Processes, r.Lanes), fmt.Sprintf("%.0f/s", medianOf(rates)), "6400/s: 32 / 5 ms", medianOf(rates)/6400)
	row("the same", fmt.Sprintf("%.0f/s", medianOf(rates)), fmt.Sprintf("%.0f/s: crypto11 alone, 31 goroutines that sign and verify", medianOf(alone)), medianOf(rates)/medianOf(alone))
}

// benchReboot compares the time from a token's return to the first good signature with that of a start.
func benchReboot(b *testing.B) {
	cfg, _, faults := newFaultyKey(b)
	var starts, firsts []float64
	for range 15 {
		began := time.Now()
		token, key := openKey(b, cfg)
		starts = append(starts, time.Since(began).Seconds())
		wait(b, "both signers", func() bool { return token.Stats().Signers == 2 })
		away := 300 * time.Millisecond
		faults.Reboot(away)
		back := time.Now().Add(away)
		ctx, cancel := context.WithTimeout(b.Context(), 10*time.Second)
		if _, errs := key.Sign(ctx, "device", batch(1)); errs[0] != nil {
			b.Fatal(errs[0])
		}
		cancel()
		firsts = append(firsts, time.Since(back).Seconds())
		token.Close()
	}
	row("reboot, away for 300 ms: first good signature after its return, p50", fmt.Sprintf("%.0f ms", medianOf(firsts)*1e3), fmt.Sprintf("%.0f ms: a start", medianOf(starts)*1e3), medianOf(firsts)/medianOf(starts))
}
