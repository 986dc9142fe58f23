package main

import (
	"bufio"
	"context"
	"encoding/json"
	"fmt"
	"strconv"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/certmill/certmill/internal/server"
	"github.com/certmill/certmill/issuer"
)

func newOrderCommand(e *env) *cobra.Command {
	c := &cobra.Command{Use: "order", Short: "Production orders: what may be made, and what was"}
	c.AddCommand(newOrderCreateCommand(e), newOrderListCommand(e), newOrderShowCommand(e), newOrderManifestCommand(e), newOrderCloseCommand(e))
	return c
}

func newOrderCreateCommand(e *env) *cobra.Command {
	var spec issuer.OrderSpec
	var devices, notBefore, until string
	c := &cobra.Command{
		Use:   "create --product P --profile F --quantity N",
		Short: "Open an order",
		Long: "Opens an order: at most --quantity device certificates of one profile, for the stations and device ids it names. It keeps the version\n" +
			"of the profile that is configured now. The first order of a product makes the product.\n\n" +
			"With --id the command may be repeated: the same id and the same words give the order of the first time. Without it, each call makes an order.\n\n" +
			"--scrap is an allowance: so many certificates may be drawn above the quantity, for units that do not leave the line.\n\n" +
			"--devices names a file with one id a line; or .csv with a column device_id and one for each attribute; or .jsonl with the same fields.",
		Example: "  certmill order create --product sensor --profile device --quantity 5000 --stations 'line-*' --until 720h\n" +
			"  certmill order create --id lamp-31 --product lamp --profile device --quantity 500 --scrap 10 --devices lamps.csv --plant Brno --line 3",
		Args: cobra.NoArgs,
	}
	f := c.Flags()
	f.StringVar(&spec.ID, "id", "", "`NAME` of the order (default: the next O-N); it makes repeating safe")
	f.StringVar(&spec.Product, "product", "", "`NAME` of the product")
	f.StringVar(&spec.Profile, "profile", "", "`NAME` of a profile of the configuration")
	f.Uint64Var(&spec.Quantity, "quantity", 0, "how many certificates at most")
	f.Uint64Var(&spec.Scrap, "scrap", 0, "how many more may be drawn for units that are scrapped")
	f.StringVar(&spec.Plant, "plant", "", "`LABEL`")
	f.StringVar(&spec.Line, "line", "", "`LABEL`")
	f.StringVar(&spec.CA, "ca", "", "`NAME` of the issuing CA (default: the profile's, or the only one)")
	f.StringVar(&spec.Stations, "stations", "", "`GLOB` of stations that may draw on it (default *)")
	f.StringVar(&devices, "devices", "", "`FILE` with the device ids, and attributes if wanted")
	f.StringVar(&spec.IDPattern, "id-pattern", "", "regular `EXPRESSION` for whole device ids (default: the profile's)")
	f.StringVar(&notBefore, "not-before", "", "`TIME` of its begin: as --until")
	f.StringVar(&until, "until", "", "`TIME` of its end: RFC 3339, or a duration from now such as 720h")
	offline := addOffline(f)
	c.RunE = func(c *cobra.Command, _ []string) error {
		if err := completeOrder(&spec, devices, notBefore, until); err != nil {
			return err
		}
		return e.admin(c.Context(), access{forRecord, offline}, func(ctx context.Context, a *server.AdminClient) error {
			o, err := a.CreateOrder(ctx, spec)
			if err != nil {
				return err
			}
			return e.printOne(o, o.ID)
		})
	}
	return c
}

// completeOrder judges the flags and reads the list of devices.
func completeOrder(s *issuer.OrderSpec, devices, notBefore, until string) (err error) {
	switch {
	case s.Product == "":
		return fail(exitUsage, "", "--product is missing")
	case s.Profile == "":
		return fail(exitUsage, "certmill profile list shows the profiles", "--profile is missing")
	case s.Quantity == 0:
		return fail(exitUsage, "", "--quantity is missing: an order of nothing makes nothing")
	}
	if s.NotBefore, s.StartsIn, err = parseEnd(notBefore); err != nil {
		return err
	}
	if s.Until, s.EndsIn, err = parseEnd(until); err != nil {
		return err
	}
	if devices != "" {
		err = readDevices(s, devices)
	}
	return err
}

// parseEnd reads RFC 3339, or a duration from the moment the order is recorded.
func parseEnd(text string) (at time.Time, in time.Duration, err error) {
	if text == "" {
		return at, 0, nil
	}
	if at, err = time.Parse(time.RFC3339, text); err == nil {
		return at, 0, nil
	}
	in, err = time.ParseDuration(text)
	if err != nil || in <= 0 {
		return time.Time{}, 0, fail(exitUsage, "write 2027-01-31T18:00:00Z, or 720h", "%q is neither a time nor a duration from now", text)
	}
	return time.Time{}, in, nil
}

