package main

import (
	"context"
	"fmt"
	"iter"
	"math/rand/v2"
	"os"
	"slices"
	"strconv"
	"sync"
	"testing"
	"time"

	"github.com/certmill/certmill/issuer/client"
)

// TestP8KillServe kills the service at any time under load, 20 times (200 with CERTMILL_TEST_LONG), and after every other kill once more while it
// starts. After each restart every certificate acknowledged since the last one is there byte for byte, every unanswered request can be
// repeated, and no intent is left open; at the end no serial stands twice, the order counts exactly the devices, and the ledger is sound.
func TestP8KillServe(t *testing.T) {
	kills := 20
	if os.Getenv("CERTMILL_TEST_LONG") != "" {
		kills = 200
	}
	p := newTestPlant(t)
	s := p.serve()
	cl := p.station("line-1")
	order := p.order(1_000_000)
	f := &factory{t: t, cl: cl, order: order, acked: make(map[string]client.Answer)}
	for i := range kills {
		f.load(s.kill)
		if i%2 == 0 {
			s = p.begin()
			<-time.After(rand.N(250 * time.Millisecond))
			s.kill()
		}
		s = p.serve()
		f.recheck()
		waitFor(t, 10*time.Second, p.nothingOpen, s.log) // without being asked for any of it
	}
	f.finish(p)
	if code := s.stop(t); code != exitDone {
		t.Errorf("serve ended with %d after SIGTERM\n%s", code, s.log)
	}
	l, err := openLedger(p.cfg, forReading, nil)
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	if err := l.Check(); err != nil {
		t.Error(err)
	}
	t.Logf("P8: %d kills of serve, %d certificates acknowledged, 0 lost, 0 twice", kills+kills/2, len(f.acked))
}

// nothingOpen says whether every intent has its signature.
func (p *testPlant) nothingOpen() error {
	a := p.admin()
	defer a.Close()
	status, err := a.Status(p.t.Context())
	if err == nil && status.OpenIntents != 0 {
		err = fmt.Errorf("%d intents are open", status.OpenIntents)
	}
	return err
}

// factory is a line that never gives up on a device.
type factory struct {
	t     *testing.T
	cl    *client.Client
	order string

	mu      sync.Mutex
	devices int                      // guarded by mu
	open    []client.Request         // guarded by mu: asked, not answered
	acked   map[string]client.Answer // guarded by mu
	fresh   []string                 // guarded by mu: acknowledged since the last restart
}

// load asks from 16 workers, half of them for one certificate at a time and half for sixteen, until kill has returned. The kill comes within
// 200 ms of the first answer.
func (f *factory) load(kill func()) {
	ctx, cancel := context.WithCancel(f.t.Context())
	first, answered := context.WithCancel(ctx)
	defer answered()
	var workers sync.WaitGroup
	for i := range 16 {
		workers.Go(func() {
			for ctx.Err() == nil {
				f.ask(ctx, 1+i%2*15)
				answered()
			}
		})
	}
	<-first.Done()
	<-time.After(rand.N(200 * time.Millisecond))
	kill()
	cancel()
	workers.Wait()
}

// next are n requests: unanswered ones, then new devices.
func (f *factory) next(n int) (reqs []client.Request) {
	f.mu.Lock()
	defer f.mu.Unlock()
	old := min(n, len(f.open))
	reqs = append(reqs, f.open[:old]...)
	f.open = f.open[old:]
	for len(reqs) < n {
		f.devices++
		id := "SENSOR-" + strconv.Itoa(f.devices)
		reqs = append(reqs, client.Request{DeviceID: id, CSR: newCSR(f.t, id)})
	}
	return reqs
}

// ask asks for n certificates. What is not answered stays open.
func (f *factory) ask(ctx context.Context, n int) {
	reqs := f.next(n)
	done := 0
	for a, err := range f.answers(ctx, reqs) {
		if err != nil {
			if ctx.Err() == nil {
				f.t.Errorf("%s: %v", reqs[done].DeviceID, err)
			}
			break
		}
		a.ClientRef = reqs[done].CSR // to ask again with
		f.mu.Lock()
		f.acked[a.DeviceID], f.fresh = a, append(f.fresh, a.DeviceID)
		f.mu.Unlock()
		done++
	}
	f.mu.Lock()
	f.open = append(f.open, reqs[done:]...)
	f.mu.Unlock()
}

// answers asks for one certificate alone and for many in a batch. An error ends it.
func (f *factory) answers(ctx context.Context, reqs []client.Request) iter.Seq2[client.Answer, error] {
	return func(yield func(client.Answer, error) bool) {
		if len(reqs) == 1 {
			yield(f.cl.Issue(ctx, f.order, reqs[0]))
			return
		}
		for l, err := range f.cl.IssueBatch(ctx, f.order, reqs) {
			if l.Problem != nil {
				err = l.Problem
			}
			if !yield(l.Answer, err) || err != nil {
				return
			}
		}
	}
}

// recheck asks again for everything that was acknowledged since the last restart.
func (f *factory) recheck() {
	for some := range slices.Chunk(f.fresh, 500) {
		reqs := make([]client.Request, len(some))
		for i, id := range some {
			reqs[i] = client.Request{DeviceID: id, CSR: f.acked[id].ClientRef}
		}
		done := 0
		for now, err := range f.answers(f.t.Context(), reqs) {
			before := f.acked[some[done]]
			if err != nil || now.Certificate != before.Certificate || !now.Replayed {
				f.t.Fatalf("%s after restart: replayed %v, same bytes %v, %v", some[done], now.Replayed, now.Certificate == before.Certificate, err)
			}
			done++
		}
	}
	f.fresh = nil
}

// finish repeats what is unanswered, then holds every acknowledged certificate against the manifest.
func (f *factory) finish(p *testPlant) {
	for len(f.open) > 0 {
		f.ask(f.t.Context(), 1)
	}
	a := p.admin()
	defer a.Close()
	serials := make(map[string]string)
	devices := make(map[string]string)
	for l, err := range a.Manifest(f.t.Context(), f.order) {
		if err != nil {
			f.t.Fatal(err)
		}
		if other, twice := serials[l.Serial]; twice {
			f.t.Errorf("serial %s stands twice: %s and %s", l.Serial, other, l.DeviceID)
		}
		if _, twice := devices[l.DeviceID]; twice {
			f.t.Errorf("device %s has two certificates", l.DeviceID)
		}
		serials[l.Serial], devices[l.DeviceID] = l.DeviceID, l.CertificateID
	}
	for id, before := range f.acked {
		if devices[id] != before.CertificateID {
			f.t.Errorf("acknowledged certificate of %s is not in the record", id)
		}
	}
	o, err := a.Order(f.t.Context(), f.order)
	if err != nil || o.Issued != uint64(len(devices)) || len(devices) != len(f.acked) {
		f.t.Errorf("order counts %d, manifest %d, acknowledged %d, %v", o.Issued, len(devices), len(f.acked), err)
	}
}
