package main

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"strings"

	"github.com/spf13/cobra"
)

// run parses the arguments, runs one command and returns its exit code. Data goes to stdout, talk to stderr.
func run(ctx context.Context, e *env, args []string) int {
	root := newRoot(e)
	root.SetArgs(args)
	command, err := root.ExecuteContextC(ctx)
	if err == nil {
		return exitDone
	}
	var ee *exitError
	if !errors.As(err, &ee) {
		ee = &exitError{code: exitFailed, err: err}
		switch {
		case ctx.Err() != nil:
			ee.code = exitInterrupted
		case strings.HasPrefix(err.Error(), "unknown command "), strings.Contains(err.Error(), " arg(s), "): // cobra has no types for them
			ee.code, ee.hint = exitUsage, command.CommandPath()+" --help"
		}
	}
	if ctx.Err() != nil && ee.code != exitStorage && ee.code != exitInterrupted { // whatever was going on says that it could not
		ee.code, ee.hint = exitInterrupted, "run it again: it goes on where it stopped"
	}
	if !errors.Is(ee, errSilent) {
		fmt.Fprintln(e.stderr, "certmill:", strings.ReplaceAll(err.Error(), "\n", "; ")) // errors.Join puts them on lines
		if ee.hint != "" {
			fmt.Fprintln(e.stderr, "  →", ee.hint)
		}
	}
	return ee.code
}

func newRoot(e *env) *cobra.Command {
	root := &cobra.Command{
		Use:           "certmill",
		Short:         "A private CA and certificate factory for product lines on AWS IoT Core",
		SilenceErrors: true,
		SilenceUsage:  true,
	}
	root.SetIn(e.stdin)
	root.SetOut(e.stdout)
	root.SetErr(e.stderr)
	pf := root.PersistentFlags()
	pf.StringVarP(&e.config, "config", "c", "", "configuration `FILE` (default: $CERTMILL_CONFIG, ./certmill.yaml, /etc/certmill/certmill.yaml)")
	pf.StringVarP(&e.output, "output", "o", "table", "output `FORMAT`: table, json or jsonl")
	pf.TextVar(&e.logLevel, "log-level", slog.LevelInfo, "least `LEVEL` of what is logged: debug, info, warn or error")
	root.PersistentPreRunE = func(*cobra.Command, []string) error { return e.checkOutput() }
	root.SetFlagErrorFunc(func(c *cobra.Command, err error) error {
		return fail(exitUsage, c.CommandPath()+" --help", "%w", err)
	})
	root.AddCommand(newQuickstartCommand(e), newInitCommand(e), newCeremonyCommand(e), newServeCommand(e), newStatusCommand(e),
		newOrderCommand(e), newDeviceCommand(e), newClockCommand(e), newStationCommand(e), newIssueCommand(e), newKeygenCommand(e), newFreezeCommand(e), newUnfreezeCommand(e),
		newCACommand(e), newHSMCommand(e), newProfileCommand(e), newStoreCommand(e), newInspectCommand(e), newAWSCommand(e), newSimulateCommand(e))
	root.InitDefaultHelpCmd()
	root.InitDefaultCompletionCmd()
	for _, c := range root.Commands() {
		if c.HasSubCommands() { // cobra prints the help for `order shwo`, and exits with 0
			c.Args, c.RunE = cobra.NoArgs, func(c *cobra.Command, _ []string) error { return c.Help() }
		}
	}
	return root
}
