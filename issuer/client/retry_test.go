package client

import (
	"context"
	"errors"
	"io"
	"net/http"
	"testing"
	"testing/synctest"
	"time"
)

// pauses runs retry over what try returns, under a clock of its own, and tells how long each pause was.
func pauses(t *testing.T, limit time.Duration, try func(n int) error) (all []time.Duration, err error) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		ctx, cancel := context.WithTimeout(t.Context(), limit)
		defer cancel()
		last, n := time.Now(), 0
		err = retry(ctx, func() error {
			if n++; n > 1 {
				all = append(all, time.Since(last))
			}
			last = time.Now()
			return try(n)
		})
	})
	return all, err
}

// Without a word of the service, each pause is about twice the last one, never the same for two stations, never longer than lastPause.
func TestPausesGrow(t *testing.T) {
	all, err := pauses(t, time.Minute, func(int) error { return io.ErrUnexpectedEOF })
	if !errors.Is(err, context.DeadlineExceeded) || !errors.Is(err, io.ErrUnexpectedEOF) {
		t.Errorf("got %v, want the deadline and what was wrong", err)
	}
	for i, p := range all {
		if most := min(firstPause<<i, lastPause); p < most/2 || p >= most {
			t.Errorf("pause %d is %v, want %v to %v", i+1, p, most/2, most)
		}
	}
	again, _ := pauses(t, time.Minute, func(int) error { return io.ErrUnexpectedEOF })
	if len(all) < 10 || all[9] == again[9] && all[8] == again[8] {
		t.Errorf("two stations come back in step: %v and %v", all, again)
	}
}

// What the service asks for is waited, and a little more; never past the caller's deadline.
func TestPausesAsTheServiceAsks(t *testing.T) {
	busy := &Problem{Code: CodeSlowDown, Retryable: true, RetryAfter: 8}
	all, err := pauses(t, time.Minute, func(n int) error {
		if n < 3 {
			return busy
		}
		return nil
	})
	if err != nil || len(all) != 2 {
		t.Fatalf("%v, %v", all, err)
	}
	for _, p := range all {
		if p < 8*time.Second || p >= 10*time.Second {
			t.Errorf("pause of %v, want 8 to 10 s", p)
		}
	}
	began := time.Now()
	if all, err = pauses(t, 5*time.Second, func(int) error { return busy }); len(all) != 0 || !errors.Is(err, context.DeadlineExceeded) || !errors.Is(err, busy) {
		t.Errorf("asked again after %v, %v", all, err)
	}
	if time.Since(began) > 4*time.Second {
		t.Error("the test waited on the real clock")
	}
}

// A proxy may write Retry-After as a date (RFC 9110 section 10.2.3).
func TestRetryAfterForms(t *testing.T) {
	now := time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)
	for text, want := range map[string]int{"": 0, "7": 7, "-7": 0, "soon": 0, now.Add(90 * time.Second).Format(http.TimeFormat): 90, now.Add(-time.Hour).Format(http.TimeFormat): 0} {
		if got := retryAfter(text, now); got != want {
			t.Errorf("%q: %d, want %d", text, got, want)
		}
	}
}
