package ledger

import (
	"fmt"

	"golang.org/x/mod/sumdb/tlog"
)

// hashReader reads stored tree hashes: for appending, for checkpoints, for proofs.
//
// tlog numbers hashes in the order in which they become known. Those that entry n completes (its leaf, and each subtree of which it is the last)
// stand in one row under n, leaf first: half as many rows as hashes.
type hashReader struct{ v *View }

// ReadHashes implements tlog.HashReader.
func (r hashReader) ReadHashes(indexes []int64) ([]tlog.Hash, error) {
	hashes := make([]tlog.Hash, len(indexes))
	for i, index := range indexes {
		level, n := tlog.SplitStoredHashIndex(index)
		entry := uint64(n+1)<<level - 1
		row := r.v.bucket(bucketHashes).Get(key(entry))
		if len(row) < (level+1)*tlog.HashSize {
			return nil, fmt.Errorf("tree hash %d of entry %d is missing", level, entry)
		}
		hashes[i] = tlog.Hash(row[level*tlog.HashSize:])
	}
	return hashes, nil
}

// treeHash is the root over the first size entries.
func (v *View) treeHash(size uint64) (tlog.Hash, error) {
	return tlog.TreeHash(int64(size), hashReader{v})
}

// joinHashes appends hashes as they stand in a row.
func joinHashes(b []byte, hashes []tlog.Hash) []byte {
	for _, h := range hashes {
		b = append(b, h[:]...)
	}
	return b
}
