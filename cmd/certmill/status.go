package main

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/spf13/cobra"

	"github.com/certmill/certmill/internal/server"
)

func newStatusCommand(e *env) *cobra.Command {
	return &cobra.Command{
		Use:   "status",
		Short: "Am I well",
		Long: "Tells how the running service is: whether it can answer and sign, how far its record goes, its CAs, what is frozen. Exit 0: well.\n" +
			"Exit 1: something needs somebody; the lines marked ! say what. Without a running serve it tells what the ledger says.",
		Args: cobra.NoArgs,
		RunE: func(c *cobra.Command, _ []string) error {
			return e.admin(c.Context(), reads, func(ctx context.Context, a *server.AdminClient) error {
				s, err := a.Status(ctx)
				if err != nil {
					return err
				}
				text, well := statusText(s)
				if err := e.printOne(s, text); err != nil || well {
					return err
				}
				return silent(exitFailed)
			})
		},
	}
}

// statusText is status for people; well says whether nothing needs attention.
func statusText(s server.Status) (text string, well bool) {
	var b strings.Builder
	well = true
	line := func(ok bool, name, format string, args ...any) {
		mark := " "
		if !ok {
			mark, well = "!", false
		}
		fmt.Fprintf(&b, "%s %-9s %s\n", mark, name, fmt.Sprintf(format, args...))
	}
	line(s.Ready == "", "node", "%s, certmill %s%s", s.Node, s.Version, because(s.Ready))
	line(true, "ledger", "%s, %d entries", s.Ledger.Name, s.Ledger.Size)
	for _, name := range slices.Sorted(maps.Keys(s.Tokens)) {
		t := s.Tokens[name]
		line(t.Ready == "" && t.Wrong == 0, "token", "%s: %d signers, %d signatures, %d wrong, %d refused, %d respawns%s",
			name, t.Signers, t.Signatures, t.Wrong, t.Refused, t.Respawns, because(t.Ready))
		for _, n := range t.Notes {
			line(true, "", "%s", n)
		}
	}
	for _, c := range s.CAs {
		line(true, "ca", "%s (%s) %s, to %s, issues until %s", c.Name, c.Role, c.State, day(c.NotAfter), day(c.IssueUntil))
	}
	line(s.OpenIntents == 0, "open", "%d recorded and not signed", s.OpenIntents)
	if s.Clock != "" {
		line(false, "clock", "%s; certmill clock accept says that it is right", s.Clock)
	}
	for _, f := range s.Frozen {
		line(false, "frozen", "%s %s", f.Kind, f.Name)
	}
	line(true, "officers", "%s", s.Officers)
	return b.String(), well
}

func because(why string) string {
	if why == "" {
		return ""
	}
	return ": " + why
}
