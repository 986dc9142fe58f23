package issuer

import (
	"bytes"
	"context"
	"errors"
	"sync/atomic"
	"testing"
	"time"

	"github.com/certmill/certmill/ca"
	"github.com/certmill/certmill/internal/ledger"
)

// While a token is away the owner tries again by itself, ever more seldom, always the same TBS.
func TestRetriesWhileTokenIsAway(t *testing.T) {
	p, o := readyPlant(t, 10)
	tok := p.tokens["issuing"]
	tried := make(chan string, 1)
	away := true // read by the token, written before its channel is read
	tok.breakWith(func(_ context.Context, tbs [][]byte) error {
		tried <- string(tbs[0])
		if away {
			return errAway
		}
		return nil
	})
	done := make(chan struct{})
	go func() { defer close(done); p.refuse(p.item(o.ID, "DEMO-000001"), errAway) }()
	first := <-tried
	<-done
	delay, tries := firstRetry, 0
	for range 8 {
		p.eventually("the owner waits for its next try", func() bool { return p.clock.waiting() == 1 })
		if got := p.clock.left(); got != delay {
			t.Fatalf("try %d comes after %s, want %s", tries+2, got, delay)
		}
		p.clock.advance(delay)
		if again := <-tried; again != first {
			t.Fatal("another TBS was sent to the token")
		}
		tries++
		delay = min(2*delay, lastRetry)
	}
	p.eventually("the owner waits for its next try", func() bool { return p.clock.waiting() == 1 })
	away = false
	p.clock.advance(lastRetry)
	<-tried
	p.eventually("signed", func() bool { return p.OpenIntents() == 0 })
	c := p.submit(p.item(o.ID, "DEMO-000001"))
	if cert := mustParse(t, c.DER); string(cert.RawTBSCertificate) != first {
		t.Error("the certificate is not of the TBS that was recorded first")
	}
	t.Logf("%d tries while the token was away, %s to %s apart", tries, firstRetry, lastRetry)
}

func (c *testClock) waiting() int {
	c.mu.Lock()
	defer c.mu.Unlock()
	return len(c.timers)
}

// left is the time to the only timer.
func (c *testClock) left() time.Duration {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.timers[0].due - c.offset
}

// The first signature stored is the certificate's for ever: a second one, however good, is dropped, and who waits gets the first.
func TestFirstSignatureWins(t *testing.T) {
	p, o := readyPlant(t, 10)
	c := p.submit(p.item(o.ID, "DEMO-000001"))
	index := c.Serial.Sequence(p.ledger.Cipher())
	late := &job{index: index, sig: []byte("another signature of the same TBS")}
	size := p.ledger.Checkpoint().Size
	_, err := p.ledger.Update(func(tx *ledger.Tx) error { return late.record(tx) })
	p.must(err)
	der, err := ca.Assemble(mustParse(t, c.DER).RawTBSCertificate, late.sig)
	p.must(err)
	if late.stored != c.Index || !bytes.Equal(der, c.DER) || p.ledger.Checkpoint().Size != size {
		t.Errorf("the late signature stands at %d, the first at %d; %d new entries", late.stored, c.Index, p.ledger.Checkpoint().Size-size)
	}
}

// One TBS that the signer refuses stays open and seen, and holds nobody else up.
func TestRefusedTBSStaysOpen(t *testing.T) {
	p, o := readyPlant(t, 10)
	var refused atomic.Pointer[string] // the first TBS that comes, for ever
	p.tokens["issuing"].breakWith(func(_ context.Context, tbs [][]byte) error {
		this := string(tbs[0])
		if refused.CompareAndSwap(nil, &this) || *refused.Load() == this {
			return errRefuse
		}
		return nil
	})
	p.refuse(p.item(o.ID, "DEMO-000001"), errRefuse)
	for n := range 5 {
		p.submit(p.item(o.ID, deviceID(100+n)))
	}
	p.refuse(p.item(o.ID, "DEMO-000001"), errRefuse)
	if p.OpenIntents() != 1 || p.orderNow(o.ID).Issued != 6 {
		t.Errorf("%d open, %d issued", p.OpenIntents(), p.orderNow(o.ID).Issued)
	}
}

