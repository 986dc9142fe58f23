package testdisk

import (
	"bytes"
	"sync"
	"syscall"
)

// Fault is a way in which a step fails. The caller hears the error in each of them: an error does not mean that it did not happen.
type Fault int

// Three ways to fail.
const (
	NotPersisted Fault = iota // nothing of it happened; of a sync: what it should have written is gone, and readers see that
	Persisted                 // all of it happened and is on the disk
	Lying                     // readers see it, and no sync will ever bring it to the disk: a power cut drops it
)

func (f Fault) String() string {
	return [...]string{"not persisted", "persisted", "seen by readers and never persisted"}[f]
}

// Order tells a disk which step is to fail, and how.
type Order struct {
	Step  int  // counted from 1 over all that follow
	Syncs bool // count and fail syncs of files alone
	Fault Fault
	Errno syscall.Errno
	Stays bool // every later step fails too, and does nothing: the disk went read-only or is full
}

// file is one file as readers see it and as it is on the disk.
type file struct {
	id            int
	mode          uint32
	seen, durable *content
	pending       []Step // since its last sync
}

// model is the state of a disk. Its methods may be called concurrently.
type model struct {
	mu      sync.Mutex
	steps   []Step
	files   int
	names   map[string]int // as seen
	durable map[string]int
	pending []Step // of names, since the folder's last sync
	byID    map[int]*file
	order   *Order
	left    int  // steps until the order's
	failed  bool // the order was carried out
}

func newModel() *model {
	return &model{names: make(map[string]int), durable: make(map[string]int), byID: make(map[int]*file)}
}

// verdict says what becomes of the next step. m.mu is held.
func (m *model) verdict(k Kind) (fails bool, f Fault, errno syscall.Errno) {
	switch {
	case m.order == nil, m.order.Syncs && k != Sync:
		return false, 0, 0
	case m.failed && m.order.Stays:
		return true, NotPersisted, m.order.Errno
	case m.failed:
		return false, 0, 0
	}
	if m.left--; m.left > 0 {
		return false, 0, 0
	}
	m.failed = true
	return true, m.order.Fault, m.order.Errno
}

// change is a write or a truncate.
func (m *model) change(f *file, s Step) syscall.Errno {
	m.mu.Lock()
	defer m.mu.Unlock()
	fails, how, errno := m.verdict(s.Kind)
	if fails && how == NotPersisted {
		return errno
	}
	s.File, s.Data = f.id, bytes.Clone(s.Data)
	s.Forced, s.Lost = fails && how == Persisted, fails && how == Lying
	m.steps = append(m.steps, s)
	s.apply(f.seen)
	if s.Forced {
		s.apply(f.durable)
	}
	if !s.Lost {
		f.pending = append(f.pending, s) // also what is forced: in its place among the others
	}
	return errno
}

// rename is a create, a rename or a remove. One that lies is like any that was not synced: file systems keep a journal of names, so a later sync of the folder brings it.
func (m *model) rename(s Step) syscall.Errno {
	m.mu.Lock()
	defer m.mu.Unlock()
	fails, how, errno := m.verdict(s.Kind)
	if fails && how == NotPersisted {
		return errno
	}
	s.Forced = fails && how == Persisted
	m.steps = append(m.steps, s)
	s.rename(m.names)
	m.pending = append(m.pending, s)
	if s.Forced {
		m.flushNames()
	}
	return errno
}

func (m *model) flushNames() {
	for _, s := range m.pending {
		s.rename(m.durable)
	}
	m.pending = nil
}

func (m *model) sync(f *file) syscall.Errno {
	m.mu.Lock()
	defer m.mu.Unlock()
	fails, how, errno := m.verdict(Sync)
	kind := Sync
	if fails && how != Persisted {
		kind = Lose
	} else {
		for _, s := range f.pending {
			s.apply(f.durable)
		}
	}
	m.steps = append(m.steps, Step{Kind: kind, File: f.id})
	f.pending = nil
	if fails && how == NotPersisted {
		f.seen = f.durable.clone()
	}
	return errno
}

// syncDir takes nothing back where it fails: what it left behind is brought by a later one, or dropped by a power cut.
func (m *model) syncDir() syscall.Errno {
	m.mu.Lock()
	defer m.mu.Unlock()
	fails, how, errno := m.verdict(SyncDir)
	if fails && how != Persisted {
		return errno
	}
	m.flushNames()
	m.steps = append(m.steps, Step{Kind: SyncDir})
	return errno
}

func (m *model) mark(n int) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.steps = append(m.steps, Step{Kind: Mark, Mark: n})
}

// newFile makes a file that has no name yet.
func (m *model) newFile(mode uint32) *file {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.files++
	f := &file{id: m.files, mode: mode, seen: newContent(), durable: newContent()}
	m.byID[f.id] = f
	return f
}

// named is the file that readers see under a name; nil for none.
func (m *model) named(name string) *file {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.byID[m.names[name]]
}

func (m *model) fail(o Order) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.order, m.left, m.failed = &o, o.Step, false
}

// heal ends an order and says whether it was carried out.
func (m *model) heal() (failed bool) {
	m.mu.Lock()
	defer m.mu.Unlock()
	failed = m.order != nil && m.failed
	m.order = nil
	return failed
}

func (m *model) recording() []Step {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.steps
}
