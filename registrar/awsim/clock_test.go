package awsim

import (
	"net/http"
	"testing"
	"time"
)

// Moves that were small enough each overflowed when they were added up, and AWS's time stood in 1790, also after a restart.
func TestClockOnlyGoesOn(t *testing.T) {
	s := start(t)
	a := s.as(t, first)
	for _, body := range []string{`{"advance_s":5000000000}`, `{"advance_s":0.25}`, `{"advance_s":0.25}`} {
		a.ok("POST", "/_awsim/clock", body)
	}
	const lead = 5000000000*time.Second + 500*time.Millisecond
	for _, body := range []string{`{"advance_s":6000000000}`, `{"advance_s":1e300}`, `{"advance_s":-1}`, `soon`} {
		if res := a.do("POST", "/_awsim/clock", body); res.status != http.StatusBadRequest {
			t.Errorf("%s: %d %s", body, res.status, res.body)
		}
	}
	if got := s.clock.now().Sub(s.clock.world()).Round(time.Millisecond); got != lead {
		t.Errorf("AWS is %v ahead, want %v", got, lead)
	}
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	s = startWith(t, Config{Dir: s.cfg.Dir})
	if got := s.clock.now().Sub(s.clock.world()).Round(time.Millisecond); got != lead {
		t.Errorf("after a restart AWS is %v ahead, want %v", got, lead)
	}
}
