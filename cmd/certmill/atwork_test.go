package main

import (
	"context"
	"fmt"
	"testing"
	"time"

	"github.com/certmill/certmill/issuer/client"
)

// stationAtWork asks for certificates and remembers them.
type stationAtWork struct {
	t     *testing.T
	cl    *client.Client
	order string
	asked int
	acked map[string]client.Answer
	csrs  map[string]string
}

func workingStation(t *testing.T, p *testPlant) *stationAtWork {
	return &stationAtWork{t: t, cl: p.station("line-1"), order: p.order(100_000), acked: make(map[string]client.Answer), csrs: make(map[string]string)}
}

// next asks for one more device, and does not ask twice.
func (l *stationAtWork) next() error {
	ctx, cancel := context.WithTimeout(l.t.Context(), 5*time.Second)
	defer cancel()
	l.asked++
	id := fmt.Sprintf("DEVICE-%d", l.asked)
	l.csrs[id] = newCSR(l.t, id)
	for a, err := range l.cl.IssueBatch(ctx, l.order, []client.Request{{DeviceID: id, CSR: l.csrs[id]}}) {
		if err == nil && a.Problem != nil {
			err = a.Problem
		}
		if err != nil {
			return err
		}
		l.acked[id] = a.Answer
	}
	return nil
}

// untilRefused asks until the service says no more.
func (l *stationAtWork) untilRefused() {
	l.t.Helper()
	for range 20_000 {
		if l.next() != nil {
			return
		}
	}
	l.t.Fatal("the service goes on, on a disk that failed")
}

// holds asks for everything once more.
func (l *stationAtWork) holds() {
	l.t.Helper()
	for id, csr := range l.csrs {
		before, was := l.acked[id]
		now, err := l.cl.Issue(l.t.Context(), l.order, client.Request{DeviceID: id, CSR: csr})
		if err != nil || was && now.Certificate != before.Certificate {
			l.t.Errorf("%s, after the restart: %v; same certificate: %v", id, err, now.Certificate == before.Certificate)
		}
	}
}
