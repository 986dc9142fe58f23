package issuer

import (
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"runtime"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/certmill/certmill/internal/ledger"
	"github.com/certmill/certmill/internal/ledger/ledgertest"
	"github.com/certmill/certmill/internal/testdisk"
)

// shift is a factory at work on a disk that keeps a record, with what it promised to whom.
type shift struct {
	p     *plant
	disk  *testdisk.Disk
	order string
	ready int // promises that stand before the first request

	mu       sync.Mutex
	promises []Certificate // by their mark in the disk's record; zero: the ledger was made, or a document
	items    []Item
}

// newShift makes a ledger on the disk, a plant in it, and works three runs: the second begins with the copy that follows a failed write.
func newShift(t *testing.T, disk *testdisk.Disk) *shift {
	s := &shift{disk: disk}
	cfg := ledger.Config{Path: filepath.Join(disk.Dir, "ledger.db"), Marker: filepath.Join(t.TempDir(), "failed"), Now: new(testClock).now} // its first entry is not of today
	if err := ledger.Create(cfg, ledgertest.Name); err != nil {
		t.Fatal(err)
	}
	s.promise(Certificate{})
	s.p = newPlantOn(t, cfg)
	s.p.station("line-1")
	s.order = s.p.order(1000).ID
	s.promise(Certificate{})
	s.ready = len(s.promises)
	s.work(0, 36)
	s.p.stop()
	if err := os.WriteFile(cfg.Marker, []byte("test"), 0o600); err != nil {
		t.Fatal(err)
	}
	s.p.start()
	s.work(36, 48)
	s.p.stop()
	s.p.start()
	s.work(48, 60)
	s.p.stop()
	return s
}

func (s *shift) promise(c Certificate) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.disk.Mark(len(s.promises))
	s.promises = append(s.promises, c)
}

// work has devices made, four at a time.
func (s *shift) work(from, to int) {
	var wg sync.WaitGroup
	for n := from; n < to; n++ {
		s.items = append(s.items, s.p.item(s.order, deviceID(n)))
	}
	for worker := range 4 {
		wg.Go(func() {
			for n := from + worker; n < to; n += 4 {
				s.promise(s.p.submit(s.items[n]))
			}
		})
	}
	wg.Wait()
}

// survives opens what a power failure left and says what is wrong with it.
func (s *shift) survives(dir string, marks int, marked bool) error {
	cfg := ledger.Config{Path: filepath.Join(dir, "ledger.db"), Now: s.p.cfg.Now}
	if marks == 0 { // nobody was told that there is a ledger: to make it once more must do
		if err := ledger.Create(cfg, ledgertest.Name); err != nil && !errors.Is(err, fs.ErrExist) {
			return err
		}
	}
	if marked {
		cfg.Marker = filepath.Join(dir, "failed")
		if err := os.WriteFile(cfg.Marker, nil, 0o600); err != nil {
			return err
		}
	}
	l, err := ledger.Open(cfg)
	if err != nil {
		return err
	}
	err = l.Check()
	for n, c := range s.promises[:marks] {
		err = errors.Join(err, kept(l, n, c))
	}
	return errors.Join(err, l.Close())
}

// kept looks for a certificate that was handed out.
func kept(l *ledger.Ledger, n int, c Certificate) error {
	if c.DER == nil {
		return nil
	}
	return l.View(func(v *ledger.View) error {
		found, err := certificateAt(v, c.Serial.Sequence(l.Cipher()))
		if err != nil || found == nil || !bytes.Equal(found.DER, c.DER) {
			return fmt.Errorf("promise %d, certificate of %s: lost or changed (%v)", n, c.DeviceID, err)
		}
		return nil
	})
}

// goesOn starts a factory on what a power failure left and asks for everything again: what had been handed out comes back byte for byte, the rest is made.
func (s *shift) goesOn(t *testing.T, dir string, marks int) {
	p := &plant{TB: t, profiles: s.p.profiles, tokens: s.p.tokens, records: s.p.records, csrs: maps.Clone(s.p.csrs)}
	p.cfg = ledger.Config{Path: filepath.Join(dir, "ledger.db"), Now: s.p.cfg.Now}
	p.start()
	byDevice := make(map[string]Certificate)
	for _, it := range s.items {
		byDevice[it.DeviceID] = p.submit(it)
	}
	for n, c := range s.promises[:marks] {
		if c.DER != nil && !bytes.Equal(byDevice[c.DeviceID].DER, c.DER) {
			t.Errorf("promise %d: %s got another certificate after the power cut", n, c.DeviceID)
		}
	}
	p.eventually("no open intents", func() bool { return p.OpenIntents() == 0 })
	if now := p.orderNow(s.order); now.Issued != uint64(len(s.items)) {
		t.Errorf("the order counts %d, want %d", now.Issued, len(s.items))
	}
	p.must(p.ledger.Check())
	p.stop()
}

