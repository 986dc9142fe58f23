package ledger

import (
	"cmp"
	"errors"
	"io"
	"io/fs"
	"os"

	"go.etcd.io/bbolt"
)

// marked reports whether a failed write left its note. A place where we may not even look counts as one.
func (cfg Config) marked() bool {
	if cfg.Marker == "" {
		return false
	}
	_, err := os.Lstat(cfg.Marker)
	return !errors.Is(err, fs.ErrNotExist)
}

// copyStore replaces the store by a copy of itself. After a failed sync the kernel may show pages that the disk never got, and a later
// sync of the same file would say nothing about them; a new file with a sync of its own settles it. The old file stays locked until the
// new one has its name.
func copyStore(cfg Config) error {
	db, err := openStore(cfg.Path, storeOptions())
	if err != nil {
		return err
	}
	return errors.Join(copyOpenStore(db, cfg.Path), db.Close())
}

func copyOpenStore(db *bbolt.DB, path string) error {
	// Always the same name: a crash in here leaves one copy, however often it happens.
	f, err := os.OpenFile(path+".copy", os.O_RDWR|os.O_CREATE|os.O_TRUNC, 0o600)
	if err != nil {
		return err
	}
	w := &failingWriter{Writer: f}
	err = db.View(func(tx *bbolt.Tx) error {
		_, err := tx.WriteTo(w)
		return err
	})
	if err != nil {
		err = cmp.Or(w.err, err)
		return errors.Join(err, f.Close(), os.Remove(f.Name()))
	}
	return publish(f, path)
}

// failingWriter keeps what went wrong: bbolt hands on only its text, and who is told that the disk is full knows what to do.
type failingWriter struct {
	io.Writer
	err error
}

func (w *failingWriter) Write(b []byte) (n int, err error) {
	n, w.err = w.Writer.Write(b)
	return n, w.err
}
