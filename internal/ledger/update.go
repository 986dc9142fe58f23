package ledger

import (
	"errors"
	"fmt"

	"go.etcd.io/bbolt"
	berrors "go.etcd.io/bbolt/errors"
)

// Update runs fn once and commits what it appended, all or nothing: one sync, one signed checkpoint. Updates run one after another.
// An error or a panic of fn rolls everything back and is handed on as it is. Where fn appended nothing, nothing is written and the newest checkpoint
// is returned. ErrFailed means that the outcome is unknown: what fn appended may be there after the next Open, or not. fn reads through tx: it must not call the
// ledger's own methods.
func (l *Ledger) Update(fn func(tx *Tx) error) (Checkpoint, error) {
	l.write.Lock()
	defer l.write.Unlock()
	if err := l.writable(); err != nil {
		return Checkpoint{}, err
	}
	btx, err := l.begin(true)
	if err != nil {
		return Checkpoint{}, err
	}
	defer btx.Rollback() // does nothing after a commit
	tx, err := newTx(btx, l.cfg.Now)
	if err != nil {
		return Checkpoint{}, err
	}
	if err := fn(tx); err != nil {
		return Checkpoint{}, err
	}
	if tx.broken != nil {
		return Checkpoint{}, tx.broken
	}
	if tx.size == tx.start {
		return l.Checkpoint(), nil
	}
	return l.commit(tx)
}

func (l *Ledger) begin(writable bool) (*bbolt.Tx, error) {
	tx, err := l.db.Begin(writable)
	if errors.Is(err, berrors.ErrDatabaseNotOpen) {
		return nil, ErrClosed
	}
	return tx, err
}

func (l *Ledger) writable() error {
	if l.db.IsReadOnly() {
		return ErrReadOnly
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.failed
}

// commit signs the tree as it is with the transaction, and ends the transaction.
func (l *Ledger) commit(tx *Tx) (Checkpoint, error) {
	checkpoint, err := tx.seal(l.keys.signer)
	if err != nil {
		return Checkpoint{}, err
	}
	id := tx.tx.ID()
	if err := l.finish(tx.tx); err != nil {
		return Checkpoint{}, l.fail(err)
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	l.acked, l.checkpoint = id, checkpoint
	l.settled.Broadcast()
	return checkpoint, nil
}

func (l *Ledger) finish(tx *bbolt.Tx) error {
	if l.faults.Commit != nil {
		return l.faults.Commit(tx.Commit, tx.Rollback)
	}
	return tx.Commit()
}

// Failed says why the ledger takes no more Updates: an error that matches ErrFailed after a write whose outcome is unknown; nil before.
func (l *Ledger) Failed() error {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.failed
}

// fail ends the ledger's life as a writer.
func (l *Ledger) fail(cause error) error {
	err := fmt.Errorf("%w: %w", ErrFailed, cause)
	l.cfg.leaveMarker(cause)
	l.mu.Lock()
	defer l.mu.Unlock()
	l.failed = err
	l.settled.Broadcast()
	return err
}

// View runs fn over a consistent state, beside other Views and the Update that is running. An error of fn is handed on as it is.
// fn only ever sees what was acknowledged: after a failed write View goes on with the state before it, or, where bbolt no longer
// has that, returns ErrFailed. fn must not call Update, which may have to wait for fn.
func (l *Ledger) View(fn func(v *View) error) error {
	tx, err := l.begin(false)
	if err != nil {
		return err
	}
	defer tx.Rollback()
	if err := l.acknowledged(tx.ID()); err != nil {
		return err
	}
	v := newView(tx)
	return fn(&v)
}

// acknowledged waits until the sync of a transaction has returned. bbolt shows a transaction to new readers from its last
// write on, which is before its last sync: whoever acts on it then may act on what a power cut takes back.
// A writer in that stretch needs nothing that a reader holds, so waiting here cannot hold it up.
func (l *Ledger) acknowledged(id int) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	for l.acked < id && l.failed == nil {
		l.settled.Wait()
	}
	if l.acked < id {
		return l.failed
	}
	return nil
}
