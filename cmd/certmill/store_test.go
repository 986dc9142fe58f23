//go:build unix

package main

import (
	"context"
	"encoding/binary"
	"encoding/json"
	"errors"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"go.etcd.io/bbolt"

	"github.com/certmill/certmill/issuer/client"
)

// report runs store check and reads its answer.
func (p *testPlant) report(args ...string) (code int, r storeReport) {
	p.t.Helper()
	code, out, talk := p.try(append([]string{"store", "check", "-o", "json"}, args...)...)
	if err := json.Unmarshal([]byte(out), &r); err != nil {
		p.t.Fatalf("store check %v: exit %d, %v\n%s%s", args, code, err, out, talk)
	}
	return code, r
}

// TestStoreCheck: sound with serve and without, and what is wrong is named, with exit 7, however it is wrong.
func TestStoreCheck(t *testing.T) {
	p := newTestPlant(t)
	s := p.serve()
	l := workingStation(t, p)
	for range 5 {
		if err := l.next(); err != nil {
			t.Fatal(err)
		}
	}
	stale, fresh := p.dir+"/state/store-check-KILLED.db", p.dir+"/state/store-check-OTHER.db"
	for _, f := range []string{stale, fresh} { // of a check that was killed yesterday, of one that runs now
		if err := os.WriteFile(f, nil, modeSecret); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.Chtimes(stale, time.Time{}, time.Now().Add(-24*time.Hour)); err != nil {
		t.Fatal(err)
	}
	if code, r := p.report(); code != exitDone || !r.Sound || r.From != "a running service" || r.Entries < 15 || r.Open != 0 || r.Ledger == "" || r.Checkpoint == "" {
		t.Errorf("running: exit %d, %+v", code, r)
	}
	if left, _ := filepath.Glob(p.dir + "/state/store-check-*"); len(left) != 1 || left[0] != fresh {
		t.Errorf("left behind: %q", left)
	}
	backup := filepath.Join(t.TempDir(), "b.ledger")
	p.run("store", "backup", backup)
	s.stop(t)
	if code, r := p.report(); code != exitDone || !r.Sound || r.From != "the file" {
		t.Errorf("stopped: exit %d, %+v", code, r)
	}
	for _, test := range []struct {
		name, want string
		do         func(path string) error
	}{
		{"a counter", "counters: order/O-1 stands at 9", func(path string) error {
			return tamperStore(path, func(tx *bbolt.Tx) error {
				return tx.Bucket([]byte("counters")).Put([]byte("order/O-1"), binary.BigEndian.AppendUint64(nil, 9))
			})
		}},
		{"a removed entry", "checkpoint is over", func(path string) error {
			return tamperStore(path, func(tx *bbolt.Tx) error {
				k, _ := tx.Bucket([]byte("entries")).Cursor().Last()
				return tx.Bucket([]byte("entries")).Delete(k)
			})
		}},
		{"a page that is lost to bbolt", "unreachable unfreed", losePage},
		{"pages of noise", "pages", func(path string) error {
			f, err := os.OpenFile(path, os.O_RDWR, 0)
			if err != nil {
				return err
			}
			noise := make([]byte, 16*4096)
			for i := range noise {
				noise[i] = byte(rand.Uint32())
			}
			_, err = f.WriteAt(noise, 2*4096)
			return errors.Join(err, f.Close())
		}},
		{"cut off", "damaged", func(path string) error { return os.Truncate(path, 3*4096) }},
		{"another key", "key", func(path string) error { return os.WriteFile(keyOf(path), []byte("{}"), modeSecret) }},
	} {
		copied := filepath.Join(t.TempDir(), "ledger")
		for _, f := range []func(string) string{keyOf, func(s string) string { return s }} {
			data, err := os.ReadFile(f(backup))
			if err == nil {
				err = os.WriteFile(f(copied), data, modeSecret)
			}
			if err != nil {
				t.Fatal(err)
			}
		}
		if err := test.do(copied); err != nil {
			t.Fatal(err)
		}
		if code, r := p.report(copied); code != exitVerify || r.Sound || !strings.Contains(strings.Join(r.Faults, " "), test.want) {
			t.Errorf("%s: exit %d, %q, want %q", test.name, code, r.Faults, test.want)
		}
		if code, _, talk := p.try("store", "restore", copied, "--yes"); code != exitUsage && code != exitVerify {
			t.Errorf("%s: restore: exit %d\n%s", test.name, code, talk)
		}
	}
	if code, _, talk := p.try("store", "check", "nowhere"); code != exitStorage {
		t.Errorf("a file that is not there: exit %d\n%s", code, talk)
	}
}

func tamperStore(path string, f func(tx *bbolt.Tx) error) error {
	db, err := bbolt.Open(path, modeSecret, nil)
	if err != nil {
		return err
	}
	return errors.Join(db.Update(f), db.Close())
}

// losePage takes the last page out of bbolt's list of free ones: nobody uses it, and it is not free. In the file: two pages of meta with a header of 16 octets, in them the
// list's page at 32 and the transaction at 48; in the list's own header its length at 10.
func losePage(path string) error {
	data, err := os.ReadFile(path)
	if err != nil {
		return err
	}
	list, newest := uint64(0), uint64(0)
	for _, meta := range [][]byte{data[16:4096], data[4096+16 : 2*4096]} {
		if id := binary.NativeEndian.Uint64(meta[48:]); id >= newest {
			list, newest = binary.NativeEndian.Uint64(meta[32:]), id
		}
	}
	length := data[list*4096+10:]
	binary.NativeEndian.PutUint16(length, binary.NativeEndian.Uint16(length)-1)
	return os.WriteFile(path, data, modeSecret)
}

// TestStoreBackupAndRestore is a disaster: a backup is made while serve works, the ledger is lost, the backup is put back. It is frozen; then every certificate of before
// the backup comes back byte for byte.
func TestStoreBackupAndRestore(t *testing.T) {
	p := newTestPlant(t)
	s := p.serve()
	l := workingStation(t, p)
	for range 20 {
		if err := l.next(); err != nil {
			t.Fatal(err)
		}
	}
	backup := filepath.Join(t.TempDir(), "b.ledger")
	p.run("store", "backup", backup)
	for _, f := range []string{backup, keyOf(backup)} {
		if info, err := os.Stat(f); err != nil || info.Mode() != modeSecret {
			t.Errorf("%s: %v, %v", f, info, err)
		}
	}
	if code, _, talk := p.try("store", "backup", backup); code != exitUsage || !strings.Contains(talk, "exists already") {
		t.Errorf("backup over a file: exit %d\n%s", code, talk)
	}
	if code, _, talk := p.try("store", "restore", backup, "--yes"); code != exitUsage || !strings.Contains(talk, "exists already") {
		t.Errorf("restore over a ledger: exit %d\n%s", code, talk)
	}
	s.stop(t)
	p.run("store", "backup", backup+"-stopped") // without serve
	if err := os.RemoveAll(filepath.Dir(p.cfg.ledgerPath())); err != nil {
		t.Fatal(err)
	}
	code, _, talk := p.try("store", "restore", backup)
	if code != exitUsage || !strings.Contains(talk, "a device could get a second one") || !strings.Contains(talk, "add --yes") || exists(p.cfg.ledgerPath()) {
		t.Errorf("restore without consent: exit %d\n%s", code, talk)
	}
	p.run("store", "restore", backup, "--yes")
	if left, _ := filepath.Glob(p.cfg.ledgerPath() + ".restore*"); len(left) != 0 {
		t.Errorf("left behind: %q", left)
	}
	s = p.serve()
	if err := l.next(); !hasCode(err, client.CodeOrderFrozen) {
		t.Errorf("a restored ledger issues: %v", err)
	}
	p.run("unfreeze", "all", "--reason", "compared with the line's own list")
	l.holds()
	if code, r := p.report(); code != exitDone || !r.Sound {
		t.Errorf("exit %d, %+v", code, r)
	}
	s.stop(t)
}

func hasCode(err error, code string) bool {
	var p *client.Problem
	return errors.As(err, &p) && p.Code == code
}

// TestStoreKilled kills backup, restore and check again and again, at any time: a file that has its name is whole, and the next run finishes.
func TestStoreKilled(t *testing.T) {
	p := newTestPlant(t)
	s := p.serve()
	l := workingStation(t, p)
	working, stop := context.WithCancel(t.Context())
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		for working.Err() == nil {
			if err := l.next(); err != nil {
				t.Error(err)
				return
			}
		}
	}()
	conf := " -c " + p.dir + "/certmill.yaml"
	backup := filepath.Join(t.TempDir(), "b.ledger")
	killAgain(t, "store backup "+backup+conf, func() bool { return exists(backup) })
	killAgain(t, "store check"+conf, func() bool { return false })
	stop()
	<-ended
	if code, r := p.report(backup); code != exitDone || !r.Sound {
		t.Errorf("backup: exit %d, %+v", code, r)
	}
	s.stop(t)
	if err := os.RemoveAll(filepath.Dir(p.cfg.ledgerPath())); err != nil {
		t.Fatal(err)
	}
	killAgain(t, "store restore --yes "+backup+conf, func() bool { return exists(p.cfg.ledgerPath()) })
	killAgain(t, "store check"+conf, func() bool { return false })
	if code, r := p.report(); code != exitDone || !r.Sound {
		t.Errorf("restored: exit %d, %+v", code, r)
	}
	if out := p.run("order", "list"); !strings.Contains(out, "O-1") {
		t.Error(out)
	}
	if code, out, _ := p.try("status"); code != exitFailed || !strings.Contains(out, "frozen    all") {
		t.Errorf("a restored ledger is not frozen: %d\n%s", code, out)
	}
}

// killAgain kills a command eight times, then lets it end. What it makes may be there after a kill; then it is done.
func killAgain(t *testing.T, args string, done func() bool) {
	t.Helper()
	killing{within: 80 * time.Millisecond, most: 8, ends: func(code int, _ string) bool {
		return (code == exitDone || code == exitUsage) && done()
	}}.run(t, strings.Fields(args)...)
}
