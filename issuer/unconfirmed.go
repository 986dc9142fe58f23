package issuer

import (
	"errors"
	"fmt"
	"iter"
	"time"

	"github.com/certmill/certmill/internal/ledger"
)

// Unconfirmed is a device that got its certificate and has not shown its key since.
type Unconfirmed struct {
	DeviceID string    `json:"device_id"`
	Slot     string    `json:"slot,omitempty"` // "": main
	Serial   string    `json:"serial"`
	Station  string    `json:"station"`
	Signed   time.Time `json:"signed"`
}

// Unconfirmed yields the devices of an order whose certificate is older than a limit, not confirmed and not revoked, the oldest first. An error is the last thing it
// yields: ErrOrderUnknown, or the store's. It reads the log as Manifest does, and in the same stretches.
func (i *Issuer) Unconfirmed(id string, older time.Duration) iter.Seq2[Unconfirmed, error] {
	return func(yield func(Unconfirmed, error) bool) {
		i.books.mu.RLock()
		o := i.books.orders[id]
		i.books.mu.RUnlock()
		if o == nil {
			yield(Unconfirmed{}, fmt.Errorf("order %q: %w", id, ErrOrderUnknown))
			return
		}
		u := unconfirmed{order: id, next: o.index, now: i.best(), until: i.now().Add(-older)}
		for !u.done {
			found, err := u.stretch(i.ledger)
			for _, one := range found {
				if !yield(one, nil) {
					return
				}
			}
			if err != nil {
				yield(Unconfirmed{}, fmt.Errorf("unconfirmed devices of order %s: %w", id, err))
				return
			}
		}
	}
}

// unconfirmed is how far the reading has come.
type unconfirmed struct {
	order      string
	next       uint64
	now, until time.Time
	done       bool
}

// stretch reads those among the next entries. The log's times never go back, so the first that is too young ends it.
func (u *unconfirmed) stretch(l *ledger.Ledger) (found []Unconfirmed, err error) {
	from := u.next
	err = l.View(func(v *ledger.View) error {
		for e, err := range v.Entries(from) {
			switch {
			case err != nil:
				return err
			case e.Index >= from+manifestStretch:
				return nil
			case e.Time.After(u.until):
				u.done = true
				return nil
			}
			u.next = e.Index + 1
			one, ok, err := u.look(v, e)
			if err != nil {
				return err
			}
			if ok {
				found = append(found, one)
			}
		}
		u.done = true
		return nil
	})
	return found, err
}

// look says whether an entry is the signature of such a device.
func (u *unconfirmed) look(v *ledger.View, e ledger.Entry) (one Unconfirmed, ok bool, err error) {
	if e.Kind != entrySignature {
		return one, false, nil
	}
	of, _, err := decodeSignature(e.Payload)
	if err != nil {
		return one, false, fmt.Errorf("entry %d: %w", e.Index, err)
	}
	in, err := intentAt(v, of)
	if err != nil || in.order != u.order {
		return one, false, err
	}
	if _, confirmed := v.Claimed(confirmClaim(of)); confirmed {
		return one, false, nil
	}
	if err := notRevoked(v, of, u.now); errors.Is(err, ErrRevoked) {
		return one, false, nil
	} else if err != nil {
		return one, false, err
	}
	one = Unconfirmed{DeviceID: in.device, Slot: in.slot, Station: in.station, Signed: e.Time}
	if one.Slot == mainSlot {
		one.Slot = ""
	}
	one.Serial, err = tbsSerial(in.tbs)
	return one, err == nil, err
}
