package main

import (
	"context"
	"crypto/x509"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/certmill/certmill/hsm"
	"github.com/certmill/certmill/internal/server"
	"github.com/certmill/certmill/issuer"
)

func newHSMCommand(e *env) *cobra.Command {
	c := &cobra.Command{Use: "hsm", Short: "The tokens that hold the CA keys: how they are, what is in them, their PIN"}
	c.AddCommand(newHSMDoctorCommand(e), newHSMKeysCommand(e), newHSMPINRetryCommand(e), newHSMPINChangeCommand(e))
	return c
}

// chosenToken is a token of the configuration, ready to be opened.
type chosenToken struct {
	name string
	cfg  *Config
	hsm  hsm.Config
}

// token finds the token that a command means: the one it names, or the only one. Only the owner of state: goes on, since the PIN memory is there.
func (e *env) token(args []string) (t chosenToken, err error) {
	if t.cfg, err = e.loadConfig(); err != nil {
		return t, err
	}
	names := slices.Sorted(maps.Keys(t.cfg.Tokens))
	switch {
	case len(args) == 1:
		t.name = args[0]
	case len(names) == 1:
		t.name = names[0]
	case len(names) == 0:
		return t, fail(exitConfig, "add one under tokens:", "the configuration has no token")
	default:
		return t, fail(exitUsage, "name one of them", "the configuration has %d tokens: %s", len(names), strings.Join(names, ", "))
	}
	if t.hsm, err = t.cfg.tokenConfig(t.name); err != nil {
		return t, err
	}
	t.hsm.Log = e.warnings()
	return t, ownsState(t.cfg)
}

// caKeys are the CAs that have their key in the token, as the record says; it is read whether serve is running or not.
func (e *env) caKeys(ctx context.Context, t *chosenToken) (records []issuer.CARecord, begins time.Time, err error) {
	err = e.admin(ctx, reads, func(ctx context.Context, a *server.AdminClient) error {
		all, err := a.CAs(ctx)
		for _, r := range all {
			if r.Token == t.name {
				records = append(records, r)
			}
		}
		return err
	})
	if err != nil {
		return nil, begins, err
	}
	for _, r := range records {
		k, err := t.cfg.keyConfig(r, nil) // it is looked at, and signs nothing
		if err != nil {
			return nil, begins, err
		}
		cert, err := x509.ParseCertificate(r.Certificate)
		if err != nil {
			return nil, begins, err
		}
		if cert.NotBefore.After(begins) {
			begins = cert.NotBefore
		}
		t.hsm.Keys = append(t.hsm.Keys, k)
	}
	return records, begins, nil
}

// examinationError gives the failures of a token their exit codes.
func examinationError(t chosenToken, err error) error {
	switch {
	case err == nil:
		return nil
	case errors.Is(err, hsm.ErrPIN):
		return fail(exitConfig, "", "token %s: %w", t.name, err)
	case errors.Is(err, hsm.ErrUnavailable), errors.Is(err, hsm.ErrUnsupported):
		return fail(exitNoHSM, "", "token %s: %w", t.name, err)
	}
	return fmt.Errorf("token %s: %w", t.name, err)
}
