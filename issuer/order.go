package issuer

import (
	"cmp"
	"fmt"
	"regexp"
	"slices"
	"time"

	"github.com/certmill/certmill/ca"
	"github.com/certmill/certmill/internal/ledger"
)

// OrderSpec is what is asked for; Order what stands.
type OrderSpec struct {
	ID        string    `json:"id,omitempty"` // "": O-1, O-2, …
	Product   string    `json:"product"`
	Profile   string    `json:"profile"` // name in the configuration
	Quantity  uint64    `json:"quantity"`
	CA        string    `json:"ca,omitempty"`
	Stations  string    `json:"stations,omitempty"`   // glob, default *
	IDPattern string    `json:"id_pattern,omitempty"` // anchored regular expression, default the profile's
	Devices   []string  `json:"devices,omitempty"`    // or a list
	Until     time.Time `json:"until,omitzero"`
}

// Order states.
const (
	OrderOpen    = "open"
	OrderFull    = "full"
	OrderClosed  = "closed"
	OrderExpired = "expired"
	OrderFrozen  = "frozen"
)

// Order is an order as it stands now. Its list of devices, which may be long, is left out.
type Order struct {
	OrderSpec
	ProfileHash string    `json:"profile_hash"`
	State       string    `json:"state"`
	Issued      uint64    `json:"issued"`
	Confirmed   uint64    `json:"confirmed"`
	Created     time.Time `json:"created"`
	By          string    `json:"by"`
}

// orderEntry is the stored form. Its device list, which may be longer than an entry, stands in the entries before it.
type orderEntry struct {
	ID          string    `json:"id"`
	Product     string    `json:"product"`
	Profile     string    `json:"profile"`
	ProfileHash string    `json:"profile_hash"`
	Quantity    uint64    `json:"quantity"`
	CA          string    `json:"ca"`
	Stations    string    `json:"stations"`
	IDPattern   string    `json:"id_pattern,omitempty"`
	DeviceParts uint64    `json:"device_parts,omitempty"` // entries right before this one
	Until       time.Time `json:"until,omitzero"`
	By          string    `json:"by"`
}

// order is an order in the books. Only issued changes.
type order struct {
	orderEntry
	index   uint64
	created time.Time
	profile *ca.Profile
	pattern *regexp.Regexp      // nil: the profile's alone
	devices map[string]struct{} // nil: not by list, or full already
	issued  uint64
}

func orderCounter(id string) string { return "order/" + id }

func (o *order) read(i *Issuer, v *ledger.View, e ledger.Entry) (err error) {
	if err := decodePayload(e, &o.orderEntry); err != nil {
		return err
	}
	o.index, o.created, o.issued = e.Index, e.Time, v.Counter(orderCounter(o.ID))
	if o.profile, err = i.profileVersion(v, o.ProfileHash); err != nil {
		return err
	}
	if o.pattern, err = compileIDs(o.IDPattern); err != nil {
		return err
	}
	if o.issued < o.Quantity { // a full order's list has done its work, and there may be many such orders
		o.devices, err = readDevices(v, e.Index, o.DeviceParts)
	}
	return err
}

func (o *order) enter(b *books) { b.orders[o.ID] = o }

// names reports whether the order lets a device have a certificate.
func (o *order) names(device string) bool {
	if _, listed := o.devices[device]; o.devices != nil && !listed {
		return false
	}
	return o.pattern == nil || o.pattern.MatchString(device)
}

// state is what an order's life has come to. A freeze hides the rest: it is what somebody must know first.
func (b *books) state(o *order, now time.Time) string {
	switch {
	case b.stops(o.CA, o.ID) != nil:
		return OrderFrozen
	case o.expired(now):
		return OrderExpired
	case o.issued >= o.Quantity:
		return OrderFull
	}
	return OrderOpen
}

func (o *order) expired(now time.Time) bool { return !o.Until.IsZero() && !now.Before(o.Until) }

// public is the order as callers see it.
func (b *books) public(o *order, now time.Time) Order {
	return Order{
		OrderSpec: OrderSpec{ID: o.ID, Product: o.Product, Profile: o.Profile, Quantity: o.Quantity, CA: o.CA,
			Stations: o.Stations, IDPattern: o.IDPattern, Until: o.Until},
		ProfileHash: o.ProfileHash, State: b.state(o, now), Issued: o.issued, Created: o.created, By: o.By,
	}
}

// Order returns an order as it stands: ErrOrderUnknown.
func (i *Issuer) Order(id string) (Order, error) {
	i.books.mu.RLock()
	defer i.books.mu.RUnlock()
	o := i.books.orders[id]
	if o == nil {
		return Order{}, fmt.Errorf("order %q: %w", id, ErrOrderUnknown)
	}
	return i.books.public(o, i.now()), nil
}

// Orders lists all orders, the oldest first.
func (i *Issuer) Orders() ([]Order, error) {
	i.books.mu.RLock()
	defer i.books.mu.RUnlock()
	var all []*order
	for _, o := range i.books.orders {
		all = append(all, o)
	}
	slices.SortFunc(all, func(a, b *order) int { return cmp.Compare(a.index, b.index) })
	var list []Order
	now := i.now()
	for _, o := range all {
		list = append(list, i.books.public(o, now))
	}
	return list, nil
}
