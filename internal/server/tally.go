package server

import (
	"maps"
	"sync"

	"github.com/certmill/certmill/issuer"
)

// tally counts what stations were refused, by order and code, since the start. Only orders that exist have a row, so its size is bounded
// by the ledger, whatever stations ask for.
type tally struct {
	mu      sync.Mutex
	byOrder map[string]map[string]uint64 // guarded by mu
}

func newTally() *tally { return &tally{byOrder: make(map[string]map[string]uint64)} }

// refused counts a problem of a station's request, or of a line of it.
func (c *call) refused(code string) {
	order := c.r.PathValue("order")
	if c.station.Name == "" || order == "" {
		return
	}
	if _, err := c.s.Issuer.Order(order); err != nil {
		return
	}
	t := c.s.tally
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.byOrder[order] == nil {
		t.byOrder[order] = make(map[string]uint64)
	}
	t.byOrder[order][code]++
}

// on completes an order by what was refused on it.
func (t *tally) on(o issuer.Order, err error) (issuer.Order, error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	o.Refused = maps.Clone(t.byOrder[o.ID])
	return o, err
}
