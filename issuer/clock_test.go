package issuer

import (
	"context"
	"errors"
	"testing"
	"testing/synctest"
	"time"

	"github.com/certmill/certmill/internal/ledger"
)

func TestJudgeClock(t *testing.T) {
	const day = 24 * time.Hour
	for _, c := range []struct {
		name           string
		base, now      time.Time
		elapsed, limit time.Duration
		good           bool
	}{
		{"nothing was issued yet", time.Time{}, epoch, 0, day, true},
		{"the same moment", epoch, epoch, 0, day, true},
		{"a small step back", epoch, epoch.Add(-clockSlack), 0, day, true},
		{"back", epoch, epoch.Add(-clockSlack - 1), 0, day, false},
		{"far back", epoch, time.Unix(0, 0), 0, day, false},
		{"ahead, within the limit", epoch, epoch.Add(day), 0, day, true},
		{"ahead", epoch, epoch.Add(day + 1), 0, day, false},
		{"a weekend of nothing", epoch, epoch.Add(60 * time.Hour), 60 * time.Hour, day, true},
		{"a jump at its end", epoch, epoch.Add(85 * time.Hour), 60 * time.Hour, day, false},
		{"stood still while time went on", epoch, epoch.Add(time.Minute), 60 * time.Hour, day, true},
	} {
		if err := judgeClock(c.base, c.now, c.elapsed, c.limit); (err == nil) != c.good || err != nil && !errors.Is(err, ErrClock) {
			t.Errorf("%s: %v", c.name, err)
		}
	}
}

// A clock that jumped stops issuing, until somebody says that it is right; what is stored is handed out meanwhile.
func TestClockJumps(t *testing.T) {
	for _, c := range []struct {
		name string
		jump time.Duration
	}{{"back", -time.Minute}, {"ahead", 25 * time.Hour}} {
		t.Run(c.name, func(t *testing.T) {
			p, o := readyPlant(t, 10)
			made := p.item(o.ID, "DEMO-000001")
			p.submit(made)
			p.clock.jump(c.jump)
			next := p.item(o.ID, "DEMO-000002")
			p.refuse(next, ErrClock)
			p.submit(made)
			if _, err := p.ServiceCertificate(p.Context(), p.csr("service"), []string{"localhost"}, "test"); !errors.Is(err, ErrClock) {
				t.Errorf("service certificate: %v", err)
			}
			if now := p.orderNow(o.ID); now.State != OrderOpen || now.Issued != 1 {
				t.Errorf("order %+v", now)
			}
			p.clock.jump(0) // by itself it does not become good: who knows which of the two it was
			p.refuse(next, ErrClock)
			p.clock.jump(c.jump)
			size := p.ledger.Checkpoint().Size
			for range 2 {
				p.must(p.AcceptClock(p.Context(), "set by hand, compared with the radio clock", "test"))
			}
			if got := p.ledger.Checkpoint().Size - size; got != 1 || p.ClockTrusted() != nil {
				t.Errorf("%d entries for accepting twice, %v", got, p.ClockTrusted())
			}
			p.submit(next)
			p.stop()
			p.start()
			p.submit(p.item(o.ID, "DEMO-000003"))
			p.audited()
		})
	}
}

// A start holds the clock against the newest intent: boots and freezes under a wrong clock do not vouch for it.
func TestClockAtStart(t *testing.T) {
	for _, c := range []struct {
		name string
		jump time.Duration
		want error
	}{
		{"works holidays", 30 * 24 * time.Hour, nil},
		{"back, though only an hour", -time.Hour, ErrClock},
		{"ahead for longer than anybody is away", 46 * 24 * time.Hour, ErrClock},
	} {
		t.Run(c.name, func(t *testing.T) {
			p, o := readyPlant(t, 10)
			p.submit(p.item(o.ID, "DEMO-000001"))
			p.stop()
			p.clock.jump(c.jump)
			for range 3 {
				p.start()
				if err := p.ClockTrusted(); !errors.Is(err, c.want) {
					t.Fatalf("got %v, want %v", err, c.want)
				}
				p.must(p.Freeze(p.Context(), Target{"order", o.ID}, "x", "test"))
				p.must(p.Unfreeze(p.Context(), Target{"order", o.ID}, "x", "test"))
				p.stop()
			}
			p.start()
			if c.want != nil {
				p.refuse(p.item(o.ID, "DEMO-000002"), ErrClock)
				p.must(p.AcceptClock(p.Context(), "compared", "test"))
			}
			p.submit(p.item(o.ID, "DEMO-000002"))
			p.stop()
			p.start()
			p.submit(p.item(o.ID, "DEMO-000003"))
			p.audited()
		})
	}
}

