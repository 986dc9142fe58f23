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

	// The clock (clock.go).
	Elapsed    func() time.Duration // how long this process runs, by a clock that nobody sets; nil: Go's monotonic one
	ClockAhead time.Duration        // Now may run ahead of Elapsed by so much; 0: 24 h
	Standstill time.Duration        // the plant may have stood still for so long before a start; 0: 45 days
}

const (
	defaultQueue      = 4096
	defaultClockAhead = 24 * time.Hour
	defaultStandstill = 45 * 24 * time.Hour // longer than works holidays are
)

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
	if cfg.Elapsed == nil {
		began := time.Now()
		cfg.Elapsed = func() time.Duration { return time.Since(began) }
	}
	if cfg.ClockAhead <= 0 {
		cfg.ClockAhead = defaultClockAhead
	}
	if cfg.Standstill <= 0 {
		cfg.Standstill = defaultStandstill
	}
	return cfg
}