// A caller that goes away loses nothing: its certificate is made and found again.
func TestCallerGoesAway(t *testing.T) {
	p, o := readyPlant(t, 10)
	signing, release := make(chan struct{}), make(chan struct{})
	p.tokens["issuing"].breakWith(func(context.Context, [][]byte) error {
		signing <- struct{}{}
		<-release
		return nil
	})
	ctx, cancel := context.WithCancel(p.Context())
	it := p.item(o.ID, "DEMO-000001")
	gone := make(chan error)
	go func() { _, err := p.Submit(ctx, it); gone <- err }()
	<-signing
	cancel()
	if err := <-gone; !errors.Is(err, context.Canceled) {
		t.Errorf("the caller that went away: %v", err)
	}
	close(release)
	c := p.submit(it)
	if p.orderNow(o.ID).Issued != 1 || p.tokens["issuing"].signed.Load() != 1 {
		t.Errorf("%d issued, %d signatures", p.orderNow(o.ID).Issued, p.tokens["issuing"].signed.Load())
	}
	if again := p.submit(it); string(again.DER) != string(c.DER) {
		t.Error("another certificate")
	}
}

// The pool is bounded, and so is what is recorded for a token that is away.
func TestBounds(t *testing.T) {
	p, o := readyPlant(t, 1000)
	p.stop()
	small := func(i *Issuer) { i.queue, i.limit = make(chan *request, 4), 4 }
	p.open(small) // nobody runs: the queue fills up
	ctx, cancel := context.WithCancel(p.Context())
	full := make(chan error, 5)
	for n := range 5 {
		it := p.item(o.ID, deviceID(n))
		go func() { _, err := p.Submit(ctx, it); full <- err }()
	}
	if err := <-full; !errors.Is(err, ErrSlowDown) {
		t.Errorf("the fifth of four: %v", err)
	}
	cancel()
	for range 4 {
		if err := <-full; !errors.Is(err, context.Canceled) {
			t.Error(err)
		}
	}
	p.close()

	p.start(small)
	var asked atomic.Int64
	p.tokens["issuing"].breakWith(func(context.Context, [][]byte) error { asked.Add(1); return errAway })
	for n := range 20 {
		p.refuse(p.item(o.ID, deviceID(n)), errAway)
	}
	if n := p.OpenIntents(); n != 4 || p.orderNow(o.ID).Issued != 4 {
		t.Errorf("%d intents were recorded for a token that is away, %d debited, want 4", n, p.orderNow(o.ID).Issued)
	}
	p.tokens["issuing"].breakWith(nil)
	p.clock.advance(lastRetry)
	for n := range 20 {
		p.submit(p.item(o.ID, deviceID(n)))
	}
	if p.orderNow(o.ID).Issued != 20 || p.OpenIntents() != 0 {
		t.Errorf("%d issued, %d open", p.orderNow(o.ID).Issued, p.OpenIntents())
	}
}

// An idle service answers one request without waiting for others: there is no gathering timer.
func TestNoTimerWhenIdle(t *testing.T) {
	p, o := readyPlant(t, 10)
	p.stop()
	p.start(func(i *Issuer) {
		i.after = func(d time.Duration) <-chan time.Time { t.Errorf("a timer of %s was set", d); return nil }
	})
	p.submit(p.item(o.ID, "DEMO-000001"))
}

// Who stops the line does not stand in line: a freeze is recorded though the token hangs and everything waits.
func TestFreezeWhileTokenHangs(t *testing.T) {
	p, o := readyPlant(t, 1000)
	p.stop()
	p.start(func(i *Issuer) { i.queue, i.limit = make(chan *request, 2), 2 })
	hang := make(chan struct{})
	p.tokens["issuing"].breakWith(func(context.Context, [][]byte) error { <-hang; return nil })
	ctx, cancel := context.WithCancel(p.Context())
	results := make(chan error, 40)
	for n := range cap(results) {
		it := p.item(o.ID, deviceID(n))
		go func() { _, err := p.Submit(ctx, it); results <- err }()
	}
	p.eventually("the pool is full", func() bool { return len(p.queue) == cap(p.queue) })
	p.must(p.Freeze(p.Context(), Target{Kind: "all"}, "token hangs", "test"))
	cancel()
	close(hang)
	for range cap(results) {
		<-results
	}
	it, last := p.item(o.ID, deviceID(999)), error(nil)
	p.eventually("the pool is empty again", func() bool {
		_, last = p.Submit(p.Context(), it)
		return !errors.Is(last, ErrSlowDown)
	})
	if !errors.Is(last, ErrFrozen) {
		t.Errorf("after the freeze: %v", last)
	}
}
