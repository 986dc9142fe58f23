package testdisk

import (
	"maps"
	"slices"
)

// Recording is what was done to a disk, in order.
type Recording struct{ Steps []Step }

// Marks are the tests' own notes, in order.
func (r *Recording) Marks() (marks []int) {
	for _, s := range r.Steps {
		if s.Kind == Mark {
			marks = append(marks, s.Mark)
		}
	}
	return marks
}

// Count says how many steps there are of a kind.
func (r *Recording) Count(k Kind) (n int) {
	for _, s := range r.Steps {
		if s.Kind == k {
			n++
		}
	}
	return n
}

// Without is what a program would have left that does not do the steps for which skip is true: the n-th of its kind, from 0. So a test can show that it
// finds a program that forgets to sync.
func (r *Recording) Without(skip func(s Step, n int) bool) *Recording {
	var out Recording
	seen := make(map[Kind]int)
	for _, s := range r.Steps {
		if !skip(s, seen[s.Kind]) {
			out.Steps = append(out.Steps, s)
		}
		seen[s.Kind]++
	}
	return &out
}

// Durable is what is on the disk after the last step, if nothing gets there that was not synced.
func (r *Recording) Durable() *Image {
	all := r.moments()
	return all[len(all)-1].image(nothing{})
}

// moment is a disk between two steps. What stands in it is never changed: moments share it.
type moment struct {
	durable map[int]*content
	names   map[string]int // durable
	data    []Step         // written, not synced
	renames []Step         // names, not synced
	marks   int            // so far
}

// moments are those before the first step, and after each.
func (r *Recording) moments() []*moment {
	all := make([]*moment, 0, len(r.Steps)+1)
	m := &moment{durable: make(map[int]*content), names: make(map[string]int)}
	all = append(all, m)
	for i := range r.Steps {
		m = m.after(&r.Steps[i])
		all = append(all, m)
	}
	return all
}

func (m *moment) after(s *Step) *moment {
	next := *m
	switch s.Kind {
	case Mark:
		next.marks++
	case Write, Truncate:
		if s.Forced {
			next.apply([]Step{*s})
		}
		if !s.Lost {
			next.data = append(slices.Clip(m.data), *s)
		}
	case Create, Rename, Remove:
		next.renames = append(slices.Clip(m.renames), *s)
		if s.Forced {
			next.applyNames()
		}
	case Sync, Lose:
		mine := func(other Step) bool { return other.File == s.File }
		next.data = slices.DeleteFunc(slices.Clone(m.data), mine)
		if s.Kind == Sync {
			next.apply(slices.DeleteFunc(slices.Clone(m.data), func(other Step) bool { return !mine(other) }))
		}
	case SyncDir:
		next.applyNames()
	}
	return &next
}

// apply makes steps of one file durable.
func (m *moment) apply(steps []Step) {
	if len(steps) == 0 {
		return
	}
	id := steps[0].File
	c := m.content(id).clone()
	for i := range steps {
		steps[i].apply(c)
	}
	m.durable = maps.Clone(m.durable)
	m.durable[id] = c
}

func (m *moment) content(id int) *content {
	if c := m.durable[id]; c != nil {
		return c
	}
	return newContent()
}

func (m *moment) applyNames() {
	m.names = maps.Clone(m.names)
	for i := range m.renames {
		m.renames[i].rename(m.names)
	}
	m.renames = nil
}

// image is the moment's disk with what a power failure kept.
func (m *moment) image(k keeper) *Image {
	names := maps.Clone(m.names)
	for i := range m.renames[:k.names(len(m.renames))] {
		m.renames[i].rename(names)
	}
	contents := make(map[int]*content)
	for i := range m.data {
		s := &m.data[i]
		if contents[s.File] == nil {
			contents[s.File] = m.content(s.File).clone()
		}
		k.keep(contents[s.File], i, s)
	}
	img := &Image{make(map[string]*content)}
	for name, id := range names {
		if img.files[name] = contents[id]; contents[id] == nil {
			img.files[name] = m.content(id)
		}
	}
	return img
}
