package issuer

import (
	"context"
	"fmt"

	"github.com/certmill/certmill/internal/ledger"
)

// change is something that a caller waits for. The owner records it inside its next transaction and, once that is on disk, makes it
// true in memory and answers.
type change interface {
	// record appends, or finds out what stands there already. A refusal is kept for land: the error it returns is the store's, and stops everything.
	record(o *owner, tx *ledger.Tx) error
	// land is called after the commit, under books.mu. It must not block.
	land(o *owner, cp ledger.Checkpoint)
}

// answer is what a caller waits for. A request gets a signature, an act only its error.
type answer struct {
	intent     intent
	signature  []byte
	index      uint64 // of the signature's entry
	checkpoint []byte // covers it
	replayed   bool
	err        error
}

// ask joins the pool, or is refused where that is full, and waits. A caller that goes away takes nothing with it: what was recorded for it is
// finished all the same, and found again when it asks once more.
func (i *Issuer) ask(ctx context.Context, r *request) (answer, error) {
	select {
	case <-i.ended:
		return answer{}, i.whyEnded()
	default:
	}
	select {
	case i.queue <- r:
	default:
		return answer{}, fmt.Errorf("%d requests: %w", cap(i.queue), ErrSlowDown)
	}
	return i.wait(ctx, r.answers)
}

// wait waits for an answer, the caller's end, or the owner's.
func (i *Issuer) wait(ctx context.Context, answers <-chan answer) (answer, error) {
	select {
	case a := <-answers:
		return a, a.err
	case <-ctx.Done():
		return answer{}, ctx.Err()
	case <-i.ended:
	}
	select {
	case a := <-answers: // given before the end, so it holds
		return a, a.err
	default:
		return answer{}, i.whyEnded()
	}
}

// whyEnded is the answer to those whom Run did not answer any more.
func (i *Issuer) whyEnded() error {
	if i.stopped.Load() {
		return ErrStopped
	}
	return fmt.Errorf("the service is ending: %w", ErrSlowDown)
}

// act is a change of the books: one document.
type act struct {
	append   func(o *owner, tx *ledger.Tx) (index uint64, err error) // 0: it stands there already
	document document
	err      error
	answers  chan answer
}

// act has the owner append one document. A refusal is handed on as it is. Acts do not stand in line with requests: somebody who stops the
// line must not wait behind it.
func (i *Issuer) act(ctx context.Context, append func(o *owner, tx *ledger.Tx) (index uint64, err error)) error {
	a := &act{append: append, answers: make(chan answer, 1)}
	select {
	case i.acts <- a:
	case <-ctx.Done():
		return ctx.Err()
	case <-i.ended:
		return i.whyEnded()
	}
	_, err := i.wait(ctx, a.answers)
	return err
}

func (a *act) record(o *owner, tx *ledger.Tx) error {
	index, err := a.append(o, tx)
	if err != nil || index == 0 {
		return keep(&a.err, err)
	}
	if a.document, err = o.load(&tx.View, index); err != nil {
		return fmt.Errorf("%w: read back: %w", errStore, err) // the next start could not read it either
	}
	return nil
}

func (a *act) land(o *owner, _ ledger.Checkpoint) {
	if a.document != nil {
		a.document.enter(o.books)
	}
	switch a.document.(type) {
	case *freeze, *clockAccepted:
		o.wakeAll()
	}
	a.answers <- answer{err: a.err}
}
