package hsm

import "time"

// maxLanes is how many signatures one process makes at a time at most.
const maxLanes = 32

// Measured is what one signature costs, from a key that lived for a moment in a session (never a CA's). Zero: the token makes no such keys.
type Measured struct {
	Wall time.Duration `json:"wall"` // until the module returned
	CPU  time.Duration `json:"cpu"`  // of this machine in that time
}

// resources is what a layout is made of.
type resources struct {
	cores    int
	signers  int // as configured; 0: we choose
	sessions int // that may be open at a time; 0: no limit known
	measured Measured
}

// layout is how many processes sign, and on how many sessions each.
type layout struct {
	Processes int
	Lanes     int // signatures at a time in one process
}

// sessions that crypto11 keeps open beside those it signs with, so that login and handles last.
const kept = 1

// plan fits processes and lanes into the sessions a token has. A token whose signatures are made on this machine's processors is served best by
// one lane a process: SoftHSM signs a fifth to a third faster from two processes than from any number of threads. One that signs elsewhere, while this
// machine waits, gets as many signatures at a time as its sessions allow.
func (r resources) plan() layout {
	parallel := r.cores
	if m := r.measured; m.Wall > time.Millisecond && m.CPU < m.Wall/4 {
		parallel = 2 * maxLanes
	}
	l := layout{Processes: r.signers}
	if l.Processes == 0 {
		l.Processes = min(r.cores, 4)
	}
	l.Lanes = min(max((parallel+l.Processes-1)/l.Processes, 1), maxLanes)
	if r.sessions == 0 {
		return l
	}
	l.Processes = max(min(l.Processes, r.sessions/(kept+1)), 1)
	l.Lanes = max(min(l.Lanes, r.sessions/l.Processes-kept), 1)
	return l
}

// deadlineFor is how long a call may take before its process is replaced: what is configured, else two seconds or what the measured rate makes long.
func deadlineFor(configured time.Duration, m Measured) time.Duration {
	if configured > 0 {
		return configured
	}
	return max(defaultDeadline, 20*m.Wall)
}
