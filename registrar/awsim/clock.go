package awsim

import (
	"errors"
	"sync"
	"time"
)

// clock is AWS's time: that of the world, and what the control API advanced it by. TLS and SigV4 go by the world's.
type clock struct {
	world func() time.Time

	mu      sync.Mutex
	advance time.Duration // guarded by mu
}

func (c *clock) now() time.Time {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.world().Add(c.advance).UTC()
}

func (c *clock) set(advance time.Duration) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.advance = advance
}

// advances keeps the clock's lead over restarts, in seconds.
const advances table[float64] = "clock"

const advanceKey = "advance_s"

// errTooFar is returned where the moves would add up to more than maxAdvance.
var errTooFar = errors.New("with what the clock was advanced before, advance_s is too large")

// advanceClock moves AWS's time by so many seconds and gives the sum of all moves. Errors: errTooFar.
func (s *Sim) advanceClock(by float64) (total time.Duration, err error) {
	err = s.store.update(func(tx *tx) error {
		seconds, err := advances.get(tx, advanceKey)
		if err != nil {
			return err
		}
		if seconds == nil {
			seconds = new(float64)
		}
		if *seconds += by; *seconds > maxAdvance.Seconds() {
			return errTooFar
		}
		total = asDuration(*seconds)
		return advances.put(tx, advanceKey, seconds)
	})
	if err == nil {
		s.clock.set(total)
	}
	return total, err
}

func asDuration(seconds float64) time.Duration { return time.Duration(seconds * float64(time.Second)) }
