package ledger_test

import (
	"errors"
	"io/fs"
	"slices"
	"testing"

	"github.com/certmill/certmill/internal/ledger"
	"github.com/certmill/certmill/internal/ledger/ledgertest"
)

func TestAppendAndRead(t *testing.T) {
	l := ledgertest.New(t)
	order := ledger.Draft{Kind: "order", Payload: []byte("ten units"), Heads: []string{"order/O-1"}}
	intent := ledger.Draft{
		Kind: "intent", Payload: []byte("tbs"), Opens: true,
		Claims: []ledger.Claim{{Space: "device", Key: "D-1"}, {Space: "key", Key: "\x00\xff"}},
		Debits: []ledger.Debit{{Counter: "order/O-1", Amount: 1, Limit: 10}},
	}
	cp, err := l.Update(func(tx *ledger.Tx) error {
		if tx.Next() != 2 {
			t.Errorf("Next() = %d, want 2: genesis and boot are there", tx.Next())
		}
		for _, d := range []ledger.Draft{order, intent} {
			if _, err := tx.Append(d); err != nil {
				return err
			}
		}
		if index, ok := tx.Claimed(intent.Claims[0]); !ok || index != 3 {
			t.Errorf("within the Tx: Claimed = %d, %v, want 3", index, ok)
		}
		_, err := tx.Append(ledger.Draft{Kind: "signature", Payload: []byte("sig"), Closes: 3})
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	got, err := ledger.VerifyCheckpoint(cp.Note, l.VerifierKey())
	if err != nil || got.Size != 5 || got.Hash != cp.Hash || cp.Size != 5 {
		t.Errorf("checkpoint %d, its note says %d: %v", cp.Size, got.Size, err)
	}
	err = l.View(func(v *ledger.View) error {
		e, err := v.Entry(3)
		if err != nil {
			return err
		}
		if e.Index != 3 || e.Kind != "intent" || string(e.Payload) != "tbs" || !slices.Equal(e.Claims, intent.Claims) || !slices.Equal(e.Debits, intent.Debits) || !e.Opens {
			t.Errorf("Entry(3) = %+v", e)
		}
		if by, ok := v.ClosedBy(3); !ok || by != 4 {
			t.Errorf("ClosedBy(3) = %d, %v, want 4", by, ok)
		}
		if head, ok := v.Head("order/O-1"); !ok || head != 2 {
			t.Errorf("Head = %d, %v, want 2", head, ok)
		}
		if n := v.Counter("order/O-1"); n != 1 {
			t.Errorf("Counter = %d, want 1", n)
		}
		if open := slices.Collect(v.Open()); len(open) != 0 {
			t.Errorf("Open = %v, want none", open)
		}
		if _, err := v.Entry(5); !errors.Is(err, fs.ErrNotExist) {
			t.Errorf("Entry(5): %v, want fs.ErrNotExist", err)
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
}
