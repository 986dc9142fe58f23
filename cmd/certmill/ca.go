package main

import (
	"cmp"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/pem"
	"strconv"
	"time"

	"github.com/spf13/cobra"

	"github.com/certmill/certmill/hsm"
	"github.com/certmill/certmill/internal/server"
	"github.com/certmill/certmill/issuer"
)

func newCACommand(e *env) *cobra.Command {
	c := &cobra.Command{Use: "ca", Short: "The CAs of this plant"}
	c.AddCommand(newCAListCommand(e), newCAExportCommand(e))
	return c
}

// caRow is a CA in a listing.
type caRow struct {
	Name          string    `json:"name"`
	Role          string    `json:"role"`
	State         string    `json:"state"`
	Generation    int       `json:"generation"`
	Token         string    `json:"token"`
	Label         string    `json:"label"`
	Backup        string    `json:"backup"`         // of the key, fixed when it was made
	CertificateID string    `json:"certificate_id"` // SHA-256 of the DER: the id AWS IoT uses
	NotAfter      time.Time `json:"not_after"`
	IssueUntil    time.Time `json:"issue_until,omitzero"`
	Transcript    string    `json:"transcript"`
}

func caRowOf(r issuer.CARecord) caRow {
	return caRow{Name: r.Name, Role: r.Role, State: r.State, Generation: r.Generation, Token: r.Token, Label: r.Label, Backup: cmp.Or(r.Backup, string(hsm.BackupNone)),
		CertificateID: certificateID(r.Certificate), NotAfter: r.NotAfter, IssueUntil: r.IssueUntil, Transcript: r.Transcript}
}

// certificateID is the id that AWS IoT gives a certificate.
func certificateID(der []byte) string {
	id := sha256.Sum256(der)
	return hex.EncodeToString(id[:])
}

func newCAListCommand(e *env) *cobra.Command {
	return &cobra.Command{
		Use:   "list",
		Short: "Name, role, state, key and end of every CA",
		Args:  cobra.NoArgs,
		RunE: func(c *cobra.Command, _ []string) error {
			return e.admin(c.Context(), reads, func(ctx context.Context, a *server.AdminClient) error {
				records, err := a.CAs(ctx)
				if err != nil {
					return err
				}
				rows := make([]caRow, len(records))
				for i, r := range records {
					rows[i] = caRowOf(r)
				}
				return printList(e, rows, "NAME ROLE STATE GENERATION TOKEN/LABEL BACKUP NOT-AFTER ISSUES-UNTIL AWS-ID", func(r caRow) []string {
					return []string{r.Name, r.Role, r.State, strconv.Itoa(r.Generation), r.Token + "/" + r.Label, r.Backup, day(r.NotAfter), day(r.IssueUntil), r.CertificateID}
				})
			})
		},
	}
}

func day(t time.Time) string {
	if t.IsZero() {
		return "-"
	}
	return t.Format(time.DateOnly)
}

func newCAExportCommand(e *env) *cobra.Command {
	var out string
	var chain bool
	c := &cobra.Command{
		Use:     "export NAME",
		Short:   "A CA's certificate in PEM; with --chain those above it too",
		Example: "  certmill ca export issuing --out issuing.pem",
		Args:    cobra.ExactArgs(1),
	}
	c.Flags().StringVar(&out, "out", "", "`FILE` to write (default: standard output)")
	c.Flags().BoolVar(&chain, "chain", false, "with the certificates above it")
	c.RunE = func(c *cobra.Command, args []string) error {
		return e.admin(c.Context(), reads, func(ctx context.Context, a *server.AdminClient) error {
			text, err := a.Chain(ctx, args[0])
			if err != nil {
				return err
			}
			if !chain {
				first, _ := pem.Decode(text)
				text = pem.EncodeToMemory(first)
			}
			if out != "" {
				return writeNewFile(out, text, modePublic)
			}
			_, err = e.stdout.Write(text)
			return err
		})
	}
	return c
}
