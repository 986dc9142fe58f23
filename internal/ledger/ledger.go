package ledger

import (
	"cmp"
	"crypto/cipher"
	"log/slog"
	"sync"
	"time"

	"go.etcd.io/bbolt"

	"github.com/certmill/certmill/internal/ledger/internal/fault"
)

// Config says where a ledger is and what it takes from outside.
type Config struct {
	Path   string           // the bbolt file; its secrets stand beside it in <Path>.key (mode 0600)
	Key    string           // where they stand, for a copy of the bbolt file alone; "": <Path>.key
	Now    func() time.Time // nil: time.Now
	Log    *slog.Logger     // nil: discard
	Marker string           // path outside the ledger's folder where a failed write leaves a note for the next start; "" none
	Spare  string           // where it is left if Marker cannot be written, best on yet another disk; "" nowhere
}

func (cfg Config) withDefaults() Config {
	if cfg.Now == nil {
		cfg.Now = time.Now
	}
	if cfg.Log == nil {
		cfg.Log = slog.New(slog.DiscardHandler)
	}
	return cfg
}

func (cfg Config) keyPath() string { return cmp.Or(cfg.Key, cfg.Path+".key") }

// Ledger is an append-only record. Its methods may be called concurrently.
type Ledger struct {
	cfg    Config
	keys   *keys
	db     *bbolt.DB
	faults fault.Points
	epoch  uint16 // set by Open

	write sync.Mutex // held over an Update: one writer

	mu         sync.Mutex // guards what follows
	settled    *sync.Cond // on mu: a commit was acknowledged or failed
	acked      int        // bbolt's id of the newest transaction whose sync returned
	checkpoint Checkpoint // of that transaction
	failed     error      // not nil once the outcome of a commit is unknown
}

// Close waits for the running View and Update calls and releases the ledger. Closing twice is harmless.
func (l *Ledger) Close() error { return l.db.Close() }

// Name is the ledger's name as it stands in its checkpoints.
func (l *Ledger) Name() string { return l.keys.name }

// VerifierKey is the checkpoint key in note format, for those who pin it.
func (l *Ledger) VerifierKey() string { return l.keys.verifier }

// Epoch grows when a rollback was accepted; it stands in every serial. It is the value of the counter "ledger.epoch".
func (l *Ledger) Epoch() uint16 { return l.epoch }

// Cipher is the ledger's secret permutation (AES-128), from which serials are made.
func (l *Ledger) Cipher() cipher.Block { return l.keys.cipher }

// Checkpoint returns the newest one that was acknowledged.
func (l *Ledger) Checkpoint() Checkpoint {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.checkpoint
}
