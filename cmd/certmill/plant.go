package main

import (
	"context"
	"crypto/x509"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"syscall"
	"time"

	"github.com/certmill/certmill/ca"
	"github.com/certmill/certmill/hsm"
	"github.com/certmill/certmill/internal/ledger"
	"github.com/certmill/certmill/issuer"
)

// plant is a factory node opened by this process: its ledger, its tokens, its CAs and the issuer over them.
type plant struct {
	cfg      *Config
	log      *slog.Logger
	ledger   *ledger.Ledger
	tokens   map[string]*hsm.Token // by name in the configuration; empty where the plant was opened without
	profiles []*ca.Profile
	kept     []*ca.Profile // versions that orders keep
	issuer   *issuer.Issuer
}

// plantMode says how a plant is opened.
type plantMode int

const (
	forReading plantMode = iota // no writer may be running, nothing is written, no token is touched
	forRecord                   // the ledger for writing, no token: orders, freezes
	forSigning                  // ledger and tokens
)

// openPlant opens what the mode asks for. Close it.
func openPlant(ctx context.Context, cfg *Config, mode plantMode, log *slog.Logger) (p *plant, err error) {
	if mode == forSigning {
		if err := needTokens(); err != nil {
			return nil, err
		}
	}
	p = &plant{cfg: cfg, log: log, tokens: make(map[string]*hsm.Token)}
	defer func() {
		if err != nil {
			p.Close()
		}
	}()
	if p.profiles, err = loadProfiles(cfg); err != nil {
		return p, err
	}
	if p.ledger, err = openLedger(cfg, mode, log); err != nil {
		return p, err
	}
	records, err := issuer.CAs(p.ledger)
	if err != nil {
		return p, fail(exitStorage, "certmill keeps the CAs in its ledger", "read the CAs: %w", err)
	}
	if p.kept, err = issuer.RecordedProfiles(p.ledger); err != nil {
		return p, fail(exitStorage, "certmill keeps the profiles of orders in its ledger", "%w", err)
	}
	if mode == forSigning {
		if err := p.openTokens(ctx, records); err != nil {
			return p, err
		}
	}
	authorities, err := p.authorities(records)
	if err != nil {
		return p, err
	}
	p.issuer, err = issuer.New(issuer.Config{Ledger: p.ledger, Profiles: p.profiles, Authorities: authorities, Log: log,
		ClockAhead: time.Duration(cfg.Clock.Ahead), Standstill: time.Duration(cfg.Clock.Standstill)})
	return p, err
}

// Close gives tokens and ledger back. The issuer's Run must have returned.
func (p *plant) Close() error {
	var errs []error
	for _, t := range p.tokens {
		errs = append(errs, t.Close())
	}
	if p.ledger != nil {
		errs = append(errs, p.ledger.Close())
	}
	return errors.Join(errs...)
}

func loadProfiles(cfg *Config) (profiles []*ca.Profile, err error) {
	for _, path := range cfg.Profiles {
		data, err := os.ReadFile(cfg.path(path))
		if err != nil {
			return nil, fail(exitConfig, "check profiles: in the configuration", "read profile: %w", err)
		}
		p, err := ca.ParseProfile(data)
		if err != nil {
			return nil, fail(exitConfig, "certmill profile lint "+path, "profile %s: %w", path, err)
		}
		profiles = append(profiles, p)
	}
	return profiles, nil
}

// failedMarker is the note that a failed write leaves: in the folder of state:, or else beside the admin socket.
const failedMarker = "ledger.failed"

