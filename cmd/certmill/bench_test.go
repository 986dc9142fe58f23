package main

import (
	"context"
	"crypto"
	"crypto/rand"
	"crypto/sha256"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/ThalesIgnite/crypto11"

	"github.com/certmill/certmill/issuer/client"
)

// roundTime is how long each measurement of a round lasts; rounds alternate, and the table shows medians.
const (
	roundTime = 3 * time.Second
	rounds    = 3
)

// BenchmarkService prints how many certificates a second `certmill serve` makes, client on the same machine, beside what the raw token
// signs in the same run. Run it with: make bench.
func BenchmarkService(b *testing.B) {
	p := newTestPlant(b)
	p.serve()
	cl := p.station("line-1")
	order := p.order(100_000_000)
	raw := rawToken(b, p)
	makeDevices := newDeviceSource(b)
	rows := []*benchRow{
		{name: "raw token, crypto11, 2 threads", measure: raw},
		{name: "single, 1 connection", measure: single(cl, order, 1, makeDevices)},
		{name: "single, 8 connections", measure: single(cl, order, 8, makeDevices)},
		{name: "single, 64 connections", measure: single(cl, order, 64, makeDevices)},
		{name: "batches of 100, 4 connections", measure: batches(cl, order, 4, makeDevices)},
	}
	for range rounds {
		for _, r := range rows {
			r.run(b)
		}
	}
	fmt.Printf("\n| work | per second | p50 ms | p99 ms | share of the raw token |\n|---|---|---|---|---|\n")
	for _, r := range rows {
		fmt.Printf("| %s | %.0f | %.1f | %.1f | %.2f |\n", r.name, median(r.rates), median(r.p50), median(r.p99), median(r.rates)/median(rows[0].rates))
		b.ReportMetric(median(r.rates), "certs/s")
	}
}

// benchRow gathers one kind of work over the rounds.
type benchRow struct {
	name            string
	measure         func(ctx context.Context) (took []time.Duration, per int, err error) // per: certificates of one measured call
	rates, p50, p99 []float64
}

func (r *benchRow) run(b *testing.B) {
	b.Helper()
	ctx, cancel := context.WithTimeout(b.Context(), roundTime)
	defer cancel()
	began := time.Now()
	took, per, err := r.measure(ctx)
	elapsed := time.Since(began)
	if err != nil || len(took) == 0 {
		b.Fatalf("%s: %d calls, %v", r.name, len(took), err)
	}
	slices.Sort(took)
	ms := func(share float64) float64 { return float64(took[int(share*float64(len(took)-1))]) / 1e6 }
	r.rates = append(r.rates, float64(len(took)*per)/elapsed.Seconds())
	r.p50, r.p99 = append(r.p50, ms(0.5)), append(r.p99, ms(0.99))
}

func median(v []float64) float64 {
	s := slices.Sorted(slices.Values(v))
	return s[len(s)/2]
}

// newDeviceSource gives requests for devices that have no certificate. Their keys are made beforehand, in bulk, so that the client's
// share of the two cores is what a real station's would be.
func newDeviceSource(b *testing.B) func() client.Request {
	const stock = 60_000
	requests := make([]client.Request, stock)
	var made sync.WaitGroup
	for w := range 2 {
		made.Go(func() {
			for i := w; i < stock; i += 2 {
				id := fmt.Sprintf("BENCH-%07d", i)
				requests[i] = client.Request{DeviceID: id, CSR: newCSR(b, id)}
			}
		})
	}
	made.Wait()
	var next atomic.Int64
	return func() client.Request {
		n := next.Add(1) - 1
		if n < stock {
			return requests[n]
		}
		id := fmt.Sprintf("BENCH-%07d", n)
		return client.Request{DeviceID: id, CSR: newCSR(b, id)}
	}
}

// parallel runs call on n goroutines until ctx ends and gathers how long each call took.
func parallel(ctx context.Context, n int, call func(context.Context) error) (took []time.Duration, err error) {
	var mu sync.Mutex // guards took and err
	var workers sync.WaitGroup
	for range n {
		workers.Go(func() {
			for ctx.Err() == nil {
				began := time.Now()
				failed := call(context.WithoutCancel(ctx))
				mu.Lock()
				took = append(took, time.Since(began))
				if failed != nil {
					err = failed
				}
				mu.Unlock()
			}
		})
	}
	workers.Wait()
	return took, err
}

func single(cl *client.Client, order string, n int, next func() client.Request) func(context.Context) ([]time.Duration, int, error) {
	return func(ctx context.Context) ([]time.Duration, int, error) {
		took, err := parallel(ctx, n, func(ctx context.Context) error {
			_, err := cl.Issue(ctx, order, next())
			return err
		})
		return took, 1, err
	}
}

func batches(cl *client.Client, order string, n int, next func() client.Request) func(context.Context) ([]time.Duration, int, error) {
	return func(ctx context.Context) ([]time.Duration, int, error) {
		took, err := parallel(ctx, n, func(ctx context.Context) error {
			reqs := make([]client.Request, 100)
			for i := range reqs {
				reqs[i] = next()
			}
			for l, err := range cl.IssueBatch(ctx, order, reqs) {
				if err != nil {
					return err
				}
				if l.Problem != nil {
					return l.Problem
				}
			}
			return nil
		})
		return took, 100, err
	}
}

// rawToken signs digests with the issuing CA's key, in this process, through crypto11 alone.
func rawToken(b *testing.B, p *testPlant) func(context.Context) ([]time.Duration, int, error) {
	pin, err := os.ReadFile(filepath.Join(p.dir, softHSMPIN))
	if err != nil {
		b.Fatal(err)
	}
	b.Setenv("SOFTHSM2_CONF", filepath.Join(p.dir, softHSMConf))
	b.Chdir(p.dir) // the token's folder is relative
	token, err := crypto11.Configure(&crypto11.Config{Path: p.cfg.Tokens["main"].Module, TokenLabel: softHSMLabel, Pin: string(pin)})
	if err != nil {
		b.Fatal(err)
	}
	b.Cleanup(func() { token.Close() })
	key, err := token.FindKeyPair(nil, []byte("issuing-g1"))
	if err != nil || key == nil {
		b.Fatalf("issuing key: %v, %v", key, err)
	}
	digest := sha256.Sum256([]byte("tbs"))
	return func(ctx context.Context) ([]time.Duration, int, error) {
		took, err := parallel(ctx, 2, func(context.Context) error {
			_, err := key.Sign(rand.Reader, digest[:], crypto.SHA256)
			return err
		})
		return took, 1, err
	}
}
