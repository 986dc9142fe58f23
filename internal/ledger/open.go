package ledger

import (
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"sync"
	"time"

	"go.etcd.io/bbolt"
	berrors "go.etcd.io/bbolt/errors"

	"github.com/certmill/certmill/internal/durable"
	"github.com/certmill/certmill/internal/ledger/internal/fault"
)

// Open opens a ledger for reading and writing and holds it until Close. It writes a "boot" entry before it returns.
// Where Config.Marker tells of a failed write, the store is first copied to a new file and checked in full.
// It returns fs.ErrNotExist where there is no ledger and ErrInUse while another process has it.
func Open(cfg Config) (*Ledger, error) { return OpenWithFaults(cfg, fault.Points{}) }

// OpenWithFaults is Open for ledgertest: no package outside this folder can make a fault.Points that does anything.
func OpenWithFaults(cfg Config, faults fault.Points) (*Ledger, error) {
	cfg = cfg.withDefaults()
	if kind, is := NetworkFS(filepath.Dir(cfg.Path)); is { // and goes on: a factory that has run so must not stop for being told
		cfg.Log.Error("the ledger lies on a network file system: locks and syncs may not hold what they promise; move it", "path", cfg.Path, "kind", kind)
	}
	marked := cfg.marked()
	if marked {
		cfg.Log.Warn("the last run ended with a failed ledger write: copying and checking the store", "path", cfg.Path, "marker", cfg.Marker)
		if err := copyStore(cfg); err != nil {
			return nil, fmt.Errorf("copy ledger after a failed write: %w", err)
		}
	}
	l, err := open(cfg, storeOptions())
	if err != nil {
		return nil, err
	}
	l.faults = faults
	if err := guarded(func() error { return l.start(marked) }); err != nil {
		return nil, errors.Join(err, l.Close())
	}
	return l, nil
}

// OpenReadOnly opens a ledger that no process is writing; ErrInUse while one is. Update returns ErrReadOnly.
func OpenReadOnly(cfg Config) (*Ledger, error) {
	cfg = cfg.withDefaults()
	if cfg.marked() {
		cfg.Log.Warn("the last run ended with a failed ledger write: what is read may not be on the disk", "path", cfg.Path, "marker", cfg.Marker)
	}
	options := storeOptions()
	options.ReadOnly = true
	return open(cfg, options)
}

// lockTimeout is how long an Open waits for a process that is just ending.
const lockTimeout = 300 * time.Millisecond

// storeOptions keeps bbolt's list of free pages in the file. Leaving it out (NoFreelistSync) saves 2 % of a commit, and costs a walk over every page of
// the store at each Open and after each failed commit; over a damaged page that walk ends the process, since it runs where no one can recover it.
func storeOptions() *bbolt.Options {
	return &bbolt.Options{
		Timeout:      lockTimeout,
		FreelistType: bbolt.FreelistMapType,
		// Address space, not memory: while the file fits in, growing it need not wait for readers.
		InitialMmapSize: 1 << 30,
		NoStatistics:    true,
	}
}

// open opens the store and proves that it is the one that the key file belongs to.
func open(cfg Config, options *bbolt.Options) (*Ledger, error) {
	k, err := openKeys(cfg)
	if err != nil {
		return nil, err
	}
	db, err := openStore(cfg.Path, options)
	if err != nil {
		return nil, err
	}
	l := &Ledger{cfg: cfg, keys: k, db: db}
	l.settled = sync.NewCond(&l.mu)
	if err := guarded(func() error { return db.View(l.load) }); err != nil {
		return nil, errors.Join(fmt.Errorf("ledger %s: %w", cfg.Path, err), db.Close())
	}
	return l, nil
}

func openKeys(cfg Config) (*keys, error) {
	k, err := readKeys(cfg.keyPath())
	if !errors.Is(err, fs.ErrNotExist) {
		return k, err
	}
	if _, err := os.Stat(cfg.Path); err == nil {
		return nil, fmt.Errorf("%s is there without %s: restore the key file from a backup", cfg.Path, cfg.keyPath())
	}
	return nil, fmt.Errorf("no ledger at %s: %w", cfg.Path, err)
}

