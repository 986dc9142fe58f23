package ledger

import (
	"bytes"
	"errors"
	"math/rand/v2"
	"os"
	"strings"
	"testing"

	"go.etcd.io/bbolt"
	"golang.org/x/mod/sumdb/tlog"

	"github.com/certmill/certmill/internal/ledger/internal/fault"
)

// tampered writes to a store behind the ledger's back.
type tampered struct {
	t  testing.TB
	tx *bbolt.Tx
}

func (x *tampered) bucket(id bucketID) *bbolt.Bucket { return x.tx.Bucket([]byte(id.String())) }

func (x *tampered) put(id bucketID, k, v []byte) {
	x.t.Helper()
	if err := x.bucket(id).Put(k, v); err != nil {
		x.t.Fatal(err)
	}
}

func (x *tampered) remove(id bucketID, k []byte) {
	x.t.Helper()
	if x.bucket(id).Get(k) == nil {
		x.t.Fatalf("%s has no row %x", id, k)
	}
	if err := x.bucket(id).Delete(k); err != nil {
		x.t.Fatal(err)
	}
}

// change rewrites an entry in place.
func (x *tampered) change(index uint64, f func(e *Entry)) {
	x.t.Helper()
	e, err := decodeEntry(bytes.Clone(x.bucket(bucketEntries).Get(key(index))))
	if err != nil {
		x.t.Fatal(err)
	}
	f(&e)
	x.put(bucketEntries, key(index), appendEntry(nil, &e))
}

func (x *tampered) flip(id bucketID, k []byte, bit int) {
	v := bytes.Clone(x.bucket(id).Get(k))
	v[bit/8%len(v)] ^= 1 << (bit % 8)
	x.put(id, k, v)
}

func tamper(t testing.TB, cfg Config, f func(x *tampered)) {
	t.Helper()
	db, err := bbolt.Open(cfg.Path, 0o600, nil)
	if err != nil {
		t.Fatal(err)
	}
	err = db.Update(func(tx *bbolt.Tx) error { f(&tampered{t, tx}); return nil })
	if err := errors.Join(err, db.Close()); err != nil {
		t.Fatal(err)
	}
}

// sample makes a ledger with every kind of row. Entries: 0 genesis, 1 boot, 2 order, 3 and 4 intents (4 stays open), 5 signature, 6 a newer order, 7 note.
func sample(t testing.TB) Config {
	cfg := create(t)
	l := openTest(t, cfg, fault.Points{})
	appendAll(t, l,
		Draft{Kind: "order", Payload: []byte("quantity: 10"), Heads: []string{"order/O-1"}, Claims: []Claim{{"order", "O-1"}}},
		Draft{Kind: "intent", Payload: []byte("tbs 1"), Claims: []Claim{{"key", "k1"}}, Debits: []Debit{{"order/O-1", 1, 10}}, Opens: true},
		Draft{Kind: "intent", Payload: []byte("tbs 2"), Claims: []Claim{{"key", "k2"}}, Debits: []Debit{{"order/O-1", 1, 10}}, Opens: true},
		Draft{Kind: "signature", Payload: []byte("sig 1"), Closes: 3},
		Draft{Kind: "order", Payload: []byte("quantity: 20"), Heads: []string{"order/O-1"}},
		Draft{Kind: "note"})
	if err := errors.Join(l.Check(), l.Close()); err != nil {
		t.Fatal(err)
	}
	return cfg
}

