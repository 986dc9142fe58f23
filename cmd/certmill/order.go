package main

import (
	"bufio"
	"context"
	"encoding/json"
	"fmt"
	"os"
	"strconv"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/certmill/certmill/internal/server"
	"github.com/certmill/certmill/issuer"
)

func newOrderCommand(e *env) *cobra.Command {
	c := &cobra.Command{Use: "order", Short: "Production orders: what may be made, and what was"}
	c.AddCommand(newOrderCreateCommand(e), newOrderListCommand(e), newOrderShowCommand(e), newOrderManifestCommand(e))
	return c
}

func newOrderCreateCommand(e *env) *cobra.Command {
	var spec issuer.OrderSpec
	var devices, until string
	c := &cobra.Command{
		Use:   "create --product P --profile F --quantity N",
		Short: "Open an order",
		Long: "Opens an order: at most --quantity device certificates of one profile, for the stations and device ids it names. It keeps the version\n" +
			"of the profile that is configured now. The first order of a product makes the product.",
		Example: "  certmill order create --product sensor --profile device --quantity 5000 --stations 'line-*' --until 720h",
		Args:    cobra.NoArgs,
	}
	f := c.Flags()
	f.StringVar(&spec.Product, "product", "", "`NAME` of the product")
	f.StringVar(&spec.Profile, "profile", "", "`NAME` of a profile of the configuration")
	f.Uint64Var(&spec.Quantity, "quantity", 0, "how many certificates at most")
	f.StringVar(&spec.CA, "ca", "", "`NAME` of the issuing CA (default: the profile's, or the only one)")
	f.StringVar(&spec.Stations, "stations", "", "`GLOB` of stations that may draw on it (default *)")
	f.StringVar(&devices, "devices", "", "`FILE` with the device ids, one a line")
	f.StringVar(&spec.IDPattern, "id-pattern", "", "regular `EXPRESSION` for whole device ids (default: the profile's)")
	f.StringVar(&until, "until", "", "`TIME` of its end: RFC 3339, or a duration from now such as 720h")
	offline := addOffline(f)
	c.RunE = func(c *cobra.Command, _ []string) error {
		if err := completeOrder(&spec, devices, until, time.Now()); err != nil {
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
func completeOrder(s *issuer.OrderSpec, devices, until string, now time.Time) (err error) {
	switch {
	case s.Product == "":
		return fail(exitUsage, "", "--product is missing")
	case s.Profile == "":
		return fail(exitUsage, "certmill profile list shows the profiles", "--profile is missing")
	case s.Quantity == 0:
		return fail(exitUsage, "", "--quantity is missing: an order of nothing makes nothing")
	}
	if until != "" {
		if s.Until, err = parseTime(until, now); err != nil {
			return err
		}
	}
	if devices != "" {
		s.Devices, err = readDeviceList(devices)
	}
	return err
}

// parseTime reads RFC 3339 or a duration from now.
func parseTime(text string, now time.Time) (time.Time, error) {
	if t, err := time.Parse(time.RFC3339, text); err == nil {
		return t, nil
	}
	d, err := time.ParseDuration(text)
	if err != nil || d <= 0 {
		return time.Time{}, fail(exitUsage, "write 2027-01-31T18:00:00Z, or 720h", "%q is neither a time nor a duration from now", text)
	}
	return now.Add(d), nil
}

// readDeviceList reads ids, one a line; blank lines and lines that begin with # are left out.
func readDeviceList(path string) (ids []string, err error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, fail(exitUsage, "check the path", "%w", err)
	}
	defer f.Close()
	s := bufio.NewScanner(f)
	for s.Scan() {
		if id := strings.TrimSpace(s.Text()); id != "" && !strings.HasPrefix(id, "#") {
			ids = append(ids, id)
		}
	}
	if s.Err() != nil {
		return nil, fail(exitUsage, "write one device id a line", "%s: %w", path, s.Err())
	}
	if len(ids) == 0 {
		return nil, fail(exitUsage, "write one device id a line", "%s names no device", path)
	}
	return ids, nil
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
	return &cobra.Command{
		Use:   "show ID",
		Short: "One order in full",
		Args:  cobra.ExactArgs(1),
		RunE: func(c *cobra.Command, args []string) error {
			return e.admin(c.Context(), reads, func(ctx context.Context, a *server.AdminClient) error {
				o, err := a.Order(ctx, args[0])
				if err != nil {
					return err
				}
				return e.printOne(o, orderText(o))
			})
		},
	}
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
	line("issued", fmt.Sprintf("%d of %d", o.Issued, o.Quantity))
	line("product", o.Product)
	line("profile", o.Profile+" "+o.ProfileHash)
	line("ca", o.CA)
	line("stations", o.Stations)
	line("ids", o.IDPattern)
	if len(o.Devices) > 0 {
		line("devices", fmt.Sprintf("a list of %d", len(o.Devices)))
	}
	if !o.Until.IsZero() {
		line("until", o.Until.Format(time.RFC3339))
	}
	line("created", o.Created.Format(time.RFC3339)+" by "+o.By)
	return b.String()
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
