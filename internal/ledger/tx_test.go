package ledger

import (
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/certmill/certmill/internal/ledger/internal/fault"
)

// A draft that is refused leaves the transaction as it was, whichever of its parts was to blame and whatever stands before that part.
func TestRefusedDraftLeavesNothing(t *testing.T) {
	good := Draft{
		Kind: "intent", Claims: []Claim{{"device", "new"}}, Heads: []string{"device/new"}, Opens: true,
		Debits: []Debit{{"free", 1, 10}},
	}
	with := func(change func(d *Draft)) Draft {
		d := good
		change(&d)
		return d
	}
	many := make([]string, maxList+1)
	for i := range many {
		many[i] = fmt.Sprint("head-", i)
	}
	text := func(err error) string { return err.Error() }
	tests := []struct {
		name  string
		draft Draft
		want  string
	}{
		{"claim held", with(func(d *Draft) { d.Claims = append(d.Claims, Claim{"key", "k1"}) }), text(&ClaimedError{Claim{"key", "k1"}, 2})},
		{"claim held in this Tx", with(func(d *Draft) { d.Claims = append(d.Claims, Claim{"key", "k2"}) }), text(&ClaimedError{Claim{"key", "k2"}, 3})},
		{"second counter exhausted", with(func(d *Draft) { d.Debits = append(d.Debits, Debit{"order", 2, 10}) }), text(&ExhaustedError{"order", 9, 10})},
		{"limit lowered", with(func(d *Draft) { d.Debits = []Debit{{"order", 1, 8}} }), text(&ExhaustedError{"order", 9, 8})},
		{"debit overflows", with(func(d *Draft) { d.Debits = []Debit{{"order", ^uint64(0), ^uint64(0)}} }), text(&ExhaustedError{"order", 9, ^uint64(0)})},
		{"closes what never opened", with(func(d *Draft) { d.Closes = 3 }), "close entry 3: entry is not open"},
		{"closes what is closed", with(func(d *Draft) { d.Closes = 2 }), "close entry 2: entry is not open"},
		{"closes what is not there", with(func(d *Draft) { d.Closes = 99 }), "close entry 99: entry is not open"},
		{"claim twice", with(func(d *Draft) { d.Claims = []Claim{{"a", "b"}, {"a", "b"}} }), `claim 1 in "a" stands twice`},
		{"claim without key", with(func(d *Draft) { d.Claims = []Claim{{"a", ""}} }), "not of 1 to 255 bytes"},
		{"key too long", with(func(d *Draft) { d.Claims = []Claim{{"a", strings.Repeat("k", 256)}} }), "not of 1 to 255 bytes"},
		{"counter twice", with(func(d *Draft) { d.Debits = []Debit{{"a", 1, 9}, {"a", 1, 9}} }), `counter "a" stands twice`},
		{"debit of nothing", with(func(d *Draft) { d.Debits = []Debit{{"a", 0, 9}} }), "amount 0"},
		{"head twice", with(func(d *Draft) { d.Heads = []string{"h", "h"} }), `head "h" stands twice`},
		{"too many heads", with(func(d *Draft) { d.Heads = many }), "at most 256 each"},
		{"payload too large", with(func(d *Draft) { d.Payload = make([]byte, maxPayload+1) }), "payload of 1048577 bytes"},
		{"kind", with(func(d *Draft) { d.Kind = "Intent" }), `kind "Intent"`},
		{"no kind", with(func(d *Draft) { d.Kind = "" }), `kind ""`},
		{"the ledger's kind", with(func(d *Draft) { d.Kind = kindBoot }), "the ledger's own"},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			l := openTest(t, create(t), fault.Points{})
			appendAll(t, l, Draft{Kind: "intent", Claims: []Claim{{"key", "k1"}}, Debits: []Debit{{"order", 9, 10}}, Opens: true})
			_, err := l.Update(func(tx *Tx) error {
				if _, err := tx.Append(Draft{Kind: "intent", Claims: []Claim{{"key", "k2"}}, Closes: 2}); err != nil {
					return err
				}
				before, next := dump(tx.tx), tx.Next()
				_, err := tx.Append(test.draft)
				if err == nil || !strings.Contains(err.Error(), test.want) {
					t.Errorf("got %v, want %s", err, test.want)
				}
				if after := dump(tx.tx); !maps.Equal(before, after) || tx.Next() != next {
					t.Errorf("the draft left something behind:\n%v\n%v", before, after)
				}
				_, err = tx.Append(Draft{Kind: "intent", Claims: []Claim{{"device", "new"}}}) // it goes on
				return err
			})
			if err = errors.Join(err, l.Check()); err != nil {
				t.Error(err)
			}
		})
	}
}

