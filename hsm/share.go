package hsm

import (
	"context"
	"crypto"
	"errors"
	"fmt"
)

// share is a piece of a batch on its way through one signer after another, until every item has a result or a final error. While a
// lane has it, it is the lane's; run gets it back over done.
type share struct {
	op     byte
	key    uint16
	kind   string
	items  [][]byte
	public crypto.PublicKey // to verify with; nil where the results are no signatures

	results [][]byte
	errs    []error // final ones
	fresh   []int   // results that are not verified yet
	last    error   // why the open items have no result yet
	lost    bool    // the answer to an earlier try never came: it may have been carried out
	done    chan struct{}
	ctx     context.Context // of the caller: a lane drops a share that nobody waits for
}

func newShare(op byte, key uint16, kind string, items [][]byte, public crypto.PublicKey) *share {
	return &share{op: op, key: key, kind: kind, items: items, public: public,
		results: make([][]byte, len(items)), errs: make([]error, len(items))}
}

// open lists the items without result; of an op that is no signature, all belong together.
func (s *share) open() (at []int) {
	for i := range s.items {
		if s.results[i] == nil && s.errs[i] == nil {
			at = append(at, i)
		}
	}
	if s.op != opSign && (s.results[0] != nil || s.errs[0] != nil) {
		return nil
	}
	return at
}

// run gives a share to the signers, again and again, until it is done or ctx ends: a fault that is over before that is nobody's business. The error is for the items that are still open.
func (t *Token) run(ctx context.Context, s *share) error {
	if _, limited := ctx.Deadline(); !limited {
		var cancel context.CancelFunc
		ctx, cancel = context.WithTimeoutCause(ctx, patience, fmt.Errorf("no signer answered within %v: %w", patience, ErrUnavailable))
		defer cancel()
	}
	for first := true; len(s.open()) > 0; first = false {
		try := *s // a lane may keep a share past our patience: it never writes into what we return
		try.results, try.errs = append([][]byte(nil), s.results...), append([]error(nil), s.errs...)
		try.done, try.ctx, try.fresh = make(chan struct{}), ctx, nil
		if err := t.enqueue(ctx, &try, first); err != nil {
			return err
		}
		select {
		case <-try.done:
			s.results, s.errs, s.last, s.lost = try.results, try.errs, try.last, s.lost || try.last != nil
		case <-ctx.Done():
			return t.overdue(ctx, s)
		case <-t.closed:
			return fmt.Errorf("token was closed: %w", ErrUnavailable)
		}
		if len(s.open()) > 0 && ctx.Err() != nil {
			return t.overdue(ctx, s)
		}
	}
	return nil
}

// patience is how long a batch without a deadline of its own is tried.
const patience = startLimit

// enqueue puts a share where every lane takes from. A new one is refused where the queue is full; one that a failing token gave back waits.
func (t *Token) enqueue(ctx context.Context, s *share, isNew bool) error {
	select {
	case t.queue <- s:
		return nil
	default:
	}
	if isNew {
		return ErrBusy
	}
	select {
	case t.queue <- s:
		return nil
	case <-ctx.Done():
		return t.overdue(ctx, s)
	case <-t.closed:
		return fmt.Errorf("token was closed: %w", ErrUnavailable)
	}
}

func (t *Token) overdue(ctx context.Context, s *share) error {
	err := context.Cause(ctx)
	if !errors.Is(err, ErrUnavailable) {
		err = fmt.Errorf("%w: %w", ErrUnavailable, err)
	}
	return errors.Join(err, s.last, t.Ready())
}
