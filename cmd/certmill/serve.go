package main

import (
	"context"
	"crypto/x509"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"sync"
	"time"

	"github.com/spf13/cobra"

	"github.com/certmill/certmill/hsm"
	"github.com/certmill/certmill/internal/ledger"
	"github.com/certmill/certmill/internal/server"
	"github.com/certmill/certmill/issuer"
	"github.com/certmill/certmill/issuer/client"
)

func newServeCommand(e *env) *cobra.Command {
	return &cobra.Command{
		Use:   "serve",
		Short: "The factory service: stations ask, certificates come out",
		Long: "Opens the ledger and the tokens, finishes what an earlier run left open, and answers stations until SIGTERM or SIGINT; then it answers\n" +
			"what it has begun and exits with 0. It needs no internet and no AWS credentials.\n\n" +
			"Exit 5: the HSM cannot be reached. 74: the ledger cannot be written. 78: configuration or PIN; do not restart.",
		Example: "  certmill serve -c plant/certmill.yaml",
		Args:    cobra.NoArgs,
		RunE: func(c *cobra.Command, _ []string) error {
			cfg, err := e.loadConfig()
			if err != nil {
				return err
			}
			s, err := startService(c.Context(), cfg, e.logger())
			if c.Context().Err() != nil && errors.Is(err, context.Canceled) {
				return nil // SIGTERM while it started: nothing was begun
			}
			if err != nil {
				return err
			}
			e.talk("certmill serve: stations on https://%s, admin socket %s", s.stations, cfg.path(cfg.Listen.Admin))
			return s.wait()
		},
	}
}

// logger writes to stderr: JSON for machines to collect, one line a record.
func (e *env) logger() *slog.Logger {
	return slog.New(slog.NewJSONHandler(e.stderr, &slog.HandlerOptions{Level: e.logLevel}))
}

// service is a running factory: a plant with its issuer at work and its listeners open.
type service struct {
	plant    *plant
	server   *server.Server
	stations net.Addr

	cancel  context.CancelCauseFunc
	running sync.WaitGroup // listeners and the renewal of the service's certificate
	issuing chan error     // what the issuer's Run returned
	ctx     context.Context
}

// startService brings a plant up. It serves until ctx ends or the store fails; wait tells which.
func startService(ctx context.Context, cfg *Config, log *slog.Logger) (_ *service, err error) {
	p, err := openPlant(ctx, cfg, forSigning, log)
	if err != nil {
		return nil, err
	}
	s := &service{plant: p, issuing: make(chan error, 1)}
	s.ctx, s.cancel = context.WithCancelCause(ctx)
	issuing, stopIssuing := context.WithCancel(context.WithoutCancel(ctx)) // ends after the listeners: it answers what they have begun
	go func() {
		err := p.issuer.Run(issuing)
		if errors.Is(err, ledger.ErrFailed) {
			s.farewell(err)
		}
		s.cancel(err)
		s.issuing <- err
	}()
	context.AfterFunc(s.ctx, func() {
		s.running.Wait()
		stopIssuing()
	})
	if err := s.open(log); err != nil {
		s.cancel(nil)
		return nil, errors.Join(err, s.wait())
	}
	return s, nil
}

// open makes the server and opens every listener of the configuration.
func (s *service) open(log *slog.Logger) error {
	cfg := s.plant.cfg
	plantCA, err := s.plant.caCertificate("plant")
	if err != nil {
		return err
	}
	own, err := s.ownCertificate(log)
	if err != nil {
		return err
	}
	if s.server, err = server.New(s.plant.serverConfig()); err != nil {
		return err
	}
	tlsConfig, err := server.StationTLS(server.TLSConfig{Plant: plantCA, Certificate: own.current, MinVersion: cfg.Listen.TLSMin, Now: s.plant.issuer.Time})
	if err != nil {
		return err
	}
	admin, err := server.ListenAdmin(socketPath(cfg.path(cfg.Listen.Admin)))
	if err != nil {
		return fail(exitConfig, "name another path in listen.admin of the configuration", "%w", err)
	}
	s.serve(admin, s.server.Admin())
	for _, l := range []struct {
		name, address string
		handler       http.Handler
	}{{"stations", cfg.Listen.Stations, s.server.Stations()}, {"public", cfg.Listen.Public, s.server.Public()}, {"metrics", cfg.Listen.Metrics, s.server.Metrics()}} {
		if l.address == "" {
			continue
		}
		ln, err := net.Listen("tcp", l.address)
		if err != nil {
			return fail(exitConfig, "is another certmill running, or the port taken? change listen: in the configuration", "listen.%s: %w", l.name, err)
		}
		if l.name == "stations" {
			s.stations = ln.Addr()
			ln = newTLSListener(ln, tlsConfig)
		}
		s.serve(ln, l.handler)
	}
	return nil
}

