//go:build linux

package hsm

import (
	"crypto/rand"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"os/signal"
	"path/filepath"
	"strings"
	"syscall"

	"golang.org/x/sys/unix"
	"golang.org/x/term"
)

const maxPIN = 1024

// readPIN reads the PIN from where the configuration says. A file that others may read is refused.
func readPIN(p PIN) (secret string, source pinSource, err error) {
	switch {
	case p.ProtectedPath:
		return "", pinSource{Path: "protected authentication path"}, nil
	case p.Prompt:
		secret, err = promptPIN("token PIN: ")
		return secret, pinSource{Path: "prompt " + rand.Text()}, err // what is typed anew is a new source
	case p.Credential != "":
		dir := os.Getenv("CREDENTIALS_DIRECTORY")
		if dir == "" {
			return "", source, fmt.Errorf("PIN credential %s: systemd passed none: add LoadCredential= to the unit", p.Credential)
		}
		// systemd lets the unit's user read it by an ACL, which shows in the mode as the group's, and makes the file anew at each start: its time and
		// inode would make every start one of a new PIN.
		secret, source, err = readPINFile(filepath.Join(dir, p.Credential), 0o037)
		return secret, pinSource{Path: "credential " + p.Credential, Size: source.Size}, err
	}
	return readPINFile(p.File, 0o077)
}

// readPINFile reads a file that nobody may use by the bits in closed.
func readPINFile(path string, closed fs.FileMode) (secret string, source pinSource, err error) {
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
	case info.Mode().Perm()&closed != 0:
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

// promptPIN asks at the controlling terminal.
func promptPIN(prompt string) (string, error) {
	tty, err := os.OpenFile("/dev/tty", os.O_RDWR, 0)
	if err != nil {
		return "", fmt.Errorf("PIN prompt: no terminal: %w", err)
	}
	defer tty.Close()
	before, err := term.GetState(int(tty.Fd()))
	if err != nil {
		return "", fmt.Errorf("PIN prompt: %w", err)
	}
	defer term.Restore(int(tty.Fd()), before)
	if err := noEcho(int(tty.Fd())); err != nil { // before the prompt is seen: what is typed ahead must not show
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
	fmt.Fprint(tty, prompt)
	b, err := term.ReadPassword(int(tty.Fd()))
	fmt.Fprintln(tty)
	if err == nil && len(b) == 0 {
		err = errors.New("PIN prompt: nothing was typed")
	}
	return string(b), err
}

func noEcho(fd int) error {
	t, err := unix.IoctlGetTermios(fd, unix.TCGETS)
	if err != nil {
		return err
	}
	t.Lflag &^= unix.ECHO
	return unix.IoctlSetTermios(fd, unix.TCSETS, t)
}
