package ledger

import (
	"errors"
	"fmt"
)

// ClaimedError says that a claim is already held.
type ClaimedError struct {
	Claim  Claim
	Holder uint64 // the entry that holds it
}

// Error leaves out the key, because errors get logged and keys may be sensitive.
func (e *ClaimedError) Error() string {
	return fmt.Sprintf("%s already claimed by entry %d", e.Claim.Space, e.Holder)
}

// ExhaustedError says that a debit would pass its limit.
type ExhaustedError struct {
	Counter      string
	Value, Limit uint64
}

// Error tells the counter's standing.
func (e *ExhaustedError) Error() string {
	return fmt.Sprintf("%s stands at %d of %d", e.Counter, e.Value, e.Limit)
}

var (
	// ErrNotOpen is returned when an entry closes one that is not open.
	ErrNotOpen = errors.New("entry is not open")
	// ErrFailed is returned by every Update after one whose outcome on disk is unknown: the process must end, the next start finds out.
	ErrFailed = errors.New("ledger write failed, outcome unknown")
	// ErrInUse is returned by Open while another process has the ledger open.
	ErrInUse = errors.New("ledger is in use by another process")
	// ErrClosed is returned by View and Update after Close.
	ErrClosed = errors.New("ledger is closed")
	// ErrNetwork is returned by Create on a network file system: locks and syncs do not mean there what they mean here.
	ErrNetwork = errors.New("a ledger must not lie on a network file system")
	// ErrReadOnly is returned by Update of a ledger that was opened with OpenReadOnly.
	ErrReadOnly = errors.New("ledger is open for reading only")
)
