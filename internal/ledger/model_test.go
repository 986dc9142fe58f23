package ledger_test

import (
	"errors"
	"fmt"
	"maps"
	"reflect"
	"slices"
	"testing"

	"pgregory.net/rapid"

	"github.com/certmill/certmill/internal/ledger"
	"github.com/certmill/certmill/internal/ledger/ledgertest"
)

// model is the ledger as plain maps.
type model struct {
	entries  []ledger.Draft
	claims   map[ledger.Claim]uint64
	counters map[string]uint64
	heads    map[string]uint64
	open     map[uint64]bool
	closed   map[uint64]uint64
}

func newModel() *model {
	return &model{
		entries: []ledger.Draft{{Kind: "genesis", Payload: []byte(ledgertest.Name)}},
		claims:  map[ledger.Claim]uint64{}, counters: map[string]uint64{}, heads: map[string]uint64{}, open: map[uint64]bool{}, closed: map[uint64]uint64{},
	}
}

func (m *model) clone() *model {
	return &model{slices.Clone(m.entries), maps.Clone(m.claims), maps.Clone(m.counters), maps.Clone(m.heads), maps.Clone(m.open), maps.Clone(m.closed)}
}

// append says what the ledger must say, in the order in which the ledger looks.
func (m *model) append(d ledger.Draft) error {
	for _, c := range d.Claims {
		if holder, held := m.claims[c]; held {
			return &ledger.ClaimedError{Claim: c, Holder: holder}
		}
	}
	for _, b := range d.Debits {
		if m.counters[b.Counter]+b.Amount > b.Limit {
			return &ledger.ExhaustedError{Counter: b.Counter, Value: m.counters[b.Counter], Limit: b.Limit}
		}
	}
	if d.Closes != 0 && !m.open[d.Closes] {
		return ledger.ErrNotOpen
	}
	index := uint64(len(m.entries))
	m.entries = append(m.entries, d)
	for _, c := range d.Claims {
		m.claims[c] = index
	}
	for _, b := range d.Debits {
		m.counters[b.Counter] += b.Amount
	}
	for _, h := range d.Heads {
		m.heads[h] = index
	}
	if d.Opens {
		m.open[index] = true
	}
	if d.Closes != 0 {
		delete(m.open, d.Closes)
		m.closed[d.Closes] = index
	}
	return nil
}

// The names are few, so that drafts get in each other's way.
var (
	someName  = rapid.SampledFrom([]string{"a", "b", "c/1", "c/2"})
	someClaim = rapid.Custom(func(t *rapid.T) ledger.Claim {
		return ledger.Claim{Space: someName.Draw(t, "space"), Key: rapid.StringMatching(`[a-f][0-9]?`).Draw(t, "key")}
	})
	someDebit = rapid.Custom(func(t *rapid.T) ledger.Debit {
		return ledger.Debit{Counter: someName.Draw(t, "counter"), Amount: rapid.Uint64Range(1, 5).Draw(t, "amount"), Limit: rapid.Uint64Range(0, 60).Draw(t, "limit")}
	})
)

func someDraft(t *rapid.T, next uint64) ledger.Draft {
	return ledger.Draft{
		Kind:    rapid.SampledFrom([]string{"order", "intent", "signature"}).Draw(t, "kind"),
		Payload: rapid.SliceOfN(rapid.Byte(), 0, 40).Draw(t, "payload"),
		Claims:  rapid.SliceOfNDistinct(someClaim, 0, 3, rapid.ID).Draw(t, "claims"),
		Debits:  rapid.SliceOfNDistinct(someDebit, 0, 2, func(d ledger.Debit) string { return d.Counter }).Draw(t, "debits"),
		Heads:   rapid.SliceOfNDistinct(someName, 0, 2, rapid.ID).Draw(t, "heads"),
		Opens:   rapid.Bool().Draw(t, "opens"),
		Closes:  rapid.OneOf(rapid.Just(uint64(0)), rapid.Uint64Range(0, next+1)).Draw(t, "closes"),
	}
}

// machine drives a ledger and its model through the same acts.
type machine struct {
	cfg  ledger.Config
	l    *ledger.Ledger
	disk *ledgertest.Disk
	m    *model
}

