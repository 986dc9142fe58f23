package awsim

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"time"

	bolt "go.etcd.io/bbolt"
)

// store is what the simulated AWS knows: a bbolt file with a bucket for each kind of thing. Safe for concurrent use;
// what one update wrote is there as a whole after a crash, or not at all.
type store struct {
	db  *bolt.DB
	now func() time.Time
}

// tx is a transaction, and the time at which it happens.
type tx struct {
	*bolt.Tx
	now time.Time
}

const lockWait = 2 * time.Second // for a simulator that is just ending on the same folder

func openStore(dir string, now func() time.Time) (*store, error) {
	path := filepath.Join(dir, "state.db")
	if _, err := os.Stat(path); errors.Is(err, fs.ErrNotExist) {
		if err := initStore(path); err != nil {
			return nil, fmt.Errorf("make %s: %w", path, err)
		}
	}
	db, err := openBolt(path)
	if err != nil {
		return nil, fmt.Errorf("open %s: %w", path, err)
	}
	return &store{db, now}, nil
}

func openBolt(path string) (*bolt.DB, error) {
	return bolt.Open(path, 0o600, &bolt.Options{Timeout: lockWait})
}

// initStore makes the file under another name first: bbolt's first write is not crash-safe.
func initStore(path string) error {
	temp := path + ".new"
	if err := os.Remove(temp); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	db, err := openBolt(temp)
	if err != nil {
		return err
	}
	if err := errors.Join(db.Sync(), db.Close()); err != nil {
		return err
	}
	return os.Rename(temp, path)
}

func (s *store) close() error { return s.db.Close() }

func (s *store) view(fn func(*tx) error) error {
	return s.db.View(func(b *bolt.Tx) error { return fn(&tx{b, s.now()}) })
}

func (s *store) update(fn func(*tx) error) error {
	return s.db.Update(func(b *bolt.Tx) error { return fn(&tx{b, s.now()}) })
}

// table is the bucket in which values of one kind stand as JSON under textual keys.
type table[T any] string

// get gives the value of a key, nil where there is none.
func (t table[T]) get(tx *tx, key string) (*T, error) {
	b := tx.Bucket([]byte(t))
	if b == nil {
		return nil, nil
	}
	data := b.Get([]byte(key))
	if data == nil {
		return nil, nil
	}
	return t.decode(key, data)
}

func (t table[T]) decode(key string, data []byte) (*T, error) {
	v := new(T)
	if err := json.Unmarshal(data, v); err != nil {
		return nil, fmt.Errorf("state %s %s: %w", t, key, err)
	}
	return v, nil
}

func (t table[T]) put(tx *tx, key string, v *T) error {
	data, err := json.Marshal(v)
	if err != nil {
		return err
	}
	b, err := tx.CreateBucketIfNotExists([]byte(t))
	if err != nil {
		return err
	}
	return b.Put([]byte(key), data)
}

func (t table[T]) delete(tx *tx, key string) error {
	b := tx.Bucket([]byte(t))
	if b == nil {
		return nil
	}
	return b.Delete([]byte(key))
}

type bucket = bolt.Bucket

// row is an entry of a table, its key without the prefix that was asked for.
type row[T any] struct {
	key   string
	value *T
}

// span is a stretch of a table in the order of its keys.
type span struct {
	prefix     string
	after      string // start behind this key (without the prefix); "" starts at the end one comes from
	limit      int    // 0: no limit
	descending bool
}

// rows gives a stretch of the table, and whether more follows it.
func (t table[T]) rows(tx *tx, s span) (rows []row[T], more bool, err error) {
	b := tx.Bucket([]byte(t))
	if b == nil {
		return nil, false, nil
	}
	prefix := []byte(s.prefix)
	c := b.Cursor()
	for k, data := s.first(c); k != nil && bytes.HasPrefix(k, prefix); k, data = s.next(c) {
		if s.limit > 0 && len(rows) == s.limit {
			return rows, true, nil
		}
		v, err := t.decode(string(k), data)
		if err != nil {
			return nil, false, err
		}
		rows = append(rows, row[T]{strings.TrimPrefix(string(k), s.prefix), v})
	}
	return rows, false, nil
}

func (s span) first(c *bolt.Cursor) (k, v []byte) {
	switch {
	case !s.descending && s.after == "":
		return c.Seek([]byte(s.prefix))
	case !s.descending:
		return c.Seek([]byte(s.prefix + s.after + "\x00")) // the least key behind it
	}
	end := s.prefix + s.after
	if s.after == "" {
		end = s.prefix + "\xff" // no key has this byte: they are UTF-8
	}
	if k, _ := c.Seek([]byte(end)); k == nil {
		return c.Last()
	}
	return c.Prev()
}

func (s span) next(c *bolt.Cursor) (k, v []byte) {
	if s.descending {
		return c.Prev()
	}
	return c.Next()
}

// all gives the values whose keys begin with prefix.
func (t table[T]) all(tx *tx, prefix string) ([]*T, error) {
	rows, _, err := t.rows(tx, span{prefix: prefix})
	values := make([]*T, len(rows))
	for i, r := range rows {
		values[i] = r.value
	}
	return values, err
}

// relation is a many-to-many between names without a slash; each pair carries a word. It is kept from both sides.
type relation string

func (r relation) table() table[string] { return table[string](r) }

func (r relation) add(tx *tx, at place, left, right, word string) error {
	return errors.Join(
		r.table().put(tx, at.key("l/"+left+"/"+right), &word),
		r.table().put(tx, at.key("r/"+right+"/"+left), &word))
}

func (r relation) remove(tx *tx, at place, left, right string) error {
	return errors.Join(
		r.table().delete(tx, at.key("l/"+left+"/"+right)),
		r.table().delete(tx, at.key("r/"+right+"/"+left)))
}

// rights gives what left is related to; lefts the other way round. The word of each stands in value.
func (r relation) rights(tx *tx, at place, left string) ([]row[string], error) {
	rows, _, err := r.table().rows(tx, span{prefix: at.key("l/" + left + "/")})
	return rows, err
}

func (r relation) lefts(tx *tx, at place, right string) ([]row[string], error) {
	rows, _, err := r.table().rows(tx, span{prefix: at.key("r/" + right + "/")})
	return rows, err
}
