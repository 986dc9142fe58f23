//go:build linux

package testdisk_test

import (
	"bytes"
	"errors"
	"os"
	"path/filepath"
	"slices"
	"syscall"
	"testing"

	"github.com/certmill/certmill/internal/testdisk"
)

func TestMain(m *testing.M) {
	testdisk.ServeIfAsked()
	os.Exit(m.Run())
}

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// The steps of a program that writes a file safely, and all that a power failure may leave of it.
func TestRecordingAndCuts(t *testing.T) {
	d := testdisk.Start(t).Mount(t)
	f, err := os.Create(filepath.Join(d.Dir, "new"))
	must(t, err)
	_, err = f.WriteAt([]byte("content"), 0)
	must(t, err)
	must(t, f.Sync())
	must(t, f.Close())
	must(t, os.Rename(f.Name(), filepath.Join(d.Dir, "file")))
	folder, err := os.Open(d.Dir)
	must(t, err)
	must(t, folder.Sync())
	must(t, folder.Close())
	d.Mark(7)
	rec := d.Recording()
	var got []string
	for _, s := range rec.Steps {
		got = append(got, s.String())
	}
	want := []string{"create of new", "write of 7 octets at 0 in file 1", "sync of file 1", "rename of new to file", "sync of the folder of file 0", "mark 7"}
	if !slices.Equal(got, want) {
		t.Errorf("got  %q\nwant %q", got, want)
	}
	states := func(r *testdisk.Recording) (all []string) {
		cuts, _ := r.Cuts(1000, 1)
		for _, c := range cuts {
			dir := t.TempDir()
			must(t, c.Image().WriteTo(dir))
			text := ""
			for _, name := range c.Image().Names() {
				b, err := os.ReadFile(filepath.Join(dir, name))
				must(t, err)
				text += name + "=" + string(bytes.ReplaceAll(b, []byte{0}, []byte("0"))) + " "
			}
			if c.Marks == 1 {
				text += "promised"
			}
			all = append(all, text)
		}
		return all
	}
	sound := states(rec)
	if !slices.Contains(sound, "file=content promised") || !slices.Contains(sound, "") || !slices.Contains(sound, "new=con ") ||
		!slices.Contains(sound, "new=0000000 ") || slices.Contains(sound, "file= promised") || slices.Contains(sound, "file= ") {
		t.Errorf("states: %q", sound)
	}
	forgot := states(rec.Without(func(s testdisk.Step, _ int) bool { return s.Kind == testdisk.Sync }))
	if !slices.Contains(forgot, "file= promised") {
		t.Errorf("without the sync the file may be empty after the promise, and the states are %q", forgot)
	}
	forgot = states(rec.Without(func(s testdisk.Step, _ int) bool { return s.Kind == testdisk.SyncDir }))
	if !slices.Contains(forgot, "new=content promised") {
		t.Errorf("without the folder's sync the old name may stand after the promise, and the states are %q", forgot)
	}
}

// What readers see and what is on the disk after each kind of fault.
func TestFaults(t *testing.T) {
	drive := testdisk.Start(t)
	for _, test := range []struct {
		step          int
		fault         testdisk.Fault
		seen, durable string
	}{
		{1, testdisk.NotPersisted, "old", "old"},
		{1, testdisk.Persisted, "new", "new"},
		{1, testdisk.Lying, "new", "old"},
		{2, testdisk.NotPersisted, "old", "old"},
		{2, testdisk.Persisted, "new", "new"},
		{2, testdisk.Lying, "new", "old"},
	} {
		d := drive.Mount(t)
		path := filepath.Join(d.Dir, "file")
		f, err := os.Create(path)
		must(t, err)
		_, err = f.WriteAt([]byte("old"), 0)
		must(t, errors.Join(err, f.Sync()))
		folder, err := os.Open(d.Dir)
		must(t, errors.Join(err, folder.Sync(), folder.Close()))
		d.Fail(testdisk.Order{Step: test.step, Fault: test.fault, Errno: syscall.EIO})
		_, err = f.WriteAt([]byte("new"), 0)
		if test.step == 2 {
			must(t, err)
			err = f.Sync()
		}
		if !errors.Is(err, syscall.EIO) || !d.Heal() {
			t.Errorf("%+v: error %v", test, err)
		}
		must(t, f.Close())
		f, err = os.OpenFile(path, os.O_RDWR, 0)
		must(t, err)
		seen := make([]byte, 3)
		_, err = f.ReadAt(seen, 0)
		must(t, errors.Join(err, f.Sync(), f.Close())) // this sync says that all is well
		dir := t.TempDir()
		must(t, d.Recording().Durable().WriteTo(dir))
		durable, err := os.ReadFile(filepath.Join(dir, "file"))
		must(t, err)
		if string(seen) != test.seen || string(durable) != test.durable {
			t.Errorf("step %d, %s: readers see %s, a power cut leaves %s; want %s and %s", test.step, test.fault, seen, durable, test.seen, test.durable)
		}
		d.Unmount()
	}
}
