package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"

	"github.com/spf13/cobra"

	"github.com/certmill/certmill/internal/durable"
	"github.com/certmill/certmill/internal/ledger"
	"github.com/certmill/certmill/internal/server"
)

func newStoreBackupCommand(e *env) *cobra.Command {
	return &cobra.Command{
		Use:   "backup FILE",
		Short: "Copy the ledger as it is now, while serve goes on",
		Long: "Writes two files: FILE, the ledger at one moment, and FILE.key, its secrets (mode 0600): the key that signs its checkpoints and the one that makes\n" +
			"serials. Without FILE.key the ledger cannot be opened; whoever has it can forge this ledger's checkpoints, so keep the two as you keep the ledger itself.\n" +
			"CA keys are in neither: they stay in the token.\n\n" +
			"The copy is checked in full before it gets its name, so a FILE that is there is whole. After a crash run it again. certmill store restore takes it back.",
		Example: "  certmill store backup /mnt/backup/$(date +%F).ledger",
		Args:    cobra.ExactArgs(1),
		RunE: func(c *cobra.Command, args []string) error {
			cfg, err := e.loadConfig()
			if err != nil {
				return err
			}
			r, err := e.backup(c.Context(), cfg, args[0])
			if err != nil {
				return err
			}
			return e.printOne(r, fmt.Sprintf("%s: %d entries of %s, %d octets, checked\n%s: its secrets, mode 0600", r.Store, r.Entries, r.Ledger, r.Octets, keyOf(r.Store)))
		},
	}
}

// backup writes the key first, since a key without a store is what a crash may leave, and gives the store its name last.
func (e *env) backup(ctx context.Context, cfg *Config, path string) (*storeReport, error) {
	if err := mustBeNew(path); err != nil {
		return nil, err
	}
	if err := copyKey(keyOf(cfg.ledgerPath()), keyOf(path)); err != nil {
		return nil, err
	}
	part := path + ".part" // always the same: a crash leaves one, and the next run replaces it
	err := e.snapshotTo(ctx, cfg, part)
	if errors.Is(err, server.ErrNotServing) {
		err = e.copyStopped(cfg, part)
	}
	if err != nil {
		return nil, err
	}
	r, err := e.checkFile(path, ledger.Config{Path: part, Key: keyOf(path), Log: e.warnings()})
	if err == nil && !r.Sound {
		err = fail(exitVerify, "the ledger itself may be damaged: certmill store check", "the copy is not sound: %s", r.Faults[0])
	}
	if err != nil {
		return nil, errors.Join(err, os.Remove(part))
	}
	if err := mustBeNew(path); err != nil {
		return nil, err
	}
	if err := syncedRename(part, path); err != nil {
		return nil, fail(exitStorage, "check the disk", "%w", err)
	}
	return r, nil
}

// copyKey copies a ledger's secrets. Where they are there already it is done.
func copyKey(from, to string) error {
	key, err := os.ReadFile(from)
	switch {
	case errors.Is(err, fs.ErrPermission):
		return fail(exitNotAllowed, "run it as the user of certmill serve, or as root", "%w", err)
	case err != nil:
		return fail(exitStorage, "a ledger without its key cannot be opened", "%w", err)
	}
	there, err := os.ReadFile(to)
	if err == nil && bytes.Equal(there, key) {
		return nil
	}
	if exists(to) {
		return fail(exitUsage, "choose another name, or remove it", "%s is there, and holds other secrets", to)
	}
	if err := durable.WriteFile(to, key, modeSecret); err != nil {
		return fail(exitStorage, "check folder and disk", "%w", err)
	}
	return nil
}

func syncDir(dir string) error { return durable.SyncDir(filepath.Clean(dir)) }
