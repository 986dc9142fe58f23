// Package ledgertest gives tests a real ledger in a temporary folder, checks it in full when they end, and makes its disk fail on demand.
package ledgertest

import (
	"errors"
	"log/slog"
	"path/filepath"
	"sync"
	"testing"

	"github.com/certmill/certmill/internal/ledger"
	"github.com/certmill/certmill/internal/ledger/internal/fault"
)

// Name is the name of every ledger that this package makes.
const Name = "ledger.test"

// Create makes an empty ledger in a temporary folder and says where it is. The caller opens it.
func Create(t testing.TB) ledger.Config {
	t.Helper()
	cfg := ledger.Config{
		Path:   filepath.Join(t.TempDir(), "ledger.db"),
		Marker: filepath.Join(t.TempDir(), "ledger-failed"),
		Log:    slog.New(slog.NewTextHandler(t.Output(), &slog.HandlerOptions{Level: slog.LevelWarn})),
	}
	if err := ledger.Create(cfg, Name); err != nil {
		t.Fatal(err)
	}
	return cfg
}

// New is an open, empty ledger. When the test ends it is checked and closed.
func New(t testing.TB) *ledger.Ledger {
	t.Helper()
	return Open(t, Create(t))
}

// Open opens a ledger for a test. When the test ends it is checked and closed; a test may close it before, to open it again.
func Open(t testing.TB, cfg ledger.Config) *ledger.Ledger {
	t.Helper()
	l, err := ledger.Open(cfg)
	return watched(t, l, err)
}

// OpenFaulty opens a ledger whose commits fail when the Disk is told to.
func OpenFaulty(t testing.TB, cfg ledger.Config) (*ledger.Ledger, *Disk) {
	t.Helper()
	d := &Disk{}
	l, err := ledger.OpenWithFaults(cfg, fault.Points{Commit: d.commit})
	return watched(t, l, err), d
}

func watched(t testing.TB, l *ledger.Ledger, err error) *ledger.Ledger {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := l.Check(); err != nil && !errors.Is(err, ledger.ErrClosed) && !errors.Is(err, ledger.ErrFailed) {
			t.Error(err)
		}
		if err := l.Close(); err != nil {
			t.Error(err)
		}
	})
	return l
}

// ErrDisk is the cause of every failure that a Disk makes.
var ErrDisk = errors.New("input/output error (made by the test)")

// Disk makes commits fail. Its methods may be called concurrently with the ledger's.
type Disk struct {
	mu   sync.Mutex
	next func(commit, rollback func() error) error // what becomes of the next commit; nil: it succeeds
}

// LoseNext makes the next commit fail, and nothing of it reaches the disk.
func (d *Disk) LoseNext() {
	d.set(func(_, rollback func() error) error { return errors.Join(ErrDisk, rollback()) })
}

// KeepNext makes the next commit fail, though all of it reaches the disk: an error does not mean that it did not happen.
func (d *Disk) KeepNext() {
	d.set(func(commit, _ func() error) error { return errors.Join(ErrDisk, commit()) })
}

func (d *Disk) set(next func(commit, rollback func() error) error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.next = next
}

func (d *Disk) commit(commit, rollback func() error) error {
	d.mu.Lock()
	next := d.next
	d.next = nil
	d.mu.Unlock()
	if next == nil {
		return commit()
	}
	return next(commit, rollback)
}
