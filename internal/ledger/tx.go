package ledger

import (
	"fmt"
	"time"

	"go.etcd.io/bbolt"
)

// Tx reads and appends. It is valid until the function that it was given to returns, and is not for concurrent use.
type Tx struct {
	View
	now    func() time.Time
	last   int64  // time of the newest entry, in ms
	arena  []byte // bbolt keeps the values it is given until the commit, so they are cut from here and never reused
	start  uint64 // size before the first append
	broken error  // an append that stopped half-way: nothing may be committed
}

func newTx(btx *bbolt.Tx, now func() time.Time) (*Tx, error) {
	tx := &Tx{View: newView(btx), now: now}
	tx.start = tx.size
	if tx.size == 0 {
		return tx, nil
	}
	newest, err := tx.entry(tx.size - 1)
	if err != nil {
		return nil, err
	}
	tx.last = newest.Time.UnixMilli()
	return tx, nil
}

// Next is the index that the next Append gets.
func (tx *Tx) Next() uint64 { return tx.size }

// Append adds an entry. Where it returns a *ClaimedError, an *ExhaustedError, ErrNotOpen, or the error of a draft that is malformed, nothing of the
// draft is in the transaction, which goes on as before. What was appended is seen by the readers of the same Tx. The draft may be reused.
func (tx *Tx) Append(d Draft) (index uint64, err error) {
	if d.Kind == kindGenesis || d.Kind == kindBoot {
		return 0, fmt.Errorf("kind %q is the ledger's own", d.Kind)
	}
	return tx.append(&d)
}

// append decides first and writes afterwards, so that a draft that is refused leaves nothing behind.
func (tx *Tx) append(d *Draft) (uint64, error) {
	if tx.broken != nil {
		return 0, tx.broken
	}
	if err := d.check(); err != nil {
		return 0, err
	}
	rows, err := tx.admit(d)
	if err != nil {
		return 0, err
	}
	e := Entry{Index: tx.size, Time: tx.time(), Draft: *d}
	if err := tx.write(&e, rows); err != nil {
		tx.broken = fmt.Errorf("append entry %d: %w", e.Index, err)
		return 0, tx.broken
	}
	tx.size, tx.last = tx.size+1, e.Time.UnixMilli()
	return e.Index, nil
}

// time never goes back, whatever the clock does.
func (tx *Tx) time() time.Time {
	return time.UnixMilli(min(max(tx.last, tx.now().UnixMilli()), maxMillis)).UTC()
}

// admitted is what admit looked up and write will need again.
type admitted struct {
	claims   [][]byte // keys of the claims' rows
	counters []uint64 // values after the debits
}

// admit asks the ledger whether it can take the draft, and changes nothing.
func (tx *Tx) admit(d *Draft) (admitted, error) {
	var a admitted
	for _, c := range d.Claims {
		k := claimKey(c)
		holder, held, err := tx.holder(c, k)
		if err != nil {
			return a, err
		}
		if held {
			return a, &ClaimedError{Claim: c, Holder: holder}
		}
		a.claims = append(a.claims, k)
	}
	for _, b := range d.Debits {
		value := tx.Counter(b.Counter)
		if value > b.Limit || b.Amount > b.Limit-value {
			return a, &ExhaustedError{Counter: b.Counter, Value: value, Limit: b.Limit}
		}
		a.counters = append(a.counters, value+b.Amount)
	}
	if d.Closes != 0 && !tx.isOpen(d.Closes) {
		return a, fmt.Errorf("close entry %d: %w", d.Closes, ErrNotOpen)
	}
	return a, nil
}
