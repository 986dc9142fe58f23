package issuer

import (
	"errors"
	"fmt"

	"github.com/certmill/certmill/internal/ledger"
)

// Errors a caller branches on. internal/server maps them to problems in one table.
var (
	ErrInvalid        = errors.New("not valid") // what an administrator asked for; the text says what is wrong with it
	ErrOrderUnknown   = errors.New("order unknown")
	ErrOrderFull      = errors.New("order full")
	ErrOrderClosed    = errors.New("order closed, expired or not begun")
	ErrFrozen         = errors.New("frozen") // order, CA or all
	ErrStation        = errors.New("station not allowed")
	ErrDevice         = errors.New("device not in order")
	ErrHasCertificate = errors.New("device has a certificate")
	ErrKeyInUse       = errors.New("key in use")
	ErrSlowDown       = errors.New("too much waiting")
	ErrNotFound       = errors.New("not found")
	ErrExists         = errors.New("exists")
	ErrRevoked        = errors.New("certificate revoked")
	ErrChallenge      = errors.New("challenge not good") // of another certificate or service, or too old
	ErrProof          = errors.New("signature wrong")    // of a confirmation
	ErrClock          = errors.New("clock not trusted")
	ErrStopped        = errors.New("store failed, issuing stopped")
)

// errStore marks an error that is the store's and not a no: nothing may be concluded from it but that we must stop.
var errStore = errors.New("store")

// isRefusal tells the ledger's three ways to say no from its failures.
func isRefusal(err error) bool {
	var claimed *ledger.ClaimedError
	var exhausted *ledger.ExhaustedError
	return errors.As(err, &claimed) || errors.As(err, &exhausted) || errors.Is(err, ledger.ErrNotOpen)
}

// put appends a draft. What is not a refusal is the store's failure.
func put(tx *ledger.Tx, d ledger.Draft) (uint64, error) {
	index, err := tx.Append(d)
	if err != nil && !isRefusal(err) {
		return 0, fmt.Errorf("%w: append %s: %w", errStore, d.Kind, err)
	}
	return index, err
}

// get reads an entry that another one, or an index, says is there.
func get(v *ledger.View, index uint64) (ledger.Entry, error) {
	e, err := v.Entry(index)
	if err != nil {
		return e, fmt.Errorf("%w: %w", errStore, err)
	}
	return e, nil
}
