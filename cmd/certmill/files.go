package main

import (
	"errors"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"

	"github.com/certmill/certmill/internal/durable"
)

// Modes of what we write.
const (
	modeSecret = 0o600
	modePublic = 0o644
	modeDir    = 0o755
	modeOwnDir = 0o700
)

// writeFile replaces path with data, all or nothing, and makes its folder where it is missing.
func writeFile(path string, data []byte, mode fs.FileMode) error {
	if err := os.MkdirAll(filepath.Dir(path), modeDir); err != nil {
		return err
	}
	return durable.WriteFile(path, data, mode)
}

// writeNewFile is writeFile for an output that must not be there yet.
func writeNewFile(path string, data []byte, mode fs.FileMode) error {
	if err := mustBeNew(path); err != nil {
		return err
	}
	return writeFile(path, data, mode)
}

func mustBeNew(path string) error {
	if exists(path) {
		return fail(exitUsage, "choose another name, or remove it", "%s exists already", path)
	}
	return nil
}

// exists reports whether a file is there.
func exists(path string) bool {
	_, err := os.Lstat(path)
	return !errors.Is(err, fs.ErrNotExist)
}

// readInput reads a file, or standard input for "-", up to limit bytes.
func (e *env) readInput(name string, limit int64) ([]byte, error) {
	r := e.stdin
	if name != "-" {
		f, err := os.Open(name)
		if err != nil {
			return nil, fail(exitUsage, "check the path", "%w", err)
		}
		defer f.Close()
		r = f
	}
	data, err := io.ReadAll(io.LimitReader(r, limit+1))
	if err != nil {
		return nil, fail(exitUsage, "check the path", "%w", err)
	}
	if int64(len(data)) > limit {
		return nil, fail(exitUsage, "", "%s is larger than %d bytes", name, limit)
	}
	return data, nil
}

func uniqueSorted(names []string) []string {
	slices.Sort(names)
	return slices.Compact(names)
}
