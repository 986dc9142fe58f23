package issuer

import (
	"bytes"
	"context"
	"errors"
	"slices"
	"sync"
	"testing"

	"github.com/certmill/certmill/internal/ledger"
)

// crashPoints are all names that the owner passes.
func crashPoints() (points []string) {
	for _, what := range []string{"intent ", "signature "} {
		for _, point := range []string{pointGathered, pointRecorded, pointCommitted, pointAnswered} {
			points = append(points, what+point)
		}
	}
	return append(points, pointSending, pointSigned)
}

// P8: a crash at any instant needs no repair. The owner is stopped dead at the first, third and seventh passing of each point, under load; then the ledger
// is opened again, every request is repeated, and everything must be as if nothing had happened.
func TestP8CrashPoints(t *testing.T) {
	var covered []string
	crashes, acknowledged, requests := 0, 0, 0
	for _, point := range crashPoints() {
		t.Run(point, func(t *testing.T) {
			for _, n := range []int{1, 3, 7} {
				w := newWorkload(t)
				w.p.stop()
				w.p.start(crashAt(point, n))
				w.run()
				if !w.p.crashed() {
					continue
				}
				crashes++
				if n == 1 {
					covered = append(covered, point)
				}
				acknowledged += len(w.acknowledged)
				requests += len(w.items)
				w.p.close()
				w.p.start()
				w.check()
			}
		})
	}
	if !slices.Equal(covered, crashPoints()) {
		t.Errorf("points: %q\ncovered: %q", crashPoints(), covered)
	}
	t.Logf("P8: %d crashes at %d of %d points: %d of %d requests were answered before, all of them once after; 0 lost, 0 twice, 0 left open",
		crashes, len(covered), len(crashPoints()), acknowledged, requests)
}

// P8 again and again: the run that finishes what a crash left crashes too, at its first commit of signatures, before and after it.
func TestP8CrashDuringRecovery(t *testing.T) {
	w := newWorkload(t)
	w.p.stop()
	w.p.start(crashAt(pointSending, 1)) // intents on disk, none signed
	w.run()
	for _, point := range []string{pointSending, pointSigned, "signature " + pointRecorded} {
		if !w.p.crashed() {
			t.Fatal("no crash before ", point)
		}
		w.p.close()
		w.p.start(crashAt(point, 1))
		if w.p.OpenIntents() == 0 {
			t.Fatal("nothing was left open")
		}
	}
	if !w.p.crashed() {
		t.Fatal("no crash at the last point")
	}
	w.p.close()
	w.p.start()
	w.p.eventually("start-up has finished what was open", func() bool { return w.p.OpenIntents() == 0 })
	w.check()
}

// P8 with a disk that fails: every commit of the workload in turn, once so that nothing of it is kept and once so that all of it is. An error does
// not mean that it did not happen.
func TestP8FailedCommits(t *testing.T) {
	faults := 0
	for _, kept := range []bool{false, true} {
		for n := 1; n <= 4; n++ {
			w := newWorkload(t)
			w.p.stop()
			w.p.start(failCommit(w.p, n, kept))
			w.run()
			if err := <-w.p.ended; !errors.Is(err, ledger.ErrFailed) {
				t.Fatalf("Run ended with %v", err)
			}
			faults++
			w.p.refuse(w.items[0], ErrStopped)
			w.p.close()
			w.p.start()
			w.check()
		}
	}
	t.Logf("P8: %d failed commits, half of them kept by the disk: every waiter told that issuing stopped, all requests answered once after the restart", faults)
}

// failCommit makes the n-th commit fail.
func failCommit(p *plant, n int, kept bool) func(*Issuer) {
	return func(i *Issuer) {
		i.at = func(point string) {
			if point != "intent "+pointRecorded && point != "signature "+pointRecorded {
				return
			}
			if n--; n != 0 {
				return
			}
			if kept {
				p.disk.KeepNext()
			} else {
				p.disk.LoseNext()
			}
		}
	}
}