// Whatever is changed behind the ledger's back is found, by Open or by Check, and the message names it.
func TestTampering(t *testing.T) {
	k1 := claimKey(Claim{"key", "k1"})
	tests := []struct {
		name string
		do   func(x *tampered)
		want string
	}{
		{"flip a bit of a payload", func(x *tampered) { x.change(2, func(e *Entry) { e.Payload[0] ^= 1 }) }, "entry 2: hashes"},
		{"change a time", func(x *tampered) { x.change(3, func(e *Entry) { e.Time = e.Time.Add(-1e9 * 3600) }) }, "entry 3: its time"},
		{"move a time on", func(x *tampered) { x.change(7, func(e *Entry) { e.Time = e.Time.Add(1e9 * 3600) }) }, "entry 7: hashes"},
		{"raise a limit", func(x *tampered) { x.change(4, func(e *Entry) { e.Debits[0].Limit = 11 }) }, "entry 4: hashes"},
		{"lower a limit", func(x *tampered) { x.change(4, func(e *Entry) { e.Debits[0].Limit = 1 }) }, "entry 4: debits: order/O-1"},
		{"drop a debit", func(x *tampered) { x.change(4, func(e *Entry) { e.Debits = nil }) }, "entry 4: hashes"},
		{"renumber an entry", func(x *tampered) { x.change(4, func(e *Entry) { e.Index = 5 }) }, "entry 4: entry is malformed"},
		{"a second genesis", func(x *tampered) { x.change(7, func(e *Entry) { e.Kind = kindGenesis }) }, "entry 7: kind"},
		{"another genesis", func(x *tampered) { x.change(0, func(e *Entry) { e.Payload = []byte("other") }) }, `the store is of "other"`},
		{"truncate an entry", func(x *tampered) { x.put(bucketEntries, key(5), x.bucket(bucketEntries).Get(key(5))[:9]) }, "entry 5: entry is malformed"},
		{"remove the last entry", func(x *tampered) { x.remove(bucketEntries, key(7)) }, "checkpoint is over 8 entries, the store has 7"},
		{"remove the last entry and its hash", func(x *tampered) { x.remove(bucketEntries, key(7)); x.remove(bucketHashes, key(7)) }, "checkpoint is over 8 entries, the store has 7"},
		{"remove an entry", func(x *tampered) { x.remove(bucketEntries, key(4)) }, "where entry 4 should"},
		{"add an entry", func(x *tampered) { x.put(bucketEntries, key(8), x.bucket(bucketEntries).Get(key(7))) }, "checkpoint is over 8 entries, the store has 9"},
		{"swap two entries", func(x *tampered) {
			a, b := bytes.Clone(x.bucket(bucketEntries).Get(key(2))), bytes.Clone(x.bucket(bucketEntries).Get(key(6)))
			x.put(bucketEntries, key(2), b)
			x.put(bucketEntries, key(6), a)
		}, "entry 2: entry is malformed"},
		{"raise a counter", func(x *tampered) { x.put(bucketCounters, []byte("order/O-1"), key(3)) }, "counters: order/O-1 stands at 3, the entries debit 2"},
		{"lower a counter", func(x *tampered) { x.put(bucketCounters, []byte("order/O-1"), key(0)) }, "counters: order/O-1 stands at 0"},
		{"remove a counter", func(x *tampered) { x.remove(bucketCounters, []byte("order/O-1")) }, "counters: 0 rows, the entries make 1"},
		{"add a counter", func(x *tampered) { x.put(bucketCounters, []byte("order/O-2"), key(1)) }, "counters: 2 rows, the entries make 1"},
		{"remove a claim", func(x *tampered) { x.remove(bucketClaims, k1) }, "entry 3: claims: its claim in key has no row"},
		{"move a claim", func(x *tampered) { x.put(bucketClaims, k1, key(4)) }, "entry 3: claims: the row of its claim in key names entry 4"},
		{"add a claim", func(x *tampered) { x.put(bucketClaims, claimKey(Claim{"key", "k3"}), key(4)) }, "claims: 4 rows, the entries make 3"},
		{"set a head back", func(x *tampered) { x.put(bucketHeads, []byte("order/O-1"), key(2)) }, `entry 6: heads: the row of "order/O-1"`},
		{"set a head ahead", func(x *tampered) { x.put(bucketHeads, []byte("order/O-1"), key(7)) }, "heads: 1 rows, the entries make 0"},
		{"remove a head", func(x *tampered) { x.remove(bucketHeads, []byte("order/O-1")) }, `entry 2: heads: the row of "order/O-1"`},
		{"add a head", func(x *tampered) { x.put(bucketHeads, []byte("order/O-2"), key(2)) }, "heads: 2 rows, the entries make 1"},
		{"open again", func(x *tampered) { x.put(bucketOpen, key(3), []byte{1}) }, "entry 3: open"},
		{"open what opens nothing", func(x *tampered) { x.put(bucketOpen, key(7), []byte{1}) }, "entry 7: open"},
		{"open what is not there", func(x *tampered) { x.put(bucketOpen, key(99), []byte{1}) }, "open: 2 rows, the entries make 1"},
		{"forget an open entry", func(x *tampered) { x.remove(bucketOpen, key(4)) }, "entry 4: open"},
		{"close an open entry", func(x *tampered) { x.remove(bucketOpen, key(4)); x.put(bucketClosed, key(4), key(7)) }, "closed: 2 rows, the entries make 1"},
		{"closed by another", func(x *tampered) { x.put(bucketClosed, key(3), key(6)) }, "entry 5: closed"},
		{"closed by an earlier one", func(x *tampered) { x.put(bucketClosed, key(3), key(2)) }, "entry 3: closed: by the earlier entry 2"},
		{"forget a closing", func(x *tampered) { x.remove(bucketClosed, key(3)) }, "entry 3: open"},
		{"flip a bit of a leaf hash", func(x *tampered) { x.flip(bucketHashes, key(4), 77) }, "entry 4: hashes"},
		{"flip a bit of an inner hash", func(x *tampered) { x.flip(bucketHashes, key(5), 256+77) }, "entry 5: hashes"},
		{"flip a bit of the root", func(x *tampered) { x.flip(bucketHashes, key(7), 3*256+77) }, "stored tree hashes disagree"},
		{"remove a hash", func(x *tampered) { x.remove(bucketHashes, key(4)) }, "entry 4: hashes"},
		{"add a hash", func(x *tampered) { x.put(bucketHashes, key(8), make([]byte, 32)) }, "hashes: 9 rows, the entries make 8"},
		{"flip a bit of the checkpoint", func(x *tampered) { x.flip(bucketMeta, []byte(keyCheckpoint), 100) }, "checkpoint"},
		{"remove the checkpoint", func(x *tampered) { x.remove(bucketMeta, []byte(keyCheckpoint)) }, "checkpoint"},
		{"add to meta", func(x *tampered) { x.put(bucketMeta, []byte("more"), []byte{1}) }, "meta: 2 rows, the entries make 1"},
		{"add a bucket", func(x *tampered) { x.tx.CreateBucket([]byte("more")) }, "9 buckets, a ledger has 8"},
		{"remove a bucket", func(x *tampered) { x.tx.DeleteBucket([]byte("heads")) }, "bucket heads is missing"},
	}
	found := 0
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			cfg := sample(t)
			tamper(t, cfg, test.do)
			if err := openAndCheck(cfg, OpenReadOnly); err == nil || !strings.Contains(err.Error(), test.want) {
				t.Errorf("got %v, want an error with %q", err, test.want)
				return
			}
			found++
		})
	}
	t.Logf("%d of %d changes found", found, len(tests))
}

