package client

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"math/rand/v2"
	"net"
	"time"
)

// Pauses between tries where the service names none: short at first, because a token comes back within
// milliseconds, and never long, because a line stands still.
const (
	firstPause = 50 * time.Millisecond
	lastPause  = 5 * time.Second
)

// permanent marks an error that the next try would only repeat.
type permanent struct{ err error }

func (e *permanent) Error() string { return e.err.Error() }
func (e *permanent) Unwrap() error { return e.err }

// retry runs try until it succeeds, fails for good, or ctx ends; then the error says both what ended it and what was
// wrong last.
func retry(ctx context.Context, try func() error) error {
	for n := 0; ; n++ {
		err := try()
		if err == nil || !again(err) {
			return err
		}
		if ctx.Err() != nil {
			return fmt.Errorf("gave up: %w: %w", context.Cause(ctx), err)
		}
		if cause := pause(ctx, n, err); cause != nil {
			return fmt.Errorf("gave up: %w: %w", cause, err)
		}
	}
}

// again says whether the next try may end otherwise. Whatever is wrong with the network may pass; a wrong
// certificate on either side does not, and neither does a refusal that says so.
func again(err error) bool {
	var (
		p     *Problem
		fatal *permanent
		cert  *tls.CertificateVerificationError
		op    *net.OpError
	)
	switch {
	case errors.As(err, &p):
		return p.Retryable
	case errors.As(err, &fatal), errors.As(err, &cert):
		return false
	case errors.As(err, &op) && op.Op == "remote error": // a TLS alert: the service does not want our certificate
		return false
	}
	return true
}

// pause waits before try n+1: as long as the service asked, else twice as long as the last time, with jitter so that
// the stations of a hall do not come back in step.
func pause(ctx context.Context, n int, err error) error {
	d := min(firstPause<<min(n, 16), lastPause)
	d = d/2 + rand.N(d/2)
	var p *Problem
	if errors.As(err, &p) && p.RetryAfter > 0 {
		d = p.wait() + rand.N(p.wait()/4)
	}
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
		return nil
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}
