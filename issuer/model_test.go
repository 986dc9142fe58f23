package issuer

import (
	"bytes"
	"context"
	"errors"
	"flag"
	"fmt"
	"maps"
	"slices"
	"strings"
	"testing"
	"time"

	"pgregory.net/rapid"

	"github.com/certmill/certmill/ca"
)

// model is what the promises say, on plain maps.
type model struct {
	p       *plant
	orders  []*modelOrder
	devices map[string][]*modelDevice // by product and id: its certificates, the oldest first
	keys    map[string]bool           // used by a device
	away    bool                      // the token
	frozen  bool                      // everything
	wrong   bool                      // the clock
	crashes int
}

type modelOrder struct {
	id             string
	product        string
	quantity, used uint64 // the first with scrap and what was given back
	returned       uint64
	confirmed      uint64
	until          time.Time
	closed         bool
}

type modelDevice struct {
	order, key string
	serial     ca.Serial
	der        []byte // nil until somebody saw it
	next       string // revoked by a rekey: the order on which the next is drawn; "": it is good
	confirmed  bool
}

// P3, P4, P5, P8 against a model: any sequence of requests, repeats, rekeys, confirmations, crashes, absences of the token, freezes, closings and
// wrong clocks has the outcome that plain maps say.
func TestModel(t *testing.T) {
	if f := flag.Lookup("rapid.checks"); f.Value.String() == f.DefValue {
		f.Value.Set("25") // a few seconds; more with -rapid.checks
	}
	requests, crashes := 0, 0
	rapid.Check(t, func(rt *rapid.T) {
		p := newPlant(t)
		p.station("line-1")
		m := &model{p: p, devices: make(map[string][]*modelDevice), keys: make(map[string]bool)}
		m.newOrder(rt)
		rt.Repeat(map[string]func(*rapid.T){
			"order":   m.newOrder,
			"submit":  func(rt *rapid.T) { requests++; m.submit(rt) },
			"again":   func(rt *rapid.T) { requests++; m.submit(rt) }, // twice as likely
			"crash":   m.crash,
			"token":   m.token,
			"freeze":  m.freeze,
			"close":   m.close,
			"rekey":   m.rekey,
			"confirm": m.confirm,
			"clock":   func(rt *rapid.T) { m.setClock(rt, !m.wrong) },
			"time": func(rt *rapid.T) {
				p.clock.advance(time.Duration(rapid.IntRange(1, 20).Draw(rt, "minutes")) * time.Minute)
			},
			"": m.check,
		})
		crashes += m.crashes
		m.end(rt)
	})
	t.Logf("model: %d requests, %d crashes, every outcome as the maps say", requests, crashes)
}

func (m *model) newOrder(rt *rapid.T) {
	if len(m.orders) == 4 || m.wrong {
		return
	}
	o := &modelOrder{
		product:  rapid.SampledFrom([]string{"a", "b"}).Draw(rt, "product"),
		quantity: uint64(rapid.IntRange(1, 4).Draw(rt, "quantity")),
	}
	s := OrderSpec{Product: o.product, Profile: "device", Quantity: o.quantity, Scrap: uint64(rapid.IntRange(0, 1).Draw(rt, "scrap"))}
	o.quantity += s.Scrap
	if rapid.Bool().Draw(rt, "ends") {
		o.until = m.p.clock.now().Add(time.Hour)
		s.Until = o.until
	}
	made, err := m.p.CreateOrder(m.p.Context(), s, "test")
	if err != nil {
		rt.Fatal(err)
	}
	o.id = made.ID
	m.orders = append(m.orders, o)
}

func (m *model) draw(rt *rapid.T) (*modelOrder, Item, string) {
	o := rapid.SampledFrom(m.orders).Draw(rt, "order")
	key := fmt.Sprint("key-", rapid.IntRange(1, 6).Draw(rt, "key"))
	id := fmt.Sprint("DEV-", rapid.IntRange(1, 5).Draw(rt, "device"))
	return o, Item{Order: o.id, Station: "line-1", DeviceID: id, CSR: m.p.csr(key)}, key
}

