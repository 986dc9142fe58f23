package issuer

import (
	"context"
	"fmt"
	"time"

	"github.com/certmill/certmill/internal/ledger"
)

// RekeySpec asks that a device may have another certificate, for another key.
type RekeySpec struct {
	Product  string `json:"product,omitempty"` // "": the only one that the device is of
	DeviceID string `json:"device_id"`
	Slot     string `json:"slot,omitempty"` // "": main

	Serial  string        `json:"serial,omitempty"`          // of the certificate that ends; "": the newest. Naming it makes repeating safe at any time
	Order   string        `json:"order,omitempty"`           // on which the next certificate may be drawn; "": the one that paid for the old one
	Overlap time.Duration `json:"overlap,omitempty"`         // for which the old certificate stays good; 0: it is revoked at once
	Return  bool          `json:"return_to_order,omitempty"` // gives the unit back to the order that paid for the old certificate
	Reason  string        `json:"reason"`
}

// maxOverlap bounds how long a device may be good under two keys.
const maxOverlap = 366 * 24 * time.Hour

// Rekey is what was decided about one certificate of a device.
type Rekey struct {
	Product    string        `json:"product"`
	DeviceID   string        `json:"device_id"`
	Slot       string        `json:"slot"`
	Generation int           `json:"generation"` // that it ends, from 0
	Serial     string        `json:"serial"`     // of the certificate that ends
	Order      string        `json:"order"`      // on which the next one may be drawn
	Paid       string        `json:"paid"`       // the order that paid for the one that ends
	Overlap    time.Duration `json:"overlap,omitempty"`
	Returned   bool          `json:"returned,omitempty"`
	Reason     string        `json:"reason"`
	By         string        `json:"by"`
	At         time.Time     `json:"at"`
	RevokedAt  time.Time     `json:"revoked_at"`
}

// rekeyEntry is the stored form. The revocation stands right before it. Fields are only ever added.
type rekeyEntry struct {
	Product    string        `json:"product"`
	DeviceID   string        `json:"device_id"`
	Slot       string        `json:"slot"`
	Generation int           `json:"generation"`
	Serial     string        `json:"serial"`
	Order      string        `json:"order"`
	Paid       string        `json:"paid"`
	Overlap    time.Duration `json:"overlap,omitempty"`
	Returned   bool          `json:"returned,omitempty"`
	Reason     string        `json:"reason"`
	By         string        `json:"by"`
	At         time.Time     `json:"at"`
	RevokedAt  time.Time     `json:"revoked_at"`
}

// rekey is a rekeyEntry on its way into the books: it matters to them where it gives a unit back.
type rekey struct {
	rekeyEntry
	devices map[string]Attributes // of the order that gets it, where its list was put away
}

func (r *rekey) read(i *Issuer, v *ledger.View, e ledger.Entry) (err error) {
	if err := decodePayload(e, &r.rekeyEntry); err != nil || !r.Returned {
		return err
	}
	r.devices, err = i.books.orders[r.Paid].list(v)
	return err
}

func (r *rekey) enter(b *books) {
	if !r.Returned {
		return
	}
	o := *b.orders[r.Paid]
	o.returned++
	o.devices = r.devices
	b.orders[r.Paid] = &o
}

// list is the order's devices, from the ledger where they were put away.
func (o *order) list(v *ledger.View) (map[string]Attributes, error) {
	if o.devices != nil {
		return o.devices, nil
	}
	return readDevices(v, o.index, o.DeviceParts)
}

// rekeyOf finds the rekey that ended a generation.
func rekeyOf(v *ledger.View, u unit, generation int) (r rekeyEntry, ok bool, err error) {
	index, ok := v.Claimed(u.claim(claimRekey, generation))
	if !ok {
		return r, false, nil
	}
	e, err := get(v, index)
	if err != nil {
		return r, false, err
	}
	if err := decodePayload(e, &r); err != nil || e.Kind != entryRekey {
		return r, false, fmt.Errorf("%w: entry %d is no rekey", errStore, index)
	}
	return r, true, nil
}

// Rekey revokes a device's certificate, at once or after an overlap, and lets the device ask once more with another key, on the order that it says. Asked
// again in the same words it returns what was decided; in others, while the device has not come yet, ErrExists. ErrNotFound, ErrInvalid;
// ErrSlowDown while the old certificate is still being made; ErrOrderUnknown, ErrOrderClosed, ErrOrderFull and ErrDevice where the device could not draw on that order.
func (i *Issuer) Rekey(ctx context.Context, s RekeySpec, by string) (Rekey, error) {
	if err := checkText(s.Reason, by); err != nil {
		return Rekey{}, fmt.Errorf("rekey: %w", err)
	}
	if s.Overlap < 0 || s.Overlap > maxOverlap {
		return Rekey{}, fmt.Errorf("overlap must be 0 to %s: %w", maxOverlap, ErrInvalid)
	}
	var decided rekeyEntry
	err := i.act(ctx, func(o *owner, tx *ledger.Tx) (index uint64, err error) {
		decided, index, err = o.rekey(tx, s, by)
		return index, err
	})
	if err != nil {
		return Rekey{}, fmt.Errorf("rekey device: %w", err)
	}
	return Rekey(decided), nil
}

