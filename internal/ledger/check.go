package ledger

import (
	"bytes"
	"errors"
	"fmt"
	"maps"
	"runtime/debug"
	"slices"

	"golang.org/x/mod/sumdb/tlog"
)

// Check walks every invariant: numbering, times, tree, claims, debits, heads and open entries, all recomputed from the entries alone and compared both
// ways, and the checkpoint's signature. It returns the first fault it meets and says what broke. It reads the whole store twice, beside Updates, and needs
// memory for the counters and 8 octets for each claim. bbolt's own page check is left out: it must not run beside a writer, and where a page is damaged
// it ends the process (CheckPages).
func (l *Ledger) Check() error { return l.CheckWith(func(uint64) {}) }

// CheckWith is Check for somebody who watches: walked is told, after each thousand entries and at the end, how many of 2·Size it has been through.
func (l *Ledger) CheckWith(walked func(entries uint64)) error {
	err := guarded(func() error {
		return l.View(func(v *View) error {
			if err := checkBuckets(v.tx); err != nil {
				return err
			}
			keys, err := l.checkView(v, walked)
			if err != nil {
				return err
			}
			return checkDistinct(v, keys, func(n uint64) { walked(v.size + n) })
		})
	})
	if err != nil {
		return fmt.Errorf("check: %w", err)
	}
	return nil
}

// guarded makes errors of what bbolt does over damaged pages: panics, and reads beside its map, which end a process that does not ask for panics.
func guarded(fn func() error) (err error) {
	defer debug.SetPanicOnFault(debug.SetPanicOnFault(true))
	defer func() {
		if r := recover(); r != nil {
			err = fmt.Errorf("store is damaged: %v", r)
		}
	}()
	return fn()
}

// checkView also says how many claims and closings there are, so that their keys need be gathered in one piece.
func (l *Ledger) checkView(v *View, walked func(entries uint64)) (keys uint64, err error) {
	c := checker{v: v, name: l.keys.name, counters: map[string]uint64{}}
	for k, record := range v.rows(bucketEntries, nil) {
		if err := c.entry(k, record); err != nil {
			return 0, err
		}
		if c.next%1000 == 0 {
			walked(c.next)
		}
	}
	walked(c.next)
	if err := errors.Join(c.checkRows(), c.checkCounters()); err != nil {
		return 0, err
	}
	_, err = l.storedCheckpoint(v) // over stored hashes that by now equal those of the entries
	return c.rows[bucketClaims] + c.rows[bucketClosed], err
}

// checker recomputes the derived buckets while it walks the entries.
//
// Each entry demands its rows; each row answers one demand. So when all demands are met and there are as many rows as demands,
// no row is missing, wrong or there without a cause. That needs no copy of the buckets in memory.
type checker struct {
	v        *View
	name     string
	next     uint64              // the number the next entry must have
	last     int64               // time of the entry before, ms
	counters map[string]uint64   // recomputed
	rows     [bucketCount]uint64 // demanded and found
}

func (c *checker) entry(k, record []byte) error {
	if n, ok := number(k); !ok || n != c.next {
		return fmt.Errorf("entries: row %x stands where entry %d should", k, c.next)
	}
	e, err := decodeAt(c.next, record)
	if err != nil {
		return err
	}
	for _, check := range []func(*Entry) error{c.checkHeader, c.checkClaims, c.checkDebits, c.checkHeads, c.checkOpens, c.checkCloses} {
		if err := check(&e); err != nil {
			return fmt.Errorf("entry %d: %w", e.Index, err)
		}
	}
	if err := c.checkTree(&e, record); err != nil {
		return fmt.Errorf("entry %d: %w", e.Index, err)
	}
	c.next, c.last = c.next+1, e.Time.UnixMilli()
	c.rows[bucketEntries]++
	return nil
}

