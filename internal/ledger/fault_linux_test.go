package ledger_test

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"

	"github.com/certmill/certmill/internal/ledger"
	"github.com/certmill/certmill/internal/ledger/ledgertest"
	"github.com/certmill/certmill/internal/testdisk"
)

// life is a ledger's: made, used, copied after a failed write, used again. What it was told to keep stands in acked.
type life struct {
	cfg     ledger.Config
	created bool
	acked   []uint64 // devices, by their entries
	disk    *testdisk.Disk
}

// live goes on until an error.
func (l *life) live() error {
	if err := ledger.Create(l.cfg, ledgertest.Name); err != nil {
		return err
	}
	l.created = true
	if err := l.run(4); err != nil {
		return err
	}
	if err := os.WriteFile(l.cfg.Marker, nil, 0o600); err != nil {
		return err
	}
	return l.run(2)
}

// run opens the ledger, appends and closes it.
func (l *life) run(updates int) error {
	led, err := ledger.Open(l.cfg)
	if err != nil {
		return err
	}
	for range updates {
		if err := l.update(led); err != nil {
			return errors.Join(err, led.Close())
		}
	}
	return led.Close()
}

// update records a device, and the signature of the one before.
func (l *life) update(led *ledger.Ledger) error {
	var device uint64
	_, err := led.Update(func(tx *ledger.Tx) (err error) {
		for open := range tx.Open() {
			if _, err := tx.Append(ledger.Draft{Kind: "signature", Payload: make([]byte, 72), Closes: open}); err != nil {
				return err
			}
		}
		device, err = tx.Append(ledger.Draft{
			Kind: "intent", Payload: make([]byte, 3000), Opens: true, Heads: []string{"newest"},
			Claims: []ledger.Claim{{Space: "device", Key: fmt.Sprint(tx.Next())}},
			Debits: []ledger.Debit{{Counter: "order", Amount: 1, Limit: 1000}},
		})
		return err
	})
	if err == nil {
		l.acked = append(l.acked, device)
		l.disk.Mark(len(l.acked))
	}
	return err
}

// sound opens the ledger at a path, as a restart does, and looks for what was acknowledged.
func (l *life) sound(cfg ledger.Config, acked []uint64) error {
	if !l.created {
		if err := ledger.Create(cfg, ledgertest.Name); err != nil && !errors.Is(err, fs.ErrExist) {
			return fmt.Errorf("create again: %w", err)
		}
	}
	led, err := ledger.Open(cfg)
	if err != nil {
		return err
	}
	err = led.Check()
	err = errors.Join(err, led.View(func(v *ledger.View) error {
		for _, device := range acked {
			if holder, ok := v.Claimed(ledger.Claim{Space: "device", Key: fmt.Sprint(device)}); !ok || holder != device {
				return fmt.Errorf("entry %d was acknowledged and is gone", device)
			}
		}
		return nil
	}))
	return errors.Join(err, led.Close())
}

// afterCut puts what is on the disk after a power cut somewhere else and looks at it. The marker is on a disk of its own, and may not have been left.
func (l *life) afterCut(t *testing.T, d *testdisk.Disk) error {
	for _, marker := range []bool{true, false} {
		dir := testdisk.Memory(t)
		if err := d.Recording().Durable().WriteTo(dir); err != nil {
			return err
		}
		cfg := ledger.Config{Path: filepath.Join(dir, "ledger.db")}
		if note, err := os.ReadFile(l.cfg.Marker); err == nil && marker {
			cfg.Marker = filepath.Join(dir, "failed")
			if err := os.WriteFile(cfg.Marker, note, 0o600); err != nil {
				return err
			}
		}
		if err := l.sound(cfg, l.acked); err != nil {
			return fmt.Errorf("after a power cut (marker: %v): %w", marker, err)
		}
	}
	return nil
}

