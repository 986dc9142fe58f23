package issuer

import (
	"fmt"
	"slices"
	"strconv"

	"github.com/certmill/certmill/internal/ledger"
)

// unit is a place for a certificate: a slot of a device of a product.
type unit struct{ product, device, slot string }

// claim is a generation of it: a unit has one certificate, and each rekey opens the way for one more.
func (u unit) claim(space string, generation int) ledger.Claim {
	return ledger.Claim{Space: space, Key: u.product + "\x00" + u.device + "\x00" + u.slot + "\x00" + strconv.Itoa(generation)}
}

// generation is one certificate in a unit's life.
type generation struct {
	n      int
	index  uint64 // of the intent
	intent intent
	rekey  *rekeyEntry // that ended it; nil: it is the newest
}

// history reads a unit's generations, the oldest first.
func (u unit) history(v *ledger.View) (all []generation, err error) {
	for n := 0; ; n++ {
		g := generation{n: n}
		var held bool
		if g.index, held = v.Claimed(u.claim(claimDevice, n)); !held {
			return all, nil
		}
		if g.intent, err = intentAt(v, g.index); err != nil {
			return nil, err
		}
		r, rekeyed, err := rekeyOf(v, u, n)
		if err != nil {
			return nil, err
		}
		if rekeyed {
			g.rekey = &r
		}
		if all = append(all, g); !rekeyed {
			return all, nil
		}
	}
}

// find completes a unit: the slot has a default, and so has the product, where the device is known under one alone. products are all there are.
func (u *unit) find(v *ledger.View, products []string) error {
	if u.slot == "" {
		u.slot = mainSlot
	}
	if err := checkDevice(u.device, u.slot); err != nil {
		return fmt.Errorf("%v: %w", err, ErrInvalid)
	}
	var known []string
	for _, p := range products {
		at := unit{p, u.device, u.slot}
		if _, held := v.Claimed(at.claim(claimDevice, 0)); held && (u.product == "" || u.product == p) {
			known = append(known, p)
		}
	}
	switch len(known) {
	case 0:
		return fmt.Errorf("device %q has no certificate: %w", u.device, ErrNotFound)
	case 1:
		u.product = known[0]
		return nil
	}
	return fmt.Errorf("device %q is of %d products, name one: %q: %w", u.device, len(known), known, ErrInvalid)
}

// products are those of all orders.
func (b *books) products() (names []string) {
	for _, o := range b.orders {
		names = append(names, o.Product)
	}
	slices.Sort(names)
	return slices.Compact(names)
}