// rekey decides and records; index is 0 where it was recorded before.
func (o *owner) rekey(tx *ledger.Tx, s RekeySpec, by string) (e rekeyEntry, index uint64, err error) {
	u := unit{s.Product, s.DeviceID, s.Slot}
	if err := u.find(&tx.View, o.books.products()); err != nil {
		return e, 0, err
	}
	history, err := u.history(&tx.View)
	if err != nil {
		return e, 0, err
	}
	g, err := pickGeneration(history, s.Serial)
	if err != nil {
		return e, 0, err
	}
	e = newRekey(u, g, s, by, o.now())
	if g.rekey != nil {
		return *g.rekey, 0, sameRekey(*g.rekey, e)
	}
	if _, _, signed, err := signatureOf(&tx.View, g.index); err != nil || !signed {
		return e, 0, orElse(err, fmt.Errorf("the certificate of device %s is still being made: %w", u.device, ErrSlowDown))
	}
	if err := o.canDraw(&tx.View, e); err != nil {
		return e, 0, err
	}
	if err := putRevocation(tx, revocationEntry{g.index, e.Serial, e.Overlap == 0, Revoked{e.RevokedAt, e.Reason, by}}); err != nil {
		return e, 0, err
	}
	d := ledger.Draft{Kind: entryRekey, Payload: payload(e), Claims: []ledger.Claim{u.claim(claimRekey, g.n)}}
	if e.Returned {
		d.Debits = []ledger.Debit{{Counter: returnedCounter(e.Paid), Amount: 1, Limit: maxQuantity}}
	}
	index, err = put(tx, d)
	return e, index, err
}

// pickGeneration finds the certificate that a rekey is about.
func pickGeneration(history []generation, serial string) (generation, error) {
	if serial == "" {
		return history[len(history)-1], nil
	}
	for _, g := range history {
		if s, err := tbsSerial(g.intent.tbs); err == nil && s == serial {
			return g, nil
		}
	}
	return generation{}, fmt.Errorf("certificate %q of the device: %w", serial, ErrNotFound)
}

func newRekey(u unit, g generation, s RekeySpec, by string, now time.Time) rekeyEntry {
	now = entryTime(now)
	e := rekeyEntry{Product: u.product, DeviceID: u.device, Slot: u.slot, Generation: g.n, Order: s.Order, Paid: g.intent.order,
		Overlap: s.Overlap, Returned: s.Return, Reason: s.Reason, By: by, At: now, RevokedAt: now.Add(s.Overlap)}
	e.Serial, _ = tbsSerial(g.intent.tbs) // it is one of our own
	if e.Order == "" {
		e.Order = e.Paid
	}
	return e
}

// sameRekey refuses to decide once more otherwise.
func sameRekey(before, now rekeyEntry) error {
	if before.Order != now.Order || before.Overlap != now.Overlap || before.Returned != now.Returned || before.Reason != now.Reason {
		return fmt.Errorf("certificate %s was ended by another rekey, of %s on %s: %w", before.Serial, before.By, before.At.Format(time.RFC3339), ErrExists)
	}
	return nil
}

// canDraw finds out now what the device would be told later: whether the order will take it.
func (o *owner) canDraw(v *ledger.View, e rekeyEntry) error {
	to := o.books.orders[e.Order]
	switch {
	case to == nil:
		return fmt.Errorf("order %q: %w", e.Order, ErrOrderUnknown)
	case to.Product != e.Product:
		return fmt.Errorf("order %s is for product %s: %w", to.ID, to.Product, ErrInvalid)
	}
	after := *to
	if e.Returned && e.Paid == e.Order {
		after.returned++
	}
	if now := o.now(); now.Before(after.NotBefore) { // it will come
		after.NotBefore = now
	}
	if err := after.mayDraw(o.now()); err != nil {
		return err
	}
	var err error
	if after.devices, err = to.list(v); err != nil {
		return err
	}
	if !after.names(e.DeviceID) {
		return fmt.Errorf("order %s: %w", to.ID, ErrDevice)
	}
	return nil
}

func orElse(err, other error) error {
	if err != nil {
		return err
	}
	return other
}
