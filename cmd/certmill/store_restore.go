package main

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/certmill/certmill/internal/ledger"
	"github.com/certmill/certmill/issuer"
)

func newStoreRestoreCommand(e *env) *cobra.Command {
	var yes bool
	c := &cobra.Command{
		Use:   "restore FILE",
		Short: "Put a backup where the configuration has its ledger",
		Long: "Takes FILE and FILE.key, as certmill store backup wrote them, into a place where no ledger is, after it has checked them in full.\n\n" +
			"A restore goes back in time. What was recorded after the backup is not in it: certificates that devices have, and with them which devices and keys had one, how much\n" +
			"of each order was used, what was revoked, frozen or disabled. certmill cannot find that out yet (promise P9 is not built). So the restored ledger is frozen:\n" +
			"nothing is issued until somebody has decided that it may be, with certmill unfreeze all. It asks before it starts, or wants --yes.",
		Example: "  certmill store restore /mnt/backup/2026-11-25.ledger",
		Args:    cobra.ExactArgs(1),
		RunE: func(c *cobra.Command, args []string) error {
			cfg, err := e.loadConfig()
			if err != nil {
				return err
			}
			return e.restore(c.Context(), cfg, args[0], yes)
		},
	}
	c.Flags().BoolVar(&yes, "yes", false, "do not ask: I know what is lost")
	return c
}

// restore checks, asks, makes the ledger ready in a folder beside its place, and gives it its name last.
func (e *env) restore(ctx context.Context, cfg *Config, file string, yes bool) error {
	path := cfg.ledgerPath()
	if err := mustBeNew(path); err != nil {
		return err
	}
	r, err := e.checkFile(file, ledger.Config{Path: file, Log: e.warnings()})
	if err == nil && !r.Sound {
		err = fail(exitVerify, "use another backup", "%s is not sound: %s", file, r.Faults[0])
	}
	if err != nil {
		return err
	}
	e.talk("%s", restoreWarning(r))
	if err := e.consent(yes); err != nil {
		return err
	}
	if err := e.stageRestore(ctx, path, file, r); err != nil {
		return err
	}
	return e.printOne(r, fmt.Sprintf("%s: %d entries of %s, frozen\nNext   compare with what the line made since %s, revoke what must be; then: certmill unfreeze all --reason …",
		path, r.Entries, r.Ledger, r.Newest.Format(time.RFC3339)))
}

// restoreWarning says what a restore means, in plain words.
func restoreWarning(r *storeReport) string {
	return fmt.Sprintf(`! This puts the record of %s back to %s (%d entries).
! What was recorded after that is gone. Certificates that were issued since are valid and unknown here: a device could get a second one, a key could be
! used twice, an order could be over-drawn, and a station, a freeze or a revocation of since is forgotten.
! certmill cannot find this out by itself yet (promise P9 is not built). It will issue nothing until somebody unfreezes it.`,
		r.Ledger, r.Newest.Format(time.RFC3339), r.Entries)
}

// consent asks, where somebody is there to answer.
func (e *env) consent(yes bool) error {
	if yes {
		return nil
	}
	if !e.interactive() {
		return fail(exitUsage, "read the above, and add --yes", "nobody is there to be asked")
	}
	fmt.Fprint(e.stderr, "Type restore to go on: ")
	line, err := bufio.NewReader(e.stdin).ReadString('\n')
	if err != nil && !errors.Is(err, io.EOF) {
		return err
	}
	if strings.TrimSpace(line) != "restore" {
		return fail(exitUsage, "", "nothing was done")
	}
	return nil
}

// stageRestore works under another name until all is done. A crash leaves files of that name, or the key without a store; the next run begins again.
func (e *env) stageRestore(ctx context.Context, path, file string, r *storeReport) error {
	made := path + ".restore"
	err := os.MkdirAll(filepath.Dir(path), modeOwnDir)
	if err := errors.Join(err, forget(made), forget(keyOf(made))); err != nil {
		return fail(exitStorage, "check the folder of the ledger", "%w", err)
	}
	if err := copyKey(keyOf(file), keyOf(made)); err != nil {
		return err
	}
	if err := e.copyFile(file, made); err != nil {
		return err
	}
	if err := freezeRestored(ctx, ledger.Config{Path: made, Log: e.warnings()}, r); err != nil {
		return fail(exitStorage, "check the disk", "freeze what was restored: %w", err)
	}
	if err := mustBeNew(path); err != nil {
		return err
	}
	if err := copyKey(keyOf(made), keyOf(path)); err != nil {
		return err
	}
	if err := syncedRename(made, path); err != nil {
		return fail(exitStorage, "check the disk", "%w", err)
	}
	return forget(keyOf(made))
}

// forget removes what may not be there.
func forget(path string) error {
	if err := os.Remove(path); !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	return nil
}

func (e *env) copyFile(from, to string) error {
	f, err := os.Open(from)
	if err != nil {
		return fail(exitStorage, "check the path", "%w", err)
	}
	defer f.Close()
	info, err := f.Stat()
	if err != nil {
		return err
	}
	return e.copyTo(to, info.Size(), func(w io.Writer) (int64, error) { return io.Copy(w, f) })
}

// freezeRestored records that it was restored, by freezing everything.
func freezeRestored(ctx context.Context, cfg ledger.Config, r *storeReport) error {
	l, err := ledger.Open(cfg)
	if err != nil {
		return err
	}
	i, err := issuer.New(issuer.Config{Ledger: l})
	if err != nil {
		return errors.Join(err, l.Close())
	}
	running, stop := context.WithCancel(context.WithoutCancel(ctx))
	ended := make(chan error, 1)
	go func() { ended <- i.Run(running) }()
	why := fmt.Sprintf("restored from a backup of %d entries, the newest of %s", r.Entries, r.Newest.Format(time.RFC3339))
	err = i.Freeze(ctx, issuer.Target{Kind: "all"}, why, fmt.Sprintf("offline:%d", os.Getuid()))
	stop()
	return errors.Join(err, ignoreCancel(<-ended), l.Close())
}
