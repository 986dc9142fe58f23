package issuer

import (
	"context"
	"fmt"
	"sync"
	"time"

	"github.com/certmill/certmill/internal/ledger"
)

// owner is the goroutine in Run. It alone commits to the ledger, writes the books and knows which intents are open: what stands here is
// touched by no other goroutine, so nothing here has a lock.
type owner struct {
	*Issuer
	lanes  map[string]*lane // by name of CA
	open   map[uint64]*job  // intents without a signature, by index
	failed map[uint64]*job  // those of them that wait for their next try

	alarm   <-chan time.Time // fires when the next try is due; nil while nothing waits
	alarmAt time.Time

	signed  chan []*job   // batches come back here from the signers
	quit    chan struct{} // closed when nobody will take them any more
	signers sync.WaitGroup
}

// maxGather bounds one commit, and with it how long those in it wait for each other.
const maxGather = 1024

// batch is what goes into one commit.
type batch struct {
	signed  []*job   // came back from the signers, with a signature or an error
	changes []change // came from the pool
}

func (b *batch) size() int { return len(b.signed) + len(b.changes) }

// Run finishes open intents, then owns the ledger's commits until ctx ends; it answers what it has begun. An error other than ctx's is a store
// failure: every waiter gets ErrStopped, nothing more is accepted, and the process must end. Run may be called once.
func (i *Issuer) Run(ctx context.Context) error {
	o := &owner{
		Issuer: i,
		lanes:  make(map[string]*lane),
		open:   make(map[uint64]*job),
		failed: make(map[uint64]*job),
		signed: make(chan []*job),
		quit:   make(chan struct{}),
	}
	for name, a := range i.authorities {
		o.lanes[name] = &lane{authority: a}
	}
	signing, cancel := context.WithCancel(context.WithoutCancel(ctx)) // the end of ctx does not end a signature that was begun
	defer o.signers.Wait()
	defer cancel()
	defer close(o.quit)
	orderly := false
	defer func() { i.stopped.Store(!orderly); close(i.ended) }()
	if err := i.books.clock.look(i.now()); err != nil {
		i.log.Error("nothing is issued until somebody says that the clock is right", "err", err)
	}
	if err := o.recover(); err != nil {
		return err
	}
	for ctx.Err() == nil {
		o.dispatch(signing)
		if err := o.commit(o.gather(ctx)); err != nil {
			return err
		}
	}
	if err := o.finish(signing); err != nil {
		return err
	}
	orderly = true
	return ctx.Err()
}

// finish lets the signers end what they have begun; how long that may take is bounded by their own deadline. What fails now is tried again after the next start.
func (o *owner) finish(signing context.Context) error {
	for o.dispatch(signing); o.busy(); o.dispatch(signing) {
		if err := o.commit(batch{signed: o.take(<-o.signed)}); err != nil {
			return err
		}
	}
	return nil
}

// gather waits for something to record and takes what has come beside it. No timer runs: what comes during the commit is the next one's batch.
func (o *owner) gather(ctx context.Context) (b batch) {
	select {
	case r := <-o.inlet():
		b.changes = append(b.changes, r)
	case a := <-o.acts:
		b.changes = append(b.changes, a)
	case jobs := <-o.signed:
		b.signed = o.take(jobs)
	case <-o.alarm:
		o.retry()
	case <-ctx.Done():
	}
	for b.size() < maxGather {
		select {
		case r := <-o.inlet():
			b.changes = append(b.changes, r)
		case a := <-o.acts:
			b.changes = append(b.changes, a)
		case jobs := <-o.signed:
			b.signed = append(b.signed, o.take(jobs)...)
		default:
			return b
		}
	}
	return b
}

// inlet is the pool, unless the signers are so far behind that recording more would only grow our memory: then callers queue up outside.
func (o *owner) inlet() <-chan *request {
	if o.backlog() >= o.limit {
		return nil
	}
	return o.queue
}

// commit is the commit point: one transaction, one sync for everything that was gathered. If we crash before it, nothing of the
// batch has happened and nobody was told that it had. If we crash after it, all of it has happened, and whoever was not told asks again and is told the same.
func (o *owner) commit(b batch) error {
	if b.size() == 0 {
		return nil
	}
	o.pass(b, pointGathered)
	cp, err := o.ledger.Update(func(tx *ledger.Tx) error {
		if err := b.record(o, tx); err != nil {
			return err
		}
		o.pass(b, pointRecorded)
		return nil
	})
	if err != nil {
		return fmt.Errorf("commit: %w", err)
	}
	o.pass(b, pointCommitted)
	b.land(o, cp)
	o.pass(b, pointAnswered)
	return nil
}

// record appends the batch. Signatures go first, so that a request repeated meanwhile finds its own.
func (b *batch) record(o *owner, tx *ledger.Tx) error {
	for _, j := range b.signed {
		if err := j.record(tx); err != nil {
			return err
		}
	}
	for _, c := range b.changes {
		if err := c.record(o, tx); err != nil {
			return err
		}
	}
	return nil
}

// land makes the batch true in memory and answers. All of it is on disk.
func (b *batch) land(o *owner, cp ledger.Checkpoint) {
	o.books.mu.Lock()
	defer o.books.mu.Unlock()
	for _, j := range b.signed {
		if j.err != nil {
			o.fail(j, j.err)
		} else {
			o.release(j, cp)
		}
	}
	for _, c := range b.changes {
		c.land(o, cp)
	}
}
