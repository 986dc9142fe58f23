package main

import (
	"context"
	"errors"
	"fmt"
	"path/filepath"

	"github.com/spf13/cobra"

	"github.com/certmill/certmill/hsm"
)

func newHSMPINRetryCommand(e *env) *cobra.Command {
	return &cobra.Command{
		Use:   "pin-retry [TOKEN]",
		Short: "Allow one more try of a PIN that the token refused",
		Long: "certmill tries a wrong PIN once, over all processes and restarts, and remembers it under state:. A PIN file that is replaced is tried by itself.\n" +
			"Where the PIN was right and the token was mended, this forgets that it was refused: the next start tries it once.",
		Example: "  certmill hsm pin-retry",
		Args:    cobra.MaximumNArgs(1),
		RunE: func(_ *cobra.Command, args []string) error {
			t, err := e.token(args)
			if err != nil {
				return err
			}
			forgot, err := hsm.AllowPINRetry(t.hsm.PINMemory)
			if err != nil {
				return examinationError(t, err)
			}
			text := fmt.Sprintf("token %s: nothing to forget: no PIN of it was refused", t.name)
			if forgot {
				text = fmt.Sprintf("token %s: forgotten that the PIN was refused; the next start tries it once", t.name)
			}
			return e.printOne(struct {
				Token  string `json:"token"`
				Forgot bool   `json:"forgot"`
			}{t.name, forgot}, text)
		},
	}
}

// pinChanged is what pin-change prints.
type pinChanged struct {
	Token    string `json:"token"`
	Finished bool   `json:"finished"` // an earlier change; the new PIN of this call was not used
	File     string `json:"file,omitempty"`
	Next     string `json:"next"`
}

func newHSMPINChangeCommand(e *env) *cobra.Command {
	var file string
	c := &cobra.Command{
		Use:   "pin-change [TOKEN]",
		Short: "Give a token a new user PIN, without a wrong try",
		Long: "Logs in with the present PIN, which must be known to be right, sets the new one and puts it into the PIN file of the configuration. The new PIN\n" +
			"stands in a file (mode 0600, without others' rights), or is asked for at the terminal, twice. What an interruption leaves is finished by the\n" +
			"next call; until then nothing else tries a PIN. certmill serve must not be running: a process that it replaces would log in with the old PIN.",
		Example: "  certmill hsm pin-change --new-pin-file new-pin && shred -u new-pin",
		Args:    cobra.MaximumNArgs(1),
	}
	c.Flags().StringVar(&file, "new-pin-file", "", "`FILE` with the new PIN")
	c.RunE = func(c *cobra.Command, args []string) error {
		t, err := e.token(args)
		if err != nil {
			return err
		}
		if file != "" {
			if file, err = filepath.Abs(file); err != nil {
				return err
			}
		}
		changed, err := changePIN(c.Context(), t, file, e)
		if err != nil {
			return err
		}
		r := pinChanged{Token: t.name, Finished: changed.Finished, File: changed.File, Next: "start certmill serve"}
		what := "has a new PIN"
		if changed.Finished {
			what = "has the new PIN of the change that was cut off; call it again for another one"
		}
		switch {
		case t.hsm.PIN.Credential != "":
			r.Next = fmt.Sprintf("put the new PIN where the systemd credential %s comes from, then certmill hsm pin-retry %s, then start certmill serve", t.hsm.PIN.Credential, t.name)
		case changed.File != "":
			what += ", which " + changed.File + " holds"
		}
		return e.printOne(r, fmt.Sprintf("token %s %s\nnext: %s", t.name, what, r.Next))
	}
	return c
}

// changePIN keeps serve away while the PIN changes: whoever reads the ledger locks it.
func changePIN(ctx context.Context, t chosenToken, file string, e *env) (changed hsm.PINChange, err error) {
	l, err := openLedger(t.cfg, forReading, e.warnings())
	if err != nil {
		var busy *exitError
		if errors.As(err, &busy) && busy.code == exitTryAgain {
			return changed, fail(exitTryAgain, "stop certmill serve; then again", "certmill serve is running: a process that it replaces would log in with the old PIN")
		}
		return changed, err
	}
	defer func() { err = errors.Join(err, l.Close()) }()
	changed, err = hsm.ChangePIN(ctx, t.hsm, file)
	return changed, examinationError(t, err)
}