// P8 without a crash: what an orderly end leaves, and what the next start finds.
func TestP8OrderlyEnd(t *testing.T) {
	w := newWorkload(t)
	gate := make(chan struct{})
	var once sync.Once
	w.p.tokens["issuing"].breakWith(func(context.Context, [][]byte) error {
		once.Do(func() { w.p.cancel(); close(gate) }) // ctx ends while the token signs
		return nil
	})
	w.run()
	<-gate
	if err := <-w.p.ended; !errors.Is(err, context.Canceled) {
		t.Errorf("Run ended with %v", err)
	}
	if n := w.p.OpenIntents(); n != 0 {
		t.Errorf("%d intents were begun and not ended", n)
	}
	if len(w.acknowledged) == 0 {
		t.Error("what was begun was not answered")
	}
	w.p.refuse(w.items[0], ErrSlowDown)
	w.p.close()
	w.p.start()
	w.check()
}

// crashed waits for the owner's end after a crash; an owner that did not crash is stopped.
func (p *plant) crashed() bool {
	p.cancel()
	err := <-p.ended
	p.ended <- err // for stop
	return err == errCrash
}

// workload is 30 devices for an order of 24, each asked for twice at once, while orders are made.
type workload struct {
	p     *plant
	order string
	items []Item

	mu           sync.Mutex
	acknowledged map[string][]byte // certificates by device
	orders       []string
}

func newWorkload(t *testing.T) *workload {
	p, o := readyPlant(t, 24)
	w := &workload{p: p, order: o.ID, acknowledged: make(map[string][]byte)}
	for n := range 30 {
		w.items = append(w.items, p.item(o.ID, deviceID(n)), p.item(o.ID, deviceID(n)))
	}
	return w
}

// run asks for everything, 6 requests at a time, until all is answered or nobody answers any more.
func (w *workload) run() {
	var wg sync.WaitGroup
	for worker := range 6 {
		wg.Go(func() {
			for n := worker; n < len(w.items); n += 6 {
				w.ask(w.items[n])
			}
			if worker%3 == 0 {
				w.makeOrder()
			}
		})
	}
	wg.Wait()
}

func (w *workload) ask(it Item) {
	c, err := w.p.Submit(w.p.Context(), it)
	if err != nil {
		return
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	if before := w.acknowledged[it.DeviceID]; before != nil && !bytes.Equal(before, c.DER) {
		w.p.Errorf("%s got two certificates", it.DeviceID)
	}
	w.acknowledged[it.DeviceID] = c.DER
}

func (w *workload) makeOrder() {
	o, err := w.p.CreateOrder(w.p.Context(), OrderSpec{Product: "side", Profile: "device", Quantity: 1}, "test")
	if err != nil {
		return
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	w.orders = append(w.orders, o.ID)
}

// check repeats every request and compares what stands with what was promised.
func (w *workload) check() {
	w.p.Helper()
	before := len(w.acknowledged)
	w.run()
	if len(w.acknowledged) != 24 {
		w.p.Errorf("%d devices have a certificate, %d had one before the crash, want 24", len(w.acknowledged), before)
	}
	for _, id := range w.orders {
		if _, err := w.p.Order(id); err != nil {
			w.p.Errorf("acknowledged order: %v", err)
		}
	}
	w.p.eventually("no open intents", func() bool { return w.p.OpenIntents() == 0 })
	w.compareManifest()
	if err := w.p.ledger.Check(); err != nil {
		w.p.Error(err)
	}
}

// compareManifest holds the ledger's own account against the answers.
func (w *workload) compareManifest() {
	w.p.Helper()
	lines, serials := 0, make(map[string]bool)
	for line, err := range w.p.Manifest(w.order) {
		w.p.must(err)
		lines++
		serials[line.Serial] = true
		if w.acknowledged[line.DeviceID] == nil {
			w.p.Errorf("%s is in the manifest and nobody was told", line.DeviceID)
		}
	}
	if now := w.p.orderNow(w.order); lines != 24 || len(serials) != 24 || now.Issued != 24 {
		w.p.Errorf("%d lines, %d serials, counter %d, want 24", lines, len(serials), now.Issued)
	}
}
