package ledger

import (
	"cmp"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"slices"

	"go.etcd.io/bbolt"

	"github.com/certmill/certmill/internal/durable"
)

// markers are the places for the note of a failed write, the first that can be written is used.
func (cfg Config) markers() []string {
	return slices.DeleteFunc([]string{cfg.Marker, cfg.Spare}, func(path string) bool { return path == "" })
}

// marked reports whether a failed write left its note. A place where we may not even look counts as one.
func (cfg Config) marked() bool {
	for _, path := range cfg.markers() {
		if _, err := os.Lstat(path); !errors.Is(err, fs.ErrNotExist) {
			return true
		}
	}
	return false
}

// leaveMarker is best effort: the disk it is on may be the one that failed.
func (cfg Config) leaveMarker(cause error) {
	text := fmt.Sprintf("%s\n%s\n%s\n", cfg.Now().UTC().Format("2006-01-02T15:04:05.000Z07:00"), cfg.Path, cause)
	for _, path := range cfg.markers() {
		err := durable.WriteFile(path, []byte(text), 0o600)
		if err == nil {
			return
		}
		cfg.Log.Error("a ledger write failed and its marker could not be left", "marker", path, "err", err)
	}
}

// removeMarkers is called once the store was copied and checked.
func (cfg Config) removeMarkers() error {
	for _, path := range cfg.markers() {
		if err := os.Remove(path); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return err
		}
	}
	return nil
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
