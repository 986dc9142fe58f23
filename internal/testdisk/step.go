package testdisk

import "fmt"

// Kind says what a Step did.
type Kind int

// What programs do to a disk, and what a test notes beside it.
const (
	Write Kind = iota
	Truncate
	Create
	Rename
	Remove
	Sync    // of a file
	SyncDir // of the folder
	Lose    // what the file still had to write is gone for good: a later sync says nothing about it
	Mark    // a test's own note
)

func (k Kind) String() string {
	return [...]string{"write", "truncate", "create", "rename", "remove", "sync", "sync of the folder", "loss", "mark"}[k]
}

// Step is one thing that was done to a disk.
type Step struct {
	Kind     Kind
	File     int    // which file, whatever its name
	Offset   int64  // of a write
	Size     int64  // after a truncate
	Data     []byte // of a write
	Name, To string // of what concerns names
	Mark     int    // a test's own number
	Forced   bool   // it is on the disk, synced or not
	Lost     bool   // readers saw it, and no sync will bring it to the disk
}

func (s Step) String() string {
	switch s.Kind {
	case Write:
		return fmt.Sprintf("write of %d octets at %d in file %d", len(s.Data), s.Offset, s.File)
	case Truncate:
		return fmt.Sprintf("truncate of file %d to %d", s.File, s.Size)
	case Create, Remove:
		return fmt.Sprintf("%s of %s", s.Kind, s.Name)
	case Rename:
		return fmt.Sprintf("rename of %s to %s", s.Name, s.To)
	case Mark:
		return fmt.Sprintf("mark %d", s.Mark)
	}
	return fmt.Sprintf("%s of file %d", s.Kind, s.File)
}

// apply does to a file what the step did.
func (s *Step) apply(c *content) {
	switch s.Kind {
	case Write:
		c.write(s.Offset, s.Data)
	case Truncate:
		c.truncate(s.Size)
	}
}

// rename does to names what the step did.
func (s *Step) rename(names map[string]int) {
	switch s.Kind {
	case Create:
		names[s.Name] = s.File
	case Rename:
		names[s.To] = names[s.Name]
		delete(names, s.Name)
	case Remove:
		delete(names, s.Name)
	}
}
