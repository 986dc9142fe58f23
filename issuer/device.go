package issuer

import (
	"context"
	"fmt"
	"path"
	"time"

	"github.com/certmill/certmill/ca"
	"github.com/certmill/certmill/internal/ledger"
)

// Item asks for one device certificate. (Order, device, key) is the idempotency key.
type Item struct {
	Order, Station string
	DeviceID       string // "": the CSR's CN, where the profile takes ids from CSRs
	Slot           string // "": main
	CSR            []byte // DER
}

// Submit issues or replays. The order of the checks (docs/issuance.md): the station's standing; whether the order is known and for this station; the CSR and
// which device it means; whether that device's certificate is there, which ends it well whatever has become of the order; device and key
// unused; the order's standing. An error of the signer is wrapped: the intent stays, and the same request finds it again.
func (i *Issuer) Submit(ctx context.Context, it Item) (Certificate, error) {
	d, err := i.device(it)
	if err != nil {
		return Certificate{}, err
	}
	r := newRequest(d, i.authorities[d.order.CA])
	a, err := i.ask(ctx, r)
	if err != nil {
		return Certificate{}, err
	}
	return a.certificate()
}

// device is an Item that was checked as far as it can be without the ledger.
type device struct {
	order      *order
	station    string
	request    *ca.Request
	id, slot   string
	attributes Attributes // from the order's list, for the profile's fields
	authority  *ca.Authority

	// What the owner found out.
	generation int       // how often the device was rekeyed
	limit      uint64    // of the order
	made       time.Time // when the intent was recorded
}

func (i *Issuer) device(it Item) (*device, error) {
	o, err := i.drawable(it)
	if err != nil {
		return nil, err
	}
	r, err := ca.ParseRequest(it.CSR)
	if err != nil {
		return nil, err
	}
	if registrationCode.MatchString(r.CommonName()) {
		return nil, fmt.Errorf("common name of 64 hex digits: %w", ca.ErrRefused)
	}
	d := &device{order: o, station: it.Station, request: r, slot: it.Slot, authority: i.authorities[o.CA]}
	if d.slot == "" {
		d.slot = mainSlot
	}
	if d.id, err = o.profile.DeviceID(it.DeviceID, r); err != nil {
		return nil, err
	}
	if err := checkDevice(d.id, d.slot); err != nil {
		return nil, err
	}
	if !o.names(d.id) {
		return nil, fmt.Errorf("order %s: %w", o.ID, ErrDevice)
	}
	d.attributes = o.devices[d.id]
	if err := o.profile.CheckKey(r); err != nil {
		return nil, err
	}
	if d.authority == nil {
		return nil, fmt.Errorf("CA %s of order %s is not among those that sign here", o.CA, o.ID)
	}
	return d, nil
}

// drawable finds an order that a station may draw on, whatever the order's state.
func (i *Issuer) drawable(it Item) (*order, error) {
	i.books.mu.RLock()
	defer i.books.mu.RUnlock()
	if err := i.books.mayAsk(it.Station); err != nil {
		return nil, err
	}
	o := i.books.orders[it.Order]
	if o == nil {
		return nil, fmt.Errorf("order %q: %w", it.Order, ErrOrderUnknown)
	}
	if ok, err := path.Match(o.Stations, it.Station); err != nil || !ok {
		return nil, fmt.Errorf("order %s is for stations %s: %w", o.ID, o.Stations, ErrStation)
	}
	return o, nil
}

func (d *device) claims() (device, key ledger.Claim) {
	id := d.request.KeyID()
	return d.unit().claim(claimDevice, d.generation), ledger.Claim{Space: claimKey, Key: string(id[:])}
}

func (d *device) unit() unit { return unit{d.order.Product, d.id, d.slot} }

// find implements subject: the certificate that this device has under this order with this key. Where a rekey has ended that of one generation, the
// next one's is looked for; it may be drawn on the order that the rekey names.
func (d *device) find(v *ledger.View, now time.Time) (uint64, bool, error) {
	for d.generation = 0; ; d.generation++ {
		index, held := v.Claimed(d.unit().claim(claimDevice, d.generation))
		if !held {
			break
		}
		in, err := intentAt(v, index)
		if err != nil {
			return 0, false, err
		}
		if in.order == d.order.ID && in.key == d.request.KeyID() {
			return index, true, notRevoked(v, index, now)
		}
		by, rekeyed, err := rekeyOf(v, d.unit(), d.generation)
		switch {
		case err != nil:
			return 0, false, err
		case !rekeyed:
			return 0, false, ErrHasCertificate
		case by.Order != d.order.ID && !d.later(v):
			return 0, false, fmt.Errorf("its rekey is for order %s: %w", by.Order, ErrHasCertificate)
		}
	}
	_, key := d.claims()
	if _, held := v.Claimed(key); held {
		return 0, false, ErrKeyInUse
	}
	return 0, false, nil
}

// later reports whether the generation after this one was drawn already, so that the order of this one's rekey no longer matters.
func (d *device) later(v *ledger.View) bool {
	_, held := v.Claimed(d.unit().claim(claimDevice, d.generation+1))
	return held
}

// allowed implements subject. The station is asked for again: it may have been stopped while the request waited.
func (d *device) allowed(b *books, now time.Time) error {
	if err := b.mayAsk(d.station); err != nil {
		return err
	}
	o := b.orders[d.order.ID]
	if o.closed == nil { // what is closed stays so, a freeze ends
		if err := b.stops(o.CA, o.ID); err != nil {
			return err
		}
	}
	if o != d.order { // the order's list may have been put away when the request came, and be here again since a unit was given back
		if !o.names(d.id) {
			return fmt.Errorf("order %s: %w", o.ID, ErrDevice)
		}
		d.attributes = o.devices[d.id]
	}
	d.limit = o.limit()
	return o.mayDraw(now)
}

// prepare implements subject.
func (d *device) prepare(s ca.Serial, now time.Time) (*ca.Prepared, error) {
	d.made = now
	return d.authority.Prepare(ca.Issuance{Profile: d.order.profile, Request: d.request, DeviceID: d.id, Attributes: wanted(d.order.profile, d.attributes),
		Serial: s, Now: now})
}

// draft implements subject.
func (d *device) draft() (intent, ledger.Draft) {
	device, key := d.claims()
	in := intent{kind: ca.KindDevice, ca: d.order.CA, profile: profileHash(d.order.profile), key: d.request.KeyID(),
		order: d.order.ID, station: d.station, device: d.id, slot: d.slot}
	return in, ledger.Draft{
		Claims: []ledger.Claim{device, key},
		Debits: []ledger.Debit{{Counter: orderCounter(d.order.ID), Amount: 1, Limit: d.limit}},
	}
}

// landed implements subject.
func (d *device) landed(b *books) {
	o := b.orders[d.order.ID]
	o.issued++
	o.pace.count(d.made)
}
