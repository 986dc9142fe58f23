package issuer

import (
	"errors"
	"testing"
)

// Close is final: nothing new is made, what is made is handed out, and neither a freeze, an unfreeze nor a restart changes it.
func TestCloseOrder(t *testing.T) {
	p, o := readyPlant(t, 10)
	made := p.item(o.ID, "DEMO-000001")
	p.submit(made)
	tok := p.tokens["issuing"]
	tok.breakWith(awayFault)
	open := p.item(o.ID, "DEMO-000002")
	p.refuse(open, errAway)
	size := p.ledger.Checkpoint().Size
	for n, reason := range []string{"batch is done", "once more"} {
		now, err := p.CloseOrder(p.Context(), o.ID, reason, "test")
		p.must(err)
		if now.State != OrderClosed || now.Closed == nil || now.Closed.Reason != "batch is done" || now.Closed.By != "test" || !now.Closed.At.Equal(epoch) {
			t.Errorf("closed %d times: %+v, %+v", n+1, now, now.Closed)
		}
	}
	if got := p.ledger.Checkpoint().Size - size; got != 1 {
		t.Errorf("%d entries for closing twice", got)
	}
	tok.breakWith(nil)
	p.must(p.Freeze(p.Context(), Target{"order", o.ID}, "x", "test"))
	next := p.item(o.ID, "DEMO-000003")
	p.refuse(next, ErrOrderClosed)
	p.must(p.Unfreeze(p.Context(), Target{"order", o.ID}, "x", "test"))
	for range 2 {
		p.refuse(next, ErrOrderClosed)
		p.submit(made)
		p.submit(open) // the order had paid for it
		if now := p.orderNow(o.ID); now.State != OrderClosed || now.Issued != 2 {
			t.Errorf("closed order stands %+v", now)
		}
		p.stop()
		p.start()
	}
	if _, err := p.CloseOrder(p.Context(), "nosuch", "x", "test"); !errors.Is(err, ErrOrderUnknown) {
		t.Error(err)
	}
	if _, err := p.CloseOrder(p.Context(), o.ID, "", "test"); !errors.Is(err, ErrInvalid) {
		t.Error(err)
	}
	p.audited()
}
