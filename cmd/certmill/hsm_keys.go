package main

import (
	"fmt"
	"strings"

	"github.com/spf13/cobra"

	"github.com/certmill/certmill/hsm"
)

// keyRow is a key of a token in a listing.
type keyRow struct {
	hsm.ExaminedKey
	CAs     []string `json:"cas"` // that use it
	Verdict string   `json:"verdict"`
	Waived  []string `json:"waived"` // attributes, each with its reason
}

func newHSMKeysCommand(e *env) *cobra.Command {
	return &cobra.Command{
		Use:   "keys [TOKEN]",
		Short: "Every key in a token: which CA uses it, and whether it is fit to",
		Long: "Lists the key pairs of a token. VERDICT is what serve says of the key at its start: OK, WARN, WAIVED (by the configuration, with a reason) or\n" +
			"FAIL; of a key that no CA uses it is advice. A key that a CA needs and the token has not is listed, too. Exit 1: the key of a CA is not fit.",
		Example: "  certmill hsm keys\n  certmill hsm keys main -o json",
		Args:    cobra.MaximumNArgs(1),
		RunE: func(c *cobra.Command, args []string) error {
			t, err := e.token(args)
			if err != nil {
				return err
			}
			records, _, err := e.caKeys(c.Context(), &t)
			if err != nil {
				return err
			}
			x, err := hsm.Examine(c.Context(), t.hsm, hsm.ExamineOptions{KeysOnly: true})
			if err != nil {
				return examinationError(t, err)
			}
			users := make(map[string][]string)
			for _, r := range records {
				users[r.Label] = append(users[r.Label], r.Name)
			}
			rows, unfit := make([]keyRow, len(x.Keys)), false
			for i, k := range x.Keys {
				rows[i] = newKeyRow(k, users[k.Label])
				unfit = unfit || k.Asked && rows[i].Verdict == "FAIL"
			}
			err = printList(e, rows, "LABEL ID KIND CA VERDICT BACKUP WAIVED WHY", func(r keyRow) []string {
				return []string{orDash(r.Label), orDash(r.ID), r.Kind, orDash(strings.Join(r.CAs, ",")), r.Verdict, orDash(string(r.Backup)), orDash(strings.Join(r.Waived, "; ")), orDash(r.why())}
			})
			if err == nil && unfit {
				err = silent(exitFailed)
			}
			return err
		},
	}
}

func newKeyRow(k hsm.ExaminedKey, cas []string) keyRow {
	r := keyRow{ExaminedKey: k, CAs: append([]string{}, cas...), Verdict: k.Verdict(), Waived: []string{}}
	if k.Asked && r.Backup == "" {
		r.Backup = hsm.BackupNone
	}
	for _, f := range k.Findings {
		if f.Level == hsm.LevelWaived {
			r.Waived = append(r.Waived, f.Attribute+": "+f.Reason)
		}
	}
	return r
}

// why names the attributes behind a verdict that is not OK.
func (r keyRow) why() string {
	var why []string
	switch {
	case !r.Private && r.Public:
		why = append(why, "a public key without its private half")
	case strings.HasPrefix(r.Label, hsm.TestKeyPrefix):
		why = append(why, "left by an interrupted doctor: certmill hsm doctor --write-test-key removes it")
	}
	for _, f := range r.Findings {
		if f.Level == hsm.LevelFail || f.Level == hsm.LevelWarn {
			why = append(why, fmt.Sprintf("%s %s", f.Attribute, f.Text))
		}
	}
	return strings.Join(why, "; ")
}

func orDash(s string) string {
	if s == "" {
		return "-"
	}
	return s
}
