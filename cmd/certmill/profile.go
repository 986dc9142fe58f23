package main

import (
	"os"

	"github.com/spf13/cobra"

	"github.com/certmill/certmill/ca"
)

func newProfileCommand(e *env) *cobra.Command {
	c := &cobra.Command{Use: "profile", Short: "What certificates may be"}
	c.AddCommand(newProfileListCommand(e), newProfileShowCommand(e), newProfileLintCommand(e))
	return c
}

// profileRow is one profile in a listing.
type profileRow struct {
	Name string `json:"name"`
	Kind string `json:"kind"`
	CA   string `json:"ca,omitempty"`
	Hash string `json:"hash"`
	File string `json:"file"`
}

func rowOf(p *ca.Profile, file string) profileRow {
	return profileRow{Name: p.Name(), Kind: p.Kind(), CA: p.CA(), Hash: p.Hash(), File: file}
}

func newProfileListCommand(e *env) *cobra.Command {
	return &cobra.Command{
		Use:   "list",
		Short: "The profiles of the configuration, with the hash that orders keep",
		Args:  cobra.NoArgs,
		RunE: func(*cobra.Command, []string) error {
			cfg, err := e.loadConfig()
			if err != nil {
				return err
			}
			profiles, err := loadProfiles(cfg)
			if err != nil {
				return err
			}
			rows := make([]profileRow, len(profiles))
			for i, p := range profiles {
				rows[i] = rowOf(p, cfg.Profiles[i])
			}
			return printList(e, rows, "NAME KIND CA FILE HASH", func(r profileRow) []string {
				return []string{r.Name, r.Kind, r.CA, r.File, r.Hash}
			})
		},
	}
}

func newProfileLintCommand(e *env) *cobra.Command {
	return &cobra.Command{
		Use:   "lint FILE",
		Short: "Check a profile: its fields, and a sample certificate by zlint and by our rules",
		Long: "Reads a profile as serve does, makes a sample certificate with a throw-away key and lints it with zlint (RFC and community sources)\n" +
			"and certmill's own rules. Exit 0: serve would take it. Exit 78: it would not; the reason names the field and the clause.",
		Example: "  certmill profile lint profiles/device.yaml",
		Args:    cobra.ExactArgs(1),
		RunE: func(_ *cobra.Command, args []string) error {
			data, err := os.ReadFile(args[0])
			if err != nil {
				return fail(exitUsage, "check the path", "%w", err)
			}
			p, err := ca.ParseProfile(data)
			if err != nil {
				return fail(exitConfig, "", "%s: %w", args[0], err)
			}
			return e.printOne(rowOf(p, args[0]), args[0]+": profile "+p.Name()+" is good, hash "+p.Hash())
		},
	}
}
