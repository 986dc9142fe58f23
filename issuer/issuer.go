package issuer

import (
	"bytes"
	"fmt"
	"io"
	"log/slog"
	"sync/atomic"
	"time"

	"github.com/certmill/certmill/ca"
	"github.com/certmill/certmill/internal/ledger"
)

// Issuer turns orders into certificates, each exactly once. Safe for concurrent use.
type Issuer struct {
	// Never changed after New.
	ledger      *ledger.Ledger
	authorities map[string]*ca.Authority // by name
	profiles    map[string]*ca.Profile   // of the configuration, by name
	versions    map[string]*ca.Profile   // by hash: those and what orders recorded
	own         map[string]*ca.Profile   // of stations and the service, by kind
	limit       int                      // Config.Queue
	now         func() time.Time
	random      io.Reader
	log         *slog.Logger
	after       func(time.Duration) <-chan time.Time // time.After; tests have a clock of their own
	at          func(point string)                   // called by the owner at each crash point; tests stop it there

	queue   chan *request // the pool: callers put in, the owner takes out
	acts    chan *act     // changes of the books, beside it
	ended   chan struct{} // closed when Run has ended
	stopped atomic.Bool   // why it ended: the store failed. Set before ended is closed

	openCount atomic.Int64 // intents without a signature; written by the owner
	books     *books
}

// New folds the ledger's heads into memory; it signs nothing yet. Until Run is called requests wait.
func New(cfg Config) (*Issuer, error) {
	cfg = cfg.withDefaults()
	i := &Issuer{
		ledger:      cfg.Ledger,
		authorities: make(map[string]*ca.Authority),
		profiles:    make(map[string]*ca.Profile),
		versions:    make(map[string]*ca.Profile),
		own:         make(map[string]*ca.Profile),
		limit:       cfg.Queue,
		now:         cfg.Now,
		random:      cfg.Random,
		log:         cfg.Log,
		after:       time.After,
		at:          func(string) {},
		queue:       make(chan *request, cfg.Queue),
		acts:        make(chan *act),
		ended:       make(chan struct{}),
		books:       newBooks(newClock(cfg)),
	}
	if err := i.addProfiles(cfg.Profiles); err != nil {
		return nil, err
	}
	err := cfg.Ledger.View(func(v *ledger.View) error {
		n, err := countOpen(v)
		if err != nil {
			return err
		}
		i.openCount.Store(n)
		if err := i.fold(v); err != nil {
			return err
		}
		return i.books.clock.remember(v)
	})
	if err != nil {
		return nil, fmt.Errorf("read the ledger's documents: %w", err)
	}
	return i, i.addAuthorities(cfg.Authorities)
}

// addProfiles takes the configuration's, and where it has none for stations or the service those a new plant starts with.
func (i *Issuer) addProfiles(profiles []*ca.Profile) error {
	for _, p := range profiles {
		if i.profiles[p.Name()] != nil {
			return fmt.Errorf("two profiles are called %s", p.Name())
		}
		i.profiles[p.Name()], i.versions[p.Hash()] = p, p
		if p.Kind() != ca.KindDevice {
			i.own[p.Kind()] = p
		}
	}
	for _, kind := range []string{ca.KindStation, ca.KindService} {
		if i.own[kind] != nil {
			continue
		}
		p, err := ca.ParseProfile(ca.DefaultProfile(kind))
		if err != nil {
			return fmt.Errorf("profile %s: %w", kind, err)
		}
		i.own[kind] = p
	}
	return nil
}

// addAuthorities takes a CA only as the ledger knows it: certificate and prefix are what serials and receipts were made with.
func (i *Issuer) addAuthorities(authorities []*ca.Authority) error {
	for _, a := range authorities {
		r, adopted := i.books.cas[a.Name()]
		if !adopted {
			return fmt.Errorf("CA %s was not adopted by this ledger", a.Name())
		}
		if r.Prefix != a.Prefix() || !bytes.Equal(r.Certificate, a.Certificate().Raw) {
			return fmt.Errorf("CA %s is not the one that this ledger adopted", a.Name())
		}
		i.authorities[a.Name()] = a
	}
	return nil
}

// OpenIntents counts intents without a signature.
func (i *Issuer) OpenIntents() int { return int(i.openCount.Load()) }
