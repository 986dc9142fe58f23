package main

import (
	"bufio"
	"bytes"
	"context"
	"crypto"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"iter"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"sync"

	"github.com/certmill/certmill/issuer/client"
)

// A bulk keygen makes its keys in batches: the keys of a batch are on disk before their lines stand in devices.jsonl. So devices.jsonl is at any time a
// prefix of the ids with a key behind every line, and a key without a line is used again by --resume.

// keygenBatch is how many keys are made before their lines are written.
const keygenBatch = 64

// makeKeyFolder makes the folder, closed to others. One that is there keeps its mode.
func (e *env) makeKeyFolder(dir string) error {
	if err := os.MkdirAll(dir, modeOwnDir); err != nil {
		return fail(exitUsage, "check the path of --out", "%w", err)
	}
	return nil
}

func (e *env) keygenBulk(ctx context.Context, o keygenOptions) error {
	if err := e.makeKeyFolder(o.Out); err != nil {
		return err
	}
	list, done, err := o.openList()
	if err != nil {
		return err
	}
	defer list.Close()
	ids, total, stop, err := e.keygenIDs(o)
	if err != nil {
		return err
	}
	defer stop()
	bar := e.newProgress("keygen", total-done.count)
	made, err := e.makeKeys(ctx, o, ids, done, list, bar)
	bar.done()
	if ctx.Err() != nil {
		return fail(exitInterrupted, "run it again with --resume", "interrupted after %d keys", made)
	}
	if err != nil {
		return err
	}
	e.talk("%d keys, %d made before, in %s", made, done.count, list.Name())
	return nil
}

// keygenDone is what stands in devices.jsonl.
type keygenDone struct {
	count int64
	last  string // id
}

// openList opens devices.jsonl and sees how far it goes.
func (o keygenOptions) openList() (f *os.File, done keygenDone, err error) {
	name, flags := filepath.Join(o.Out, "devices.jsonl"), os.O_RDWR|os.O_CREATE
	if !o.Resume {
		flags |= os.O_EXCL
	}
	f, err = os.OpenFile(name, flags, modePublic)
	switch {
	case errors.Is(err, fs.ErrExist):
		return nil, done, fail(exitUsage, "add --resume to go on with it, or choose another folder", "%s exists already", name)
	case err != nil:
		return nil, done, fail(exitUsage, "check the path of --out", "%w", err)
	}
	err = wholeLines(f, `{"device_id":`, func(line []byte) error {
		var r client.Request
		err := json.Unmarshal(line, &r)
		done.count, done.last = done.count+1, r.DeviceID
		return err
	})
	if err != nil {
		f.Close()
	}
	return f, done, err
}

// keygenIDs yields the ids in order. total is 0 where only reading them would tell.
func (e *env) keygenIDs(o keygenOptions) (ids iter.Seq2[string, error], total int64, stop func() error, err error) {
	if o.IDs == "" {
		return func(yield func(string, error) bool) {
			for i := range o.Count {
				if !yield(fmt.Sprintf(o.Pattern, o.First+i), nil) {
					return
				}
			}
		}, int64(o.Count), func() error { return nil }, nil
	}
	f, err := os.Open(o.IDs)
	if err != nil {
		return nil, 0, nil, fail(exitUsage, "check the path", "%w", err)
	}
	if total, err = countLines(f); err != nil {
		f.Close()
		return nil, 0, nil, err
	}
	return idLines(o.IDs, f), total, f.Close, nil
}

// idLines yields the lines of a file that are not blank.
func idLines(name string, r io.Reader) iter.Seq2[string, error] {
	return func(yield func(string, error) bool) {
		s := bufio.NewScanner(r)
		for n := 1; s.Scan(); n++ {
			id := string(bytes.TrimSpace(bytes.TrimPrefix(s.Bytes(), []byte("\ufeff"))))
			if id == "" {
				continue
			}
			err := checkDeviceID(id, false)
			if err != nil {
				err = fail(exitUsage, "", "%s, line %d: %w", name, n, err)
			}
			if !yield(id, err) || err != nil {
				return
			}
		}
		if s.Err() != nil {
			yield("", fail(exitUsage, "one device id a line", "%s: %w", name, s.Err()))
		}
	}
}

// makeKeys makes what is missing, a batch at a time.
func (e *env) makeKeys(ctx context.Context, o keygenOptions, ids iter.Seq2[string, error], done keygenDone, list *os.File, bar *progress) (made int, err error) {
	var batch []string
	flush := func() error {
		if err := e.makeBatch(o, batch, list); err != nil {
			return err
		}
		made += len(batch)
		bar.add(len(batch))
		batch = batch[:0]
		return ctx.Err()
	}
	for id, err := range ids {
		switch {
		case err != nil:
			return made, err
		case done.count == 1 && done.last != id:
			return made, fail(exitUsage, "give the ids of the first run", "%s ends with %s where the ids have %s", list.Name(), done.last, id)
		case done.count > 0:
			done.count--
			continue
		}
		if batch = append(batch, id); len(batch) == keygenBatch {
			if err := flush(); err != nil {
				return made, err
			}
		}
	}
	return made, flush()
}

// makeBatch makes the keys of some ids, on all processors, and then writes their lines.
func (e *env) makeBatch(o keygenOptions, ids []string, list *os.File) error {
	lines, errs := make([][]byte, len(ids)), make([]error, len(ids))
	if unique := uniqueSorted(slices.Clone(ids)); len(unique) != len(ids) { // two batches meet in the file of the key
		return fail(exitUsage, "", "an id stands twice in --ids")
	}
	var work sync.WaitGroup
	next := make(chan int)
	for range runtime.GOMAXPROCS(0) {
		work.Go(func() {
			for i := range next {
				lines[i], errs[i] = e.makeLine(o, ids[i])
			}
		})
	}
	for i := range ids {
		next <- i
	}
	close(next)
	work.Wait()
	if err := errors.Join(errs...); err != nil {
		return err
	}
	if _, err := list.Write(bytes.Join(lines, nil)); err != nil {
		return err
	}
	return list.Sync()
}

// makeLine makes a device's key, or takes the one that an interrupted run has left, and returns its line.
func (e *env) makeLine(o keygenOptions, id string) ([]byte, error) {
	path := o.files(id).Key
	var key crypto.Signer
	var err error
	switch there := exists(path); {
	case there && o.Resume:
		key, err = e.readKey(path)
	case there:
		return nil, fail(exitUsage, "an id that stands twice? --resume uses the key that is there", "%s exists already", path)
	default:
		if key, err = keyKinds[o.Kind](); err == nil {
			err = o.writeKey(path, key)
		}
	}
	if err != nil {
		return nil, err
	}
	csr, err := csrOf(key, id)
	if err != nil {
		return nil, err
	}
	line, err := json.Marshal(client.Request{DeviceID: id, CSR: string(csr)})
	return append(line, '\n'), err
}
