package ledger_test

import (
	"bytes"
	"errors"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/certmill/certmill/internal/ledger"
	"github.com/certmill/certmill/internal/ledger/ledgertest"
	"github.com/certmill/certmill/internal/testdisk"
)

// A ledger is not made on a network file system, and one that lies there already is complained about. The kernel's list of mounts calls the disk here as sshfs calls itself.
func TestNetworkFileSystem(t *testing.T) {
	drive := testdisk.Start(t)
	if kind, is := ledger.NetworkFS(drive.Mount(t).Dir); is {
		t.Errorf("the test's disk is taken for %s", kind)
	}
	for _, dir := range []string{t.TempDir(), "/dev/shm", "/proc"} {
		if kind, is := ledger.NetworkFS(dir); is {
			t.Errorf("%s is taken for %s", dir, kind)
		}
	}
	dir := t.TempDir()
	drive.MountNamed(t, dir, "sshfs")
	if kind, is := ledger.NetworkFS(dir); !is || kind != "fuse.sshfs" {
		t.Errorf("sshfs: %q, %v", kind, is)
	}
	var log bytes.Buffer
	cfg := ledger.Config{Path: filepath.Join(dir, "ledger.db"), Log: slog.New(slog.NewTextHandler(&log, nil))}
	if err := ledger.Create(cfg, ledgertest.Name); !errors.Is(err, ledger.ErrNetwork) {
		t.Errorf("Create: %v", err)
	}
	there := ledgertest.Create(t)
	for _, suffix := range []string{"", ".key"} {
		b, err := os.ReadFile(there.Path + suffix)
		if err == nil {
			err = os.WriteFile(cfg.Path+suffix, b, 0o600)
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	l, err := ledger.Open(cfg)
	if err != nil {
		t.Fatal(err)
	}
	if !strings.Contains(log.String(), "fuse.sshfs") {
		t.Errorf("Open says %q", log.String())
	}
	l.Close()
}