func TestErrorsCanBeTold(t *testing.T) {
	l := openTest(t, create(t), fault.Points{})
	secret := Claim{"key", "do not log me"}
	appendAll(t, l, Draft{Kind: "intent", Claims: []Claim{secret}, Debits: []Debit{{"order", 1, 1}}})
	_, err := l.Update(func(tx *Tx) error { _, err := tx.Append(Draft{Kind: "intent", Claims: []Claim{secret}}); return err })
	var claimed *ClaimedError
	if !errors.As(err, &claimed) || *claimed != (ClaimedError{secret, 2}) || strings.Contains(err.Error(), secret.Key) {
		t.Errorf("got %v", err)
	}
	_, err = l.Update(func(tx *Tx) error {
		_, err := tx.Append(Draft{Kind: "intent", Debits: []Debit{{"order", 1, 1}}})
		return err
	})
	var exhausted *ExhaustedError
	if !errors.As(err, &exhausted) || *exhausted != (ExhaustedError{"order", 1, 1}) {
		t.Errorf("got %v", err)
	}
	_, err = l.Update(func(tx *Tx) error { _, err := tx.Append(Draft{Kind: "intent", Closes: 1}); return err })
	if !errors.Is(err, ErrNotOpen) {
		t.Errorf("got %v", err)
	}
}

// Two claims with one row key: nobody can make such a pair, so the row is planted. The claim is not held, and cannot be made.
func TestClaimKeyOfAnotherClaim(t *testing.T) {
	l := openTest(t, create(t), fault.Points{})
	appendAll(t, l, Draft{Kind: "intent", Claims: []Claim{{"key", "k1"}}})
	other := Claim{"key", "k2"}
	_, err := l.Update(func(tx *Tx) error {
		if err := tx.bucket(bucketClaims).Put(claimKey(other), key(2)); err != nil {
			return err
		}
		if holder, ok := tx.Claimed(other); ok {
			t.Errorf("taken for a claim of entry %d", holder)
		}
		_, err := tx.Append(Draft{Kind: "intent", Claims: []Claim{other}})
		return err
	})
	var claimed *ClaimedError
	if !errors.Is(err, errClaimKey) || errors.As(err, &claimed) {
		t.Errorf("got %v, want %v", err, errClaimKey)
	}
}

func TestUpdateRollsBack(t *testing.T) {
	l := openTest(t, create(t), fault.Points{})
	before := l.Checkpoint()
	wrong := errors.New("wrong")
	fail := func(tx *Tx) error {
		if _, err := tx.Append(Draft{Kind: "order", Heads: []string{"order"}}); err != nil {
			return err
		}
		return wrong
	}
	if _, err := l.Update(fail); err != wrong {
		t.Errorf("got %v, want fn's own error", err)
	}
	func() {
		defer func() {
			if recover() == nil {
				t.Error("the panic was swallowed")
			}
		}()
		l.Update(func(tx *Tx) error { fail(tx); panic("wrong") })
	}()
	cp, err := l.Update(func(*Tx) error { return nil })
	if err != nil || cp.Size != before.Size || string(cp.Note) != string(before.Note) {
		t.Errorf("an Update that appends nothing: %d, %v, want the checkpoint over %d", cp.Size, err, before.Size)
	}
	l.View(func(v *View) error {
		if index, ok := v.Head("order"); ok || v.Size() != before.Size {
			t.Errorf("entry %d is there after its rollback", index)
		}
		return nil
	})
}

