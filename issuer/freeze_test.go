package issuer

import (
	"context"
	"errors"
	"slices"
	"testing"
)

func TestFreeze(t *testing.T) {
	p, o := readyPlant(t, 100)
	made := p.item(o.ID, "DEMO-000001")
	p.submit(made)
	for n, target := range []Target{{"order", o.ID}, {"ca", "issuing"}, {Kind: "all"}} {
		size := func() uint64 { return p.ledger.Checkpoint().Size }
		before := size()
		for range 2 {
			p.must(p.Freeze(p.Context(), target, "why not", "test"))
		}
		if size() != before+1 {
			t.Errorf("%s: frozen twice, %d entries", target, size()-before)
		}
		next := p.item(o.ID, deviceID(2+n))
		p.refuse(next, ErrFrozen)
		p.submit(made) // what is stored is handed out
		if now := p.orderNow(o.ID); now.State != OrderFrozen || !slices.Equal(p.Frozen(), []Target{target}) {
			t.Errorf("%s: state %s, frozen %v", target, now.State, p.Frozen())
		}
		p.stop()
		p.start()
		p.refuse(next, ErrFrozen)
		p.must(p.Unfreeze(p.Context(), target, "all is well", "test"))
		p.submit(next)
	}
	if len(p.Frozen()) != 0 || p.orderNow(o.ID).State != OrderOpen {
		t.Errorf("still frozen: %v", p.Frozen())
	}
	for _, c := range []struct {
		target Target
		want   error
	}{
		{Target{"order", "nosuch"}, ErrNotFound}, {Target{"ca", "nosuch"}, ErrNotFound}, {Target{"station", "nosuch"}, ErrNotFound},
		{Target{"all", "name"}, ErrNotFound}, {Target{"factory", ""}, ErrInvalid}, {Target{}, ErrInvalid},
	} {
		if err := p.Freeze(p.Context(), c.target, "reason", "test"); !errors.Is(err, c.want) {
			t.Errorf("freeze %q: %v, want %v", c.target, err, c.want)
		}
	}
	if err := p.Freeze(p.Context(), Target{Kind: "all"}, "", "test"); !errors.Is(err, ErrInvalid) {
		t.Errorf("without a reason: %v", err)
	}
	p.must(p.ledger.Check())
}

// What was recorded before a freeze is not signed during it, neither by the service that runs nor by the next start; afterwards it is, without anybody asking.
func TestOpenIntentsOfWhatIsFrozen(t *testing.T) {
	p, o := readyPlant(t, 100)
	tok := p.tokens["issuing"]
	tok.breakWith(func(context.Context, [][]byte) error { return errAway })
	it := p.item(o.ID, "DEMO-000001")
	p.refuse(it, errAway)
	p.must(p.Freeze(p.Context(), Target{"order", o.ID}, "test", "test"))
	tok.breakWith(nil)
	p.refuse(it, ErrFrozen)
	p.stop()
	p.start()
	p.refuse(it, ErrFrozen)
	if n := tok.signed.Load(); n != 0 || p.OpenIntents() != 1 {
		t.Fatalf("%d signatures for a frozen order, %d open", n, p.OpenIntents())
	}
	p.must(p.Unfreeze(p.Context(), Target{"order", o.ID}, "test", "test"))
	p.eventually("signed after unfreeze", func() bool { return p.OpenIntents() == 0 })
	if now := p.orderNow(o.ID); now.Issued != 1 || tok.signed.Load() != 1 {
		t.Errorf("%d issued, %d signatures", now.Issued, tok.signed.Load())
	}
}