func openLedger(cfg *Config, mode plantMode, log *slog.Logger) (*ledger.Ledger, error) {
	lc := ledger.Config{Path: cfg.ledgerPath(), Log: log, Marker: filepath.Join(cfg.path(cfg.State), failedMarker),
		Spare: filepath.Join(filepath.Dir(cfg.path(cfg.Listen.Admin)), failedMarker)} // often a file system in memory, which forgets when the page cache does
	open := ledger.Open
	if mode == forReading {
		open = ledger.OpenReadOnly
	}
	l, err := open(lc)
	switch {
	case errors.Is(err, ledger.ErrInUse):
		return nil, fail(exitTryAgain, "another certmill serve or an --offline command is at work: stop it, or let it do the work", "%w", err)
	case errors.Is(err, fs.ErrPermission):
		return nil, fail(exitNotAllowed, "run it as the user of certmill serve", "open the ledger: %w", err)
	case errors.Is(err, fs.ErrNotExist):
		return nil, fail(exitStorage, "certmill init --dir D makes one; a lost one comes from a backup", "open the ledger: %w", err)
	case errors.Is(err, syscall.ENOSPC):
		return nil, fail(exitStorage, "make room on its disk: after a failed write a start needs as much again as the ledger has", "open the ledger: %w", err)
	case err != nil:
		return nil, fail(exitStorage, hintStorage+"; certmill store check says what is wrong with it", "open the ledger: %w", err)
	}
	return l, nil
}

// openTokens starts the signers of every token that holds a key which may sign now. A token that is away comes into use when it is there: certificates
// that are stored are answered meanwhile.
func (p *plant) openTokens(ctx context.Context, records []issuer.CARecord) error {
	keys := make(map[string][]hsm.KeyConfig)
	for _, r := range records {
		if kinds := signingKinds(r); kinds != nil {
			k, err := p.cfg.keyConfig(r, kinds, p.allowance(r))
			if err != nil {
				return err
			}
			keys[r.Token] = append(keys[r.Token], k)
		}
	}
	for name, k := range keys {
		hc, err := p.cfg.tokenConfig(name)
		if err != nil {
			return err
		}
		if err := p.authoriseSelftests(name, hc); err != nil {
			return err
		}
		hc.Keys, hc.Log = k, p.log
		t := hsm.Start(ctx, hc)
		p.tokens[name] = t
		if err := ready(ctx, t); errors.Is(err, hsm.ErrUnavailable) && !noModule(hc) && ctx.Err() == nil {
			p.log.Error("the token is away: what is stored is answered, nothing is signed until it is there", "token", name, "err", err)
		} else if err != nil {
			return tokenError(hc, err)
		}
	}
	return nil
}

// authoriseSelftests records, before they are made, the signatures by which tokens that hold the same keys show it (promise P1).
func (p *plant) authoriseSelftests(token string, hc hsm.Config) error {
	if len(hc.Clones) == 0 {
		return nil
	}
	names := []string{token}
	for _, c := range hc.Clones {
		names = append(names, c.Name)
	}
	return issuer.RecordSelftest(p.ledger, names, fmt.Sprintf("local:%d", os.Getuid()))
}

// needTokens refuses, in a build that has no token support, what cannot be done without a token. Stations carry such a build.
func needTokens() error {
	if hsm.Supported {
		return nil
	}
	return fail(exitConfig, "it serves stations and desks (issue, keygen, inspect, aws …); a factory node runs the Linux build made with CGO_ENABLED=1 and a C compiler",
		"this command needs a token: %w", hsm.ErrUnsupported)
}

// noModule reports whether no token of hc has a module: waiting does not help.
func noModule(hc hsm.Config) bool {
	for _, c := range append([]hsm.Config{hc}, hc.Clones...) {
		if _, err := os.Stat(c.Module); err == nil {
			return false
		}
	}
	return true
}

// openToken opens a token for a command that a person waits for.
func openToken(ctx context.Context, hc hsm.Config) (*hsm.Token, error) {
	if err := needTokens(); err != nil {
		return nil, err
	}
	ctx, cancel := context.WithTimeout(ctx, tokenPatience)
	defer cancel()
	t, err := hsm.Open(ctx, hc)
	if err != nil {
		return nil, tokenError(hc, err)
	}
	return t, nil
}

// tokenPatience is how long a person, or a service that starts, waits for a token.
const tokenPatience = 10 * time.Second

func ready(ctx context.Context, t *hsm.Token) error {
	ctx, cancel := context.WithTimeout(ctx, tokenPatience)
	defer cancel()
	return t.WaitReady(ctx)
}