func (c *checker) checkHeader(e *Entry) error {
	if e.Time.UnixMilli() < c.last {
		return errors.New("its time is before that of the entry before")
	}
	if first := e.Index == 0; first != (e.Kind == kindGenesis) || first && string(e.Payload) != c.name {
		return fmt.Errorf("kind %q: the first entry, and only the first, is the genesis of %s", e.Kind, c.name)
	}
	return nil
}

// checkTree comes after the entries before it were checked, so the stored hashes that it reads are known to be theirs.
func (c *checker) checkTree(e *Entry, record []byte) error {
	hashes, err := tlog.StoredHashes(int64(e.Index), record, hashReader{c.v})
	if err != nil {
		return err
	}
	if !bytes.Equal(joinHashes(nil, hashes), c.v.bucket(bucketHashes).Get(key(e.Index))) {
		return errors.New("hashes: the entry and its stored tree hashes disagree")
	}
	c.rows[bucketHashes]++
	return nil
}

func (c *checker) checkClaims(e *Entry) error {
	for _, claim := range e.Claims {
		if holder, ok := c.v.number(bucketClaims, claimKey(claim)); !ok {
			return fmt.Errorf("claims: its claim in %s has no row", claim.Space)
		} else if holder != e.Index {
			return fmt.Errorf("claims: the row of its claim in %s names entry %d", claim.Space, holder)
		}
		c.rows[bucketClaims]++
	}
	return nil
}

func (c *checker) checkDebits(e *Entry) error {
	for _, d := range e.Debits {
		value := c.counters[d.Counter]
		if value > d.Limit || d.Amount > d.Limit-value {
			return fmt.Errorf("debits: %s stood at %d, its debit of %d passes the limit of %d", d.Counter, value, d.Amount, d.Limit)
		}
		c.counters[d.Counter] = value + d.Amount
	}
	return nil
}

// checkHeads lets a row name a later entry, which will have to name the head in turn.
func (c *checker) checkHeads(e *Entry) error {
	for _, h := range e.Heads {
		newest, ok := c.v.Head(h)
		if !ok || newest < e.Index {
			return fmt.Errorf("heads: the row of %q is missing or names an older entry", h)
		}
		if newest == e.Index {
			c.rows[bucketHeads]++
		}
	}
	return nil
}

func (c *checker) checkOpens(e *Entry) error {
	by, closed := c.v.ClosedBy(e.Index)
	open := c.v.isOpen(e.Index)
	switch {
	case !e.Opens && (open || closed):
		return errors.New("open: it opens nothing, and stands as open or closed")
	case !e.Opens:
		return nil
	case open == closed:
		return errors.New("open: it opens something that is neither open nor closed, or both")
	case open:
		c.rows[bucketOpen]++
	case by <= e.Index:
		return fmt.Errorf("closed: by the earlier entry %d", by)
	}
	return nil
}

func (c *checker) checkCloses(e *Entry) error {
	if e.Closes == 0 {
		return nil
	}
	if by, ok := c.v.ClosedBy(e.Closes); !ok || by != e.Index {
		return fmt.Errorf("closed: it closes entry %d, whose row does not say so", e.Closes)
	}
	c.rows[bucketClosed]++
	return nil
}

// checkRows finds the rows that no entry demanded.
func (c *checker) checkRows() error {
	c.rows[bucketCounters], c.rows[bucketMeta] = uint64(len(c.counters)), 1
	for id := range bucketCount {
		var n uint64
		for range c.v.rows(id, nil) {
			n++
		}
		if n != c.rows[id] {
			return fmt.Errorf("%s: %d rows, the entries make %d", id, n, c.rows[id])
		}
	}
	return nil
}

func (c *checker) checkCounters() error {
	for _, name := range slices.Sorted(maps.Keys(c.counters)) {
		if value, ok := c.v.number(bucketCounters, []byte(name)); !ok || value != c.counters[name] {
			return fmt.Errorf("counters: %s stands at %d, the entries debit %d", name, value, c.counters[name])
		}
	}
	return nil
}
