package issuer

import (
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/certmill/certmill/internal/ledger"
)

// personsAct is what people and stations may have recorded beside certificates. It is given twice, before a crash and after it.
type personsAct struct {
	name, kind string // kind of the entry it leaves
	prepare    func(p *plant) (again func() (any, error))
}

func personsActs() []personsAct {
	return []personsAct{
		{"create order", entryOrder, func(p *plant) func() (any, error) {
			s := OrderSpec{ID: "second", Product: "demo", Profile: "device", Quantity: 3, EndsIn: time.Hour, Devices: []string{"a"}}
			return func() (any, error) {
				o, err := p.CreateOrder(p.Context(), s, "test")
				return o.Until, err
			}
		}},
		{"close order", entryClosed, func(p *plant) func() (any, error) {
			return func() (any, error) {
				o, err := p.CloseOrder(p.Context(), "O-1", "done", "test")
				return o.State, err
			}
		}},
		{"rekey", entryRekey, func(p *plant) func() (any, error) {
			p.submit(p.item("O-1", "DEMO-000001"))
			return func() (any, error) {
				return p.Rekey(p.Context(), RekeySpec{DeviceID: "DEMO-000001", Return: true, Overlap: time.Hour, Reason: "x"}, "test")
			}
		}},
		{"confirm", entryConfirm, func(p *plant) func() (any, error) {
			d := p.newDevice("O-1", "DEMO-000001")
			ch := must(p.Challenge("O-1", d.cert.Serial))
			sig := d.sign(p, ch)
			return func() (any, error) {
				return p.Confirm(p.Context(), "O-1", d.cert.Serial, ch.Text, sig, "line-1")
			}
		}},
		{"accept clock", entryClock, func(p *plant) func() (any, error) {
			p.submit(p.item("O-1", "DEMO-000001"))
			p.clock.jump(-time.Hour)
			return func() (any, error) { return nil, p.AcceptClock(p.Context(), "right", "test") }
		}},
	}
}

// P8 for the acts of people: killed at every point of the way, then given again, each has happened once.
func TestCrashActs(t *testing.T) {
	crashes := 0
	for _, act := range personsActs() {
		for _, point := range []string{pointGathered, pointRecorded, pointCommitted, pointAnswered} {
			t.Run(act.name+"/"+point, func(t *testing.T) {
				p, o := readyPlant(t, 10)
				again := act.prepare(p)
				p.stop()
				before := countKind(p, act.kind)
				p.start(crashAt("intent "+point, 1))
				first, err := again()
				if !p.crashed() {
					t.Fatal("no crash")
				}
				if known := point == pointAnswered; (err == nil) != known {
					t.Errorf("before the crash: %v, %v", first, err)
				}
				crashes++
				p.close()
				p.start()
				second, err := again()
				p.must(err)
				third, err := again()
				p.must(err)
				if second != third || point == pointAnswered && first != second {
					t.Errorf("answers %+v, %+v, %+v", first, second, third)
				}
				if got := countKind(p, act.kind) - before; got != 1 {
					t.Errorf("%d entries, want 1", got)
				}
				now := p.orderNow(o.ID)
				if want := act.kind == entryRekey; (now.Returned == 1) != want || now.Returned > 1 {
					t.Errorf("%d returned", now.Returned)
				}
				p.audited()
			})
		}
	}
	t.Logf("P8: %d crashes of acts, each given again: all of them once", crashes)
}

func countKind(p *plant, kind string) (n int) {
	p.Helper()
	count := func(l *ledger.Ledger) {
		p.must(l.View(func(v *ledger.View) error {
			for e, err := range v.Entries(0) {
				if err != nil {
					return err
				}
				if e.Kind == kind {
					n++
				}
			}
			return nil
		}))
	}
	if p.ledger != nil {
		count(p.ledger)
		return n
	}
	l, err := ledger.OpenReadOnly(p.cfg)
	p.must(err)
	defer l.Close()
	count(l)
	return n
}

// What the record holds is found by the audit, if it is wrong: else the audit would prove nothing.
func TestAuditFinds(t *testing.T) {
	p, o := readyPlant(t, 1)
	p.submit(p.item(o.ID, "DEMO-000001"))
	var in intent
	var serial string
	p.must(p.ledger.View(func(v *ledger.View) (err error) {
		index, _ := v.Claimed(unit{"demo", "DEMO-000001", "main"}.claim(claimDevice, 0))
		in, err = intentAt(v, index)
		serial = must(tbsSerial(in.tbs))
		return err
	}))
	for _, d := range []ledger.Draft{
		{Kind: entryIntent, Payload: in.encode()},
		{Kind: entryClosed, Payload: payload(closingEntry{Order: o.ID})},
		{Kind: entryRekey, Payload: payload(rekeyEntry{Product: "demo", DeviceID: "DEMO-000001", Slot: "main", Generation: 1, Serial: serial, Order: o.ID})},
		{Kind: entryConfirm, Payload: payload(confirmEntry{Intent: 1, Order: o.ID})},
		{Kind: entryOrder, Payload: payload(orderEntry{ID: o.ID})},
	} {
		_, err := p.ledger.Update(func(tx *ledger.Tx) error { _, err := tx.Append(d); return err })
		p.must(err)
	}
	faults := audit(p.ledger)
	for _, want := range []string{"a key stands twice", "was full", "on order O-1, which may have one on", "confirms what is none", "stands twice", "counters"} {
		if !slices.ContainsFunc(faults, func(f string) bool { return strings.Contains(f, want) }) {
			t.Errorf("not found: %s\n%s", want, fmt.Sprint(faults))
		}
	}
}
