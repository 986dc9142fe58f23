package main

import (
	"context"
	"crypto/x509"
	"errors"
	"path/filepath"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"github.com/certmill/certmill/registrar"
)

func newAWSCommand(e *env) *cobra.Command {
	c := &cobra.Command{
		Use:   "aws",
		Short: "AWS IoT accounts and regions brought to the desired state",
		Long: "Brings AWS IoT to the state that fleet.yaml describes: which CA stands in which account and region, in which mode, and how its\n" +
			"devices are provisioned at their first connect. AWS is asked with your credentials, as every AWS tool does (environment, profiles,\n" +
			"SSO); the proofs that AWS wants are signed by certmill serve, which needs no credentials of AWS.",
	}
	c.AddCommand(newAWSPlanCommand(e), newAWSApplyCommand(e), newAWSStatusCommand(e))
	return c
}

// plantAccess is what the AWS side needs of the plant. Its methods may be called concurrently.
type plantAccess interface {
	CACertificates(ctx context.Context, names []string) (map[string]*x509.Certificate, error)
	registrar.Prover
	Close() error
}

func addFleetFlag(f *pflag.FlagSet, path *string) {
	f.StringVarP(path, "fleet", "f", "", "`FILE` with the desired state (default: fleet.yaml beside certmill.yaml)")
}

// fleet reads the fleet file; "" is the one beside the configuration.
func (e *env) fleet(path string) (*registrar.Fleet, error) {
	if path == "" {
		config, err := e.configPath()
		if err != nil {
			return nil, err
		}
		path = filepath.Join(filepath.Dir(config), "fleet.yaml")
	}
	path, err := filepath.Abs(path)
	if err != nil {
		return nil, err
	}
	f, err := registrar.LoadFleet(path)
	if err != nil {
		return nil, fail(exitConfig, "correct it, then: certmill aws plan", "%s: %w", path, err)
	}
	return f, nil
}

// withRegistrar runs do with a registrar over a fleet and the plant's CAs.
func (e *env) withRegistrar(ctx context.Context, f *registrar.Fleet, do func(*registrar.Registrar) error) error {
	p, err := e.plant(ctx)
	if err != nil {
		return err
	}
	cfg := registrar.Config{Fleet: f, Prover: p, Progress: e.awsProgress()}
	if e.getenv("AWS_ACCESS_KEY_ID") == "" && onlyLoopback(f) {
		cfg.Keys = simulatorKeys() // whoever has no credentials in hand must not send those of a shared file to a simulator
	}
	if cfg.CAs, err = p.CACertificates(ctx, f.CAs()); err != nil {
		return errors.Join(err, p.Close())
	}
	r, err := registrar.New(cfg)
	if err == nil {
		err = do(r)
	}
	return errors.Join(err, p.Close())
}

// awsProgress tells each action as it ends: on a terminal, where somebody waits.
func (e *env) awsProgress() func(registrar.Outcome) {
	if !e.interactive() {
		return nil
	}
	return func(o registrar.Outcome) { e.talk("  %-13s %s: %s %s", o.Result, o.Place, o.Verb, o.Object) }
}

// printPlan prints a plan in the asked format.
func (e *env) printPlan(p *registrar.Plan) error {
	if e.output == asTable {
		return p.WriteText(e.stdout)
	}
	return e.printOne(p, "")
}

// brokenRules is the end of every command whose plan breaks rules.
func brokenRules(p *registrar.Plan) error {
	return fail(exitFailed, "change the fleet file, or what stands in its way at AWS; nothing was done", "the plan breaks %d of AWS's rules", len(p.BrokenRules))
}

// interrupted gives a run that was ended by a signal its exit code.
func interrupted(ctx context.Context, err error) error {
	if err != nil && ctx.Err() != nil {
		return fail(exitInterrupted, "run it again: it goes on where it stopped", "interrupted")
	}
	return err
}
