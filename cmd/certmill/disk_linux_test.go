package main

import (
	"bytes"
	"errors"
	"io"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/certmill/certmill/internal/testdisk"
	"github.com/certmill/certmill/issuer/client"
)

// readyz asks what a load balancer asks.
func readyz(p *testPlant, query string) (code int, body string) {
	res, err := http.Get("http://" + p.cfg.Listen.Metrics + "/readyz" + query)
	if err != nil {
		return 0, err.Error()
	}
	defer res.Body.Close()
	b, _ := io.ReadAll(res.Body)
	return res.StatusCode, string(b)
}

// moveLedger puts the plant's ledger on what mount mounts over its folder.
func moveLedger(t *testing.T, p *testPlant, mount func(dir string)) (dir string) {
	t.Helper()
	dir = filepath.Dir(p.cfg.path(p.cfg.Ledger.Bbolt))
	copies := t.TempDir()
	for _, way := range [][2]string{{dir, copies}, {copies, dir}} {
		if way[0] == copies {
			mount(dir)
		}
		if out, err := exec.Command("sh", "-c", "cp --sparse=always --preserve=mode "+way[0]+"/* "+way[1]).CombinedOutput(); err != nil {
			t.Fatalf("%v %s", err, out)
		}
	}
	return dir
}

// mountTmpfs mounts a small file system in memory.
func mountTmpfs(t *testing.T, dir, options string) {
	t.Helper()
	if err := syscall.Mount("tmpfs", dir, "tmpfs", 0, options); err != nil {
		t.Skipf("no file system can be mounted here: %v", err)
	}
	t.Cleanup(func() { syscall.Unmount(dir, syscall.MNT_DETACH) })
}

// failing follows a service whose store fails while the line asks for more: not ready and says why, then exit 74 with the marker left.
func failing(t *testing.T, p *testPlant, s *serving, l *stationAtWork, why string) {
	t.Helper()
	var watchers sync.WaitGroup
	for _, query := range []string{"", "?sign"} {
		watchers.Go(func() {
			code, body := http.StatusOK, ""
			for code == http.StatusOK {
				<-time.After(20 * time.Millisecond)
				code, body = readyz(p, query)
			}
			if code != http.StatusServiceUnavailable || !strings.Contains(strings.ToLower(body), why) || !strings.Contains(body, client.CodeStoreReadOnly) {
				t.Errorf("/readyz%s of a service whose store failed: %d %s\n%s", query, code, body, s.log)
			}
		})
	}
	l.untilRefused()
	watchers.Wait()
	s.cmd.Wait()
	if code := s.cmd.ProcessState.ExitCode(); code != exitStorage || !strings.Contains(s.log.String(), hintStorage) {
		t.Errorf("exit %d, want %d\n%s", code, exitStorage, s.log)
	}
	if note, err := os.ReadFile(p.cfg.path("state/ledger.failed")); err != nil || !bytes.Contains(note, []byte(why)) {
		t.Errorf("marker %q, %v", note, err)
	}
}

// recovered starts it again: on a copy, ready, with everything that was handed out.
func recovered(t *testing.T, p *testPlant, l *stationAtWork) {
	t.Helper()
	path := p.cfg.path(p.cfg.Ledger.Bbolt)
	before, err := os.Stat(path)
	if err != nil {
		t.Fatal(err)
	}
	s := p.serve()
	if now, err := os.Stat(path); err != nil || os.SameFile(before, now) || exists(p.cfg.path("state/ledger.failed")) {
		t.Errorf("the store was not copied, or the marker is still there (%v)", err)
	}
	l.holds()
	if code, body := readyz(p, "?sign"); code != http.StatusOK {
		t.Errorf("/readyz?sign after the restart: %d %s", code, body)
	}
	if code := s.stop(t); code != exitDone {
		t.Errorf("exit %d\n%s", code, s.log)
	}
	if _, out, talk := p.try("store", "check"); !strings.Contains(out, "sound") {
		t.Errorf("store check: %s%s", out, talk)
	}
}

// A disk that is full while the service runs, and at the next start; with room again it comes back by itself.
func TestServeDiskFull(t *testing.T) {
	p := newTestPlant(t)
	dir := moveLedger(t, p, func(dir string) { mountTmpfs(t, dir, "size=8m,mode=700") })
	s := p.serve()
	l := workingStation(t, p)
	for range 10 {
		if err := l.next(); err != nil {
			t.Fatal(err)
		}
	}
	ballast, err := os.Create(filepath.Join(dir, "ballast"))
	if err != nil {
		t.Fatal(err)
	}
	if _, err := io.Copy(ballast, neverEnding{}); !errors.Is(err, syscall.ENOSPC) {
		t.Fatal(err)
	}
	failing(t, p, s, l, "no space left")
	if code, _, talk := p.try("serve"); code != exitStorage || !strings.Contains(talk, "make room") {
		t.Errorf("start on a full disk: exit %d, want %d\n%s", code, exitStorage, talk)
	}
	if err := errors.Join(ballast.Close(), os.Remove(ballast.Name())); err != nil {
		t.Fatal(err)
	}
	recovered(t, p, l)
	t.Logf("full disk: %d certificates handed out before, 0 lost", len(l.acked))
}

type neverEnding struct{}

func (neverEnding) Read(b []byte) (int, error) { return len(b), nil }

// A disk that returns EIO for a sync and never has what it should have written, and one that goes read-only under the service.
func TestServeDiskFails(t *testing.T) {
	drive := testdisk.Start(t)
	for _, test := range []struct {
		name, why string
		order     testdisk.Order
	}{
		{"EIO on sync", "input/output error", testdisk.Order{Step: 1, Syncs: true, Fault: testdisk.Lying, Errno: syscall.EIO}},
		{"EIO on sync of the meta page", "input/output error", testdisk.Order{Step: 2, Syncs: true, Fault: testdisk.NotPersisted, Errno: syscall.EIO}},
		{"read-only", "read-only file system", testdisk.Order{Step: 3, Errno: syscall.EROFS, Stays: true}},
	} {
		t.Run(test.name, func(t *testing.T) {
			p := newTestPlant(t)
			var disk *testdisk.Disk
			moveLedger(t, p, func(dir string) { disk = drive.MountAt(t, dir) })
			s := p.serve()
			l := workingStation(t, p)
			for range 10 {
				if err := l.next(); err != nil {
					t.Fatal(err)
				}
			}
			disk.Fail(test.order)
			failing(t, p, s, l, test.why)
			if !disk.Heal() {
				t.Error("the disk did not fail")
			}
			recovered(t, p, l)
		})
	}
}

// A file system that is mounted read-only: no start, and reading works.
func TestServeDiskReadOnly(t *testing.T) {
	p := newTestPlant(t)
	dir := moveLedger(t, p, func(dir string) { mountTmpfs(t, dir, "size=8m,mode=700") })
	if out, err := exec.Command("mount", "-o", "remount,ro", dir).CombinedOutput(); err != nil {
		t.Skipf("remount: %v %s", err, out)
	}
	if code, _, talk := p.try("serve"); code != exitStorage || !strings.Contains(talk, "read-only file system") {
		t.Errorf("serve: exit %d, want %d\n%s", code, exitStorage, talk)
	}
	p.run("ca", "list")
	if out := p.run("store", "check"); !strings.Contains(out, "sound") {
		t.Error(out)
	}
	if out, err := exec.Command("mount", "-o", "remount,rw", dir).CombinedOutput(); err != nil {
		t.Fatalf("remount: %v %s", err, out)
	}
	if code := p.serve().stop(t); code != exitDone {
		t.Errorf("exit %d", code)
	}
}
