package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"

	"github.com/spf13/cobra"

	"github.com/certmill/certmill/internal/ledger"
	"github.com/certmill/certmill/internal/server"
)

func newStoreCommand(e *env) *cobra.Command {
	c := &cobra.Command{Use: "store", Short: "Check, back up and restore the ledger"}
	c.AddCommand(newStoreCheckCommand(e), newStoreBackupCommand(e), newStoreRestoreCommand(e))
	return c
}

// snapshotTo writes the store as the running serve has it to a new file, synced. It returns server.ErrNotServing where none is running.
func (e *env) snapshotTo(ctx context.Context, cfg *Config, path string) error {
	remote := server.NewAdminClient(socketPath(cfg.path(cfg.Listen.Admin)))
	defer remote.Close()
	s, err := remote.Snapshot(ctx)
	switch {
	case errors.Is(err, server.ErrNotServing):
		return err
	case errors.Is(err, fs.ErrPermission):
		return fail(exitNotAllowed, "run it as the user of certmill serve, or as root", "admin socket: %w", err)
	case err != nil:
		return problemError(err)
	}
	defer s.Close()
	return e.copyTo(path, s.Size, func(w io.Writer) (int64, error) { return io.Copy(w, s) })
}

// copyTo writes a file of a known size, with a bar, and syncs it.
func (e *env) copyTo(path string, size int64, write func(w io.Writer) (int64, error)) error {
	f, err := os.OpenFile(path, os.O_CREATE|os.O_TRUNC|os.O_WRONLY, modeSecret)
	if err != nil {
		return fail(exitStorage, "check folder and disk", "%w", err)
	}
	bar := e.newProgress("copying", size)
	n, err := write(io.MultiWriter(f, barWriter{bar}))
	bar.done()
	if err == nil && n != size {
		err = fmt.Errorf("%d of %d octets came: %w", n, size, io.ErrUnexpectedEOF)
	}
	if err := errors.Join(err, f.Sync(), f.Close()); err != nil {
		return fail(exitStorage, "check the disk, and whether certmill serve went away", "copy to %s: %w", path, errors.Join(err, os.Remove(path)))
	}
	return nil
}

// barWriter counts what passes.
type barWriter struct{ bar *progress }

func (w barWriter) Write(b []byte) (int, error) {
	w.bar.add(len(b))
	return len(b), nil
}

// copyStopped is snapshotTo for a ledger that nobody writes.
func (e *env) copyStopped(cfg *Config, path string) error {
	l, err := openLedger(cfg, forReading, e.warnings())
	if err != nil {
		return err
	}
	defer l.Close()
	return l.View(func(v *ledger.View) error { return e.copyTo(path, v.StoreSize(), v.WriteTo) })
}

// keyOf is the file with the secrets of the ledger at a path.
func keyOf(path string) string { return path + ".key" }

// ledgerPath is where the configuration has the ledger.
func (c *Config) ledgerPath() string { return c.path(c.Ledger.Bbolt) }

// syncedRename gives a finished file its name.
func syncedRename(from, to string) error {
	if err := os.Rename(from, to); err != nil {
		return err
	}
	return syncDir(filepath.Dir(to))
}
