package server

import (
	"fmt"
	"sync"
	"time"

	"golang.org/x/time/rate"

	"github.com/certmill/certmill/issuer/client"
)

// gates keep one station from starving the others. There is one for each station that ever came, so their number is
// bounded by the stations in the ledger.
type gates struct {
	limits Limits
	mu     sync.Mutex
	byName map[string]*gate // guarded by mu
}

// gate counts one station.
type gate struct {
	busy  int           // requests under way; guarded by gates.mu
	lines chan struct{} // one for each line of a batch under way
	rate  *rate.Limiter
}

func newGates(l Limits) *gates { return &gates{limits: l, byName: make(map[string]*gate)} }

// enter counts a request in. leave counts it out.
func (g *gates) enter(station string) (leave func(), err error) {
	g.mu.Lock()
	defer g.mu.Unlock()
	one := g.byName[station]
	if one == nil {
		one = &gate{lines: make(chan struct{}, stationWindow), rate: g.limiter()}
		g.byName[station] = one
	}
	if one.busy >= g.limits.Concurrent {
		return nil, refuse(client.CodeSlowDown, "the station has %d requests under way", one.busy)
	}
	one.busy++
	return func() {
		g.mu.Lock()
		defer g.mu.Unlock()
		one.busy--
	}, nil
}

// limiter lets a whole batch through at once, however low the rate is in the long run.
func (g *gates) limiter() *rate.Limiter {
	if g.limits.Rate == 0 {
		return rate.NewLimiter(rate.Inf, 0)
	}
	return rate.NewLimiter(rate.Limit(g.limits.Rate), max(int(g.limits.Rate), client.MaxLines))
}

// of finds the gate of a station that has entered.
func (g *gates) of(station string) *gate {
	g.mu.Lock()
	defer g.mu.Unlock()
	return g.byName[station]
}

// charge takes n certificates from the station's rate, all or none.
func (g *gates) charge(station string, n int, now time.Time) error {
	r := g.of(station).rate.ReserveN(now, n)
	wait := r.DelayFrom(now)
	if wait == 0 {
		return nil
	}
	r.CancelAt(now)
	return &refusal{client.CodeSlowDown, wait, fmt.Errorf("the station asks for more than %g certificates a second", g.limits.Rate)}
}
