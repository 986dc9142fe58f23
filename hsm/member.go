package hsm

import (
	"fmt"
	"sync"
	"sync/atomic"
	"time"
)

// member is one of the tokens behind a Token, with its keeper and signers.
type member struct {
	token *Token
	cfg   Config
	name  string
	done  chan struct{}               // closed when supervise has returned
	found atomic.Pointer[TokenReport] // by the newest signer

	mu     sync.Mutex
	why    error       // guarded by mu: why nothing can be signed here
	lanes  map[int]int // guarded by mu: lanes in service, by process
	keeper *keeper     // guarded by mu: the one that runs; nil between two
}

func newMember(t *Token, cfg Config) *member {
	name := cfg.Name
	if name == "" {
		name = cfg.Token + cfg.Serial
	}
	return &member{token: t, cfg: cfg, name: name, done: make(chan struct{}), lanes: make(map[int]int),
		why: fmt.Errorf("token %s: no signer is ready yet: %w", name, ErrUnavailable)}
}

// ready is nil while a lane is in service.
func (m *member) ready() error {
	m.mu.Lock()
	defer m.mu.Unlock()
	if len(m.lanes) > 0 {
		return nil
	}
	return m.why
}

// setWhy notes why nothing can be signed once no lane is left.
func (m *member) setWhy(err error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.why = err
}

// enter and leave count lanes.
func (m *member) enter(pid int) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.lanes[pid]++
}

func (m *member) leave(pid int, why error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.lanes[pid]--; m.lanes[pid] == 0 {
		delete(m.lanes, pid)
	}
	if len(m.lanes) == 0 && why != nil {
		m.why = why
	}
}

func (m *member) processes() int {
	m.mu.Lock()
	defer m.mu.Unlock()
	return len(m.lanes)
}

// deadline is how long one signature may take.
func (m *member) deadline() time.Duration {
	var measured Measured
	if r := m.found.Load(); r != nil {
		measured = r.Measured
	}
	return deadlineFor(m.cfg.Deadline, measured)
}

// parallel is how many signatures the members make at a time, and how many one lane may take in a row without keeping others waiting.
func (t *Token) parallel() (lanes, row int) {
	row = 8 // enough that the hand-over no longer counts
	for _, m := range t.members {
		r := m.found.Load()
		if r == nil {
			lanes++
			continue
		}
		lanes += r.Processes * r.Lanes
		if r.Measured.Wall > 0 {
			row = min(row, max(int(500*time.Microsecond/r.Measured.Wall), 1))
		}
	}
	return lanes, row
}
