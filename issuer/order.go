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
	ID        string    `json:"id,omitempty"` // "": O-1, O-2, …; where the caller chooses it, asking twice makes one order
	Product   string    `json:"product"`
	Profile   string    `json:"profile"` // name in the configuration
	Quantity  uint64    `json:"quantity"`
	Scrap     uint64    `json:"scrap,omitempty"` // certificates that may be drawn above the quantity, for units that are scrapped
	CA        string    `json:"ca,omitempty"`
	Stations  string    `json:"stations,omitempty"`   // glob, default *
	Plant     string    `json:"plant,omitempty"`      // label
	Line      string    `json:"line,omitempty"`       // label
	IDPattern string    `json:"id_pattern,omitempty"` // anchored regular expression, default the profile's
	Devices   []string  `json:"devices,omitempty"`    // or a list
	NotBefore time.Time `json:"not_before,omitzero"`
	Until     time.Time `json:"until,omitzero"`

	Attributes map[string]Attributes `json:"attributes,omitempty"` // of listed devices, by id

	// In place of NotBefore and Until, from the moment the order is recorded: so the same words mean the same when they are said again.
	StartsIn time.Duration `json:"starts_in,omitempty"`
	EndsIn   time.Duration `json:"ends_in,omitempty"`
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
	Returned    uint64    `json:"returned,omitempty"` // by a rekey: may be drawn once more
	Listed      int       `json:"listed,omitempty"`   // devices in its list; 0: no list
	Created     time.Time `json:"created"`
	By          string    `json:"by"`
	Closed      *Closed   `json:"closed,omitempty"`

	// Since the service started.
	PerHour  float64           `json:"per_hour,omitempty"` // over the last quarter of an hour
	Forecast time.Time         `json:"forecast,omitzero"`  // when the quantity is made at this rate
	Refused  map[string]uint64 `json:"refused,omitempty"`  // requests by the code of their problem: filled by internal/server, which knows codes
}

// orderEntry is the stored form. Its device list, which may be longer than an entry, stands in the entries before it.
type orderEntry struct {
	ID          string    `json:"id"`
	Product     string    `json:"product"`
	Profile     string    `json:"profile"`
	ProfileHash string    `json:"profile_hash"`
	Quantity    uint64    `json:"quantity"`
	Scrap       uint64    `json:"scrap,omitempty"`
	CA          string    `json:"ca"`
	Stations    string    `json:"stations"`
	Plant       string    `json:"plant,omitempty"`
	Line        string    `json:"line,omitempty"`
	IDPattern   string    `json:"id_pattern,omitempty"`
	DeviceParts uint64    `json:"device_parts,omitempty"` // entries right before this one
	Listed      int       `json:"listed,omitempty"`       // devices in them
	NotBefore   time.Time `json:"not_before,omitzero"`
	Until       time.Time `json:"until,omitzero"`
	Asked       string    `json:"asked,omitempty"` // hex SHA-256 of what was asked, where the caller chose the id
	By          string    `json:"by"`
}

// order is an order in the books. The last four change, under books.mu; whoever holds the order without that lock reads the others alone. Where
// one of the others must change, the books get a changed copy.
type order struct {
	orderEntry
	index    uint64
	created  time.Time
	profile  *ca.Profile
	pattern  *regexp.Regexp        // nil: the profile's alone
	devices  map[string]Attributes // nil: not by list, or full already
	returned uint64

	issued    uint64
	confirmed uint64
	closed    *Closed
	pace      *pace
}

// Counters of an order. The units it has paid for, those that a rekey gave back, those whose device has shown its key.
func orderCounter(id string) string     { return "order/" + id }
func returnedCounter(id string) string  { return "order/" + id + "/returned" }
func confirmedCounter(id string) string { return "order/" + id + "/confirmed" }

// limit is how many certificates the order pays for. Those above the quantity are for units that were scrapped; nobody has to report which. A
// unit that was given back is drawn once more. So never more than quantity and scrap are good at a time, overlaps left aside.
func (o *order) limit() uint64 { return o.Quantity + o.Scrap + o.returned }

func (o *order) read(i *Issuer, v *ledger.View, e ledger.Entry) (err error) {
	if err := decodePayload(e, &o.orderEntry); err != nil {
		return err
	}
	o.index, o.created, o.pace = e.Index, e.Time, new(pace)
	o.issued, o.returned, o.confirmed = v.Counter(orderCounter(o.ID)), v.Counter(returnedCounter(o.ID)), v.Counter(confirmedCounter(o.ID))
	if o.profile, err = i.profileVersion(v, o.ProfileHash); err != nil {
		return err
	}
	if o.pattern, err = compileIDs(o.IDPattern); err != nil {
		return err
	}
	if o.issued < o.limit() { // a full order's list has done its work, and there may be many such orders
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

// state is what an order's life has come to. Closed is final; but for that a freeze hides the rest: it is what somebody must know first. An order
// whose time has not come is open.
func (b *books) state(o *order, now time.Time) string {
	switch {
	case o.closed != nil:
		return OrderClosed
	case b.stops(o.CA, o.ID) != nil:
		return OrderFrozen
	case o.expired(now):
		return OrderExpired
	case o.issued >= o.limit():
		return OrderFull
	}
	return OrderOpen
}

func (o *order) expired(now time.Time) bool { return !o.Until.IsZero() && !now.Before(o.Until) }

// mayDraw says whether the order pays for another certificate now, freezes aside. The debit says so too; here it costs no TBS.
func (o *order) mayDraw(now time.Time) error {
	switch {
	case o.closed != nil:
		return fmt.Errorf("order %s was closed %s: %w", o.ID, o.closed.At.Format(time.RFC3339), ErrOrderClosed)
	case o.expired(now):
		return fmt.Errorf("order %s ended %s: %w", o.ID, o.Until.Format(time.RFC3339), ErrOrderClosed)
	case now.Before(o.NotBefore):
		return fmt.Errorf("order %s begins %s: %w", o.ID, o.NotBefore.Format(time.RFC3339), ErrOrderClosed)
	case o.issued >= o.limit():
		return fmt.Errorf("order %s: %w", o.ID, ErrOrderFull)
	}
	return nil
}

// public is the order as callers see it.
func (b *books) public(o *order, now time.Time) Order {
	p := Order{
		OrderSpec: OrderSpec{ID: o.ID, Product: o.Product, Profile: o.Profile, Quantity: o.Quantity, Scrap: o.Scrap, CA: o.CA,
			Stations: o.Stations, Plant: o.Plant, Line: o.Line, IDPattern: o.IDPattern, NotBefore: o.NotBefore, Until: o.Until},
		ProfileHash: o.ProfileHash, State: b.state(o, now), Issued: o.issued, Confirmed: o.confirmed, Returned: o.returned,
		Listed: o.Listed, Created: o.created, By: o.By, Closed: o.closed, PerHour: o.pace.perHour(now),
	}
	if p.State == OrderOpen {
		p.Forecast = forecast(o.Quantity+o.returned, o.issued, p.PerHour, now)
	}
	return p
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
