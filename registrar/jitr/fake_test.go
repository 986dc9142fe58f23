package jitr

import (
	"context"
	"errors"
	"sync"
	"time"
)

// fakeAWS behaves as AWS IoT and the table do, and may fail one of its calls: before it acted, or after.
type fakeAWS struct {
	mu       sync.Mutex
	certs    map[string]*Certificate
	things   map[string]string // name → product
	holders  map[string]string // certificate ARN → thing
	policies map[string]string // certificate ARN → policy
	rows     map[string]*Row

	calls  []string
	failAt int  // number of the call that fails, from 1; 0 none
	acted  bool // the failing call acts before its answer is lost
}

var errLost = errors.New("answer lost")

func newFake() *fakeAWS {
	return &fakeAWS{certs: map[string]*Certificate{}, things: map[string]string{}, holders: map[string]string{}, policies: map[string]string{}, rows: map[string]*Row{}}
}

func (f *fakeAWS) call(name string, act func() error) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.calls = append(f.calls, name)
	failing := f.failAt == len(f.calls)
	if failing && !f.acted {
		return errLost
	}
	if err := act(); err != nil {
		return err
	}
	if failing {
		return errLost
	}
	return nil
}

func (f *fakeAWS) DescribeCertificate(_ context.Context, id string) (cert Certificate, err error) {
	err = f.call("DescribeCertificate", func() error {
		c, ok := f.certs[id]
		if !ok {
			return ErrNotFound
		}
		cert = *c
		return nil
	})
	return cert, err
}

func (f *fakeAWS) CreateThing(_ context.Context, name string, attributes map[string]string) error {
	return f.call("CreateThing", func() error {
		if have, ok := f.things[name]; ok && have != attributes["product"] {
			return ErrConflict
		}
		f.things[name] = attributes["product"]
		return nil
	})
}

func (f *fakeAWS) AttachThingPrincipal(_ context.Context, thing, arn string) error {
	return f.call("AttachThingPrincipal", func() error { f.holders[arn] = thing; return nil })
}

func (f *fakeAWS) AttachPolicy(_ context.Context, policy, arn string) error {
	return f.call("AttachPolicy", func() error { f.policies[arn] = policy; return nil })
}

func (f *fakeAWS) UpdateCertificate(_ context.Context, id, status string) error {
	return f.call("UpdateCertificate "+status, func() error {
		if c := f.certs[id]; c.Status == revoked && status != revoked {
			return ErrState
		}
		f.certs[id].Status = status
		return nil
	})
}

func (f *fakeAWS) Look(_ context.Context, id string) (row Row, err error) {
	err = f.call("Look", func() error {
		r, ok := f.rows[id]
		if !ok {
			return ErrNotFound
		}
		row = *r
		return nil
	})
	return row, err
}

func (f *fakeAWS) MarkUsed(_ context.Context, id, thing string) error {
	return f.call("MarkUsed", func() error {
		r := f.rows[id]
		if r.UsedBy != "" && r.UsedBy != thing {
			return ErrConflict
		}
		r.UsedBy = thing
		return nil
	})
}

// register is what AWS does at the first connect.
func (f *fakeAWS) register(id, ca string, at time.Time) {
	f.certs[id] = &Certificate{ARN: "arn:" + id, CA: ca, Status: pending, Created: at}
}
