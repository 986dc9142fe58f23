package main

import (
	"bytes"
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/certmill/certmill/internal/ledger"
	"github.com/certmill/certmill/internal/server"
)

func newStoreCheckCommand(e *env) *cobra.Command {
	var temp string
	c := &cobra.Command{
		Use:   "check [FILE]",
		Short: "Walk every invariant of the ledger, or of a backup",
		Long: "Checks the pages of the file, then each entry: numbered without a gap, times in order, its hash in the tree, claims, counters, heads and open entries\n" +
			"recomputed and compared both ways, what may stand once found by sorting without an index, and the signature over all of it.\n\n" +
			"While certmill serve runs, it is asked for a copy (serve holds the file; nobody else may read it) and the copy is checked; this needs as much room in\n" +
			"--tmp as the ledger has, and serve is held up no longer than by a backup. With FILE, a file that certmill store backup wrote is checked.\n\n" +
			"Exit 0: sound. 7: it is not, and the lines marked ! say what is wrong.",
		Example: "  certmill store check\n  certmill store check /mnt/backup/2026-11-25.ledger -o json",
		Args:    cobra.MaximumNArgs(1),
		RunE: func(c *cobra.Command, args []string) error {
			r, err := e.checkStore(c.Context(), args, temp)
			if err != nil {
				return err
			}
			if err := e.printOne(r, r.text()); err != nil || r.Sound {
				return err
			}
			return silent(exitVerify)
		},
	}
	c.Flags().StringVar(&temp, "tmp", "", "`FOLDER` for the copy of a running service's ledger (default: the folder of state:)")
	return c
}

// storeReport is what store check found.
type storeReport struct {
	Store      string    `json:"store"`
	From       string    `json:"from"` // "a running service", "the file"
	Ledger     string    `json:"ledger"`
	Entries    uint64    `json:"entries"`
	Open       int       `json:"open"`   // entries that wait for another
	Newest     time.Time `json:"newest"` // time of the newest entry
	Octets     int64     `json:"octets"`
	Checkpoint string    `json:"checkpoint"`
	Network    string    `json:"network,omitempty"` // the kind of network file system that it lies on
	Sound      bool      `json:"sound"`
	Faults     []string  `json:"faults"`
}

func (r *storeReport) fault(err error) {
	if err != nil {
		r.Faults = append(r.Faults, strings.ReplaceAll(err.Error(), "\n", "; "))
	}
	r.Sound = len(r.Faults) == 0
}

func (r *storeReport) text() string {
	var b strings.Builder
	fmt.Fprintf(&b, "store    %s, %d octets, as %s has it\n", r.Store, r.Octets, r.From)
	if r.Ledger != "" {
		fmt.Fprintf(&b, "ledger   %s, %d entries, %d open, the newest of %s\n", r.Ledger, r.Entries, r.Open, r.Newest.Format(time.RFC3339))
	}
	for _, f := range r.Faults {
		fmt.Fprintf(&b, "! %s\n", f)
	}
	if r.Sound {
		b.WriteString("sound    pages, numbers, times, tree, claims, counters, heads, open entries, checkpoint\n")
	}
	return b.String()
}

// checkStore checks a file, or the ledger of the configuration.
func (e *env) checkStore(ctx context.Context, args []string, temp string) (*storeReport, error) {
	if len(args) == 1 {
		return e.checkFile(args[0], ledger.Config{Path: args[0], Log: e.warnings()})
	}
	cfg, err := e.loadConfig()
	if err != nil {
		return nil, err
	}
	r, err := e.checkConfigured(ctx, cfg, temp)
	if err != nil {
		return nil, err
	}
	if kind, is := ledger.NetworkFS(filepath.Dir(r.Store)); is { // a backup may lie there
		r.Network = kind
		r.fault(fmt.Errorf("it lies on %s: %w", kind, ledger.ErrNetwork))
	}
	return r, nil
}

