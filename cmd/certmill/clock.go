package main

import (
	"context"

	"github.com/spf13/cobra"

	"github.com/certmill/certmill/internal/server"
)

func newClockCommand(e *env) *cobra.Command {
	c := &cobra.Command{Use: "clock", Short: "The time of day, by which certificates are made"}
	c.AddCommand(newClockAcceptCommand(e))
	return c
}

func newClockAcceptCommand(e *env) *cobra.Command {
	var reason string
	c := &cobra.Command{
		Use:   "accept --reason R",
		Short: "Say that the clock is right, after it jumped",
		Long: "A clock that jumped back past what was issued, or far ahead, stops issuing (clock-untrusted; certmill status tells). Compare it with one that\n" +
			"is right, set it, then give your word: it is recorded, and issuing goes on. Where the clock is trusted nothing is recorded.",
		Example: "  certmill clock accept --reason 'battery replaced, set by the radio clock'",
		Args:    cobra.NoArgs,
	}
	c.Flags().StringVar(&reason, "reason", "", "`WHY`, for the record")
	offline := addOffline(c.Flags())
	c.RunE = func(c *cobra.Command, _ []string) error {
		if err := checkReason(reason); err != nil {
			return err
		}
		return e.admin(c.Context(), access{forRecord, offline}, func(ctx context.Context, a *server.AdminClient) error {
			if err := a.AcceptClock(ctx, reason); err != nil {
				return err
			}
			return e.printOne(map[string]string{"clock": "trusted"}, "the clock is trusted")
		})
	}
	return c
}
