package main

import (
	"bufio"
	"context"
	"errors"
	"os"
	"strings"

	"github.com/spf13/cobra"
	"golang.org/x/term"

	"github.com/certmill/certmill/registrar"
)

// awsApplyOptions are the argument and the flags of aws apply.
type awsApplyOptions struct {
	Plan  string // file of a saved plan; "" plans first
	Fleet string
	Yes   bool
}

func newAWSApplyCommand(e *env) *cobra.Command {
	var o awsApplyOptions
	c := &cobra.Command{
		Use:   "apply PLAN | -f fleet.yaml --yes",
		Short: "Bring AWS to the desired state",
		Long: "With a saved plan, does exactly that: the plan is the consent. Where what stands at AWS does not fit it any more, nothing is done\n" +
			"(exit 75). With -f it plans first; without --yes it asks.\n\n" +
			"Places go on independently: where one fails, the others are finished (exit 3), and running the same command again does the rest.\n" +
			"Attempts and results are kept in aws/journal.jsonl beside the fleet file.",
		Example: "  certmill aws apply plan.json\n  certmill aws apply -f fleet.yaml --yes",
		Args:    cobra.MaximumNArgs(1),
		RunE: func(c *cobra.Command, args []string) error {
			if err := e.checkOutput(); err != nil {
				return err
			}
			if len(args) == 1 {
				o.Plan = args[0]
			}
			return interrupted(c.Context(), e.awsApply(c.Context(), o))
		},
	}
	c.Flags().BoolVar(&o.Yes, "yes", false, "apply what was planned without asking")
	addFleetFlag(c.Flags(), &o.Fleet)
	return c
}

func (e *env) awsApply(ctx context.Context, o awsApplyOptions) error {
	switch {
	case o.Plan != "" && (o.Fleet != "" || o.Yes):
		return fail(exitUsage, "leave out -f and --yes: a saved plan names its fleet file and is the consent", "give a saved plan or -f, not both")
	case o.Plan != "":
		return e.applySaved(ctx, o.Plan)
	case !o.Yes && !e.canAsk():
		return fail(exitUsage, "add --yes, or: certmill aws plan --out plan.json, then: certmill aws apply plan.json", "nobody is here to say yes")
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
		if len(p.BrokenRules) > 0 || !o.Yes {
			if err := p.WriteText(e.stderr); err != nil { // talk before the deed: stdout is for the report
				return err
			}
		}
		if !o.Yes && len(p.BrokenRules) == 0 && p.Differs() {
			if err := e.askForYes(); err != nil {
				return err
			}
		}
		return e.applyPlan(ctx, r, p)
	})
}

func (e *env) applySaved(ctx context.Context, path string) error {
	data, err := os.ReadFile(path)
	if err != nil {
		return fail(exitUsage, "certmill aws plan --out FILE makes one", "%w", err)
	}
	saved, err := registrar.ParsePlan(data)
	if err != nil {
		return fail(exitVerify, "plan again: certmill aws plan --out FILE", "%s: %w", path, err)
	}
	f, err := e.fleet(saved.Fleet)
	if err != nil {
		return err
	}
	return e.withRegistrar(ctx, f, func(r *registrar.Registrar) error {
		p, err := r.Recheck(ctx, saved)
		if errors.Is(err, registrar.ErrStale) {
			return fail(exitTryAgain, "plan again: certmill aws plan --out FILE; nothing was done", "%w", err)
		}
		if err != nil {
			return err
		}
		return e.applyPlan(ctx, r, p)
	})
}

// applyPlan applies, prints how it ended, and chooses the exit code.
func (e *env) applyPlan(ctx context.Context, r *registrar.Registrar, p *registrar.Plan) error {
	report, err := r.Apply(ctx, p)
	switch {
	case errors.Is(err, registrar.ErrBroken):
		return brokenRules(p)
	case errors.Is(err, registrar.ErrBusy):
		return fail(exitTryAgain, "wait until it has ended", "%w", err)
	case report == nil:
		return fail(exitStorage, "make aws/journal.jsonl beside the fleet file writable: attempts are kept there before they are made; nothing was done", "%w", err)
	}
	if err := errors.Join(err, e.printReport(p, report)); err != nil {
		return err
	}
	if !report.Complete() || len(p.Unreachable) > 0 {
		return fail(exitPartly, "mend what failed, then run it again: it does the rest", "%d actions failed, %d were not tried, %d places were not reached",
			report.Count(registrar.Failed), report.Count(registrar.NotTried, registrar.Uncertain), len(p.Unreachable))
	}
	return nil
}

// applied is a report for programs.
type applied struct {
	*registrar.Report
	Unreachable []registrar.Finding `json:"unreachable,omitempty"`
	NotMade     []registrar.Finding `json:"not_made,omitempty"`
}

func (e *env) printReport(p *registrar.Plan, report *registrar.Report) error {
	if e.output != asTable {
		return e.printOne(applied{report, p.Unreachable, p.NotMade}, "")
	}
	return errors.Join(report.WriteText(e.stdout), p.WriteFindings(e.stderr))
}

// canAsk reports whether a person sits at standard input.
func (e *env) canAsk() bool {
	f, ok := e.stdin.(*os.File)
	return ok && term.IsTerminal(int(f.Fd()))
}

func (e *env) askForYes() error {
	e.talk("Apply this? Only yes does:")
	answer, err := bufio.NewReader(e.stdin).ReadString('\n')
	if err != nil {
		return err
	}
	if strings.TrimSpace(answer) != "yes" {
		return fail(exitFailed, "", "nothing was done")
	}
	return nil
}
