package ledger

import (
	"fmt"
	"path/filepath"
	"testing"

	"go.etcd.io/bbolt"

	"github.com/certmill/certmill/internal/ledger/internal/fault"
)

// create makes a ledger as ledgertest.Create does, for tests that look inside.
func create(t testing.TB) Config {
	t.Helper()
	cfg := Config{Path: filepath.Join(t.TempDir(), "ledger.db"), Marker: filepath.Join(t.TempDir(), "failed")}
	if err := Create(cfg, "ledger.test"); err != nil {
		t.Fatal(err)
	}
	return cfg
}

func openTest(t testing.TB, cfg Config, faults fault.Points) *Ledger {
	t.Helper()
	l, err := OpenWithFaults(cfg, faults)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { l.Close() })
	return l
}

func appendAll(t testing.TB, l *Ledger, drafts ...Draft) {
	t.Helper()
	_, err := l.Update(func(tx *Tx) error {
		for _, d := range drafts {
			if _, err := tx.Append(d); err != nil {
				return err
			}
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
}

// dump is every row of a transaction, to compare.
func dump(tx *bbolt.Tx) map[string]string {
	rows := map[string]string{}
	for id := range bucketCount {
		tx.Bucket([]byte(id.String())).ForEach(func(k, v []byte) error {
			rows[fmt.Sprintf("%s %x", id, k)] = fmt.Sprintf("%x", v)
			return nil
		})
	}
	return rows
}