// tokenError gives a token's failures their exit codes. What a restart would only repeat is exitConfig.
func tokenError(hc hsm.Config, err error) error {
	switch {
	case errors.Is(err, hsm.ErrPIN):
		return fail(exitConfig, "it is not tried again: check pin: in the configuration before you start anew", "%w", err)
	case errors.Is(err, hsm.ErrUnfit), errors.Is(err, hsm.ErrNoKey):
		return fail(exitConfig, "certmill hsm keys shows what the token holds", "%w", err)
	}
	return fail(exitNoHSM, "is the module installed and the token there? pkcs11-tool --module "+hc.Module+" -L", "%w", err)
}

// signingKinds is the table of what each role's key signs while the factory runs (design.md section 3): CA certificates are
// signed at ceremonies alone, and an issuing CA, which AWS registers by itself, signs nothing but devices and proofs.
func signingKinds(r issuer.CARecord) []string {
	switch r.Role {
	case "issuing":
		return []string{ca.KindDevice, ca.KindProof}
	case "plant":
		return []string{ca.KindStation, ca.KindService}
	}
	return nil
}

// allowance is what a CA's signers let devices carry: what its profiles describe, those of the configuration and those that orders keep.
func (p *plant) allowance(r issuer.CARecord) ca.Allowance {
	var its []*ca.Profile
	for _, profile := range append(slices.Clone(p.kept), p.profiles...) {
		if profile.CA() == "" || profile.CA() == r.Name {
			its = append(its, profile)
		}
	}
	return ca.Allow(its...)
}

// maxPolicy is what one key's policy may take of the packet in which a keeper learns of all of them (128 KiB, in base64).
const maxPolicy = 32 << 10

// keyConfig tells the signer processes which key it is, what it may sign, with what every signature is verified, and what the gate has to know.
func (c *Config) keyConfig(r issuer.CARecord, kinds []string, devices ca.Allowance) (hsm.KeyConfig, error) {
	cert, err := x509.ParseCertificate(r.Certificate)
	if err != nil {
		return hsm.KeyConfig{}, fmt.Errorf("certificate of CA %s: %w", r.Name, err)
	}
	p := ca.Policy{Issuer: cert.RawSubject, Kinds: kinds, SerialPrefix: r.Prefix, NotAfter: cert.NotAfter}
	if slices.Contains(kinds, ca.KindDevice) {
		p.Devices = devices
	}
	policy, err := json.Marshal(p)
	if err == nil && len(policy) > maxPolicy {
		err = fail(exitConfig, "let new profiles keep the alt_names and extensions of old ones where they can",
			"the names and extensions of all profiles, and of those that orders keep, take %d bytes to describe to the signers of CA %s, at most %d", len(policy), r.Name, maxPolicy)
	}
	return hsm.KeyConfig{Label: r.Label, Public: cert.PublicKey, Policy: policy, Backup: hsm.Backup(r.Backup), Waivers: c.waivers(r.Token, r.Label)}, err
}

// authorities joins the CAs to their keys. Without a token a CA can prepare, and Sign answers hsm.ErrUnavailable.
func (p *plant) authorities(records []issuer.CARecord) (all []*ca.Authority, err error) {
	for _, r := range records {
		if signingKinds(r) == nil {
			continue
		}
		cert, err := x509.ParseCertificate(r.Certificate)
		if err != nil {
			return nil, fmt.Errorf("certificate of CA %s: %w", r.Name, err)
		}
		var signer ca.Signer = noToken{}
		if t := p.tokens[r.Token]; t != nil {
			if signer, err = t.Key(r.Label); err != nil {
				return nil, err
			}
		}
		a, err := ca.NewAuthority(ca.AuthorityConfig{Name: r.Name, Certificate: cert, Prefix: r.Prefix, IssueUntil: r.IssueUntil,
			Signer: signer, PublicURL: p.cfg.PublicURL, Allowance: p.allowance(r)})
		if err != nil {
			return nil, fmt.Errorf("CA %s: %w", r.Name, err)
		}
		all = append(all, a)
	}
	return all, nil
}

// noToken stands for a token that this process did not open.
type noToken struct{}

func (noToken) Sign(_ context.Context, _ string, tbs [][]byte) (sigs [][]byte, errs []error) {
	errs = make([]error, len(tbs))
	for i := range errs {
		errs[i] = hsm.ErrUnavailable
	}
	return make([][]byte, len(tbs)), errs
}

// grace is how long what was begun may take to end when a service stops.
const grace = 10 * time.Second
