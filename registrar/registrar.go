package registrar

import (
	"cmp"
	"context"
	"crypto/x509"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"path/filepath"
	"time"

	"github.com/certmill/certmill/registrar/awsapi"
)

// Config says what a Registrar works on.
type Config struct {
	Fleet *Fleet
	CAs   map[string]*x509.Certificate // for every name in Fleet.CAs()

	// Prover signs the proofs of DEFAULT mode. Only Apply needs it; nil makes those registrations fail.
	Prover Prover
	// Keys, where given, are the only credentials: no AWS_* variable or shared file is looked at. Every access then needs an endpoint.
	Keys *awsapi.Keys
	// Transport carries the requests; nil is the SDK's own.
	Transport http.RoundTripper
	// Journal is the file of attempts and results. Default: aws/journal.jsonl beside the fleet file.
	Journal string
	// Parallel is how many accounts, and how many places of an apply, are worked on at once. Default 8.
	Parallel int
	// Progress, where given, is called for each outcome of Apply, one at a time.
	Progress func(Outcome)
	// Now is the clock. Default time.Now.
	Now func() time.Time
	// Log takes what is not worth a line on the terminal. Default: nowhere.
	Log *slog.Logger
}

// Registrar looks at AWS and changes it. Its methods may be called one after the other.
type Registrar struct {
	cfg    Config
	caller *awsapi.Caller
}

// New checks the configuration. It calls nobody.
func New(cfg Config) (*Registrar, error) {
	if cfg.Fleet == nil {
		return nil, errors.New("registrar: no fleet")
	}
	for _, name := range cfg.Fleet.CAs() {
		if cfg.CAs[name] == nil {
			return nil, fmt.Errorf("registrar: no certificate of CA %s", name)
		}
	}
	cfg.Journal = cmp.Or(cfg.Journal, filepath.Join(filepath.Dir(cfg.Fleet.Path), "aws", "journal.jsonl"))
	cfg.Parallel = cmp.Or(cfg.Parallel, 8)
	if cfg.Now == nil {
		cfg.Now = time.Now
	}
	if cfg.Log == nil {
		cfg.Log = slog.New(slog.DiscardHandler)
	}
	caller := awsapi.NewCaller(awsapi.Config{Keys: cfg.Keys, Transport: cfg.Transport, Pace: newBudget().wait})
	return &Registrar{cfg: cfg, caller: caller}, nil
}

// Plan looks at AWS, reading only, and says what is missing. The error is that of ctx; what else went wrong stands in the plan.
func (r *Registrar) Plan(ctx context.Context) (*Plan, error) {
	s, err := r.observe(ctx, r.cfg.Fleet.expand(r.cfg.CAs))
	if err != nil {
		return nil, err
	}
	return makePlan(r.cfg.Fleet, r.cfg.CAs, s, r.cfg.Now().UTC().Truncate(time.Second)), nil
}
