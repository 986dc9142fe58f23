package hsm

import (
	"context"
	"errors"
	"testing"
	"testing/synctest"
	"time"
)

// queueOf is a token without members: the test is its lane.
func queueOf(places int) *Token {
	return &Token{queue: make(chan *share, places), closed: make(chan struct{})}
}

func anyShare() *share { return newShare(opSign, 0, "device", [][]byte{[]byte("tbs")}, nil) }

// The queue is bounded: a new request is told at once that it is full.
func TestFullQueueIsBusy(t *testing.T) {
	token := queueOf(1)
	token.queue <- anyShare()
	if err := token.run(t.Context(), anyShare()); !errors.Is(err, ErrBusy) {
		t.Errorf("error %v, want ErrBusy", err)
	}
}

// What a failing signer gave back is not new: it waits for its place, and is tried again.
func TestRetryWaitsForAPlace(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		token := queueOf(1)
		s, ended := anyShare(), make(chan error, 1)
		go func() { ended <- token.run(t.Context(), s) }()
		first := <-token.queue
		token.queue <- anyShare() // somebody else took the place
		first.last = errors.New("the token failed")
		close(first.done)
		synctest.Wait()
		<-token.queue
		second := <-token.queue
		second.results[0] = []byte("signature")
		close(second.done)
		if err := <-ended; err != nil || string(s.results[0]) != "signature" {
			t.Errorf("%v, %q", err, s.results[0])
		}
	})
}

// A request is tried for as long as its own deadline allows, and one without for half a minute.
func TestRequestsOwnDeadline(t *testing.T) {
	for _, limit := range []time.Duration{time.Second, 5 * time.Minute, 0} {
		synctest.Test(t, func(t *testing.T) {
			ctx, want := t.Context(), patience
			if limit > 0 {
				var cancel context.CancelFunc
				ctx, cancel = context.WithTimeout(ctx, limit)
				defer cancel()
				want = limit
			}
			began := time.Now()
			if err := queueOf(1).run(ctx, anyShare()); !errors.Is(err, ErrUnavailable) || time.Since(began) != want {
				t.Errorf("deadline %v: %v after %v", limit, err, time.Since(began))
			}
		})
	}
}
