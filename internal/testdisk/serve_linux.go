package testdisk

import (
	"fmt"
	"io"
	"net/rpc"
	"os"
	"os/signal"
	"sync"
	"syscall"

	"github.com/hanwen/go-fuse/v2/fuse"
)

// asked makes a test binary serve disks and do nothing else.
const asked = "CERTMILL_TESTDISK"

// ServeIfAsked is for TestMain, before anything else: where this process was started to serve disks, it does so until the test is over, and never returns.
func ServeIfAsked() {
	if os.Getenv(asked) == "" {
		return
	}
	signal.Ignore(os.Interrupt) // the terminal's: the test decides
	s := &server{disks: make(map[string]*served)}
	calls := rpc.NewServer()
	if err := calls.RegisterName("Disk", &Calls{s}); err != nil {
		fmt.Fprintln(os.Stderr, "testdisk:", err)
		os.Exit(1)
	}
	calls.ServeConn(pipe{os.Stdin, os.Stdout}) // until the test closes it, or is gone
	for dir := range s.disks {
		syscall.Unmount(dir, syscall.MNT_DETACH)
	}
	os.Exit(0)
}

// pipe is both ways to the other process.
type pipe struct {
	io.ReadCloser
	io.WriteCloser
}

func (p pipe) Close() error {
	p.ReadCloser.Close()
	return p.WriteCloser.Close()
}

// server has the disks of one test binary.
type server struct {
	mu    sync.Mutex
	disks map[string]*served // by folder; guarded by mu
}

func (s *server) disk(dir string) (*served, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if d := s.disks[dir]; d != nil {
		return d, nil
	}
	return nil, fmt.Errorf("no disk at %s", dir)
}

type served struct {
	*model
	fuse *fuse.Server
}

// Calls are what a test can ask of the process that serves its disks.
type Calls struct{ s *server }

// Mounting says where a disk is to be, and what it is called.
type Mounting struct{ Dir, Name string }

// Mount makes a disk.
func (c *Calls) Mount(in Mounting, _ *bool) error {
	m := newModel()
	f, err := mount(in.Dir, in.Name, m)
	if err != nil {
		return err
	}
	c.s.mu.Lock()
	defer c.s.mu.Unlock()
	c.s.disks[in.Dir] = &served{m, f}
	return nil
}

// Unmount ends it.
func (c *Calls) Unmount(dir string, _ *bool) error {
	c.s.mu.Lock()
	defer c.s.mu.Unlock()
	delete(c.s.disks, dir)
	return syscall.Unmount(dir, syscall.MNT_DETACH)
}

// Marking is a note for a disk's record.
type Marking struct {
	Dir  string
	Mark int
}

// Mark notes something between what was done before and what will be done.
func (c *Calls) Mark(in Marking, _ *bool) error {
	d, err := c.s.disk(in.Dir)
	if err == nil {
		d.mark(in.Mark)
	}
	return err
}

// Failing is an order for a disk.
type Failing struct {
	Dir   string
	Order Order
}

// Fail has a step fail.
func (c *Calls) Fail(in Failing, _ *bool) error {
	d, err := c.s.disk(in.Dir)
	if err == nil {
		d.fail(in.Order)
	}
	return err
}

// Heal ends the order.
func (c *Calls) Heal(dir string, failed *bool) error {
	d, err := c.s.disk(dir)
	if err == nil {
		*failed = d.heal()
	}
	return err
}

// Steps is the record.
func (c *Calls) Steps(dir string, out *[]Step) error {
	d, err := c.s.disk(dir)
	if err == nil {
		*out = d.recording()
	}
	return err
}
