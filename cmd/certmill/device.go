package main

import (
	"context"
	"fmt"
	"strings"
	"time"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"github.com/certmill/certmill/internal/server"
	"github.com/certmill/certmill/issuer"
)

func newDeviceCommand(e *env) *cobra.Command {
	c := &cobra.Command{Use: "device", Short: "One device: its life, another key, a sign of life"}
	c.AddCommand(newDeviceShowCommand(e), newDeviceRekeyCommand(e), newDeviceConfirmCommand(e))
	return c
}

// unitFlags name what an id alone may not.
type unitFlags struct{ product, slot string }

func (u *unitFlags) add(f *pflag.FlagSet) {
	f.StringVar(&u.product, "product", "", "`NAME` of its product (default: the only one that knows the id)")
	f.StringVar(&u.slot, "slot", "", "`NAME` of the certificate's place in the device (default main)")
}

func newDeviceShowCommand(e *env) *cobra.Command {
	var u unitFlags
	c := &cobra.Command{
		Use:     "show ID",
		Short:   "A device's whole life: certificates, orders, stations, confirmations, rekeys",
		Example: "  certmill device show DEMO-000001\n  certmill device show DEMO-000001 --product lamp --slot mesh -o json",
		Args:    cobra.ExactArgs(1),
	}
	u.add(c.Flags())
	c.RunE = func(c *cobra.Command, args []string) error {
		return e.admin(c.Context(), reads, func(ctx context.Context, a *server.AdminClient) error {
			d, err := a.Device(ctx, u.product, args[0], u.slot)
			if err != nil {
				return err
			}
			return e.printOne(d, deviceText(d))
		})
	}
	return c
}

func deviceText(d issuer.Device) string {
	var b strings.Builder
	line := func(name, format string, args ...any) {
		fmt.Fprintf(&b, "%-12s %s\n", name, fmt.Sprintf(format, args...))
	}
	line("device", "%s, product %s, slot %s", d.DeviceID, d.Product, d.Slot)
	for _, name := range sortedKeys(d.Attributes) {
		line("  "+name, "%s", d.Attributes[name])
	}
	for _, c := range d.Certificates {
		line("certificate", "%s", c.Serial)
		line("  asked", "%s by station %s on order %s", at(c.Recorded), c.Station, c.Order)
		if c.CertificateID == "" {
			line("  signed", "not yet")
		} else {
			line("  signed", "%s by CA %s, entry %d, good %s to %s", at(c.Signed), c.CA, c.Index, at(c.NotBefore), at(c.NotAfter))
			line("  id", "%s", c.CertificateID)
		}
		if c.Confirmed != nil {
			line("  confirmed", "%s by %s", at(c.Confirmed.At), c.Confirmed.By)
		}
		if c.Revoked != nil {
			line("  revoked", "from %s on, by %s: %s", at(c.Revoked.At), c.Revoked.By, c.Revoked.Reason)
		}
		if r := c.Rekey; r != nil {
			line("  rekey", "%s by %s: %s; the next one on order %s%s", at(r.At), r.By, r.Reason, r.Order, givenBack(r))
		}
	}
	return b.String()
}

func at(t time.Time) string { return t.UTC().Format(time.RFC3339) }

func givenBack(r *issuer.Rekey) string {
	if r.Returned {
		return ", the unit given back to order " + r.Paid
	}
	return ""
}

func newDeviceRekeyCommand(e *env) *cobra.Command {
	var u unitFlags
	var s issuer.RekeySpec
	c := &cobra.Command{
		Use:   "rekey ID --reason R",
		Short: "Revoke a device's certificate and let the device ask once more, with another key",
		Long: "For a device that lost its key, got another board, or whose key is known. Its certificate is revoked at once, or stays good for --overlap. Then\n" +
			"the device asks again at its station, with a new key, on its own order or on --order, which pays for the new certificate; with\n" +
			"--return-to-order the order that paid for the old one gets the unit back.\n\n" +
			"Repeating the command is safe as long as the device has not come back; with --serial it is safe at any time.",
		Example: "  certmill device rekey DEMO-000001 --reason 'board replaced'\n" +
			"  certmill device rekey DEMO-000001 --reason 'new firmware key' --overlap 72h --order R-3 --serial 0102…",
		Args: cobra.ExactArgs(1),
	}
	f := c.Flags()
	u.add(f)
	f.StringVar(&s.Reason, "reason", "", "`WHY`, for the record and the revocation")
	f.DurationVar(&s.Overlap, "overlap", 0, "`TIME` for which the old certificate stays good")
	f.StringVar(&s.Order, "order", "", "`ID` of the order on which the new certificate is drawn (default: the device's own)")
	f.StringVar(&s.Serial, "serial", "", "`SERIAL` of the certificate that ends (default: the newest)")
	f.BoolVar(&s.Return, "return-to-order", false, "give the unit back to the order that paid for the old certificate")
	offline := addOffline(f)
	c.RunE = func(c *cobra.Command, args []string) error {
		if err := checkReason(s.Reason); err != nil {
			return err
		}
		s.Product, s.DeviceID, s.Slot = u.product, args[0], u.slot
		return e.admin(c.Context(), access{forRecord, offline}, func(ctx context.Context, a *server.AdminClient) error {
			r, err := a.Rekey(ctx, s)
			if err != nil {
				return err
			}
			return e.printOne(r, fmt.Sprintf("%s: certificate %s is revoked from %s on; the next one is drawn on order %s%s",
				r.DeviceID, r.Serial, at(r.RevokedAt), r.Order, givenBack(&r)))
		})
	}
	return c
}
