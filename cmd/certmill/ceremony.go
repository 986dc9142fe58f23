package main

import (
	"bytes"
	"context"
	"crypto"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"strings"

	"github.com/spf13/cobra"

	"github.com/certmill/certmill/ca"
	"github.com/certmill/certmill/ca/ceremony"
	"github.com/certmill/certmill/hsm"
	"github.com/certmill/certmill/internal/ledger"
	"github.com/certmill/certmill/issuer"
)

func newCeremonyCommand(e *env) *cobra.Command {
	c := &cobra.Command{Use: "ceremony", Short: "Make a CA: one reviewed file, one key in the token, one transcript"}
	c.AddCommand(newCeremonyNewCommand(e), newCeremonyRunCommand(e))
	return c
}

func newCeremonyNewCommand(e *env) *cobra.Command {
	var file string
	c := &cobra.Command{
		Use:       "new root|issuing|plant -f C.yaml",
		Short:     "Write a commented ceremony file, to be edited and reviewed",
		Example:   "  certmill ceremony new root -f root.yaml",
		Args:      cobra.ExactArgs(1),
		ValidArgs: []string{ca.RoleRoot, ca.RoleIssuing, ca.RolePlant},
		RunE: func(_ *cobra.Command, args []string) error {
			text := ceremony.Template(args[0], args[0])
			if text == nil {
				return fail(exitUsage, "", "role %q is none of root, issuing, plant", args[0])
			}
			if file == "" {
				return fail(exitUsage, "certmill ceremony new "+args[0]+" -f "+args[0]+".yaml", "-f is missing")
			}
			return writeNewFile(file, text, modePublic)
		},
	}
	c.Flags().StringVarP(&file, "file", "f", "", "ceremony `FILE` to write")
	return c
}

func newCeremonyRunCommand(e *env) *cobra.Command {
	return &cobra.Command{
		Use:   "run C.yaml",
		Short: "Perform a ceremony, or what is left of an interrupted one",
		Long: "Makes the key in the token, has the certificate signed, writes the transcript beside the file (C.transcript.jsonl) and the certificate\n" +
			"into ca/ beside certmill.yaml, and adopts the CA in the ledger. Each line of the transcript is on disk before the act it announces:\n" +
			"after an interruption run it again; it makes no second key and no second certificate. certmill serve must not be running.",
		Example: "  certmill ceremony run ca/root.yaml",
		Args:    cobra.ExactArgs(1),
		RunE: func(c *cobra.Command, args []string) error {
			cfg, err := e.loadConfig()
			if err != nil {
				return err
			}
			r, err := runCeremony(c.Context(), cfg, args[0], e.warnings())
			if err != nil {
				return err
			}
			row := caRowOf(r)
			return e.printOne(row, fmt.Sprintf("CA %s: %s, certificate in ca/%s.pem, transcript %s", row.Name, row.Role, row.Name, row.Transcript))
		},
	}
}

// warnings logs for commands that a person waits for: what is wrong, and nothing else.
func (e *env) warnings() *slog.Logger {
	level := slog.LevelWarn
	if e.logLevel < slog.LevelInfo {
		level = e.logLevel
	}
	return slog.New(slog.NewTextHandler(e.stderr, &slog.HandlerOptions{Level: level}))
}

// runCeremony performs the ceremony of a file and adopts what it made. Every step finds what an earlier call did.
func runCeremony(ctx context.Context, cfg *Config, path string, log *slog.Logger) (r issuer.CARecord, err error) {
	text, err := os.ReadFile(path)
	if err != nil {
		return r, fail(exitUsage, "certmill ceremony new root -f FILE writes one", "%w", err)
	}
	file, err := ceremony.Parse(text)
	if err != nil {
		return r, fail(exitConfig, "", "%s: %w", path, err)
	}
	l, err := openLedger(cfg, forRecord, log)
	if err != nil {
		return r, err
	}
	defer func() { err = errors.Join(err, l.Close()) }()
	above, err := issuerOf(l, file)
	if err != nil {
		return r, err
	}
	token, err := openCeremonyToken(ctx, cfg, file.Token, log)
	if err != nil {
		return r, err
	}
	defer func() { err = errors.Join(err, token.Close()) }()
	result, err := ceremony.Run(ctx, ceremony.Config{File: text, Transcript: transcriptPath(path), Keys: ceremonyKeys{token}, Issuer: above})
	if err != nil {
		return r, ceremonyError(err)
	}
	r, err = issuer.AdoptCA(l, issuer.CARecord{Name: file.Name, Role: file.Role, Token: file.Token, Label: file.Label, Backup: file.Backup, Generation: file.Generation,
		Certificate: result.Certificate, IssueUntil: result.IssueUntil, Transcript: result.Transcript, By: fmt.Sprintf("ceremony:%d", os.Getuid())})
	if err != nil {
		return r, err
	}
	return r, writeCertificates(cfg, r, above)
}

