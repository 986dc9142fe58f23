package main

import (
	"context"

	"github.com/spf13/cobra"

	"github.com/certmill/certmill/registrar"
)

// awsPlanOptions are the flags of aws plan.
type awsPlanOptions struct {
	Fleet            string
	Out              string
	DetailedExitCode bool
}

func newAWSPlanCommand(e *env) *cobra.Command {
	var o awsPlanOptions
	c := &cobra.Command{
		Use:   "plan [-f fleet.yaml]",
		Short: "What would have to change at AWS, and which rules that would break",
		Long: "Looks at every account and region of the fleet file, reading only, and shows each change that certmill aws apply would make, in\n" +
			"its order. Rules that would be broken are shown before anything is called.\n\n" +
			"Exit code: 0 whatever it found, 1 where rules would be broken, 3 where a place could not be looked at; with\n" +
			"--detailed-exitcode 2 where there is something to do. What an endpoint cannot do or does not tell is no difference.",
		Example: "  certmill aws plan -f fleet.yaml --out plan.json\n  certmill aws apply plan.json",
		Args:    cobra.NoArgs,
		RunE: func(c *cobra.Command, _ []string) error {
			if err := e.checkOutput(); err != nil {
				return err
			}
			return interrupted(c.Context(), e.awsPlan(c.Context(), o))
		},
	}
	c.Flags().StringVar(&o.Out, "out", "", "`FILE` to keep the plan in, for certmill aws apply FILE")
	c.Flags().BoolVar(&o.DetailedExitCode, "detailed-exitcode", false, "exit 2 where there is something to do")
	addFleetFlag(c.Flags(), &o.Fleet)
	return c
}

func (e *env) awsPlan(ctx context.Context, o awsPlanOptions) error {
	if o.Out != "" && exists(o.Out) {
		return fail(exitUsage, "choose another name, or remove it", "%s exists already", o.Out)
	}
	f, err := e.fleet(o.Fleet)
	if err != nil {
		return err
	}
	return e.withRegistrar(ctx, f, func(r *registrar.Registrar) error {
		p, err := r.Plan(ctx)
		if err != nil {
			return err
		}
		return e.planEnd(p, o)
	})
}

// planEnd prints, saves, and chooses the exit code.
func (e *env) planEnd(p *registrar.Plan, o awsPlanOptions) error {
	saved, err := p.Save()
	if err != nil {
		return err
	}
	if err := e.printPlan(p); err != nil {
		return err
	}
	if len(p.BrokenRules) > 0 {
		return brokenRules(p)
	}
	if o.Out != "" {
		if err := writeNewFile(o.Out, saved, modePublic); err != nil {
			return err
		}
		e.talk("kept in %s: certmill aws apply %s", o.Out, o.Out)
	}
	switch {
	case len(p.Unreachable) > 0:
		return fail(exitPartly, "check endpoint, credentials and role, then plan again", "%d places could not be looked at", len(p.Unreachable))
	case o.DetailedExitCode && p.Differs():
		return silent(exitDifferences)
	}
	return nil
}
