package ledger

import (
	"encoding/binary"

	"golang.org/x/mod/sumdb/note"
	"golang.org/x/mod/sumdb/tlog"
)

// write puts an entry, the tree hashes that it completes and its derived rows. What admit looked up is not looked up again.
func (tx *Tx) write(e *Entry, a admitted) error {
	at := tx.keep(8, func(b []byte) []byte { return binary.BigEndian.AppendUint64(b, e.Index) })
	record := tx.keep(encodedSize(&e.Draft), func(b []byte) []byte { return appendEntry(b, e) })
	hashes, err := tlog.StoredHashes(int64(e.Index), record, hashReader{&tx.View})
	if err != nil {
		return err
	}
	w := rowWriter{v: &tx.View}
	w.put(bucketEntries, at, record)
	w.put(bucketHashes, at, tx.keep(len(hashes)*tlog.HashSize, func(b []byte) []byte { return joinHashes(b, hashes) }))
	for _, k := range a.claims {
		w.put(bucketClaims, k, at)
	}
	for i, d := range e.Debits {
		w.put(bucketCounters, []byte(d.Counter), key(a.counters[i]))
	}
	for _, h := range e.Heads {
		w.put(bucketHeads, []byte(h), at)
	}
	if e.Opens {
		w.put(bucketOpen, at, []byte{1}) // bbolt takes an empty value for none within a transaction
	}
	if e.Closes != 0 {
		closed := key(e.Closes)
		w.remove(bucketOpen, closed)
		w.put(bucketClosed, closed, at)
	}
	return w.err
}

// seal puts the checkpoint over all entries, the new ones included, into the transaction.
func (tx *Tx) seal(signer note.Signer) (Checkpoint, error) {
	root, err := tx.treeHash(tx.size)
	if err != nil {
		return Checkpoint{}, err
	}
	checkpoint, err := signCheckpoint(signer, tx.size, root)
	if err != nil {
		return Checkpoint{}, err
	}
	return checkpoint, tx.bucket(bucketMeta).Put([]byte(keyCheckpoint), checkpoint.Note)
}

// An Update of one entry needs little, one of a thousand is not to allocate a thousand times.
const (
	firstChunk = 2 << 10
	lastChunk  = 256 << 10
)

// keep cuts n bytes from the arena and has them filled. bbolt wants values to stay as they are until the commit: they are never used again.
func (tx *Tx) keep(n int, fill func(b []byte) []byte) []byte {
	if cap(tx.arena)-len(tx.arena) < n {
		tx.arena = make([]byte, 0, max(n, firstChunk, min(2*cap(tx.arena), lastChunk)))
	}
	start := len(tx.arena)
	tx.arena = fill(tx.arena)
	return tx.arena[start:len(tx.arena):len(tx.arena)]
}

// rowWriter writes rows until one fails.
type rowWriter struct {
	v   *View
	err error
}

func (w *rowWriter) put(id bucketID, k, value []byte) {
	if w.err == nil {
		w.err = w.v.bucket(id).Put(k, value)
	}
}

func (w *rowWriter) remove(id bucketID, k []byte) {
	if w.err == nil {
		w.err = w.v.bucket(id).Delete(k)
	}
}