// Who recovers does this: it closes what the loop gives it. Half of what the loop meets is older, half of this Tx: bbolt's cursor stands on pages
// in the one case, and on what the loop is changing in the other.
func TestLoopsMayAppend(t *testing.T) {
	l := openTest(t, create(t), fault.Points{})
	const each = 500 // several pages
	var drafts []Draft
	for i := range each {
		drafts = append(drafts, Draft{Kind: "intent", Opens: true, Heads: []string{fmt.Sprint("device/old/", i)}})
	}
	appendAll(t, l, drafts...)
	opened, heads := 0, 0
	_, err := l.Update(func(tx *Tx) error {
		for i := range each {
			if _, err := tx.Append(Draft{Kind: "intent", Opens: true, Heads: []string{fmt.Sprint("device/new/", i)}}); err != nil {
				return err
			}
		}
		for index := range tx.Open() {
			opened++
			if _, err := tx.Append(Draft{Kind: "signature", Closes: index}); err != nil {
				return err
			}
		}
		for name := range tx.Heads("device/") {
			heads++
			if _, err := tx.Append(Draft{Kind: "note", Heads: []string{name, "a" + name}}); err != nil {
				return err
			}
		}
		if left := slices.Collect(tx.Open()); len(left) != 0 {
			t.Errorf("%d entries are still open", len(left))
		}
		return nil
	})
	if err = errors.Join(err, l.Check()); err != nil || opened != 2*each || heads != 2*each {
		t.Errorf("%d open entries and %d heads, want %d each: %v", opened, heads, 2*each, err)
	}
}

func TestIterators(t *testing.T) {
	l := openTest(t, create(t), fault.Points{})
	appendAll(t, l, Draft{Kind: "order", Heads: []string{"order/1", "order/2"}}, Draft{Kind: "order", Heads: []string{"order/2", "orders"}, Opens: true})
	l.View(func(v *View) error {
		var kinds []string
		for e, err := range v.Entries(1) {
			if err != nil {
				return err
			}
			kinds = append(kinds, fmt.Sprint(e.Index, e.Kind))
		}
		if want := []string{"1boot", "2order", "3order"}; !slices.Equal(kinds, want) {
			t.Errorf("Entries(1) = %v, want %v", kinds, want)
		}
		if heads, want := maps.Collect(v.Heads("order/")), map[string]uint64{"order/1": 2, "order/2": 3}; !maps.Equal(heads, want) {
			t.Errorf("Heads = %v, want %v", heads, want)
		}
		for e := range v.Entries(0) {
			if e.Index > 0 {
				t.Error("the loop went on after its break")
			}
			break
		}
		if open := slices.Collect(v.Open()); !slices.Equal(open, []uint64{3}) {
			t.Errorf("Open = %v, want [3]", open)
		}
		return nil
	})
}

func TestTimeNeverGoesBack(t *testing.T) {
	cfg := create(t)
	now := time.Date(2100, 1, 1, 0, 0, 0, 0, time.UTC)
	cfg.Now = func() time.Time { now = now.Add(-time.Hour); return now }
	l := openTest(t, cfg, fault.Points{})
	for range 3 {
		appendAll(t, l, Draft{Kind: "note"})
	}
	l.Close()
	cfg.Now = func() time.Time { return time.Unix(0, 0) }
	l = openTest(t, cfg, fault.Points{})
	var last time.Time
	err := l.View(func(v *View) error {
		for e, err := range v.Entries(0) {
			if err != nil || e.Time.Before(last) {
				t.Errorf("entry %d at %v, after %v: %v", e.Index, e.Time, last, err)
			}
			last = e.Time
		}
		return nil
	})
	if err = errors.Join(err, l.Check()); err != nil || last.Year() < 2099 {
		t.Errorf("last entry at %v: %v", last, err)
	}
}
