package server

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strconv"
)

// ErrServing is returned by ListenAdmin where another process answers at the socket.
var ErrServing = errors.New("another serve is answering at the admin socket")

// ListenAdmin makes the admin socket with mode 0600. It is bound in a folder that nobody else can enter and renamed once its
// mode is set, so that the umask never decides who may connect in between. A dead process's socket is replaced.
func ListenAdmin(path string) (net.Listener, error) {
	if err := free(path); err != nil {
		return nil, err
	}
	dir, err := os.MkdirTemp(filepath.Dir(path), ".s")
	if err != nil {
		return nil, fmt.Errorf("admin socket: %w", err)
	}
	defer os.RemoveAll(dir)
	private := filepath.Join(dir, "s")
	l, err := net.ListenUnix("unix", &net.UnixAddr{Name: private, Net: "unix"})
	if err != nil {
		return nil, fmt.Errorf("admin socket (a path may have about 90 characters): %w", err)
	}
	l.SetUnlinkOnClose(false) // it would look for the private name
	if err := errors.Join(os.Chmod(private, 0o600), os.Rename(private, path)); err != nil {
		return nil, errors.Join(fmt.Errorf("admin socket: %w", err), l.Close())
	}
	return &adminListener{l, path}, nil
}

// free says whether the path may be taken: there is nothing, or a socket at which nobody answers.
func free(path string) error {
	info, err := os.Lstat(path)
	if errors.Is(err, os.ErrNotExist) {
		return nil
	}
	if err != nil {
		return fmt.Errorf("admin socket: %w", err)
	}
	if info.Mode().Type() != os.ModeSocket {
		return fmt.Errorf("admin socket: %s is there and is no socket", path)
	}
	c, err := net.Dial("unix", path)
	if err != nil {
		return nil
	}
	return errors.Join(fmt.Errorf("%w: %s", ErrServing, path), c.Close())
}

// adminListener removes its socket when it closes.
type adminListener struct {
	*net.UnixListener
	path string
}

// Close implements net.Listener.
func (l *adminListener) Close() error {
	if err := l.UnixListener.Close(); err != nil {
		return err
	}
	return os.Remove(l.path)
}

// peer is who is at the other end of a connection to the admin door.
type peer struct {
	name string // how the ledger names them: local:UID, offline:UID
	uid  int
	here bool // the same process
	err  error
}

type peerKey struct{}

// withPeer remembers who opened a unix connection; others are nobody.
func withPeer(ctx context.Context, c net.Conn) context.Context {
	u, ok := c.(*net.UnixConn)
	if !ok {
		return ctx
	}
	uid, err := peerUID(u)
	return context.WithValue(ctx, peerKey{}, peer{name: "local:" + strconv.Itoa(uid), uid: uid, err: err})
}

// admits says whether a uid may give commands.
func (s *Server) admits(uid int) bool {
	return uid == 0 || uid == os.Geteuid() || slices.Contains(s.AdminUIDs, uid)
}
