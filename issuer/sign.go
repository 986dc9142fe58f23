package issuer

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/certmill/certmill/ca"
	"github.com/certmill/certmill/internal/ledger"
)

const (
	maxSign    = 256 // TBS in one call of a signer
	maxRunning = 4   // calls of one CA's signer at a time: one is answered while the next is signed
)

// job is an open intent: recorded, to be signed. It is the owner's, but for sig and err while a signer has it.
type job struct {
	index    uint64
	intent   intent
	prepared *ca.Prepared
	lane     *lane

	waiters  []*request // the first asked first: it is told that the certificate is new
	attempts int
	due      time.Time // of the next try, while it stands in owner.failed

	sig    []byte
	err    error
	stored uint64 // index of the signature's entry
}

// lane is one CA's way to its signer.
type lane struct {
	authority *ca.Authority
	queue     []*job // to be signed, in order
	running   int    // calls of the signer
	failed    int    // jobs in owner.failed
	away      error  // why the last signature failed; nil after one that did not
}

// room refuses to record more where a token is away: what is recorded must be signed some day, and nobody may be there to wait for it.
func (l *lane) room(limit int) error {
	switch {
	case l.failed < limit:
		return nil
	case l.away != nil:
		return signError(l.away)
	}
	return fmt.Errorf("%d certificates wait for their signature: %w", l.failed, ErrSlowDown)
}

func signError(err error) error { return fmt.Errorf("sign certificate: %w", err) }

// begin takes up an intent that is on disk and counted.
func (o *owner) begin(j *job) {
	o.open[j.index] = j
	o.enqueue(j)
}

func (o *owner) enqueue(j *job) { j.lane.queue = append(j.lane.queue, j) }

var errNotTakenUp = errors.New("open, and could not be taken up at start: see the log of that time")

// await has a request wait for its intent's signature. Where the last try failed the next one begins now: somebody needs it.
func (o *owner) await(r *request) {
	j := o.open[r.index]
	if j == nil {
		r.answers <- answer{err: fmt.Errorf("intent %d: %w", r.index, errNotTakenUp)}
		return
	}
	j.waiters = append(j.waiters, r)
	o.wake(j)
}

// dispatch gives the signers what waits for them.
func (o *owner) dispatch(ctx context.Context) {
	for _, l := range o.lanes {
		for l.running < maxRunning && len(l.queue) > 0 {
			if jobs := o.next(l); len(jobs) > 0 {
				o.sign(ctx, l, jobs)
			}
		}
	}
}

// next takes the longest run of one kind from a lane's queue, and puts aside what is frozen; a clock that is not trusted freezes all.
func (o *owner) next(l *lane) (jobs []*job) {
	taken := 0
	for _, j := range l.queue {
		if len(jobs) == maxSign || len(jobs) > 0 && j.intent.kind != jobs[0].intent.kind {
			break
		}
		taken++
		if err := cmp.Or(o.books.clock.standing(), o.books.stops(j.intent.ca, j.intent.order)); err != nil {
			o.fail(j, err)
			continue
		}
		jobs = append(jobs, j)
	}
	l.queue = slices.Delete(l.queue, 0, taken)
	return jobs
}

// sign has one batch signed beside the owner. The goroutine ends when its batch is taken or the owner has ended.
func (o *owner) sign(ctx context.Context, l *lane, jobs []*job) {
	o.at(pointSending)
	l.running++
	prepared := make([]*ca.Prepared, len(jobs))
	for n, j := range jobs {
		prepared[n] = j.prepared
	}
	o.signers.Go(func() {
		sigs, errs := l.authority.Sign(ctx, prepared)
		for n, j := range jobs {
			j.sig, j.err = sigs[n], errs[n]
		}
		select {
		case o.signed <- jobs:
		case <-o.quit:
		}
	})
}

// take receives a batch that comes back from a signer.
func (o *owner) take(jobs []*job) []*job {
	o.at(pointSigned)
	l := jobs[0].lane
	l.running--
	l.away = nil
	failed := 0
	for _, j := range jobs {
		if j.err == nil {
			continue
		}
		if failed++; l.away == nil {
			l.away = j.err
		}
	}
	if failed > 0 {
		o.log.Error("not signed: the intents stay open and are tried again", "ca", l.authority.Name(),
			"kind", jobs[0].intent.kind, "failed", failed, "of", len(jobs), "first", jobs[0].index, "err", l.away)
	}
	return jobs
}

// record appends the signature. The first one stored is the certificate's for ever, so a second one, however good, is dropped.
func (j *job) record(tx *ledger.Tx) error {
	if j.err != nil {
		return nil
	}
	index, err := put(tx, ledger.Draft{Kind: entrySignature, Payload: encodeSignature(j.index, j.sig), Closes: j.index})
	if !errors.Is(err, ledger.ErrNotOpen) {
		j.stored = index
		return err
	}
	by, sig, signed, err := signatureOf(&tx.View, j.index)
	if err == nil && !signed {
		err = fmt.Errorf("%w: entry %d is neither open nor closed", errStore, j.index)
	}
	j.stored, j.sig = by, sig
	return err
}

// release answers those who wait for a signature that is now on disk.
func (o *owner) release(j *job, cp ledger.Checkpoint) {
	delete(o.open, j.index)
	o.openCount.Add(-1)
	if err := o.books.certify(&j.intent, j.sig); err != nil {
		o.log.Error("a station's certificate cannot be read", "station", j.intent.device, "intent", j.index, "err", err)
	}
	for n, r := range j.waiters {
		r.answers <- answer{intent: j.intent, signature: j.sig, index: j.stored, checkpoint: cp.Note, replayed: n > 0}
	}
	j.waiters = nil
}

// backlog counts what is recorded and waits for a signer.
func (o *owner) backlog() (n int) {
	for _, l := range o.lanes {
		n += len(l.queue)
	}
	return n
}

// busy reports whether anything is being signed or waits for it.
func (o *owner) busy() bool {
	for _, l := range o.lanes {
		if l.running > 0 || len(l.queue) > 0 {
			return true
		}
	}
	return false
}
