package registrar

import (
	"bufio"
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"sync"
	"time"

	"github.com/certmill/certmill/internal/durable"
)

// ErrBusy is returned where another apply works on the same fleet file.
var ErrBusy = errors.New("another apply is running on this fleet file")

// journal is the file of what was attempted and how it ended: a JSON object a line, synced before the attempt and after it. AWS itself is
// what counts; the journal tells a resumed plan's own effects from other people's, and an auditor what happened when.
type journal struct {
	mu   sync.Mutex // guards f
	f    *os.File
	now  func() time.Time
	plan string // hash of the plan under way
}

// journalLine is an event of one action.
type journalLine struct {
	Time    time.Time `json:"time"`
	Plan    string    `json:"plan"`
	Key     string    `json:"key"`
	Event   string    `json:"event"` // "begin", or how it ended: a Result
	Attempt int       `json:"attempt,omitempty"`
	Error   string    `json:"error,omitempty"`
}

const eventBegin = "begin"

// openJournal takes the journal for one apply. Close it.
func openJournal(path, plan string, now func() time.Time) (*journal, error) {
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		return nil, err
	}
	f, err := os.OpenFile(path, os.O_RDWR|os.O_APPEND|os.O_CREATE, 0o644)
	if err != nil {
		return nil, err
	}
	if err := lock(f); err != nil {
		return nil, errors.Join(fmt.Errorf("%s: %w", path, ErrBusy), f.Close())
	}
	if err := errors.Join(endLine(f), durable.SyncDir(filepath.Dir(path))); err != nil {
		return nil, errors.Join(err, f.Close())
	}
	return &journal{f: f, now: now, plan: plan}, nil
}

// endLine ends a line that a crash left unfinished, so that the next one is not lost with it.
func endLine(f *os.File) error {
	info, err := f.Stat()
	if err != nil || info.Size() == 0 {
		return err
	}
	last := make([]byte, 1)
	if _, err := f.ReadAt(last, info.Size()-1); err != nil || last[0] == '\n' {
		return err
	}
	_, err = f.Write([]byte("\n"))
	return err
}

// write adds a line. When it returns nil, the line survives a power cut.
func (j *journal) write(l journalLine) error {
	l.Time, l.Plan = j.now().UTC(), j.plan
	data, err := json.Marshal(l)
	if err != nil {
		return err
	}
	j.mu.Lock()
	defer j.mu.Unlock()
	if _, err := j.f.Write(append(data, '\n')); err != nil {
		return fmt.Errorf("journal: %w", err)
	}
	if err := j.f.Sync(); err != nil {
		return fmt.Errorf("journal: %w", err)
	}
	return nil
}

func (j *journal) Close() error { return j.f.Close() }

// attempted gives the keys of the actions that a plan has begun. A journal that is not there has none; a line that is no JSON is what a
// crash left of one, whose attempt was not made.
func attempted(path, plan string) (map[string]bool, error) {
	keys := make(map[string]bool)
	data, err := os.ReadFile(path)
	if errors.Is(err, fs.ErrNotExist) {
		return keys, nil
	}
	if err != nil {
		return nil, err
	}
	lines := bufio.NewScanner(bytes.NewReader(data))
	lines.Buffer(nil, len(data)+1)
	for lines.Scan() {
		var l journalLine
		if json.Unmarshal(lines.Bytes(), &l) == nil && l.Plan == plan {
			keys[l.Key] = true
		}
	}
	return keys, lines.Err()
}
