package ledger

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"testing/synctest"

	"github.com/certmill/certmill/internal/ledger/internal/fault"
)

var errTestDisk = errors.New("made by the test")

// Each commit fails twice, once "and not persisted", once "but persisted". The caller hears the same; both stores are sound.
func TestCommitFails(t *testing.T) {
	tests := []struct {
		name    string
		outcome func(commit, rollback func() error) error
		there   bool // after the next Open
	}{
		{"not persisted", func(_, rollback func() error) error { return errors.Join(errTestDisk, rollback()) }, false},
		{"persisted", func(commit, _ func() error) error { return errors.Join(errTestDisk, commit()) }, true},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			cfg := create(t)
			var armed bool
			l := openTest(t, cfg, fault.Points{Commit: func(commit, rollback func() error) error {
				if armed {
					return test.outcome(commit, rollback)
				}
				return commit()
			}})
			before := l.Checkpoint()
			armed = true
			device := Claim{"device", "D-1"}
			_, err := l.Update(func(tx *Tx) error { _, err := tx.Append(Draft{Kind: "intent", Claims: []Claim{device}}); return err })
			if !errors.Is(err, ErrFailed) || !errors.Is(err, errTestDisk) {
				t.Fatalf("got %v, want ErrFailed with its cause", err)
			}
			armed = false
			checkFailed(t, l, before, device, test.there)
			if err := l.Close(); err != nil {
				t.Fatal(err)
			}
			checkRecovered(t, cfg, device, test.there)
		})
	}
}

// checkFailed looks at a ledger that failed: no Update any more, and no View of what was not acknowledged.
func checkFailed(t *testing.T, l *Ledger, before Checkpoint, device Claim, persisted bool) {
	t.Helper()
	ran := false
	_, err := l.Update(func(*Tx) error { ran = true; return nil })
	if !errors.Is(err, ErrFailed) || !errors.Is(err, errTestDisk) || ran {
		t.Errorf("second Update: %v (ran: %v), want ErrFailed", err, ran)
	}
	if got := l.Checkpoint(); got.Size != before.Size {
		t.Errorf("Checkpoint is over %d, want %d", got.Size, before.Size)
	}
	err = l.View(func(v *View) error {
		if _, ok := v.Claimed(device); ok {
			t.Error("a View shows what was not acknowledged")
		}
		return nil
	})
	if persisted != errors.Is(err, ErrFailed) {
		t.Errorf("View after the failure: %v", err)
	}
}

// checkRecovered opens the ledger again: its marker is found, the store is copied and checked, and it goes on.
func checkRecovered(t *testing.T, cfg Config, device Claim, there bool) {
	t.Helper()
	note, err := os.ReadFile(cfg.Marker)
	if err != nil || !strings.Contains(string(note), errTestDisk.Error()) {
		t.Fatalf("marker %q: %v", note, err)
	}
	old, err := os.Stat(cfg.Path)
	if err != nil {
		t.Fatal(err)
	}
	l := openTest(t, cfg, fault.Points{})
	now, err := os.Stat(cfg.Path)
	if err != nil || os.SameFile(old, now) {
		t.Errorf("the store was not copied to a new file: %v", err)
	}
	if _, err := os.Stat(cfg.Marker); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("the marker is still there: %v", err)
	}
	if err := l.Check(); err != nil {
		t.Error(err)
	}
	l.View(func(v *View) error {
		if _, ok := v.Claimed(device); ok != there {
			t.Errorf("claimed: %v, want %v", ok, there)
		}
		if boot, err := v.Entry(v.Size() - 1); err != nil || boot.Kind != kindBoot || string(boot.Payload) != "recovered" {
			t.Errorf("last entry %+v: %v", boot, err)
		}
		return nil
	})
	appendAll(t, l, Draft{Kind: "note"})
}

