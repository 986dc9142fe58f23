package main

import (
	"context"
	"fmt"
	"math/rand/v2"
	"os"
	"strconv"
	"sync"
	"testing"
	"time"

	"github.com/certmill/certmill/issuer/client"
)

// TestP8KillServe kills the service at any time under load, 20 times (200 with CERTMILL_TEST_LONG). After each restart every
// acknowledged certificate is there byte for byte, every unanswered request can be repeated, and no intent is left open; at the end no
// serial stands twice and the order counts exactly the devices.
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
	for range kills {
		f.load(time.Duration(20+rand.IntN(200))*time.Millisecond, s.kill)
		s = p.serve()
		f.recheck()
		a := p.admin()
		waitFor(t, 20*time.Second, func() error { // it answers while it still finishes them
			status, err := a.Status(t.Context())
			if err == nil && status.OpenIntents != 0 {
				err = fmt.Errorf("%d open intents", status.OpenIntents)
			}
			return err
		}, s.log)
		a.Close()
	}
	f.finish(p)
	if code := s.stop(t); code != exitDone {
		t.Errorf("serve ended with %d after SIGTERM\n%s", code, s.log)
	}
	t.Logf("P8: %d kills of serve, %d certificates acknowledged, 0 lost, 0 twice", kills, len(f.acked))
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
}

// load asks from 16 workers until kill has returned.
func (f *factory) load(after time.Duration, kill func()) {
	ctx, cancel := context.WithCancel(f.t.Context())
	var workers sync.WaitGroup
	for range 16 {
		workers.Go(func() {
			for ctx.Err() == nil {
				f.ask(ctx, f.next())
			}
		})
	}
	<-time.After(after)
	kill()
	cancel()
	workers.Wait()
}

// next is an unanswered request, or a new device.
func (f *factory) next() client.Request {
	f.mu.Lock()
	defer f.mu.Unlock()
	if n := len(f.open); n > 0 {
		r := f.open[n-1]
		f.open = f.open[:n-1]
		return r
	}
	f.devices++
	id := "SENSOR-" + strconv.Itoa(f.devices)
	return client.Request{DeviceID: id, CSR: newCSR(f.t, id)}
}

func (f *factory) ask(ctx context.Context, r client.Request) {
	a, err := f.cl.Issue(ctx, f.order, r)
	f.mu.Lock()
	defer f.mu.Unlock()
	if err != nil {
		f.open = append(f.open, r)
		if ctx.Err() == nil {
			f.t.Errorf("%s: %v", r.DeviceID, err)
		}
		return
	}
	f.remember(r, a)
}

// remember keeps an answer with the request that can be repeated. It is called with mu held.
func (f *factory) remember(r client.Request, a client.Answer) {
	a.ClientRef = r.CSR // to ask again with
	f.acked[r.DeviceID] = a
}

// recheck asks again for a sample of what was acknowledged, the newest always among it: maps are walked at random.
func (f *factory) recheck() {
	n := 0
	for id, before := range f.acked {
		if n++; n > 50 {
			return
		}
		now, err := f.cl.Issue(f.t.Context(), f.order, client.Request{DeviceID: id, CSR: before.ClientRef})
		if err != nil || now.Certificate != before.Certificate || !now.Replayed {
			f.t.Fatalf("%s after restart: replayed %v, same bytes %v, %v", id, now.Replayed, now.Certificate == before.Certificate, err)
		}
	}
}

// finish repeats what is unanswered, then holds every acknowledged certificate against the manifest.
func (f *factory) finish(p *testPlant) {
	for len(f.open) > 0 {
		f.ask(f.t.Context(), f.next())
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
