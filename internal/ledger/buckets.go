package ledger

import (
	"bytes"
	"crypto/sha256"
	"encoding/binary"
	"fmt"

	"go.etcd.io/bbolt"
)

// bucketID numbers the buckets that doc.go describes.
type bucketID int

const (
	bucketEntries bucketID = iota
	bucketHashes
	bucketClaims
	bucketCounters
	bucketHeads
	bucketOpen
	bucketClosed
	bucketMeta
	bucketCount
)

func (b bucketID) String() string {
	return [bucketCount]string{"entries", "hashes", "claims", "counters", "heads", "open", "closed", "meta"}[b]
}

// fill is how full a page gets before bbolt splits it: all of it where keys only ever come at the end, nearly where entries are closed
// almost in the order in which they were opened, half where keys are random.
func (b bucketID) fill() float64 {
	switch b {
	case bucketEntries, bucketHashes:
		return 1
	case bucketClosed:
		return 0.95
	default:
		return bbolt.DefaultFillPercent
	}
}

const keyCheckpoint = "checkpoint"

func makeBuckets(tx *bbolt.Tx) error {
	for b := range bucketCount {
		if _, err := tx.CreateBucket([]byte(b.String())); err != nil {
			return fmt.Errorf("make bucket %s: %w", b, err)
		}
	}
	return nil
}

// checkBuckets finds a file that is not a ledger, and a bucket that was removed or slipped in.
func checkBuckets(tx *bbolt.Tx) error {
	for b := range bucketCount {
		if tx.Bucket([]byte(b.String())) == nil {
			return fmt.Errorf("bucket %s is missing: not a ledger, or damaged", b)
		}
	}
	n := 0
	if err := tx.ForEach(func([]byte, *bbolt.Bucket) error { n++; return nil }); err != nil {
		return err
	}
	if n != int(bucketCount) {
		return fmt.Errorf("%d buckets, a ledger has %d", n, bucketCount)
	}
	return nil
}

// key is a number as it stands in keys and values.
func key(n uint64) []byte { return binary.BigEndian.AppendUint64(nil, n) }

// number reads what key wrote.
func number(b []byte) (n uint64, ok bool) {
	if len(b) != 8 {
		return 0, false
	}
	return binary.BigEndian.Uint64(b), true
}

// claimKey is short, since random keys are what a B+tree pays most for. Two claims with one key: see doc.go.
func claimKey(c Claim) []byte {
	b := make([]byte, 0, 1+2*maxName)
	b = append(append(append(b, byte(len(c.Space))), c.Space...), c.Key...)
	sum := sha256.Sum256(b)
	return bytes.Clone(sum[:16])
}