// tryCuts puts each state on a disk and has f look at it. The first error ends it where all is false.
func tryCuts(t *testing.T, cuts []testdisk.Cut, f func(n int, dir string, c *testdisk.Cut) error, all bool) (failed int) {
	t.Helper()
	var next, failures atomic.Int64
	var wg sync.WaitGroup
	home := testdisk.Memory(t)
	for range runtime.GOMAXPROCS(0) {
		wg.Go(func() {
			for failures.Load() == 0 || all {
				n := int(next.Add(1)) - 1
				if n >= len(cuts) {
					return
				}
				dir := filepath.Join(home, fmt.Sprint(n))
				err := errors.Join(os.Mkdir(dir, 0o700), cuts[n].Image().WriteTo(dir))
				if err == nil {
					err = f(n, dir, &cuts[n])
				}
				if err != nil && failures.Add(1) <= 5 && all {
					t.Errorf("%s: %v", &cuts[n], err)
				}
				os.RemoveAll(dir)
			}
		})
	}
	wg.Wait()
	return int(failures.Load())
}

// P2, P3, P8 with a disk that loses power: a shift's record is cut at every step, with everything, nothing and any part of what was not synced. In each of
// the states every certificate that had been handed out is there byte for byte, the ledger opens without repair and is sound; on one of each hundred the whole shift is asked for again.
func TestPowerCuts(t *testing.T) {
	began := time.Now()
	s := newShift(t, testdisk.Start(t).Mount(t))
	rec := s.disk.Recording()
	want := 20_000
	if os.Getenv("CERTMILL_TEST_LONG") != "" {
		want = 200_000
	}
	if raceDetector {
		want /= 10
	}
	cuts, count := rec.Cuts(want, 1)
	listed := time.Since(began)
	var again []int
	failed := tryCuts(t, cuts, func(n int, dir string, c *testdisk.Cut) error {
		return s.survives(dir, c.Marks, n%8 == 0)
	}, true)
	for n := range cuts {
		if n%100 == 7 && cuts[n].Marks >= s.ready {
			again = append(again, n)
		}
	}
	for _, n := range again {
		dir := testdisk.Memory(t)
		if err := cuts[n].Image().WriteTo(dir); err != nil {
			t.Fatal(err)
		}
		s.goesOn(t, dir, cuts[n].Marks)
	}
	if len(cuts) < want {
		t.Errorf("%d states, want %d", len(cuts), want)
	}
	t.Logf("power cuts: %d steps (%d writes, %d syncs), %d moments with something unsynced, %d certificates handed out; %d states built, %d equal, %d different: %v",
		count.Steps, rec.Count(testdisk.Write), rec.Count(testdisk.Sync)+rec.Count(testdisk.SyncDir), count.Moments, len(s.promises)-s.ready,
		count.Built, count.Equal, len(cuts), count.By)
	t.Logf("power cuts: %d of %d states opened without repair with every certificate (%d through the copy after a failed write), %d worked on; listed in %v, all in %v",
		len(cuts)-failed, len(cuts), (len(cuts)+7)/8, len(again), listed.Round(time.Millisecond), time.Since(began).Round(time.Millisecond))
}

// The test above would find a program that forgets to sync: the same record without some of its syncs is what such a program leaves.
func TestPowerCutsFindMissingSyncs(t *testing.T) {
	s := newShift(t, testdisk.Start(t).Mount(t))
	rec := s.disk.Recording()
	for name, skip := range map[string]func(testdisk.Step, int) bool{
		"no sync of files (bbolt's NoSync)":                 func(c testdisk.Step, _ int) bool { return c.Kind == testdisk.Sync },
		"every second sync of files (data or page of meta)": func(c testdisk.Step, n int) bool { return c.Kind == testdisk.Sync && n%2 == 0 },
		"the other half of them":                            func(c testdisk.Step, n int) bool { return c.Kind == testdisk.Sync && n%2 == 1 },
		"one sync in twenty":                                func(c testdisk.Step, n int) bool { return c.Kind == testdisk.Sync && n%20 == 11 },
		"no sync of the folder":                             func(c testdisk.Step, _ int) bool { return c.Kind == testdisk.SyncDir },
	} {
		t.Run(name, func(t *testing.T) {
			cuts, _ := rec.Without(skip).Cuts(1000, 1)
			failed := tryCuts(t, cuts, func(_ int, dir string, c *testdisk.Cut) error { return s.survives(dir, c.Marks, false) }, false)
			if failed == 0 {
				t.Errorf("%d states, and nothing was found", len(cuts))
			}
		})
	}
}