// checkConfigured checks the ledger of the configuration: the file, or a copy of what the running serve has.
func (e *env) checkConfigured(ctx context.Context, cfg *Config, temp string) (*storeReport, error) {
	path := cfg.ledgerPath()
	if temp == "" {
		temp = cfg.path(cfg.State)
	}
	forgetCopies(temp)
	made := filepath.Join(temp, strings.Replace(copyPattern, "*", rand.Text()[:8], 1))
	defer os.Remove(made) // which is not there if none was made
	switch err := e.snapshotTo(ctx, cfg, made); {
	case errors.Is(err, server.ErrNotServing):
		return e.checkFile(path, ledger.Config{Path: path, Log: e.warnings()})
	case err != nil:
		return nil, err
	}
	r, err := e.checkFile(path, ledger.Config{Path: made, Key: keyOf(path), Log: e.warnings()})
	if r != nil {
		r.From = "a running service"
	}
	return r, err
}

// copyPattern names copies that a check makes and removes.
const copyPattern = "store-check-*.db"

// forgetCopies removes what checks left that were killed.
func forgetCopies(dir string) {
	old, err := filepath.Glob(filepath.Join(dir, copyPattern))
	if err != nil {
		return
	}
	for _, f := range old {
		if info, err := os.Stat(f); err == nil && time.Since(info.ModTime()) > time.Hour {
			os.Remove(f)
		}
	}
}

// checkFile checks one file. An error says that it could not be looked at.
func (e *env) checkFile(shown string, lc ledger.Config) (*storeReport, error) {
	r := &storeReport{Store: shown, From: "the file", Faults: []string{}, Sound: true}
	info, err := os.Stat(lc.Path)
	if err != nil {
		return nil, fail(exitStorage, "check the path", "%w", err)
	}
	r.Octets = info.Size()
	switch err := checkPages(lc.Path); {
	case errors.Is(err, ledger.ErrInUse):
		return nil, fail(exitTryAgain, "certmill serve is just starting, or an --offline command is at work", "%w", err)
	case err != nil:
		r.fault(err)
	}
	l, err := ledger.OpenReadOnly(lc)
	switch {
	case errors.Is(err, ledger.ErrInUse):
		return nil, fail(exitTryAgain, "certmill serve is just starting, or an --offline command is at work", "%w", err)
	case errors.Is(err, fs.ErrPermission):
		return nil, fail(exitNotAllowed, "run it as the user of certmill serve, or as root", "%w", err)
	case err != nil:
		r.fault(err)
		return r, nil
	}
	defer l.Close()
	return r, e.checkLedger(l, r)
}

// checkLedger checks the record in it.
func (e *env) checkLedger(l *ledger.Ledger, r *storeReport) error {
	cp := l.Checkpoint()
	r.Ledger, r.Entries, r.Checkpoint = l.Name(), cp.Size, string(cp.Note)
	bar, done := e.newProgress("checking", int64(2*cp.Size)), uint64(0)
	err := l.CheckWith(func(entries uint64) {
		bar.add(int(entries - done))
		done = entries
	})
	bar.done()
	r.fault(err)
	if err != nil {
		return nil
	}
	return l.View(func(v *ledger.View) error {
		for range v.Open() {
			r.Open++
		}
		newest, err := v.Entry(v.Size() - 1)
		r.Newest = newest.Time
		return err
	})
}

// checkPages has a process of its own check the pages: over damaged ones bbolt ends it.
func checkPages(path string) error {
	c := exec.Command("/proc/self/exe", childPages, path)
	var talk bytes.Buffer
	c.Stderr = &talk
	err := c.Run()
	said, _, _ := strings.Cut(strings.TrimPrefix(talk.String(), "certmill: "), "\ngoroutine ")
	said = strings.TrimSpace(said)
	var exit *exec.ExitError
	switch {
	case err == nil:
		return nil
	case !errors.As(err, &exit):
		return fmt.Errorf("check pages: %w", err)
	case exit.ExitCode() == exitTryAgain:
		return ledger.ErrInUse
	case exit.ExitCode() == exitFailed:
		return errors.New(said)
	}
	first, _, _ := strings.Cut(said, "\n")
	return fmt.Errorf("pages: damaged so that they cannot be read: %s", first)
}

// runPages is the process that checkPages starts.
func runPages(path string) int {
	err := ledger.CheckPages(path)
	switch {
	case err == nil:
		return exitDone
	case errors.Is(err, ledger.ErrInUse):
		return exitTryAgain
	}
	fmt.Fprintln(os.Stderr, "certmill:", err)
	return exitFailed
}
