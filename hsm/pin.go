//go:build linux

package hsm

import (
	"crypto/rand"
	"errors"
	"fmt"
	"io"
	"os"
	"os/signal"
	"path/filepath"
	"strings"
	"syscall"

	"golang.org/x/term"
)

const maxPIN = 1024

// readPIN reads the PIN from where the configuration says. A file that others may read is refused.
func readPIN(p PIN) (secret string, source pinSource, err error) {
	switch {
	case p.ProtectedPath:
		return "", pinSource{Path: "protected authentication path"}, nil
	case p.Prompt:
		secret, err = promptPIN()
		return secret, pinSource{Path: "prompt " + rand.Text()}, err // what is typed anew is a new source
	case p.Credential != "":
		dir := os.Getenv("CREDENTIALS_DIRECTORY")
		if dir == "" {
			return "", source, fmt.Errorf("PIN credential %s: systemd passed none: add LoadCredential= to the unit", p.Credential)
		}
		return readPINFile(filepath.Join(dir, p.Credential))
	}
	return readPINFile(p.File)
}

func readPINFile(path string) (secret string, source pinSource, err error) {
	f, err := os.Open(path)
	if err != nil {
		return "", source, fmt.Errorf("PIN file: %w", err)
	}
	defer f.Close()
	info, err := f.Stat()
	if err != nil {
		return "", source, fmt.Errorf("PIN file: %w", err)
	}
	switch {
	case !info.Mode().IsRegular():
		return "", source, fmt.Errorf("PIN file %s is no regular file", path)
	case info.Mode().Perm()&0o077 != 0:
		return "", source, fmt.Errorf("PIN file %s may be read by others (mode %04o): chmod 600", path, info.Mode().Perm())
	case info.Size() > maxPIN:
		return "", source, fmt.Errorf("PIN file %s has %d bytes", path, info.Size())
	}
	b, err := io.ReadAll(io.LimitReader(f, maxPIN))
	if err != nil {
		return "", source, fmt.Errorf("PIN file: %w", err)
	}
	secret = strings.TrimRight(string(b), "\r\n")
	if secret == "" {
		return "", source, fmt.Errorf("PIN file %s is empty", path)
	}
	source = pinSource{Path: path, MTime: info.ModTime().UnixNano(), Size: info.Size()}
	if st, ok := info.Sys().(*syscall.Stat_t); ok {
		source.Inode = st.Ino
	}
	return secret, source, nil
}

func promptPIN() (string, error) {
	tty, err := os.OpenFile("/dev/tty", os.O_RDWR, 0)
	if err != nil {
		return "", fmt.Errorf("PIN prompt: no terminal: %w", err)
	}
	defer tty.Close()
	before, err := term.GetState(int(tty.Fd()))
	if err != nil {
		return "", fmt.Errorf("PIN prompt: %w", err)
	}
	interrupt, done := make(chan os.Signal, 1), make(chan struct{})
	signal.Notify(interrupt, os.Interrupt)
	defer signal.Ignore(os.Interrupt) // from then on Ctrl-C is for the daemon alone
	defer close(done)
	go func() {
		select {
		case <-interrupt:
			term.Restore(int(tty.Fd()), before)
			os.Exit(1)
		case <-done:
		}
	}()
	fmt.Fprint(tty, "token PIN: ")
	b, err := term.ReadPassword(int(tty.Fd()))
	fmt.Fprintln(tty)
	if err == nil && len(b) == 0 {
		err = errors.New("PIN prompt: nothing was typed")
	}
	return string(b), err
}
