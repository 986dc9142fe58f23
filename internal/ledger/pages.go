package ledger

import (
	"errors"
	"fmt"
	"io"

	"go.etcd.io/bbolt"
)

// CheckPages has bbolt check the structure of its file: every page reachable or free, none twice, keys in order. No process may be writing it (ErrInUse). It needs
// memory for each page, about 100 octets. A page that is damaged enough ends the process that reads it, so whoever calls this does it in a process that may end.
func CheckPages(path string) error {
	options := storeOptions()
	options.ReadOnly = true
	db, err := openStore(path, options)
	if err != nil {
		return err
	}
	err = db.View(func(tx *bbolt.Tx) error {
		var found []error
		for err := range tx.Check() {
			if len(found) < 10 { // a damaged branch makes one for each page below it
				found = append(found, err)
			}
		}
		return errors.Join(found...)
	})
	if err := errors.Join(err, db.Close()); err != nil {
		return fmt.Errorf("pages of %s: %w", path, err)
	}
	return nil
}

// StoreSize is how many octets WriteTo writes.
func (v *View) StoreSize() int64 { return v.tx.Size() }

// WriteTo writes the store as it is in this View, a file that Open takes with the ledger's key beside it. Updates go on meanwhile; what they replace is kept
// in the file until the View ends, so a reader that dawdles makes the file grow.
func (v *View) WriteTo(w io.Writer) (int64, error) { return v.tx.WriteTo(w) }
