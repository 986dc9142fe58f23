package testdisk

import (
	"net/rpc"
	"os"
	"os/exec"
	"sync"
	"syscall"
	"testing"
)

// Drive is a process that serves disks.
type Drive struct {
	mu   sync.Mutex // over Mount and Unmount
	rpc  *rpc.Client
	home string
}

// Start starts the process that serves disks. A test that cannot have one is skipped and says why.
func Start(t testing.TB) *Drive {
	t.Helper()
	if f, err := os.OpenFile("/dev/fuse", os.O_RDWR, 0); err != nil {
		t.Skipf("no FUSE here, so no crash states and no faults below the file system: %v", err)
	} else {
		f.Close()
	}
	if os.Geteuid() != 0 {
		if _, err := exec.LookPath("fusermount3"); err != nil {
			t.Skip("FUSE needs root or fusermount3 here: make test installs fuse3")
		}
	}
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	c := exec.Command(self)
	c.Env = append(os.Environ(), asked+"=1")
	c.Stderr = os.Stderr
	in, err := c.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	out, err := c.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := c.Start(); err != nil {
		t.Fatal(err)
	}
	d := &Drive{rpc: rpc.NewClient(pipe{out, in}), home: t.TempDir()}
	t.Cleanup(func() {
		d.rpc.Close()
		c.Wait()
	})
	return d
}

// Disk is one mounted disk.
type Disk struct {
	Dir   string // where it is mounted
	t     testing.TB
	drive *Drive
}

// Mount mounts an empty disk, for as long as the test runs or until Unmount.
func (d *Drive) Mount(t testing.TB) *Disk {
	t.Helper()
	dir, err := os.MkdirTemp(d.home, "disk")
	if err != nil {
		t.Fatal(err)
	}
	return d.MountAt(t, dir)
}

// MountAt mounts it over a folder that is there.
func (d *Drive) MountAt(t testing.TB, dir string) *Disk {
	t.Helper()
	return d.MountNamed(t, dir, "certmill-testdisk")
}

// MountNamed is MountAt for a disk that the list of mounts calls fuse.<name>.
func (d *Drive) MountNamed(t testing.TB, dir, name string) *Disk {
	t.Helper()
	d.mu.Lock()
	defer d.mu.Unlock()
	if err := d.rpc.Call("Disk.Mount", Mounting{dir, name}, new(bool)); err != nil {
		t.Skipf("a FUSE file system cannot be mounted here: %v", err)
	}
	disk := &Disk{Dir: dir, t: t, drive: d}
	t.Cleanup(disk.Unmount)
	return disk
}

// Unmount takes the disk away. What has files open keeps them. Twice is harmless.
func (d *Disk) Unmount() {
	d.drive.mu.Lock()
	defer d.drive.mu.Unlock()
	if d.Dir == "" {
		return
	}
	if err := d.drive.rpc.Call("Disk.Unmount", d.Dir, new(bool)); err != nil {
		syscall.Unmount(d.Dir, syscall.MNT_DETACH)
	}
	d.Dir = ""
}

func (d *Disk) call(method string, in, out any) {
	d.t.Helper()
	if err := d.drive.rpc.Call("Disk."+method, in, out); err != nil {
		d.t.Fatalf("testdisk: %s: %v", method, err)
	}
}

// Mark notes a number in the record: all that was done before it has returned.
func (d *Disk) Mark(n int) { d.call("Mark", Marking{d.Dir, n}, new(bool)) }

// Fail has a step fail that is still to come.
func (d *Disk) Fail(o Order) { d.call("Fail", Failing{d.Dir, o}, new(bool)) }

// Heal ends what Fail began, and says whether a step failed.
func (d *Disk) Heal() (failed bool) {
	d.call("Heal", d.Dir, &failed)
	return failed
}

// Recording is what was done so far.
func (d *Disk) Recording() *Recording {
	var steps []Step
	d.call("Steps", d.Dir, &steps)
	return &Recording{Steps: steps}
}

// Memory is a folder in memory, where a sync costs nothing: for what power failures leave.
func Memory(t testing.TB) string {
	t.Helper()
	dir, err := os.MkdirTemp("/dev/shm", "certmill-testdisk")
	if err != nil {
		return t.TempDir()
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	return dir
}
