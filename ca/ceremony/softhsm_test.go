package ceremony

import (
	"context"
	"crypto"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"testing"
	"time"

	"github.com/certmill/certmill/ca"
	"github.com/certmill/certmill/hsm"
	"github.com/certmill/certmill/hsm/hsmtest"
)

// TestMain lets the test binary be the processes that hold the token.
func TestMain(m *testing.M) {
	if hsmtest.Main(demandPolicy) {
		return
	}
	os.Exit(m.Run())
}

func demandPolicy(policy []byte) (func(kind string, tbs []byte) error, error) {
	p, err := ca.ParsePolicy(policy)
	if err != nil {
		return nil, err
	}
	return func(kind string, tbs []byte) error { return p.Check(kind, tbs, time.Now()) }, nil
}

// realKeys is a token of hsm, joined as the command joins it.
type realKeys struct {
	*hsm.Token
	generated *int
}

func (k realKeys) Generate(ctx context.Context, label, algorithm string) (crypto.PublicKey, error) {
	*k.generated++
	return k.Token.Generate(ctx, label, hsm.Algorithm(algorithm))
}

func (k realKeys) Public(ctx context.Context, label string) (crypto.PublicKey, error) {
	public, err := k.Token.Public(ctx, label)
	if errors.Is(err, hsm.ErrNoKey) {
		err = fmt.Errorf("%w: %w", ErrNoKey, err)
	}
	return public, err
}

func (k realKeys) Signer(ctx context.Context, label string, public crypto.PublicKey, policy []byte) (ca.Signer, error) {
	return k.Use(ctx, hsm.KeyConfig{Label: label, Public: public, Policy: policy})
}

// The ceremonies of a plant on a real token, which is closed and opened again for each crash, as a machine is.
func TestCrashesWithSoftHSM(t *testing.T) {
	cfg := hsmtest.SoftHSM(t)
	cfg.Ceremony, cfg.Signers, cfg.Log = true, 1, slog.New(slog.DiscardHandler)
	generated := 0
	run := func(c Config, crashAt string) (Result, error) {
		token, err := hsm.Open(t.Context(), cfg)
		if err != nil {
			t.Fatal(err)
		}
		defer func() {
			if err := token.Close(); err != nil {
				t.Error(err)
			}
		}()
		c.Keys = realKeys{token, &generated}
		return run(t.Context(), c, func(point string) error {
			if point == crashAt {
				return errors.New("crash")
			}
			return nil
		})
	}
	var issuer *Issuer
	for _, role := range []string{ca.RoleRoot, ca.RoleIssuing} {
		c := config(t, nil, role, issuer)
		for _, point := range []string{"recorded make", "generated", "written intent", "signed", "recorded signature"} {
			if _, err := run(c, point); err == nil {
				t.Fatalf("%s: no crash at %s", role, point)
			}
		}
		r, err := run(c, "")
		if err != nil {
			t.Fatal(err)
		}
		made := parse(t, r.Certificate)
		above := made
		if issuer != nil {
			above = issuer.Certificate
		}
		if err := made.CheckSignatureFrom(above); err != nil {
			t.Error(err)
		}
		issuer = &Issuer{Name: role, Certificate: made, Label: r.File.Label}
	}
	if generated != 2 {
		t.Errorf("%d keys were made, want 2", generated)
	}
}
