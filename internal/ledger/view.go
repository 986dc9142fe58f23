package ledger

import (
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"iter"
	"slices"

	"go.etcd.io/bbolt"
)

// View reads one state of the ledger. It is valid until the function that it was given to returns, and is not for concurrent use.
//
// A row that is there but damaged reads as not there, where there is no error to return: Check says what is wrong with it.
type View struct {
	tx      *bbolt.Tx
	buckets [bucketCount]*bbolt.Bucket // looked up when first used
	size    uint64
}

func newView(tx *bbolt.Tx) View {
	v := View{tx: tx}
	if last, _ := v.bucket(bucketEntries).Cursor().Last(); last != nil {
		n, _ := number(last)
		v.size = n + 1
	}
	return v
}

func (v *View) bucket(id bucketID) *bbolt.Bucket {
	if v.buckets[id] == nil {
		b := v.tx.Bucket([]byte(id.String()))
		b.FillPercent = id.fill()
		v.buckets[id] = b
	}
	return v.buckets[id]
}

// Size is the number of entries.
func (v *View) Size() uint64 { return v.size }

// Entry returns one entry; fs.ErrNotExist where there is none.
func (v *View) Entry(index uint64) (Entry, error) {
	e, err := v.entry(index)
	e.Payload = bytes.Clone(e.Payload)
	return e, err
}

// entry is Entry with a payload that is only valid for as long as v.
func (v *View) entry(index uint64) (Entry, error) {
	b := v.bucket(bucketEntries).Get(key(index))
	if b == nil {
		return Entry{}, fmt.Errorf("entry %d: %w", index, fs.ErrNotExist)
	}
	return decodeAt(index, b)
}

func decodeAt(index uint64, b []byte) (Entry, error) {
	e, err := decodeEntry(b)
	if err == nil && e.Index != index {
		err = fmt.Errorf("%w: it says that it is entry %d", errMalformed, e.Index)
	}
	if err != nil {
		return Entry{}, fmt.Errorf("entry %d: %w", index, err)
	}
	return e, nil
}

// Entries yields entries from index on, in order, and ends after an error. In a Tx the loop may append; it then meets what it appended.
func (v *View) Entries(from uint64) iter.Seq2[Entry, error] {
	return func(yield func(Entry, error) bool) {
		for k, b := range v.rows(bucketEntries, key(from)) {
			n, _ := number(k)
			e, err := decodeAt(n, b)
			e.Payload = bytes.Clone(e.Payload)
			if !yield(e, err) || err != nil {
				return
			}
		}
	}
}

// Claimed returns the entry that holds a claim.
func (v *View) Claimed(c Claim) (index uint64, ok bool) {
	index, ok, err := v.holder(c, claimKey(c))
	return index, ok && err == nil
}

var errClaimKey = errors.New("the key of this claim's row belongs to another claim")

// holder returns who holds a claim with this key. The row alone proves nothing: the holder itself says what it claimed.
func (v *View) holder(c Claim, k []byte) (index uint64, ok bool, err error) {
	index, ok = v.number(bucketClaims, k)
	if !ok {
		return 0, false, nil
	}
	e, err := v.entry(index)
	if err != nil {
		return 0, false, fmt.Errorf("holder of a claim in %s: %w", c.Space, err)
	}
	if !slices.Contains(e.Claims, c) {
		return 0, false, fmt.Errorf("claim in %s, entry %d: %w", c.Space, index, errClaimKey)
	}
	return index, true, nil
}

// Counter returns a counter's value, 0 where nothing was debited.
func (v *View) Counter(name string) uint64 {
	value, _ := v.number(bucketCounters, []byte(name))
	return value
}

// Head returns the newest entry under a name.
func (v *View) Head(name string) (index uint64, ok bool) {
	return v.number(bucketHeads, []byte(name))
}

// Heads yields names with a prefix, in order, with their newest entry. In a Tx the loop may append.
func (v *View) Heads(prefix string) iter.Seq2[string, uint64] {
	return func(yield func(string, uint64) bool) {
		for k, b := range v.rows(bucketHeads, []byte(prefix)) {
			if !bytes.HasPrefix(k, []byte(prefix)) {
				return
			}
			if n, ok := number(b); ok && !yield(string(k), n) {
				return
			}
		}
	}
}

// Open yields the open entries in order. In a Tx the loop may append, and so close what it was given.
func (v *View) Open() iter.Seq[uint64] {
	return func(yield func(uint64) bool) {
		for k := range v.rows(bucketOpen, nil) {
			if n, ok := number(k); ok && !yield(n) {
				return
			}
		}
	}
}

// ClosedBy returns the entry that closed an open one.
func (v *View) ClosedBy(index uint64) (by uint64, ok bool) {
	return v.number(bucketClosed, key(index))
}

func (v *View) isOpen(index uint64) bool { return v.bucket(bucketOpen).Get(key(index)) != nil }

func (v *View) number(id bucketID, k []byte) (n uint64, ok bool) {
	return number(v.bucket(id).Get(k))
}

// rows yields a bucket's rows from a key on. In a Tx it looks for its place again after each, because an append makes bbolt's cursor invalid.
func (v *View) rows(id bucketID, from []byte) iter.Seq2[[]byte, []byte] {
	return func(yield func(k, b []byte) bool) {
		c := v.bucket(id).Cursor()
		var at []byte
		for k, b := c.Seek(from); k != nil; {
			at = append(at[:0], k...)
			if !yield(k, b) {
				return
			}
			if !v.tx.Writable() {
				k, b = c.Next()
				continue
			}
			if k, b = c.Seek(at); bytes.Equal(k, at) {
				k, b = c.Next()
			}
		}
	}
}
