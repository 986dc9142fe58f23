package issuer

import (
	"bytes"
	"context"
	"errors"
	"flag"
	"fmt"
	"testing"
	"time"

	"pgregory.net/rapid"
)

// model is what the promises say, on plain maps.
type model struct {
	p       *plant
	orders  []*modelOrder
	devices map[string]*modelDevice // by product and id
	keys    map[string]bool         // used by a device
	away    bool                    // the token
	frozen  bool                    // everything
	crashes int
}

type modelOrder struct {
	id             string
	product        string
	quantity, used uint64
	until          time.Time
}

type modelDevice struct {
	order, key string
	der        []byte // nil until somebody saw it
}

// P3, P4, P5, P8 against a model: any sequence of requests, repeats, crashes, absences of the token and freezes has the outcome that plain maps say.
func TestModel(t *testing.T) {
	if f := flag.Lookup("rapid.checks"); f.Value.String() == f.DefValue {
		f.Value.Set("25") // a few seconds; more with -rapid.checks
	}
	requests, crashes := 0, 0
	rapid.Check(t, func(rt *rapid.T) {
		p := newPlant(t)
		p.station("line-1")
		m := &model{p: p, devices: make(map[string]*modelDevice), keys: make(map[string]bool)}
		m.newOrder(rt)
		rt.Repeat(map[string]func(*rapid.T){
			"order":  m.newOrder,
			"submit": func(rt *rapid.T) { requests++; m.submit(rt) },
			"again":  func(rt *rapid.T) { requests++; m.submit(rt) }, // twice as likely
			"crash":  m.crash,
			"token":  m.token,
			"freeze": m.freeze,
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
	if len(m.orders) == 4 {
		return
	}
	o := &modelOrder{
		product:  rapid.SampledFrom([]string{"a", "b"}).Draw(rt, "product"),
		quantity: uint64(rapid.IntRange(1, 4).Draw(rt, "quantity")),
	}
	s := OrderSpec{Product: o.product, Profile: "device", Quantity: o.quantity}
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
	if d := m.devices[name]; d != nil {
		switch {
		case d.order != o.id || d.key != key:
			return nil, ErrHasCertificate
		case d.der != nil:
			return d, nil
		}
		return d, m.signing()
	}
	switch {
	case m.keys[key]:
		return nil, ErrKeyInUse
	case m.frozen:
		return nil, ErrFrozen
	case !o.until.IsZero() && !m.p.clock.now().Before(o.until):
		return nil, ErrOrderClosed
	case o.used == o.quantity:
		return nil, ErrOrderFull
	}
	d = &modelDevice{order: o.id, key: key}
	m.devices[name], m.keys[key] = d, true
	o.used++
	return d, m.signing()
}

// signing is how a request for an open intent ends now. The owner may have signed it since, by itself.
func (m *model) signing() error {
	switch {
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
		d.der = c.DER
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

// check compares the orders' counters.
func (m *model) check(rt *rapid.T) {
	for _, o := range m.orders {
		now, err := m.p.Order(o.id)
		if err != nil || now.Issued != o.used {
			rt.Fatalf("order %s stands at %d of %d, %v, want %d", o.id, now.Issued, o.quantity, err, o.used)
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
			if d := m.devices[o.product+"/"+line.DeviceID]; d == nil || d.order != o.id {
				rt.Fatalf("%+v: nobody asked for it", line)
			}
		}
	}
	if made != len(m.devices) || len(serials) != made {
		rt.Fatalf("%d certificates, %d serials, want %d", made, len(serials), len(m.devices))
	}
	if err := m.p.ledger.Check(); err != nil {
		rt.Fatal(err)
	}
	m.p.stop()
}
