package ledger_test

import (
	"crypto/rand"
	"fmt"
	"testing"

	"github.com/certmill/certmill/internal/ledger"
	"github.com/certmill/certmill/internal/ledger/ledgertest"
)

// BenchmarkUpdate records certificates as the issuer does: an intent (450 octets, two claims, one debit) and the signature that closes it, each half in a
// commit of its own. One operation is one certificate: two entries.
func BenchmarkUpdate(b *testing.B) {
	for _, batch := range []int{1, 30, 100, 1000} {
		b.Run(fmt.Sprintf("certificates=%d", batch), func(b *testing.B) {
			l := ledgertest.New(b)
			b.ReportAllocs()
			for done := 0; b.Loop(); done++ {
				if done%batch == 0 {
					benchmarkBatch(b, l, batch)
				}
			}
			b.ReportMetric(2*float64(b.N)/b.Elapsed().Seconds(), "entries/s")
		})
	}
}

func benchmarkBatch(b *testing.B, l *ledger.Ledger, batch int) {
	intent := ledger.Draft{
		Kind: "intent", Payload: make([]byte, 450), Opens: true,
		Claims: []ledger.Claim{{Space: "device"}, {Space: "key"}},
		Debits: []ledger.Debit{{Counter: "order/O-1", Amount: 1, Limit: 1 << 40}},
	}
	signature := ledger.Draft{Kind: "signature", Payload: make([]byte, 80)}
	var first uint64
	_, err := l.Update(func(tx *ledger.Tx) error {
		first = tx.Next()
		for range batch {
			intent.Claims[0].Key = fmt.Sprintf("demo/DEMO-%09d/main", tx.Next())
			intent.Claims[1].Key = rand.Text()
			if _, err := tx.Append(intent); err != nil {
				return err
			}
		}
		return nil
	})
	if err != nil {
		b.Fatal(err)
	}
	_, err = l.Update(func(tx *ledger.Tx) error {
		for i := range uint64(batch) {
			signature.Closes = first + i
			if _, err := tx.Append(signature); err != nil {
				return err
			}
		}
		return nil
	})
	if err != nil {
		b.Fatal(err)
	}
}