// bbolt shows a transaction to new readers before its last sync has returned. A View waits for that sync.
func TestViewWaitsForTheSync(t *testing.T) {
	for _, cause := range []error{nil, errTestDisk} {
		synctest.Test(t, func(t *testing.T) {
			written, sync := make(chan struct{}), make(chan error)
			armed := false
			l := openTest(t, create(t), fault.Points{Commit: func(commit, _ func() error) error {
				err := commit()
				if armed {
					close(written)
					err = errors.Join(err, <-sync)
				}
				return err
			}})
			armed = true
			go l.Update(func(tx *Tx) error { _, err := tx.Append(Draft{Kind: "order", Heads: []string{"order"}}); return err })
			<-written
			viewed := make(chan error, 1)
			go func() {
				viewed <- l.View(func(v *View) error {
					if _, ok := v.Head("order"); !ok {
						t.Error("the View is older than the transaction that it waited for")
					}
					return nil
				})
			}()
			synctest.Wait()
			select {
			case err := <-viewed:
				t.Errorf("the View did not wait: %v", err)
			default:
			}
			sync <- cause
			if err := <-viewed; errors.Is(err, ErrFailed) != (cause != nil) {
				t.Errorf("sync returned %v, View %v", cause, err)
			}
		})
	}
}

// A boot that cannot be written is not a start, and the next one is told.
func TestOpenFails(t *testing.T) {
	cfg := create(t)
	_, err := OpenWithFaults(cfg, fault.Points{Commit: func(_, rollback func() error) error { return errors.Join(errTestDisk, rollback()) }})
	if !errors.Is(err, ErrFailed) {
		t.Fatalf("got %v, want ErrFailed", err)
	}
	if _, err := os.Stat(cfg.Marker); err != nil {
		t.Error(err)
	}
	if err := openTest(t, cfg, fault.Points{}).Check(); err != nil {
		t.Error(err)
	}
}

// A marker whose disk is gone as well is left in the spare place, found there, and removed.
func TestSpareMarker(t *testing.T) {
	cfg := create(t)
	cfg.Spare, cfg.Marker = cfg.Marker, filepath.Join(t.TempDir(), "not there", "failed")
	armed := false
	l := openTest(t, cfg, fault.Points{Commit: func(commit, rollback func() error) error {
		if armed {
			return errors.Join(errTestDisk, rollback())
		}
		return commit()
	}})
	armed = true
	if _, err := l.Update(func(tx *Tx) error { _, err := tx.Append(Draft{Kind: "note"}); return err }); !errors.Is(err, ErrFailed) {
		t.Fatal(err)
	}
	l.Close()
	armed = false
	if !cfg.marked() {
		t.Error("the spare marker is not seen")
	}
	cfg.Marker, cfg.Spare = cfg.Spare, cfg.Marker // checkRecovered reads the marker where it was left
	checkRecovered(t, cfg, Claim{"device", "none"}, false)
}

// A copy that finds the store damaged keeps the marker: the next start must not take the store for good.
func TestRecoveryOfDamage(t *testing.T) {
	cfg := create(t)
	l := openTest(t, cfg, fault.Points{})
	appendAll(t, l, Draft{Kind: "order", Heads: []string{"order"}})
	l.Close()
	tamper(t, cfg, func(tx *tampered) { tx.put(bucketHeads, []byte("order"), key(1)) })
	if err := os.WriteFile(cfg.Marker, []byte("failed\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	for range 2 {
		if _, err := Open(cfg); err == nil || !strings.Contains(err.Error(), "heads") {
			t.Errorf("got %v, want an error about heads", err)
		}
	}
	if _, err := os.Stat(cfg.Marker); err != nil {
		t.Error(err)
	}
}

// Who waited for the lock while another process put a copy in the store's place holds a file that has no name any more.
func TestReplacedWhileWaiting(t *testing.T) {
	cfg := create(t)
	f, err := os.Open(cfg.Path)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	if err := stillNamed(f, cfg.Path); err != nil {
		t.Error(err)
	}
	if err := copyStore(cfg); err != nil {
		t.Fatal(err)
	}
	if err := stillNamed(f, cfg.Path); !errors.Is(err, ErrInUse) {
		t.Errorf("got %v, want ErrInUse", err)
	}
}