func (x *machine) open(t *rapid.T, tb testing.TB) {
	x.l, x.disk = ledgertest.OpenFaulty(tb, x.cfg)
	boot := ledger.Draft{Kind: "boot"}
	if x.l.Checkpoint().Size != uint64(len(x.m.entries))+1 {
		t.Fatalf("%d entries after Open, want %d and the boot", x.l.Checkpoint().Size, len(x.m.entries))
	}
	x.l.View(func(v *ledger.View) error {
		e, err := v.Entry(v.Size() - 1)
		boot.Payload = e.Payload
		return err
	})
	x.m.entries = append(x.m.entries, boot)
}

// update appends some drafts, of which some are refused, and says what the ledger must hold if it is committed.
func (x *machine) update(t *rapid.T, end error) (*model, error) {
	next := x.m.clone()
	_, err := x.l.Update(func(tx *ledger.Tx) error {
		for range rapid.IntRange(0, 5).Draw(t, "drafts") {
			d := someDraft(t, tx.Next())
			want := next.append(d)
			index, err := tx.Append(d)
			if !sameError(err, want) || err == nil && index != uint64(len(next.entries))-1 {
				t.Fatalf("Append(%+v) = %d, %v, want %v", d, index, err, want)
			}
		}
		return end
	})
	return next, err
}

func sameError(got, want error) bool {
	if want == nil || errors.Is(want, ledger.ErrNotOpen) {
		return errors.Is(got, want)
	}
	return reflect.DeepEqual(got, want)
}

func (x *machine) commit(t *rapid.T) {
	next, err := x.update(t, nil)
	if err != nil {
		t.Fatal(err)
	}
	x.m = next
}

func (x *machine) rollBack(t *rapid.T) {
	wrong := errors.New("wrong")
	if _, err := x.update(t, wrong); err != wrong {
		t.Fatalf("got %v, want fn's error", err)
	}
}

// fail makes the commit fail, and takes the ledger for what the disk kept.
func (x *machine) fail(t *rapid.T, tb testing.TB) {
	keep := rapid.Bool().Draw(t, "keep")
	if x.disk.LoseNext(); keep {
		x.disk.KeepNext()
	}
	next, err := x.update(t, nil)
	changed := len(next.entries) != len(x.m.entries)
	if changed != errors.Is(err, ledger.ErrFailed) || changed != errors.Is(err, ledgertest.ErrDisk) {
		t.Fatalf("commit of %d entries: %v", len(next.entries)-len(x.m.entries), err)
	}
	if keep {
		x.m = next
	}
	x.reopen(t, tb)
}

func (x *machine) reopen(t *rapid.T, tb testing.TB) {
	if err := x.l.Close(); err != nil {
		t.Fatal(err)
	}
	x.open(t, tb)
	if err := x.l.Check(); err != nil {
		t.Fatal(err)
	}
}

// compare reads everything that a View can say.
func (x *machine) compare(t *rapid.T) {
	err := x.l.View(func(v *ledger.View) error {
		got := newModel()
		got.entries = nil
		for e, err := range v.Entries(0) {
			if err != nil {
				return err
			}
			got.entries = append(got.entries, e.Draft)
			if by, ok := v.ClosedBy(e.Index); ok {
				got.closed[e.Index] = by
			}
		}
		for c := range x.m.claims {
			got.claims[c], _ = v.Claimed(c)
		}
		for name := range x.m.counters {
			got.counters[name] = v.Counter(name)
		}
		maps.Insert(got.heads, v.Heads(""))
		for index := range v.Open() {
			got.open[index] = true
		}
		if g, w := fmt.Sprintf("%+v", got), fmt.Sprintf("%+v", x.m); g != w {
			t.Fatalf("the ledger has\n%s\nwant\n%s", g, w)
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
}

func TestModel(t *testing.T) {
	rapid.Check(t, func(rt *rapid.T) {
		x := &machine{cfg: ledgertest.Create(t), m: newModel()}
		x.open(rt, t)
		rt.Repeat(map[string]func(*rapid.T){
			"commit":    x.commit,
			"commit 2":  x.commit, // more often than the others
			"roll back": x.rollBack,
			"fail":      func(rt *rapid.T) { x.fail(rt, t) },
			"reopen":    func(rt *rapid.T) { x.reopen(rt, t) },
			"":          x.compare,
		})
		if err := x.l.Close(); err != nil {
			rt.Fatal(err)
		}
	})
}