// expect says how a request must end, and notes what it leaves behind.
func (m *model) expect(o *modelOrder, it Item, key string) (d *modelDevice, want error) {
	name := o.product + "/" + it.DeviceID
	for n, d := range m.devices[name] {
		same, newest := d.order == o.id && d.key == key, n == len(m.devices[name])-1
		switch {
		case same && d.next != "":
			return nil, ErrRevoked
		case same && d.der != nil:
			return d, nil
		case same:
			return d, m.signing()
		case newest && d.next != o.id:
			return nil, ErrHasCertificate
		}
	}
	switch {
	case m.keys[key]:
		return nil, ErrKeyInUse
	case m.wrong:
		return nil, ErrClock
	case o.closed:
		return nil, ErrOrderClosed
	case m.frozen:
		return nil, ErrFrozen
	case o.over(m):
		return nil, ErrOrderClosed
	case o.used == o.quantity:
		return nil, ErrOrderFull
	}
	d = &modelDevice{order: o.id, key: key}
	m.devices[name], m.keys[key] = append(m.devices[name], d), true
	o.used++
	return d, m.signing()
}

func (o *modelOrder) over(m *model) bool {
	return !o.until.IsZero() && !m.p.clock.now().Before(o.until)
}

// signing is how a request for an open intent ends now. The owner may have signed it since, by itself.
func (m *model) signing() error {
	switch {
	case m.wrong:
		return ErrClock
	case m.frozen:
		return ErrFrozen
	case m.away:
		return errAway
	}
	return nil
}

func (m *model) submit(rt *rapid.T) {
	o, it, key := m.draw(rt)
	d, want := m.expect(o, it, key)
	c, err := m.p.Submit(m.p.Context(), it)
	if err == nil && d != nil && d.der == nil && want != nil {
		want = nil // signed meanwhile, before the token went or the freeze came
	}
	if !errors.Is(err, want) {
		rt.Fatalf("submit %s with %s: %v, want %v", it.DeviceID, key, err, want)
	}
	m.saw(rt, d, c, err)
}

func (m *model) saw(rt *rapid.T, d *modelDevice, c Certificate, err error) {
	switch {
	case err != nil:
	case d.der == nil:
		d.der, d.serial = c.DER, c.Serial
	case !bytes.Equal(d.der, c.DER):
		rt.Fatal("another certificate for the same request")
	}
}

// crash stops the owner at some point of a request's way, starts again and repeats the request: it must end as if it had been made once.
func (m *model) crash(rt *rapid.T) {
	point := rapid.SampledFrom(crashPoints()).Draw(rt, "point")
	m.p.stop()
	m.p.start(crashAt(point, 1))
	o, it, key := m.draw(rt)
	c, err := m.p.Submit(m.p.Context(), it)
	if m.p.crashed() {
		m.crashes++
	}
	m.p.close()
	m.p.start()
	d, want := m.expect(o, it, key)
	if err == nil {
		if d == nil || want != nil && d.der != nil {
			rt.Fatalf("before the crash %s got a certificate, want %v", it.DeviceID, want)
		}
		m.saw(rt, d, c, nil)
	}
	again, err := m.p.Submit(m.p.Context(), it)
	if err == nil && d != nil {
		want = nil
	}
	if !errors.Is(err, want) {
		rt.Fatalf("repeat %s with %s: %v, want %v", it.DeviceID, key, err, want)
	}
	m.saw(rt, d, again, err)
}

func (m *model) token(*rapid.T) {
	m.away = !m.away
	var fault func(context.Context, [][]byte) error
	if m.away {
		fault = func(context.Context, [][]byte) error { return errAway }
	}
	m.p.tokens["issuing"].breakWith(fault)
}

func (m *model) freeze(rt *rapid.T) {
	m.frozen = !m.frozen
	act := m.p.Unfreeze
	if m.frozen {
		act = m.p.Freeze
	}
	if err := act(m.p.Context(), Target{Kind: "all"}, "test", "test"); err != nil {
		rt.Fatal(err)
	}
}

// close ends an order, one time in four, so that some stay.
func (m *model) close(rt *rapid.T) {
	o := rapid.SampledFrom(m.orders).Draw(rt, "order")
	if rapid.IntRange(1, 4).Draw(rt, "really") != 4 {
		return
	}
	if _, err := m.p.CloseOrder(m.p.Context(), o.id, "test", "test"); err != nil {
		rt.Fatal(err)
	}
	o.closed = true
}

// setClock makes the clock wrong, or right again with somebody's word.
func (m *model) setClock(rt *rapid.T, wrong bool) {
	switch {
	case wrong == m.wrong:
	case wrong:
		m.p.clock.jump(-1000 * time.Hour)
	default:
		m.p.clock.jump(0)
		if err := m.p.AcceptClock(m.p.Context(), "test", "test"); err != nil {
			rt.Fatal(err)
		}
	}
	m.wrong = wrong
}

