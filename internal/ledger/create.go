package ledger

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"time"

	"go.etcd.io/bbolt"

	"github.com/certmill/certmill/internal/durable"
)

// Create makes an empty ledger: key file first, then the store under a temporary name, synced and renamed. The folder must be there.
// It returns an error that matches fs.ErrExist where a ledger is there. After a crash it may be called again, with the same name: a key
// file without a store is taken as it is. Two Creates of one path must not run at the same time.
func Create(cfg Config, name string) error {
	cfg = cfg.withDefaults()
	if kind, is := NetworkFS(filepath.Dir(cfg.Path)); is {
		return fmt.Errorf("%s lies on %s: %w", cfg.Path, kind, ErrNetwork)
	}
	k, err := readKeys(cfg.keyPath())
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	if _, err := os.Lstat(cfg.Path); err == nil {
		if k == nil {
			return fmt.Errorf("%s is there without %s: restore the key file from a backup, or put the store away", cfg.Path, cfg.keyPath())
		}
		return fmt.Errorf("ledger %s: %w", cfg.Path, fs.ErrExist)
	} else if !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	if k == nil {
		k, err = makeKeys(cfg.keyPath(), name)
	} else if k.name != name {
		err = fmt.Errorf("%s is the key of %q, not of %q: finish that ledger, or put the key away", cfg.keyPath(), k.name, name)
	}
	if err != nil {
		return err
	}
	if err := createStore(cfg, k); err != nil {
		return fmt.Errorf("create ledger %s: %w", cfg.Path, err)
	}
	return nil
}

// createStore makes the store under a temporary name, because bbolt's own initialisation leaves a file that cannot be opened when it is interrupted.
// The name is always the same: what a crash left is replaced.
func createStore(cfg Config, k *keys) error {
	temp := cfg.Path + ".new"
	if err := os.Remove(temp); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	if err := writeGenesis(temp, k, cfg.Now); err != nil {
		return err
	}
	f, err := os.OpenFile(temp, os.O_RDWR, 0)
	if err != nil {
		return err
	}
	return publish(f, cfg.Path)
}

// publish gives a finished file its name, durably: sync, close, rename, sync of the folder.
func publish(f *os.File, path string) error {
	if err := errors.Join(f.Sync(), f.Close()); err != nil {
		return err
	}
	if err := os.Rename(f.Name(), path); err != nil {
		return err
	}
	return durable.SyncDir(filepath.Dir(path))
}

// writeGenesis fills a new store with entry 0.
func writeGenesis(path string, k *keys, now func() time.Time) error {
	db, err := bbolt.Open(path, 0o600, storeOptions())
	if err != nil {
		return err
	}
	err = db.Update(func(btx *bbolt.Tx) error {
		if err := makeBuckets(btx); err != nil {
			return err
		}
		tx, err := newTx(btx, now)
		if err != nil {
			return err
		}
		if _, err := tx.append(&Draft{Kind: kindGenesis, Payload: []byte(k.name)}); err != nil {
			return err
		}
		_, err = tx.seal(k.signer)
		return err
	})
	return errors.Join(err, db.Close())
}
