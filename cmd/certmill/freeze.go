package main

import (
	"context"
	"strings"

	"github.com/spf13/cobra"

	"github.com/certmill/certmill/internal/server"
	"github.com/certmill/certmill/issuer"
)

func newFreezeCommand(e *env) *cobra.Command {
	c := freezing(e, "freeze", (*server.AdminClient).Freeze)
	c.Short = "Stop a CA, an order, a station or everything, at once"
	c.Long = "One person stops at once; what was made before is still answered. It takes effect with the next request and survives restarts."
	c.Example = "  certmill freeze all --reason 'key suspected'\n  certmill freeze order O-7 --reason 'wrong label'"
	return c
}

func newUnfreezeCommand(e *env) *cobra.Command {
	c := freezing(e, "unfreeze", (*server.AdminClient).Unfreeze)
	c.Short = "Start again what was frozen"
	c.Example = "  certmill unfreeze order O-7 --reason 'label corrected'"
	return c
}

// freezing is the command of both: they differ in one call.
func freezing(e *env, verb string, do func(*server.AdminClient, context.Context, issuer.Target, string) error) *cobra.Command {
	var reason string
	c := &cobra.Command{
		Use:       verb + " ca|order|station|all [NAME] --reason R",
		Args:      cobra.RangeArgs(1, 2),
		ValidArgs: []string{"ca", "order", "station", "all"},
	}
	c.Flags().StringVar(&reason, "reason", "", "`WHY`, for the record")
	offline := addOffline(c.Flags())
	c.RunE = func(c *cobra.Command, args []string) error {
		target, err := parseTarget(args)
		if err != nil {
			return err
		}
		if strings.TrimSpace(reason) == "" {
			return fail(exitUsage, "say why: somebody will ask", "--reason is missing")
		}
		return e.admin(c.Context(), access{forRecord, offline}, func(ctx context.Context, a *server.AdminClient) error {
			if err := do(a, ctx, target, reason); err != nil {
				return err
			}
			frozen, err := a.Frozen(ctx)
			if err != nil {
				return err
			}
			return printList(e, frozen, "FROZEN NAME", func(t issuer.Target) []string { return []string{t.Kind, t.Name} })
		})
	}
	return c
}

// parseTarget reads `order O-7`, or `all`.
func parseTarget(args []string) (issuer.Target, error) {
	t := issuer.Target{Kind: args[0]}
	switch t.Kind {
	case "all":
		if len(args) > 1 {
			return t, fail(exitUsage, "", "all takes no name")
		}
		return t, nil
	case "ca", "order", "station":
		if len(args) < 2 {
			return t, fail(exitUsage, "", "which %s? give its name", t.Kind)
		}
		t.Name = args[1]
		return t, nil
	}
	return t, fail(exitUsage, "", "%q is none of ca, order, station, all", t.Kind)
}
