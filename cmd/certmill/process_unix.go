//go:build unix

package main

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"syscall"
)

// noCoreFiles keeps what a crash would write out of the folder: requests, TLS keys and what else is in memory.
func noCoreFiles() error {
	if err := syscall.Setrlimit(syscall.RLIMIT_CORE, &syscall.Rlimit{}); err != nil {
		return fmt.Errorf("no core files: %w", err)
	}
	return nil
}

// ownsLedger refuses --offline to anybody but the ledger's owner and root: file modes might allow more.
func ownsLedger(cfg *Config) error {
	path := cfg.path(cfg.Ledger.Bbolt)
	info, err := os.Stat(path)
	if errors.Is(err, fs.ErrPermission) {
		return fail(exitNotAllowed, "run it as the user of certmill serve", "%w", err)
	}
	if err != nil {
		return fail(exitStorage, "certmill init --dir D makes one", "%w", err)
	}
	owner, ok := info.Sys().(*syscall.Stat_t)
	if uid := os.Geteuid(); ok && uid != 0 && uid != int(owner.Uid) {
		return fail(exitNotAllowed, "run it as the user of certmill serve", "%s belongs to uid %d, this is uid %d", path, owner.Uid, uid)
	}
	return nil
}
