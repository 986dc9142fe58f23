package main

import (
	"fmt"
	"strings"

	"github.com/spf13/cobra"

	"github.com/certmill/certmill/hsm"
)

func newHSMDoctorCommand(e *env) *cobra.Command {
	var writeTestKey bool
	c := &cobra.Command{
		Use:   "doctor [TOKEN]",
		Short: "One page on a token: what it is, whether it may be relied on, what to do if not",
		Long: "Looks at the module, the token, its flags and limits, holds the key of every CA in it against what is demanded, lets a key that lives for a\n" +
			"moment in a session sign, and measures with several sessions and processes for some seconds. Beside a running serve that takes a part of\n" +
			"the token's sessions and time. It logs in at most with the PIN that serve would use, by the same rule: a wrong one is tried once.\n\n" +
			"It changes nothing in the token without --write-test-key. Exit 0: nothing FAILs. 1: something does. 5: the HSM is not there. 78: the PIN.",
		Example: "  certmill hsm doctor\n  certmill hsm doctor main --write-test-key -o json",
		Args:    cobra.MaximumNArgs(1),
	}
	c.Flags().BoolVar(&writeTestKey, "write-test-key", false, "make a key in the token, sign with it and destroy it; remove what an interrupted run left")
	c.RunE = func(c *cobra.Command, args []string) error {
		t, err := e.token(args)
		if err != nil {
			return err
		}
		records, begins, unread := e.caKeys(c.Context(), &t)
		x, err := hsm.Examine(c.Context(), t.hsm, hsm.ExamineOptions{TestKey: writeTestKey, NotBefore: begins})
		if x == nil || c.Context().Err() != nil {
			return examinationError(t, err)
		}
		switch {
		case unread != nil:
			x.Lines = append(x.Lines, hsm.ExamineLine{Level: hsm.LevelWarn, Name: "record", Text: fmt.Sprintf("the CAs could not be read, so that no key was held against its CA: %v", unread), Do: "certmill ca list"})
		case len(records) == 0:
			x.Lines = append(x.Lines, hsm.ExamineLine{Level: hsm.LevelOK, Name: "record", Text: "no CA has its key in this token yet"})
		}
		if err := e.printOne(x, doctorText(x)); err != nil {
			return err
		}
		if err != nil {
			return examinationError(t, err)
		}
		if x.Failed() {
			return silent(exitFailed)
		}
		return nil
	}
	return c
}

// doctorText is the page.
func doctorText(x *hsm.Examination) string {
	var b strings.Builder
	for _, l := range x.Lines {
		fmt.Fprintf(&b, "%-4s  %-10s  %s\n", strings.ToUpper(string(l.Level)), l.Name, l.Text)
		if l.Do != "" {
			fmt.Fprintf(&b, "                  → %s\n", l.Do)
		}
	}
	return b.String()
}