// serve answers on one listener until the service ends; then it finishes the requests it has begun.
func (s *service) serve(ln net.Listener, h http.Handler) {
	hs := s.server.HTTPServer(h)
	s.running.Go(func() {
		if err := hs.Serve(ln); !errors.Is(err, http.ErrServerClosed) {
			s.cancel(fmt.Errorf("listener %s: %w", ln.Addr(), err))
		}
	})
	s.running.Go(func() {
		<-s.ctx.Done()
		ctx, cancel := context.WithTimeout(context.WithoutCancel(s.ctx), grace)
		defer cancel()
		if hs.Shutdown(ctx) != nil { // somebody is too slow
			hs.Close()
		}
	})
}

// farewell is how long a service whose store failed goes on saying so, on /readyz and to every request, before it exits: long enough for whoever watches to ask.
// Nothing is issued any more.
const farewell = 3 * time.Second

func (s *service) farewell(err error) {
	s.plant.log.Error("the ledger cannot be written: nothing is issued any more, and this process ends", "in", farewell.String(), "err", err)
	select {
	case <-time.After(farewell):
	case <-s.ctx.Done(): // SIGTERM: somebody knows
	}
}

// wait returns when everything has ended: nil after SIGTERM, the store's failure otherwise.
func (s *service) wait() error {
	<-s.ctx.Done()
	s.running.Wait()
	err := <-s.issuing
	cause := context.Cause(s.ctx)
	if cause == err { // it is what ended everything, and is said once
		cause = nil
	}
	err = errors.Join(ignoreCancel(err), ignoreCancel(cause), s.plant.Close())
	switch {
	case errors.Is(err, ledger.ErrFailed):
		return fail(exitStorage, hintStorage, "%w", err)
	}
	return err
}

// hintStorage is what to do after a write that failed.
const hintStorage = "check the disk (df, dmesg); the next start copies the ledger to a new file and checks it"

func ignoreCancel(err error) error {
	if errors.Is(err, context.Canceled) {
		return nil
	}
	return err
}

// serverConfig is what the HTTP side needs of a plant.
func (p *plant) serverConfig() server.Config {
	tokens := make(map[string]server.Token, len(p.tokens))
	for name, t := range p.tokens {
		tokens[name] = server.Token{Ready: t.Ready, Stats: func() server.TokenStats { return server.TokenStats(t.Stats()) }, Notes: func() []string { return tokenNotes(t) }}
	}
	l := p.cfg.Listen
	return server.Config{
		Issuer: p.issuer, Ledger: p.ledger, Profiles: p.profiles, Tokens: tokens, Ready: p.ledger.Failed,
		Errors: []server.ErrorCode{{Err: hsm.ErrUnavailable, Code: client.CodeHSMUnavailable}, {Err: hsm.ErrPIN, Code: client.CodeHSMUnavailable},
			{Err: hsm.ErrBusy, Code: client.CodeSlowDown}},
		Node: p.cfg.Node, Version: version(),
		Listeners: map[string]string{"stations": l.Stations, "public": l.Public, "metrics": l.Metrics, "admin": l.Admin},
		TLSMin:    l.TLSMin, AdminUIDs: p.cfg.AdminUsers, Log: p.log,
	}
}

// tokenNotes is what the gate found and let pass: warnings, and waivers with their reasons.
func tokenNotes(t *hsm.Token) (notes []string) {
	for _, r := range t.Reports() {
		if r == nil {
			continue
		}
		for _, k := range r.Keys {
			for _, f := range k.Findings {
				if f.Level == hsm.LevelUnknown { // hsm keys and hsm doctor say so
					continue
				}
				note := fmt.Sprintf("%s %s: %s %s", f.Level, k.Label, f.Attribute, f.Text)
				if f.Reason != "" {
					note += " (" + f.Reason + ")"
				}
				notes = append(notes, note)
			}
		}
	}
	return uniqueSorted(notes)
}

// caCertificate returns the certificate of an adopted CA.
func (p *plant) caCertificate(name string) (*x509.Certificate, error) {
	records, err := issuer.CAs(p.ledger)
	if err != nil {
		return nil, err
	}
	for _, r := range records {
		if r.Name == name {
			return x509.ParseCertificate(r.Certificate)
		}
	}
	return nil, fail(exitConfig, "make it at a ceremony: certmill ceremony new "+name+" -f "+name+".yaml", "there is no CA named %q yet", name)
}

// socketPath keeps a unix socket's address within the 107 bytes that the system allows, and leaves room for the name that it has while it is
// made, by going relative where the absolute path is longer.
func socketPath(path string) string {
	if len(path) <= 90 {
		return path
	}
	if wd, err := os.Getwd(); err == nil {
		if rel, err := filepath.Rel(wd, path); err == nil && len(rel) < len(path) {
			return rel
		}
	}
	return path
}
