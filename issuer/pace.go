package issuer

import "time"

// paceMinutes is how far back a rate looks: long enough to bridge a change of trays, short enough to notice that the line stands.
const paceMinutes = 15

// pace counts what an order made in each of the last minutes. Guarded by books.mu.
type pace struct {
	first   int64 // minute of the first unit
	minutes [paceMinutes]struct {
		at int64 // minutes since 1970
		n  uint64
	}
}

func minute(t time.Time) int64 { return t.Unix() / 60 }

func (p *pace) count(now time.Time) {
	at := minute(now)
	if p.first == 0 {
		p.first = at
	}
	m := &p.minutes[uint64(at)%paceMinutes]
	if m.at != at {
		m.at, m.n = at, 0
	}
	m.n++
}

// perHour is the rate over the last minutes, or over those since the first unit. The minute that runs counts as a whole one.
func (p *pace) perHour(now time.Time) float64 {
	at := minute(now)
	var n uint64
	for _, m := range p.minutes {
		if at-paceMinutes < m.at && m.at <= at {
			n += m.n
		}
	}
	since := min(paceMinutes, max(1, at-p.first+1))
	return float64(n) * 60 / float64(since)
}

// forecast is when quantity is made at a rate; never where nothing is left or nothing is made.
func forecast(quantity, issued uint64, perHour float64, now time.Time) time.Time {
	if issued >= quantity || perHour == 0 {
		return time.Time{}
	}
	hours := float64(quantity-issued) / perHour
	if hours > 24*365*100 { // past what a time.Duration holds, and past anybody's plans
		return time.Time{}
	}
	return now.Add(time.Duration(hours * float64(time.Hour))).UTC().Truncate(time.Minute)
}
