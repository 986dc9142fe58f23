package registrar

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/certmill/certmill/registrar/awsapi"
)

// How patient one action is.
const (
	attempts   = 4
	firstPause = 100 * time.Millisecond // between attempts; doubled each time
	settleTime = 30 * time.Second       // until a describe shows what was done (CA-82)
)

// act does one action: look, act, and after an answer that was lost look again (K-04).
func (a *application) act(ctx context.Context, t *awsapi.Target, act Action) Outcome {
	o := Outcome{Action: act}
	was, err := act.step.done(ctx, t)
	switch {
	case err != nil:
		return o.ended(ctx, err)
	case was == yes:
		o.Result = Already
		return o
	}
	pause := firstPause
	for n := 1; ; n++ {
		if err := a.journal.write(journalLine{Key: act.Key, Event: eventBegin, Attempt: n}); err != nil {
			o.Result, o.Reason = Failed, err.Error()
			return o
		}
		err := act.step.do(ctx, t, &a.tools)
		if err == nil {
			return o.ended(ctx, settled(ctx, t, act.step))
		}
		a.cfg.Log.Debug("aws: attempt", "action", act.Key, "attempt", n, "err", err)
		if !lost(err) {
			return o.ended(ctx, err)
		}
		switch is, lookErr := act.step.done(ctx, t); {
		case lookErr != nil:
			return o.ended(ctx, errors.Join(err, lookErr))
		case is == yes:
			o.Result, o.Reason = Done, "the answer was lost; AWS has it"
			return o
		case n == attempts || awsapi.KindOf(err) == awsapi.Exists:
			return o.ended(ctx, err)
		}
		if err := wait(ctx, pause); err != nil {
			return o.ended(ctx, err)
		}
		pause *= 2
	}
}

// lost reports whether an attempt may have had its effect all the same. Exists counts: the attempt before it may have been ours.
func lost(err error) bool {
	var e *awsapi.Error
	if !errors.As(err, &e) {
		return false // our own refusal, or the prover's
	}
	switch e.Kind {
	case awsapi.Unknown, awsapi.Exists, awsapi.Throttled:
		return true
	}
	return false
}

// ended says how an action ended with err.
func (o Outcome) ended(ctx context.Context, err error) Outcome {
	kind := awsapi.KindOf(err)
	switch {
	case err == nil:
		o.Result = Done
		return o
	case ctx.Err() != nil:
		o.Result = Uncertain
	case kind == awsapi.Unsupported, o.optional && kind == awsapi.NotFound:
		o.Result = NotMade
	default:
		o.Result = Failed
	}
	o.Reason = err.Error()
	return o
}

// settled waits until a look shows what was done. Where a look cannot tell, AWS's yes has to do.
func settled(ctx context.Context, t *awsapi.Target, s step) error {
	deadline := time.Now().Add(settleTime)
	for pause := firstPause; ; pause *= 2 {
		is, err := s.done(ctx, t)
		if err != nil {
			return fmt.Errorf("done, but looking at it failed: %w", err)
		}
		if is != no {
			return nil
		}
		if time.Now().After(deadline) {
			return fmt.Errorf("AWS took it, but does not show it after %s", settleTime)
		}
		if err := wait(ctx, pause); err != nil {
			return err
		}
	}
}

// wait sleeps, or ends with ctx.
func wait(ctx context.Context, d time.Duration) error {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}
