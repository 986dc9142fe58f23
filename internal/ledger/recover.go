package ledger

import (
	"errors"
	"os"
	"path/filepath"

	"go.etcd.io/bbolt"
)

// marked reports whether a failed write left its note.
func (cfg Config) marked() bool {
	if cfg.Marker == "" {
		return false
	}
	_, err := os.Lstat(cfg.Marker)
	return err == nil
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
	f, err := os.CreateTemp(filepath.Dir(path), "."+filepath.Base(path)+".copy-*")
	if err != nil {
		return err
	}
	defer os.Remove(f.Name()) // fails once it was renamed
	err = db.View(func(tx *bbolt.Tx) error {
		_, err := tx.WriteTo(f)
		return err
	})
	if err := errors.Join(err, f.Close()); err != nil {
		return err
	}
	return publish(f.Name(), path)
}