// openStore opens a bbolt file that must be there.
func openStore(path string, options *bbolt.Options) (db *bbolt.DB, err error) {
	if info, err := os.Stat(path); err != nil {
		return nil, fmt.Errorf("no ledger at %s, though its key is there: %w", path, err)
	} else if info.Size() == 0 {
		return nil, fmt.Errorf("store %s is empty", path) // bbolt would make it a new one
	}
	var file *os.File
	options.OpenFile = func(path string, flag int, mode fs.FileMode) (f *os.File, err error) {
		file, err = os.OpenFile(path, flag&^os.O_CREATE, mode)
		return file, err
	}
	err = guarded(func() error {
		db, err = bbolt.Open(path, 0o600, options)
		return err
	})
	if errors.Is(err, berrors.ErrTimeout) {
		return nil, fmt.Errorf("%s: %w", path, ErrInUse)
	}
	if err != nil {
		return nil, fmt.Errorf("open store %s: %w", path, err)
	}
	if err := stillNamed(file, path); err != nil {
		return nil, errors.Join(err, db.Close())
	}
	return db, nil
}

// stillNamed finds that path was replaced while we waited for the lock on what it named before: another process is recovering.
func stillNamed(file *os.File, path string) error {
	ours, err := file.Stat()
	if err != nil {
		return err
	}
	named, err := os.Stat(path)
	if err != nil {
		return err
	}
	if !os.SameFile(ours, named) {
		return fmt.Errorf("%s was replaced: %w", path, ErrInUse)
	}
	return nil
}

// load takes the newest state from the store, after the checks that cost next to nothing: Check makes the others.
func (l *Ledger) load(tx *bbolt.Tx) error {
	if err := checkBuckets(tx); err != nil {
		return err
	}
	v := newView(tx)
	genesis, err := v.entry(0)
	if err != nil {
		return err
	}
	if genesis.Kind != kindGenesis || string(genesis.Payload) != l.keys.name {
		return fmt.Errorf("the store is of %q, the key file of %q", genesis.Payload, l.keys.name)
	}
	l.checkpoint, err = l.storedCheckpoint(&v)
	l.acked, l.epoch = tx.ID(), uint16(v.Counter(counterEpoch))
	return err
}

// counterEpoch is debited by 1 for each rollback that was accepted.
const counterEpoch = "ledger.epoch"

// storedCheckpoint returns the newest checkpoint once it agrees with our key, the number of entries and the stored tree.
func (l *Ledger) storedCheckpoint(v *View) (Checkpoint, error) {
	signed := bytes.Clone(v.bucket(bucketMeta).Get([]byte(keyCheckpoint)))
	checkpoint, err := VerifyCheckpoint(signed, l.keys.verifier)
	if err != nil {
		return Checkpoint{}, fmt.Errorf("key file and store do not belong together, or the checkpoint was changed: %w", err)
	}
	if checkpoint.Size != v.Size() {
		return Checkpoint{}, fmt.Errorf("checkpoint is over %d entries, the store has %d", checkpoint.Size, v.Size())
	}
	root, err := v.treeHash(v.Size())
	if err != nil {
		return Checkpoint{}, err
	}
	if root != checkpoint.Hash {
		return Checkpoint{}, errors.New("checkpoint and stored tree hashes disagree")
	}
	return checkpoint, nil
}

// start makes the ledger ready for its first Update. Who gave the store its name may have died before that was on the disk, so the folder is synced
// before anything is promised that stands under this name.
func (l *Ledger) start(marked bool) error {
	if err := durable.SyncDir(filepath.Dir(l.cfg.Path)); err != nil {
		return fmt.Errorf("sync the folder of the ledger: %w", err)
	}
	boot := Draft{Kind: kindBoot}
	if marked {
		if err := l.Check(); err != nil {
			return fmt.Errorf("ledger %s after a failed write: %w", l.cfg.Path, err)
		}
		boot.Payload = []byte("recovered")
		if err := l.cfg.removeMarkers(); err != nil {
			return err
		}
	}
	_, err := l.Update(func(tx *Tx) error {
		if now := tx.now().UnixMilli(); now < tx.last {
			l.cfg.Log.Warn("the clock is behind the newest ledger entry", "by", time.Duration(tx.last-now)*time.Millisecond)
		}
		_, err := tx.append(&boot)
		return err
	})
	return err
}
