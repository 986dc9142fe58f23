package issuer

import (
	"cmp"
	"maps"
	"slices"
	"time"
)

// The pause before the next try of a job doubles from the first to the last.
const (
	firstRetry = 100 * time.Millisecond
	lastRetry  = 5 * time.Second
)

// fail tells those who wait that there is no signature now, and plans the next try of the same TBS.
func (o *owner) fail(j *job, err error) {
	for _, r := range j.waiters {
		r.answers <- answer{err: signError(err)}
	}
	j.waiters = nil
	j.due = o.now().Add(min(firstRetry<<min(j.attempts, 10), lastRetry))
	j.attempts++
	j.lane.failed++
	o.failed[j.index] = j
	o.arm(j.due)
}

// arm sets the alarm for the earliest try.
func (o *owner) arm(due time.Time) {
	if o.alarm == nil || due.Before(o.alarmAt) {
		o.alarmAt, o.alarm = due, o.after(due.Sub(o.now()))
	}
}

// retry is called by the alarm.
func (o *owner) retry() {
	o.alarm = nil
	now := o.now()
	for _, j := range slices.SortedFunc(maps.Values(o.failed), func(a, b *job) int { return cmp.Compare(a.index, b.index) }) {
		if j.due.After(now) {
			o.arm(j.due)
		} else {
			o.wake(j)
		}
	}
}

// wake has a failed job tried again.
func (o *owner) wake(j *job) {
	if o.failed[j.index] == nil {
		return
	}
	delete(o.failed, j.index)
	j.lane.failed--
	o.enqueue(j)
}

// wakeAll has every failed job tried again, the oldest first.
func (o *owner) wakeAll() {
	for _, index := range slices.Sorted(maps.Keys(o.failed)) {
		o.wake(o.failed[index])
	}
}