func transcriptPath(file string) string {
	return strings.TrimSuffix(file, filepath.Ext(file)) + ".transcript.jsonl"
}

func ceremonyError(err error) error {
	switch {
	case errors.Is(err, hsm.ErrUnavailable):
		return fail(exitNoHSM, "run it again when the token is back: it goes on where it stopped", "ceremony: %w", err)
	case errors.Is(err, ceremony.ErrKeyExists):
		return fail(exitUsage, "give another label in the ceremony file, or use another token", "ceremony: %w", err)
	case errors.Is(err, ceremony.ErrOtherFile):
		return fail(exitUsage, "undo the change, or move the transcript away to begin a new ceremony with a new label", "ceremony: %w", err)
	}
	return fail(exitFailed, "", "ceremony: %w", err)
}

// issuerOf finds the CA that the file names as its issuer.
func issuerOf(l *ledger.Ledger, f *ceremony.File) (*ceremony.Issuer, error) {
	if f.Issuer == "" {
		return nil, nil
	}
	records, err := issuer.CAs(l)
	if err != nil {
		return nil, err
	}
	for _, r := range records {
		if r.Name != f.Issuer {
			continue
		}
		if r.Token != f.Token {
			return nil, fail(exitUsage, "", "the key of %s is in token %s, this ceremony works with %s", r.Name, r.Token, f.Token)
		}
		cert, err := x509.ParseCertificate(r.Certificate)
		return &ceremony.Issuer{Name: r.Name, Certificate: cert, Label: r.Label}, err
	}
	return nil, fail(exitUsage, "make it first: certmill ceremony new root -f FILE", "the issuer %q is not in the ledger", f.Issuer)
}

func openCeremonyToken(ctx context.Context, cfg *Config, name string, log *slog.Logger) (*hsm.Token, error) {
	hc, err := cfg.tokenConfig(name)
	if err != nil {
		return nil, err
	}
	hc.Ceremony, hc.Signers, hc.Log = true, 1, log
	return openToken(ctx, hc)
}

// ceremonyKeys is a token as a ceremony needs it.
type ceremonyKeys struct{ token *hsm.Token }

func (k ceremonyKeys) Generate(ctx context.Context, label, algorithm string) (crypto.PublicKey, error) {
	public, err := k.token.Generate(ctx, label, hsm.Algorithm(algorithm))
	if errors.Is(err, hsm.ErrExists) {
		err = fmt.Errorf("%w: %w", ceremony.ErrKeyExists, err)
	}
	return public, err
}

func (k ceremonyKeys) Public(ctx context.Context, label string) (crypto.PublicKey, error) {
	public, err := k.token.Public(ctx, label)
	if errors.Is(err, hsm.ErrNoKey) {
		err = fmt.Errorf("%w: %w", ceremony.ErrNoKey, err)
	}
	return public, err
}

func (k ceremonyKeys) Signer(ctx context.Context, label string, public crypto.PublicKey, policy []byte) (ca.Signer, error) {
	return k.token.Use(ctx, hsm.KeyConfig{Label: label, Public: public, Policy: policy})
}

// writeCertificates puts the certificate where people look for it; that of an issuing CA also with those above it.
func writeCertificates(cfg *Config, r issuer.CARecord, above *ceremony.Issuer) error {
	text := pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: r.Certificate})
	if err := writeFile(cfg.path(filepath.Join("ca", r.Name+".pem")), text, modePublic); err != nil || above == nil {
		return err
	}
	chain := bytes.Join([][]byte{text, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: above.Certificate.Raw})}, nil)
	return writeFile(cfg.path("ca/chain.pem"), chain, modePublic)
}
