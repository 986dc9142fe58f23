package main

import (
	"errors"
	"os"
	"path/filepath"
	"slices"
	"testing"

	"github.com/certmill/certmill/internal/ledger"
	"github.com/certmill/certmill/internal/testdisk"
)

// TestStorePowerCuts cuts the power at every step of a backup and of a restore, with any part of what was not synced: a store that has its name is whole and has its
// key, one that was reported is there, and where there is none the same command makes it.
func TestStorePowerCuts(t *testing.T) {
	p := newTestPlant(t)
	drive := testdisk.Start(t)
	stick := drive.Mount(t)
	p.run("store", "backup", filepath.Join(stick.Dir, "b.ledger"))
	stick.Mark(1)
	backups := cutStores(t, stick, "b.ledger")
	good := filepath.Join(t.TempDir(), "good")
	p.run("store", "backup", good)
	dir := filepath.Dir(p.cfg.ledgerPath())
	if err := errors.Join(os.Rename(dir, dir+".lost"), os.Mkdir(dir, modeOwnDir)); err != nil {
		t.Fatal(err)
	}
	disk := drive.MountAt(t, dir)
	p.run("store", "restore", good, "--yes")
	disk.Mark(1)
	restores := cutStores(t, disk, "ledger.db")
	t.Logf("store: %d states of backups and %d of restores: what has its name is whole", backups, restores)
}

// cutStores looks at what power failures may leave of a store under a name.
func cutStores(t *testing.T, d *testdisk.Disk, name string) int {
	t.Helper()
	cuts, _ := d.Recording().Cuts(600, 1)
	named := 0
	for i := range cuts {
		there := slices.Contains(cuts[i].Image().Names(), name)
		if !there && cuts[i].Marks == 1 {
			t.Errorf("%s: reported, and gone", &cuts[i])
		}
		if !there {
			continue
		}
		named++
		dir := testdisk.Memory(t)
		if err := cuts[i].Image().WriteTo(dir); err != nil {
			t.Fatal(err)
		}
		l, err := ledger.OpenReadOnly(ledger.Config{Path: filepath.Join(dir, name)})
		if err == nil {
			err = errors.Join(l.Check(), l.Close())
		}
		if err != nil {
			t.Errorf("%s: %v", &cuts[i], err)
		}
		os.RemoveAll(dir)
	}
	if named == 0 || named == len(cuts) {
		t.Errorf("%d of %d states have the file: the cuts do not reach both", named, len(cuts))
	}
	return len(cuts)
}
