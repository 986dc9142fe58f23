package issuer

import (
	"context"
	"fmt"
	"time"

	"github.com/certmill/certmill/internal/ledger"
)

// Closed says who ended an order, when and why.
type Closed struct {
	At     time.Time `json:"at"`
	Reason string    `json:"reason"`
	By     string    `json:"by"`
}

// closingEntry is the stored form.
type closingEntry struct {
	Order string `json:"order"`
	Closed
}

// closing is a closingEntry on its way into the books.
type closing closingEntry

func (c *closing) read(_ *Issuer, _ *ledger.View, e ledger.Entry) error {
	return decodePayload(e, (*closingEntry)(c))
}

func (c *closing) enter(b *books) { b.orders[c.Order].closed = &c.Closed }

// CloseOrder ends an order for ever: it pays for nothing more. What it has paid for is signed and handed out as before. ErrOrderUnknown; closing
// twice is closing once, with the first reason.
func (i *Issuer) CloseOrder(ctx context.Context, id, reason, by string) (Order, error) {
	if err := checkText(reason, by); err != nil {
		return Order{}, fmt.Errorf("close order: %w", err)
	}
	err := i.act(ctx, func(o *owner, tx *ledger.Tx) (uint64, error) {
		switch order := o.books.orders[id]; {
		case order == nil:
			return 0, fmt.Errorf("order %q: %w", id, ErrOrderUnknown)
		case order.closed != nil:
			return 0, nil
		}
		e := closingEntry{id, Closed{entryTime(o.now()), reason, by}}
		return put(tx, ledger.Draft{Kind: entryClosed, Payload: payload(e), Heads: []string{"closed/" + id}})
	})
	if err != nil {
		return Order{}, err
	}
	return i.Order(id)
}
