package main

import (
	"context"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/certmill/certmill/internal/server"
	"github.com/certmill/certmill/issuer"
)

func newOrderCloseCommand(e *env) *cobra.Command {
	var reason string
	c := &cobra.Command{
		Use:   "close ID --reason R",
		Short: "End an order, for ever",
		Long: "Nothing more is made on the order, from the next request on. What it has paid for is signed and handed out as before. There is no way back:\n" +
			"what is to go on later is frozen. Closing twice is closing once, with the first reason.",
		Example: "  certmill order close O-7 --reason 'batch is done'",
		Args:    cobra.ExactArgs(1),
	}
	c.Flags().StringVar(&reason, "reason", "", "`WHY`, for the record")
	offline := addOffline(c.Flags())
	c.RunE = func(c *cobra.Command, args []string) error {
		if err := checkReason(reason); err != nil {
			return err
		}
		return e.admin(c.Context(), access{forRecord, offline}, func(ctx context.Context, a *server.AdminClient) error {
			o, err := a.CloseOrder(ctx, args[0], reason)
			if err != nil {
				return err
			}
			return e.printOne(o, orderText(o))
		})
	}
	return c
}

func checkReason(reason string) error {
	if strings.TrimSpace(reason) == "" {
		return fail(exitUsage, "say why: somebody will ask", "--reason is missing")
	}
	return nil
}

// showUnconfirmed lists the devices of an order that got their certificate longer ago and have not shown their key.
func (e *env) showUnconfirmed(ctx context.Context, a *server.AdminClient, order string, older time.Duration) error {
	var all []issuer.Unconfirmed
	for u, err := range a.Unconfirmed(ctx, order, older) {
		if err != nil {
			return err
		}
		all = append(all, u)
	}
	return printList(e, all, "DEVICE SLOT SERIAL STATION SIGNED", func(u issuer.Unconfirmed) []string {
		return []string{u.DeviceID, u.Slot, u.Serial, u.Station, u.Signed.Format(time.RFC3339)}
	})
}
