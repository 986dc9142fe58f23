package issuer

import (
	"context"
	"fmt"
	"slices"
	"strings"

	"github.com/certmill/certmill/internal/ledger"
)

// Kinds of Target.
const (
	targetCA      = "ca"
	targetOrder   = "order"
	targetStation = "station"
	targetAll     = "all"
)

// Target of a freeze: Kind ca, order, station or all.
type Target struct {
	Kind string `json:"kind"`
	Name string `json:"name,omitempty"`
}

// String names a target as the freeze command does.
func (t Target) String() string { return strings.TrimSpace(t.Kind + " " + t.Name) }

// freezeEntry is the stored form.
type freezeEntry struct {
	Kind   string `json:"kind"`
	Name   string `json:"name,omitempty"`
	Frozen bool   `json:"frozen"`
	Reason string `json:"reason"`
	By     string `json:"by"`
}

// freeze is a freezeEntry on its way into the books.
type freeze freezeEntry

func (f *freeze) read(_ *Issuer, _ *ledger.View, e ledger.Entry) error {
	return decodePayload(e, (*freezeEntry)(f))
}

func (f *freeze) enter(b *books) {
	t := Target{f.Kind, f.Name}
	if f.Frozen {
		b.frozen[t] = true
	} else {
		delete(b.frozen, t)
	}
}

// Freeze stops a target at once: nothing new is recorded for it and nothing that is open is signed; what is stored is still
// handed out, but not to a frozen station. One person may do it. Freezing twice is one freeze. ErrNotFound, ErrInvalid.
func (i *Issuer) Freeze(ctx context.Context, t Target, reason, by string) error {
	return i.setFrozen(ctx, freezeEntry{t.Kind, t.Name, true, reason, by})
}

// Unfreeze starts a target again, and what it left open.
func (i *Issuer) Unfreeze(ctx context.Context, t Target, reason, by string) error {
	return i.setFrozen(ctx, freezeEntry{t.Kind, t.Name, false, reason, by})
}

func (i *Issuer) setFrozen(ctx context.Context, f freezeEntry) error {
	t := Target{f.Kind, f.Name}
	if err := i.checkTarget(t); err != nil {
		return err
	}
	if err := checkText(f.Reason, f.By); err != nil {
		return err
	}
	return i.act(ctx, func(o *owner, tx *ledger.Tx) (uint64, error) {
		if o.books.frozen[t] == f.Frozen {
			return 0, nil
		}
		return put(tx, ledger.Draft{Kind: entryFreeze, Payload: payload(f), Heads: []string{"freeze/" + t.Kind + "/" + t.Name}})
	})
}

func (i *Issuer) checkTarget(t Target) error {
	i.books.mu.RLock()
	defer i.books.mu.RUnlock()
	known := false
	switch t.Kind {
	case targetAll:
		known = t.Name == ""
	case targetCA:
		_, known = i.books.cas[t.Name]
	case targetOrder:
		_, known = i.books.orders[t.Name]
	case targetStation:
		_, known = i.books.stations[t.Name]
	default:
		return fmt.Errorf("freeze %q: ca, order, station or all: %w", t.Kind, ErrInvalid)
	}
	if !known {
		return fmt.Errorf("%s: %w", t, ErrNotFound)
	}
	return nil
}

// Frozen lists what is frozen, by kind and name.
func (i *Issuer) Frozen() []Target {
	i.books.mu.RLock()
	defer i.books.mu.RUnlock()
	list := make([]Target, 0, len(i.books.frozen))
	for t := range i.books.frozen {
		list = append(list, t)
	}
	slices.SortFunc(list, func(a, b Target) int { return strings.Compare(a.String(), b.String()) })
	return list
}
