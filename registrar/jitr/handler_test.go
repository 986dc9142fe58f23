package jitr

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"reflect"
	"strings"
	"sync"
	"testing"
	"time"
)

var (
	device = strings.Repeat("d1", 32)
	ourCA  = strings.Repeat("ca", 32)
	begin  = time.Date(2026, 5, 1, 12, 0, 0, 0, time.UTC)
)

// scene is a handler over a fake AWS where one device has connected.
type scene struct {
	*fakeAWS
	handler Handler
	now     time.Time
	log     bytes.Buffer
}

func newScene(row *Row) *scene {
	s := &scene{fakeAWS: newFake(), now: begin}
	s.register(device, ourCA, begin)
	if row != nil {
		s.rows[device] = row
	}
	s.handler = Handler{
		IoT: s, AllowList: s, Policy: "device", Grace: time.Hour, CAs: []string{ourCA},
		Now: func() time.Time { return s.now }, Log: slog.New(slog.NewTextHandler(&s.log, nil)),
	}
	return s
}

func (s *scene) handle(t *testing.T) Outcome {
	t.Helper()
	got, err := s.handler.Handle(context.Background(), event())
	if err != nil {
		t.Fatal(err)
	}
	return got
}

func event() Event {
	return Event{CertificateID: device, CACertificateID: ourCA, Account: "111122223333", Status: pending, At: begin}
}

func listed() *Row {
	return &Row{CertificateID: device, DeviceID: "unit-1", Product: "demo", Order: "O-1"}
}

// rule R-07: the order of the calls, ACTIVE last but for the mark
func TestListedIsActivated(t *testing.T) {
	s := newScene(listed())
	if got := s.handle(t); got != Activated {
		t.Errorf("got %s, want activated", got)
	}
	want := []string{"DescribeCertificate", "Look", "CreateThing", "AttachThingPrincipal", "AttachPolicy", "UpdateCertificate ACTIVE", "MarkUsed"}
	if !reflect.DeepEqual(s.calls, want) {
		t.Errorf("calls %v, want %v", s.calls, want)
	}
	s.wantActive(t)
}

func (s *scene) wantActive(t *testing.T) {
	t.Helper()
	c := s.certs[device]
	if c.Status != active || s.things["unit-1"] != "demo" || s.holders[c.ARN] != "unit-1" || s.policies[c.ARN] != "device" || s.rows[device].UsedBy != "unit-1" {
		t.Errorf("ends as %+v, things %v, holders %v, policies %v, row %+v", c, s.things, s.holders, s.policies, s.rows[device])
	}
}

// An interruption after any call, acted upon or not, is mended by the next event.
func TestInterruptedAfterEachCall(t *testing.T) {
	for _, acted := range []bool{false, true} {
		for n := 1; n <= 7; n++ {
			t.Run(fmt.Sprintf("call %d acted %v", n, acted), func(t *testing.T) {
				s := newScene(listed())
				s.failAt, s.acted = n, acted
				if _, err := s.handler.Handle(context.Background(), event()); !errors.Is(err, errLost) {
					t.Fatalf("got %v, want the lost answer", err)
				}
				s.failAt = 0
				s.handle(t)
				s.wantActive(t)
			})
		}
	}
}

// rule R-09: handlers that race end alike
func TestRace(t *testing.T) {
	s := newScene(listed())
	var all sync.WaitGroup
	for range 8 {
		all.Go(func() {
			if _, err := s.handler.Handle(context.Background(), event()); err != nil {
				t.Error(err)
			}
		})
	}
	all.Wait()
	s.wantActive(t)
}

// rule R-08
func TestDeniedIsRevoked(t *testing.T) {
	row := listed()
	row.Denied = true
	s := newScene(row)
	if got := s.handle(t); got != Revoked || s.certs[device].Status != revoked || len(s.things) != 0 {
		t.Errorf("got %s, certificate %s, things %v", got, s.certs[device].Status, s.things)
	}
	s.wantAlarm(t)
}

func (s *scene) wantAlarm(t *testing.T) {
	t.Helper()
	if !strings.Contains(s.log.String(), "alarm=true") {
		t.Errorf("no alarm in the log: %s", s.log.String())
	}
}