func openAndCheck(cfg Config, open func(Config) (*Ledger, error)) error {
	l, err := open(cfg)
	if err != nil {
		return err
	}
	return errors.Join(l.Check(), l.Close())
}

// A whole tree that was made again from changed entries still lacks our signature.
func TestTamperingWithTheWholeTree(t *testing.T) {
	cfg := sample(t)
	tamper(t, cfg, func(x *tampered) {
		x.change(2, func(e *Entry) { e.Payload = []byte("quantity: 99") })
		v := newView(x.tx)
		for n := range v.size {
			hashes, err := tlog.StoredHashes(int64(n), v.bucket(bucketEntries).Get(key(n)), hashReader{&v})
			if err != nil {
				t.Fatal(err)
			}
			x.put(bucketHashes, key(n), joinHashes(nil, hashes))
		}
	})
	if err := openAndCheck(cfg, OpenReadOnly); err == nil || !strings.Contains(err.Error(), "checkpoint and stored tree hashes disagree") {
		t.Errorf("got %v", err)
	}
}

// A disk that changes a bit, anywhere in the file: an error or, where nothing in use was hit, none; never a crash.
func TestFlippedBitsInTheFile(t *testing.T) {
	cfg := create(t)
	l := openTest(t, cfg, fault.Points{})
	for n := range byte(200) {
		appendAll(t, l, Draft{Kind: "intent", Payload: bytes.Repeat([]byte{n}, 400), Claims: []Claim{{"key", string(n)}}, Opens: true})
	}
	good, err := os.ReadFile(cfg.Path)
	if err := errors.Join(err, l.Close()); err != nil {
		t.Fatal(err)
	}
	good = bytes.TrimRight(good, "\x00")
	const rounds = 1000
	random, found := rand.New(rand.NewPCG(1, 2)), 0
	for round := range rounds {
		bad := bytes.Clone(good)
		bad[random.IntN(len(bad))] ^= 1 << random.IntN(8)
		if err := os.WriteFile(cfg.Path, bad, 0o600); err != nil {
			t.Fatal(err)
		}
		open := OpenReadOnly
		if round%2 == 1 {
			open = Open
		}
		if openAndCheck(cfg, open) != nil {
			found++
		}
	}
	t.Logf("%d of %d found; the others hit pages or parts of pages that hold nothing", found, rounds)
	if found < rounds/3 {
		t.Error("too few")
	}
}

// What later proofs will be made from: the stored hashes give inclusion and consistency proofs that tlog accepts.
func TestProofs(t *testing.T) {
	l := openTest(t, create(t), fault.Points{})
	roots := map[int64]tlog.Hash{2: l.Checkpoint().Hash}
	for n := int64(3); n <= 70; n++ {
		appendAll(t, l, Draft{Kind: "note", Payload: []byte{byte(n)}})
		roots[n] = l.Checkpoint().Hash
	}
	err := l.View(func(v *View) error {
		r := hashReader{v}
		for size := int64(2); size <= 70; size++ {
			for n := range size {
				proof, err := tlog.ProveRecord(size, n, r)
				if err != nil {
					return err
				}
				leaf := tlog.RecordHash(v.bucket(bucketEntries).Get(key(uint64(n))))
				if err := tlog.CheckRecord(proof, size, roots[size], n, leaf); err != nil {
					t.Errorf("entry %d of %d: %v", n, size, err)
				}
			}
			proof, err := tlog.ProveTree(70, size, r)
			if err != nil {
				return err
			}
			if err := tlog.CheckTree(proof, 70, roots[70], size, roots[size]); err != nil {
				t.Errorf("tree of %d in 70: %v", size, err)
			}
		}
		return nil
	})
	if err != nil {
		t.Error(err)
	}
}
