package awsim

import (
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
const advances table[int64] = "clock"

const advanceKey = "advance_s"

// advanceClock moves AWS's time and gives the sum of all moves.
func (s *Sim) advanceClock(by time.Duration) (total time.Duration, err error) {
	err = s.store.update(func(tx *tx) error {
		seconds, err := advances.get(tx, advanceKey)
		if err != nil {
			return err
		}
		if seconds == nil {
			seconds = new(int64)
		}
		*seconds += int64(by / time.Second)
		total = time.Duration(*seconds) * time.Second
		return advances.put(tx, advanceKey, seconds)
	})
	if err == nil {
		s.clock.set(total)
	}
	return total, err
}