// rule R-08: pending for the grace time, each reconnect asks again, then INACTIVE
func TestUnknownWaitsThenSleeps(t *testing.T) {
	s := newScene(nil)
	for _, step := range []struct {
		after time.Duration
		want  Outcome
		state string
	}{{0, Waiting, pending}, {59 * time.Minute, Waiting, pending}, {time.Hour, Deactivated, inactive}, {2 * time.Hour, Ignored, inactive}} {
		s.now = begin.Add(step.after)
		if got := s.handle(t); got != step.want || s.certs[device].Status != step.state {
			t.Errorf("after %v: %s, certificate %s; want %s, %s", step.after, got, s.certs[device].Status, step.want, step.state)
		}
	}
	s.wantAlarm(t)
}

func TestRowThatArrivesLate(t *testing.T) {
	t.Run("next event", func(t *testing.T) {
		s := newScene(nil)
		s.handle(t)
		s.rows[device] = listed()
		if got := s.handle(t); got != Activated {
			t.Errorf("got %s", got)
		}
		s.wantActive(t)
	})
	t.Run("after the grace time", func(t *testing.T) {
		s := newScene(nil)
		s.now = begin.Add(2 * time.Hour)
		s.handle(t)
		s.rows[device] = listed()
		if got, err := s.handler.RowArrived(context.Background(), device); got != Activated || err != nil {
			t.Errorf("got %s, %v", got, err)
		}
		s.wantActive(t)
	})
	t.Run("of a certificate made inactive by hand", func(t *testing.T) {
		s := newScene(listed())
		s.handle(t)
		s.certs[device].Status = inactive
		if got, err := s.handler.RowArrived(context.Background(), device); got != Ignored || err != nil || s.certs[device].Status != inactive {
			t.Errorf("got %s, %v, certificate %s", got, err, s.certs[device].Status)
		}
	})
	t.Run("of one that never connected", func(t *testing.T) {
		s := newScene(listed())
		delete(s.certs, device)
		if got, err := s.handler.RowArrived(context.Background(), device); got != Ignored || err != nil {
			t.Errorf("got %s, %v", got, err)
		}
	})
}

// rule R-10: what stands is asked, not what the event says
func TestLateEvents(t *testing.T) {
	for _, status := range []string{active, inactive, revoked, "PENDING_TRANSFER"} {
		s := newScene(listed())
		s.certs[device].Status = status
		if got := s.handle(t); got != Ignored || s.certs[device].Status != status || len(s.things) != 0 {
			t.Errorf("%s: got %s, certificate %s, things %v", status, got, s.certs[device].Status, s.things)
		}
	}
}

func TestRefused(t *testing.T) {
	cases := map[string]func(*scene){
		"a thing of another product":  func(s *scene) { s.things["unit-1"] = "other" },
		"a row used by another thing": func(s *scene) { s.rows[device].UsedBy = "unit-9" },
		"an event of another CA":      func(s *scene) { s.certs[device].CA = strings.Repeat("cb", 32) },
	}
	for name, change := range cases {
		t.Run(name, func(t *testing.T) {
			s := newScene(listed())
			change(s)
			if got := s.handle(t); got != Refused || s.certs[device].Status != pending {
				t.Errorf("got %s, certificate %s", got, s.certs[device].Status)
			}
			s.wantAlarm(t)
		})
	}
}

func TestNotOurs(t *testing.T) {
	s := newScene(listed())
	s.handler.CAs = []string{strings.Repeat("00", 32)}
	if got := s.handle(t); got != Ignored || len(s.calls) != 0 {
		t.Errorf("got %s after %v", got, s.calls)
	}
	s = newScene(listed())
	delete(s.certs, device) // deleted before the event came
	if got := s.handle(t); got != Ignored {
		t.Errorf("got %s", got)
	}
}

// rule DC-33: an officer was faster
func TestRevokedMeanwhile(t *testing.T) {
	s := newScene(listed())
	s.handler.IoT = revoking{s}
	if got := s.handle(t); got != Ignored || s.certs[device].Status != revoked {
		t.Errorf("got %s, certificate %s", got, s.certs[device].Status)
	}
}

// revoking is an AWS where somebody revokes the certificate just before it becomes ACTIVE.
type revoking struct{ *scene }

func (r revoking) UpdateCertificate(ctx context.Context, id, status string) error {
	r.certs[id].Status = revoked
	return r.scene.UpdateCertificate(ctx, id, status)
}
