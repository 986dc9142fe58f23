package issuer

import (
	"fmt"
	"time"

	"github.com/certmill/certmill/internal/ledger"
)

// Revoked says that a certificate is not good any more from a time on, which may lie ahead.
type Revoked struct {
	At     time.Time `json:"at"`
	Reason string    `json:"reason"`
	By     string    `json:"by"`
}

// revocationEntry is the stored form. The newest one of a certificate holds; a later one may only bring the time forward.
type revocationEntry struct {
	Intent uint64 `json:"intent"`
	Serial string `json:"serial"`
	AtOnce bool   `json:"at_once,omitempty"` // it held when it was recorded, so whatever a clock says later
	Revoked
}

// revocationHead finds the revocation of an intent's certificate, and in their order all there are.
func revocationHead(intent uint64) string { return fmt.Sprintf("revoked/%016x", intent) }

// revocationOf finds what was said about an intent's certificate.
func revocationOf(v *ledger.View, intent uint64) (r revocationEntry, ok bool, err error) {
	index, ok := v.Head(revocationHead(intent))
	if !ok {
		return r, false, nil
	}
	e, err := get(v, index)
	if err != nil {
		return r, false, err
	}
	if err := decodePayload(e, &r); err != nil || e.Kind != entryRevoked || r.Intent != intent {
		return r, false, fmt.Errorf("%w: entry %d is no revocation of entry %d", errStore, index, intent)
	}
	return r, true, nil
}

// notRevoked is ErrRevoked from the time of an intent's revocation on.
func notRevoked(v *ledger.View, intent uint64, now time.Time) error {
	r, found, err := revocationOf(v, intent)
	if err != nil || !found || now.Before(r.At) && !r.AtOnce {
		return err
	}
	return fmt.Errorf("certificate %s, on %s: %s: %w", r.Serial, r.At.Format(time.RFC3339), r.Reason, ErrRevoked)
}

// putRevocation records one, unless the certificate is revoked no later already.
func putRevocation(tx *ledger.Tx, r revocationEntry) error {
	before, found, err := revocationOf(&tx.View, r.Intent)
	if err != nil || found && !before.At.After(r.At) {
		return err
	}
	_, err = put(tx, ledger.Draft{Kind: entryRevoked, Payload: payload(r), Heads: []string{revocationHead(r.Intent)}})
	return err
}