func newOrderListCommand(e *env) *cobra.Command {
	return &cobra.Command{
		Use:   "list",
		Short: "All orders and how far they are",
		Args:  cobra.NoArgs,
		RunE: func(c *cobra.Command, _ []string) error {
			return e.admin(c.Context(), reads, func(ctx context.Context, a *server.AdminClient) error {
				orders, err := a.Orders(ctx)
				if err != nil {
					return err
				}
				return printList(e, orders, "ID PRODUCT PROFILE CA STATE ISSUED QUANTITY", func(o issuer.Order) []string {
					return []string{o.ID, o.Product, o.Profile, o.CA, o.State, number(o.Issued), number(o.Quantity)}
				})
			})
		},
	}
}

func newOrderShowCommand(e *env) *cobra.Command {
	var older time.Duration
	c := &cobra.Command{
		Use:   "show ID",
		Short: "One order in full",
		Long: "Tells what the order is and how far it is. Rate, forecast and what was refused count from the start of the service on. With --unconfirmed-for it\n" +
			"lists the devices that got their certificate longer ago than that and have not shown their key since.",
		Example: "  certmill order show O-7\n  certmill order show O-7 --unconfirmed-for 24h",
		Args:    cobra.ExactArgs(1),
	}
	c.Flags().DurationVar(&older, "unconfirmed-for", 0, "list the devices that have not confirmed for this `TIME`")
	c.RunE = func(c *cobra.Command, args []string) error {
		return e.admin(c.Context(), reads, func(ctx context.Context, a *server.AdminClient) error {
			if c.Flags().Changed("unconfirmed-for") {
				return e.showUnconfirmed(ctx, a, args[0], older)
			}
			o, err := a.Order(ctx, args[0])
			if err != nil {
				return err
			}
			return e.printOne(o, orderText(o))
		})
	}
	return c
}

func orderText(o issuer.Order) string {
	var b strings.Builder
	line := func(name, value string) {
		if value != "" {
			fmt.Fprintf(&b, "%-10s %s\n", name, value)
		}
	}
	line("order", o.ID)
	line("state", o.State)
	line("issued", fmt.Sprintf("%d of %d", o.Issued, o.Quantity)+more(o.Scrap, " and %d for scrap")+more(o.Returned, ", %d given back"))
	line("confirmed", number(o.Confirmed))
	for _, code := range sortedKeys(o.Refused) {
		line("refused", fmt.Sprintf("%d %s", o.Refused[code], code))
	}
	if o.PerHour > 0 {
		line("rate", fmt.Sprintf("%.0f an hour", o.PerHour))
	}
	if !o.Forecast.IsZero() {
		line("forecast", "done "+at(o.Forecast)+late(o))
	}
	line("product", o.Product)
	line("profile", o.Profile+" "+o.ProfileHash)
	line("ca", o.CA)
	line("stations", o.Stations)
	line("ids", o.IDPattern)
	line("devices", more(uint64(o.Listed), "a list of %d"))
	line("plant", o.Plant)
	line("line", o.Line)
	if !o.NotBefore.IsZero() {
		line("from", at(o.NotBefore))
	}
	if !o.Until.IsZero() {
		line("until", at(o.Until))
	}
	if o.Closed != nil {
		line("closed", at(o.Closed.At)+" by "+o.Closed.By+": "+o.Closed.Reason)
	}
	line("created", o.Created.Format(time.RFC3339)+" by "+o.By)
	return b.String()
}

// more is a number in its words, "" for none.
func more(n uint64, words string) string {
	if n == 0 {
		return ""
	}
	return fmt.Sprintf(words, n)
}

// late warns of a forecast past the order's end.
func late(o issuer.Order) string {
	if !o.Until.IsZero() && o.Forecast.After(o.Until) {
		return ", after the order's end"
	}
	return ""
}

func newOrderManifestCommand(e *env) *cobra.Command {
	return &cobra.Command{
		Use:   "manifest ID",
		Short: "Every device of an order with the id that AWS IoT gives its certificate, one JSON object a line",
		Long: "Prints what the clouds must know of an order: the allow-list of JITR is made of it. One JSON object a line, in the order in which the\n" +
			"certificates were made; -o changes nothing.",
		Example: "  certmill order manifest O-1 > O-1.jsonl",
		Args:    cobra.ExactArgs(1),
		RunE: func(c *cobra.Command, args []string) error {
			return e.admin(c.Context(), reads, func(ctx context.Context, a *server.AdminClient) error {
				out := bufio.NewWriter(e.stdout)
				enc := json.NewEncoder(out)
				for line, err := range a.Manifest(ctx, args[0]) {
					if err != nil {
						return err
					}
					if err := enc.Encode(line); err != nil {
						return err
					}
				}
				return out.Flush()
			})
		},
	}
}

func number(n uint64) string { return strconv.FormatUint(n, 10) }
