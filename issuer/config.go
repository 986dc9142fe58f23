package issuer

import (
	"crypto/rand"
	"io"
	"log/slog"
	"time"

	"github.com/certmill/certmill/ca"
	"github.com/certmill/certmill/internal/ledger"
)

// Config is what an Issuer works with.
type Config struct {
	Ledger      *ledger.Ledger
	Profiles    []*ca.Profile    // those of the configuration; older versions that orders name are read from the ledger
	Authorities []*ca.Authority  // of CAs in state issuing (and plant); filled by cmd from CAs()
	Now         func() time.Time // nil: time.Now
	Random      io.Reader        // nil: crypto/rand
	Log         *slog.Logger     // nil: discard
	Queue       int              // requests waiting at most, and intents that wait for a token that is away; 0: 4096; past it ErrSlowDown
}

const defaultQueue = 4096

func (cfg Config) withDefaults() Config {
	if cfg.Now == nil {
		cfg.Now = time.Now
	}
	if cfg.Random == nil {
		cfg.Random = rand.Reader
	}
	if cfg.Log == nil {
		cfg.Log = slog.New(slog.DiscardHandler)
	}
	if cfg.Queue <= 0 {
		cfg.Queue = defaultQueue
	}
	return cfg
}
