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
	owner, err := ownerOf(path)
	if errors.Is(err, fs.ErrPermission) {
		return fail(exitNotAllowed, "run it as the user of certmill serve", "%w", err)
	}
	if err != nil {
		return fail(exitStorage, "certmill init --dir D makes one", "%w", err)
	}
	if uid := os.Geteuid(); uid != 0 && uid != owner {
		return notOwner(path, owner)
	}
	return nil
}

// ownsState refuses to everybody but the owner of state:, root too, whoever writes the PIN memory that serve must be able to read.
func ownsState(cfg *Config) error {
	path := cfg.path(cfg.State)
	owner, err := ownerOf(path)
	if err != nil {
		return fail(exitStorage, "certmill init --dir D makes one", "state: %w", err)
	}
	if os.Geteuid() != owner {
		return notOwner(path, owner)
	}
	return nil
}

func ownerOf(path string) (uid int, err error) {
	info, err := os.Stat(path)
	if err != nil {
		return 0, err
	}
	if st, ok := info.Sys().(*syscall.Stat_t); ok {
		return int(st.Uid), nil
	}
	return os.Geteuid(), nil
}

func notOwner(path string, owner int) error {
	return fail(exitNotAllowed, "run it as the user of certmill serve", "%s belongs to uid %d, this is uid %d", path, owner, os.Geteuid())
}
