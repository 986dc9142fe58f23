package issuer

import (
	"cmp"
	"errors"
	"fmt"
	"io"
	"time"

	"github.com/certmill/certmill/ca"
	"github.com/certmill/certmill/internal/ledger"
)

// subject is what a certificate is asked for: a device, a station, the service itself, a proof for AWS.
type subject interface {
	// find looks for the intent that answers this request already; an error says what in the ledger stands against it.
	find(v *ledger.View, now time.Time) (index uint64, found bool, err error)
	// allowed says whether a new certificate may be made now. It reads the books as the owner: without a lock.
	allowed(b *books, now time.Time) error
	// prepare makes the TBS.
	prepare(s ca.Serial, now time.Time) (*ca.Prepared, error)
	// draft is the intent but for its TBS, and the claims, debits and heads of its entry.
	draft() (intent, ledger.Draft)
	// landed is called under books.mu when a new intent of it is on disk.
	landed(b *books)
}

// follower is a subject with an entry of its own right behind its intent. Nothing in the ledger may refuse that entry.
type follower interface {
	follow(tx *ledger.Tx, intent uint64) error
}

// request asks for one certificate of any kind.
type request struct {
	subject   subject
	authority *ca.Authority
	answers   chan answer

	// What record found out, for land. The owner's alone.
	index uint64  // of the intent
	fresh *job    // where record made that intent
	found *answer // where its signature is there already
	err   error
}

func newRequest(s subject, a *ca.Authority) *request {
	return &request{subject: s, authority: a, answers: make(chan answer, 1)}
}

// record finds the intent of an equal request, or makes one: find, then standing, then the entry that claims and debits. So what was made is
// handed out again whatever has become of its order, and no order is debited for it.
func (r *request) record(o *owner, tx *ledger.Tx) error {
	now := o.now()
	clock := o.books.clock.look(now)
	index, found, err := r.subject.find(&tx.View, o.books.clock.best(now))
	switch {
	case err != nil:
		return keep(&r.err, err)
	case found:
		r.index = index
		return r.recall(&tx.View)
	}
	if err := cmp.Or(clock, r.subject.allowed(o.books, now)); err != nil {
		return keep(&r.err, err)
	}
	return keep(&r.err, o.intend(tx, r, now))
}

// recall takes the signature of the intent that was found, if it is there.
func (r *request) recall(v *ledger.View) error {
	by, sig, signed, err := signatureOf(v, r.index)
	if err != nil || !signed {
		return err
	}
	in, err := intentAt(v, r.index)
	r.found = &answer{intent: in, signature: sig, index: by, replayed: true}
	return err
}

// land answers, or leaves the request waiting for the signature of its intent.
func (r *request) land(o *owner, cp ledger.Checkpoint) {
	switch {
	case r.err != nil:
		r.answers <- answer{err: r.err}
	case r.found != nil:
		r.found.checkpoint = cp.Note
		r.answers <- *r.found
	default:
		if r.fresh != nil {
			r.subject.landed(o.books)
			o.openCount.Add(1)
			o.begin(r.fresh)
		}
		o.await(r)
	}
}

// keep puts a refusal aside for its caller; the store's own errors go on.
func keep(refusal *error, err error) error {
	if errors.Is(err, errStore) {
		return err
	}
	*refusal = err
	return nil
}

// intend records what is about to be signed: number, serial and TBS are made here, inside the transaction, where the number is known. From the
// commit on this is the only TBS that will ever be signed for the request, however often it is repeated.
func (o *owner) intend(tx *ledger.Tx, r *request, now time.Time) error {
	in, d := r.subject.draft()
	l := o.lanes[in.ca]
	if err := l.room(o.limit); err != nil {
		return err
	}
	index := tx.Next()
	s, err := o.serial(r.authority, index)
	if err != nil {
		return err
	}
	prepared, err := r.subject.prepare(s, now)
	if err != nil {
		return fmt.Errorf("prepare certificate: %w", err)
	}
	in.tbs = prepared.TBS()
	d.Kind, d.Payload, d.Opens = entryIntent, in.encode(), true
	if err := authorise(&in, o.books.cas[in.ca].Role, &d); err != nil {
		return err
	}
	if _, err := put(tx, d); err != nil {
		return refusalOf(err)
	}
	r.index, r.fresh = index, &job{index: index, intent: in, prepared: prepared, lane: l}
	if f, ok := r.subject.(follower); ok {
		if err := f.follow(tx, index); err != nil {
			return fmt.Errorf("%w: what follows entry %d: %w", errStore, index, err)
		}
	}
	return nil
}

// serial makes the serial of the entry that is about to be appended.
func (o *owner) serial(a *ca.Authority, index uint64) (ca.Serial, error) {
	var random [8]byte
	if _, err := io.ReadFull(o.random, random[:]); err != nil {
		return ca.Serial{}, fmt.Errorf("random number for a serial: %w", err)
	}
	return ca.NewSerial(a.Prefix(), o.ledger.Epoch(), o.ledger.Cipher(), index, random), nil
}

// refusalOf gives the ledger's no the name that callers know. Claims are not refused here: find has looked at them in the same transaction.
func refusalOf(err error) error {
	var exhausted *ledger.ExhaustedError
	if errors.As(err, &exhausted) {
		return ErrOrderFull
	}
	return err
}
