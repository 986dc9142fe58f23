package issuer

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"sync"
	"time"

	"github.com/certmill/certmill/internal/ledger"
)

// clockSlack is how far the clock may step back without anybody's word: what time daemons do to keep it right.
const clockSlack = 10 * time.Second

// clock says whether the time of day can be believed. What it is held against is the time of the newest intent, because an intent is only recorded while
// the clock is trusted. While we run we also know how long ago that was, by a clock that nobody sets: so a plant that stood still for a weekend is
// no jump, and one of more than the limit is, at any load. At a start nobody knows how long we were away: there a standstill may be as long as
// works holidays are.
//
// A clock that is not trusted stays so until somebody says that it is right, or a restart finds that it is. Boot entries, freezes and
// the like do not vouch for it: else a second start with the same wrong clock would find it right.
type clock struct {
	elapsed           func() time.Duration
	ahead, standstill time.Duration

	mu       sync.Mutex
	base     time.Time     // the newest time that was trusted; zero: there is none yet
	since    time.Duration // elapsed at that moment
	running  bool          // base was seen by this process: since is known
	recorded time.Time     // the ledger's time when somebody last said that the clock was right
	bad      error
}

func newClock(cfg Config) *clock {
	return &clock{elapsed: cfg.Elapsed, ahead: cfg.ClockAhead, standstill: cfg.Standstill}
}

// look judges the time and, if it is good, takes it as the newest one trusted. The verdict stays.
func (c *clock) look(now time.Time) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.bad != nil {
		return c.bad
	}
	elapsed, limit := time.Duration(0), c.standstill
	if c.running {
		elapsed, limit = c.elapsed()-c.since, c.ahead
	}
	if c.bad = judgeClock(c.base, now, elapsed, limit); c.bad == nil && !now.Before(c.base) {
		c.base, c.since, c.running = now, c.elapsed(), true
	}
	return c.bad
}

// judgeClock holds the time against one that was trusted, so long ago.
func judgeClock(base, now time.Time, elapsed, limit time.Duration) error {
	switch {
	case base.IsZero():
		return nil
	case now.Before(base.Add(-clockSlack)):
		return fmt.Errorf("it says %s, and something was issued at %s: %w", now.UTC().Format(time.RFC3339), base.UTC().Format(time.RFC3339), ErrClock)
	case now.After(base.Add(elapsed).Add(limit)):
		return fmt.Errorf("it says %s, more than %s past %s: %w", now.UTC().Format(time.RFC3339), limit,
			base.Add(elapsed).UTC().Format(time.RFC3339), ErrClock)
	}
	return nil
}

// standing is the last verdict.
func (c *clock) standing() error {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.bad
}

// best is the time by which what was promised to end has ended: an untrusted clock does not bring it forward, and no clock takes it back.
func (c *clock) best(now time.Time) time.Time {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.bad != nil || now.Before(c.base) {
		return c.base
	}
	return now
}

// accept takes a person's word.
func (c *clock) accept(at, recorded time.Time) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.base, c.since, c.recorded, c.bad = at, c.elapsed(), recorded, nil
}

// maxIntentSearch is how many of the log's last entries are looked at for an intent. Where there is none among them nothing was made for long.
const maxIntentSearch = 100_000

// remember takes up the time that the ledger vouches for. The ledger's own time never goes back: where a wrong clock ran ahead, it stays there until
// the right one has caught up, and until then only the time that somebody confirmed counts.
func (c *clock) remember(v *ledger.View) error {
	for index, n := v.Size(), 0; index > 0 && n < maxIntentSearch; n++ {
		index--
		e, err := v.Entry(index)
		if errors.Is(err, fs.ErrNotExist) {
			return nil
		}
		if err != nil {
			return err
		}
		if e.Kind != entryIntent {
			continue
		}
		c.mu.Lock()
		defer c.mu.Unlock()
		if e.Time.After(c.recorded) && e.Time.After(c.base) {
			c.base = e.Time
		}
		return nil
	}
	return nil
}

// clockEntry is the stored form of a person's word that the clock is right.
type clockEntry struct {
	At     time.Time `json:"at"`            // what it said, in whole milliseconds
	Base   time.Time `json:"base,omitzero"` // what it was held against
	Reason string    `json:"reason"`
	By     string    `json:"by"`
}

// clockAccepted is a clockEntry on its way to the clock.
type clockAccepted struct {
	clockEntry
	recorded time.Time
}

func (a *clockAccepted) read(_ *Issuer, _ *ledger.View, e ledger.Entry) error {
	a.recorded = e.Time
	return decodePayload(e, &a.clockEntry)
}

func (a *clockAccepted) enter(b *books) { b.clock.accept(a.At, a.recorded) }

// ClockTrusted says why nothing is issued by this clock: ErrClock, or nil. It looks at the clock anew.
func (i *Issuer) ClockTrusted() error { return i.books.clock.look(i.now()) }

// Time is the time of day, and no earlier than it was known to be; by it the certificates of stations are judged. Else a clock that went back to 1970 would
// tell every station that its certificate is not good, where it should tell that nothing is issued by this clock. One that went ahead is
// believed here: it lets nobody in.
func (i *Issuer) Time() time.Time {
	now := i.now()
	if base := i.books.clock.trusted(); now.Before(base) {
		return base
	}
	return now
}

// best is clock.best, now.
func (i *Issuer) best() time.Time { return i.books.clock.best(i.now()) }

// AcceptClock records somebody's word that the clock is right now, and issuing goes on. A clock that is trusted needs no word: nothing is recorded.
func (i *Issuer) AcceptClock(ctx context.Context, reason, by string) error {
	if err := checkText(reason, by); err != nil {
		return fmt.Errorf("accept clock: %w", err)
	}
	return i.act(ctx, func(o *owner, tx *ledger.Tx) (uint64, error) {
		now := o.now()
		if o.books.clock.look(now) == nil {
			return 0, nil
		}
		e := clockEntry{At: entryTime(now), Base: entryTime(o.books.clock.trusted()), Reason: reason, By: by}
		return put(tx, ledger.Draft{Kind: entryClock, Payload: payload(e), Heads: []string{"clock"}})
	})
}

func (c *clock) trusted() time.Time {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.base
}