// Every step of a ledger's life fails, in each of the three ways. Then there is a power cut at once, or a restart, more work, and a power cut: what was acknowledged is
// there, the ledger opens, and its check, which recomputes uniqueness by sorting, finds nothing.
func TestDiskFaults(t *testing.T) {
	drive := testdisk.Start(t)
	whole := newLife(t, drive.Mount(t))
	if err := whole.life.live(); err != nil {
		t.Fatal(err)
	}
	rec := whole.disk.Recording()
	did := slices.DeleteFunc(slices.Clone(rec.Steps), func(s testdisk.Step) bool { return s.Kind == testdisk.Mark })
	steps := len(did)
	var next, runs, failed, cuts atomic.Int64
	var wg sync.WaitGroup
	for range runtime.GOMAXPROCS(0) {
		wg.Go(func() {
			for {
				n := int(next.Add(1)) - 1
				if n >= 3*steps || t.Failed() {
					return
				}
				r := newLife(t, drive.Mount(t))
				met, err := r.fault(t, testdisk.Order{Step: n/3 + 1, Fault: testdisk.Fault(n % 3), Errno: syscall.EIO})
				runs.Add(1)
				cuts.Add(int64(r.cuts))
				if met {
					failed.Add(1)
				}
				if err != nil {
					t.Errorf("step %d (%s) %s: %v", n/3+1, did[n/3], testdisk.Fault(n%3), err)
				}
				r.disk.Unmount()
			}
		})
	}
	wg.Wait()
	t.Logf("disk faults: %d steps (%d writes, %d syncs), each failed in 3 ways: %d runs, %d errors that the ledger met, %d power cuts while the work after them went on, 0 acknowledged entries lost",
		steps, rec.Count(testdisk.Write), rec.Count(testdisk.Sync)+rec.Count(testdisk.SyncDir), runs.Load(), failed.Load(), cuts.Load())
}

// cutLater cuts the power while the work after a restart goes on: at any step of it, with any part of what is not synced.
func (l *life) cutLater(t *testing.T, step int) (states int, err error) {
	cuts, _ := l.disk.Recording().CutsFrom(step, 30, uint64(step))
	for i := range cuts {
		dir := testdisk.Memory(t)
		if err := cuts[i].Image().WriteTo(dir); err != nil {
			return i, err
		}
		if err := l.sound(ledger.Config{Path: filepath.Join(dir, "ledger.db")}, l.acked[:cuts[i].Marks]); err != nil {
			return i, fmt.Errorf("restart, and then %s: %w", &cuts[i], err)
		}
		os.RemoveAll(dir)
	}
	return len(cuts), nil
}

type faulty struct {
	disk *testdisk.Disk
	life *life
	cuts int
}

func newLife(t *testing.T, d *testdisk.Disk) *faulty {
	cfg := ledger.Config{Path: filepath.Join(d.Dir, "ledger.db"), Marker: filepath.Join(t.TempDir(), "failed")}
	return &faulty{disk: d, life: &life{cfg: cfg, disk: d}}
}

// fault lives until a step fails, then on.
func (r *faulty) fault(t *testing.T, o testdisk.Order) (met bool, err error) {
	r.disk.Fail(o)
	err = r.life.live()
	if !r.disk.Heal() {
		return false, errors.New("the step did not come")
	}
	if err == nil && r.life.cfg.Marker != "" { // nobody needed that step: a file that could not be removed
		return false, r.life.afterCut(t, r.disk)
	}
	if err := r.life.afterCut(t, r.disk); err != nil {
		return true, fmt.Errorf("at once %w", err)
	}
	created, before := r.life.created, len(r.disk.Recording().Steps)
	if err := r.life.sound(r.life.cfg, r.life.acked); err != nil {
		return true, fmt.Errorf("after a restart: %w", err)
	}
	r.life.created = true
	if err := r.life.run(2); err != nil {
		return true, fmt.Errorf("work after a restart: %w", err)
	}
	if err := r.life.afterCut(t, r.disk); err != nil {
		return true, fmt.Errorf("restart, work, and then %w", err)
	}
	if !created {
		return true, nil
	}
	r.cuts, err = r.life.cutLater(t, before)
	return true, err
}