// A clock that ran ahead and was accepted leaves the ledger's own time ahead. When it is right again somebody says so once, and restarts do not ask again.
func TestClockComesBackToRight(t *testing.T) {
	p, o := readyPlant(t, 10)
	p.clock.jump(300 * 24 * time.Hour)
	p.must(p.AcceptClock(p.Context(), "a mistake", "test"))
	p.submit(p.item(o.ID, "DEMO-000001"))
	p.clock.jump(0)
	p.refuse(p.item(o.ID, "DEMO-000002"), ErrClock)
	p.must(p.AcceptClock(p.Context(), "now it is right", "test"))
	for n := range 3 {
		p.submit(p.item(o.ID, deviceID(2+n)))
		p.stop()
		p.clock.advance(time.Hour)
		p.start()
	}
	p.clock.jump(-5 * time.Hour)
	p.refuse(p.item(o.ID, "DEMO-000009"), ErrClock)
	p.must(p.ledger.Check())
}

// An intent that is open when the clock jumps is not signed until somebody says that the clock is right; then nobody has to ask for it.
func TestOpenIntentUnderABadClock(t *testing.T) {
	p, o := readyPlant(t, 10)
	tok := p.tokens["issuing"]
	tok.breakWith(awayFault)
	it := p.item(o.ID, "DEMO-000001")
	p.refuse(it, errAway)
	tok.breakWith(nil)
	p.clock.jump(-time.Hour)
	p.refuse(it, ErrClock)
	p.stop()
	p.start()
	p.refuse(it, ErrClock)
	if tok.signed.Load() != 0 || p.OpenIntents() != 1 {
		t.Fatalf("%d signatures, %d open", tok.signed.Load(), p.OpenIntents())
	}
	p.must(p.AcceptClock(p.Context(), "right", "test"))
	p.eventually("signed once the clock is trusted", func() bool { return p.OpenIntents() == 0 })
}

// A station that may ask is told what is wrong, and not that its certificate is not valid in 1970.
func TestStationsUnderABadClock(t *testing.T) {
	p, o := readyPlant(t, 10)
	_, der := p.station("line-2")
	cert := mustParse(t, der)
	p.clock.jump(-56 * 365 * 24 * time.Hour)
	for range 2 {
		if s, err := p.Identify(cert); err != nil || s.Name != "line-2" {
			t.Errorf("%+v, %v", s, err)
		}
		p.refuse(p.item(o.ID, "DEMO-000001"), ErrClock)
		p.stop()
		p.start()
	}
	p.clock.jump(2 * 366 * 24 * time.Hour)
	if s, err := p.Identify(cert); !errors.Is(err, ErrStation) {
		t.Errorf("a clock that went ahead lets a station in: %+v, %v", s, err)
	}
}

// With Go's own clocks: a plant that runs and stands still over a weekend is no jump; the same weekend in one step is.
func TestClockByGo(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var off time.Duration
		now := func() time.Time { return time.Now().Add(off) }
		c := newClock(Config{Now: now}.withDefaults())
		for range 10 {
			if err := c.look(now()); err != nil {
				t.Fatal(err)
			}
			time.Sleep(60 * time.Hour)
		}
		off = 25 * time.Hour
		if err := c.look(now()); !errors.Is(err, ErrClock) {
			t.Errorf("a jump of %s: %v", off, err)
		}
	})
}

func TestAcceptClockSaysWhy(t *testing.T) {
	p, _ := readyPlant(t, 1)
	p.clock.jump(-time.Hour)
	if err := p.AcceptClock(p.Context(), "", "test"); !errors.Is(err, ErrInvalid) {
		t.Errorf("without a reason: %v", err)
	}
	p.must(p.AcceptClock(context.Background(), "radio clock", "local:0"))
	p.must(p.ledger.View(func(v *ledger.View) error {
		index, _ := v.Head("clock")
		e, err := v.Entry(index)
		want := `{"at":"2026-11-24T07:30:00Z","base":"2026-11-24T08:30:00Z","reason":"radio clock","by":"local:0"}`
		if err != nil || string(e.Payload) != want {
			t.Errorf("got %s, %v, want %s", e.Payload, err, want)
		}
		return nil
	}))
}
