package ledger_test

import (
	"errors"
	"fmt"
	"sync"
	"testing"

	"github.com/certmill/certmill/internal/ledger"
	"github.com/certmill/certmill/internal/ledger/ledgertest"
)

func TestOneWriterOrReaders(t *testing.T) {
	cfg := ledgertest.Create(t)
	l := ledgertest.Open(t, cfg)
	if _, err := ledger.Open(cfg); !errors.Is(err, ledger.ErrInUse) {
		t.Errorf("second Open: %v, want ErrInUse", err)
	}
	if _, err := ledger.OpenReadOnly(cfg); !errors.Is(err, ledger.ErrInUse) {
		t.Errorf("OpenReadOnly beside a writer: %v, want ErrInUse", err)
	}
	if err := l.Close(); err != nil {
		t.Fatal(err)
	}
	for range 2 { // readers do not keep each other out
		r, err := ledger.OpenReadOnly(cfg)
		if err != nil {
			t.Fatal(err)
		}
		defer r.Close()
		if _, err := r.Update(func(*ledger.Tx) error { t.Error("ran"); return nil }); !errors.Is(err, ledger.ErrReadOnly) {
			t.Errorf("Update: %v, want ErrReadOnly", err)
		}
		if err := r.Check(); err != nil || r.Checkpoint().Size != 2 || r.VerifierKey() != l.VerifierKey() {
			t.Errorf("read only: %v, checkpoint over %d", err, r.Checkpoint().Size)
		}
	}
	if _, err := ledger.Open(cfg); !errors.Is(err, ledger.ErrInUse) {
		t.Errorf("Open beside readers: %v, want ErrInUse", err)
	}
}

func TestClosed(t *testing.T) {
	l := ledgertest.New(t)
	if err := errors.Join(l.Close(), l.Close()); err != nil {
		t.Error(err)
	}
	if err := l.View(func(*ledger.View) error { return nil }); !errors.Is(err, ledger.ErrClosed) {
		t.Errorf("View: %v, want ErrClosed", err)
	}
	if _, err := l.Update(func(*ledger.Tx) error { return nil }); !errors.Is(err, ledger.ErrClosed) {
		t.Errorf("Update: %v, want ErrClosed", err)
	}
}

// Eight goroutines want the same hundred devices, while others read: each device is had once, no reader sees half an Update.
func TestConcurrentUse(t *testing.T) {
	l := ledgertest.New(t)
	const workers, devices = 8, 100
	var wg sync.WaitGroup
	won := make([]int, workers)
	for w := range workers {
		wg.Go(func() {
			for d := range devices {
				if record(t, l, d) {
					won[w]++
				}
			}
		})
		wg.Go(func() {
			for range devices {
				checkSnapshot(t, l)
			}
		})
	}
	wg.Wait()
	sum := 0
	for _, n := range won {
		sum += n
	}
	if sum != devices {
		t.Errorf("%d claims were made, want %d: %v", sum, devices, won)
	}
}

func record(t *testing.T, l *ledger.Ledger, device int) bool {
	_, err := l.Update(func(tx *ledger.Tx) error {
		intent := ledger.Draft{
			Kind: "intent", Opens: true, Claims: []ledger.Claim{{Space: "device", Key: fmt.Sprint(device)}},
			Debits: []ledger.Debit{{Counter: "order", Amount: 1, Limit: 1000}},
		}
		index, err := tx.Append(intent)
		if err != nil {
			return err
		}
		_, err = tx.Append(ledger.Draft{Kind: "signature", Closes: index})
		return err
	})
	var claimed *ledger.ClaimedError
	if err != nil && !errors.As(err, &claimed) {
		t.Error(err)
	}
	return err == nil
}

func checkSnapshot(t *testing.T, l *ledger.Ledger) {
	before := l.Checkpoint().Size
	err := l.View(func(v *ledger.View) error {
		if v.Size() < before || v.Size() != 2+2*v.Counter("order") {
			t.Errorf("a View of %d entries, counter %d, after a checkpoint over %d", v.Size(), v.Counter("order"), before)
		}
		for index := range v.Open() {
			t.Errorf("entry %d is open: half an Update", index)
		}
		return nil
	})
	if err != nil {
		t.Error(err)
	}
}