// newest draws a device that has a certificate.
func (m *model) newest(rt *rapid.T) (name string, d *modelDevice) {
	names := slices.Sorted(maps.Keys(m.devices))
	if len(names) == 0 {
		return "", nil
	}
	name = rapid.SampledFrom(names).Draw(rt, "device")
	return name, m.devices[name][len(m.devices[name])-1]
}

func (m *model) order(id string) *modelOrder {
	return m.orders[slices.IndexFunc(m.orders, func(o *modelOrder) bool { return o.id == id })]
}

func (m *model) rekey(rt *rapid.T) {
	name, d := m.newest(rt)
	if d == nil || d.next != "" {
		return
	}
	product, device, _ := strings.Cut(name, "/")
	to, back := rapid.SampledFrom(m.orders).Draw(rt, "to"), rapid.Bool().Draw(rt, "return")
	paid := m.order(d.order)
	quantity := to.quantity
	if back && to == paid {
		quantity++
	}
	var want error
	switch {
	case to.product != product:
		want = ErrInvalid
	case to.closed || to.over(m):
		want = ErrOrderClosed
	case to.used == quantity:
		want = ErrOrderFull
	}
	_, err := m.p.Rekey(m.p.Context(), RekeySpec{Product: product, DeviceID: device, Order: to.id, Return: back, Reason: "test"}, "test")
	if d.der == nil && errors.Is(err, ErrSlowDown) {
		return // it is not signed yet
	}
	if !errors.Is(err, want) {
		rt.Fatalf("rekey %s on %s: %v, want %v", name, to.id, err, want)
	}
	if err != nil {
		return
	}
	d.next = to.id
	if back {
		paid.quantity++
		paid.returned++
	}
}

func (m *model) confirm(rt *rapid.T) {
	name, d := m.newest(rt)
	if d == nil || d.der == nil {
		return
	}
	ch, err := m.p.Challenge(d.order, d.serial)
	if d.next != "" {
		if !errors.Is(err, ErrRevoked) {
			rt.Fatalf("challenge for %s: %v, want %v", name, err, ErrRevoked)
		}
		return
	}
	if err != nil {
		rt.Fatal(err)
	}
	unit := testDevice{key: m.p.keys[d.key]}
	if _, err := m.p.Confirm(m.p.Context(), d.order, d.serial, ch.Text, unit.sign(m.p, ch), "line-1"); err != nil {
		rt.Fatalf("confirm %s: %v", name, err)
	}
	if !d.confirmed {
		m.order(d.order).confirmed++
	}
	d.confirmed = true
}

// asked holds a line of an order's manifest against what was asked.
func (m *model) asked(o *modelOrder, line ManifestLine) bool {
	return slices.ContainsFunc(m.devices[o.product+"/"+line.DeviceID], func(d *modelDevice) bool {
		return d.order == o.id && (d.der == nil || d.serial.String() == line.Serial) && line.Denied == (d.next != "")
	})
}

// check compares the orders' counters.
func (m *model) check(rt *rapid.T) {
	for _, o := range m.orders {
		now, err := m.p.Order(o.id)
		if err != nil || now.Issued != o.used || now.Returned != o.returned || now.Confirmed != o.confirmed || (now.State == OrderClosed) != o.closed {
			rt.Fatalf("order %s stands %+v, %v, want %+v", o.id, now, err, o)
		}
	}
}

// end lets everything come to rest and compares all of it.
func (m *model) end(rt *rapid.T) {
	if m.frozen {
		m.freeze(rt)
	}
	if m.away {
		m.token(rt)
	}
	m.setClock(rt, false)
	m.p.stop()
	m.p.start()
	m.p.eventually("no open intents", func() bool { return m.p.OpenIntents() == 0 })
	made := 0
	serials := make(map[string]bool)
	for _, o := range m.orders {
		for line, err := range m.p.Manifest(o.id) {
			if err != nil {
				rt.Fatal(err)
			}
			made++
			serials[line.Serial] = true
			if !m.asked(o, line) {
				rt.Fatalf("%+v: nobody asked for it, or it is not denied as it should be", line)
			}
		}
	}
	want := 0
	for _, d := range m.devices {
		want += len(d)
	}
	if made != want || len(serials) != made {
		rt.Fatalf("%d certificates, %d serials, want %d", made, len(serials), want)
	}
	if faults := audit(m.p.ledger); len(faults) != 0 {
		rt.Fatal(faults)
	}
	if err := m.p.ledger.Check(); err != nil {
		rt.Fatal(err)
	}
	m.p.stop()
}
