//go:build unix

package hsmtest

import (
	"fmt"
	"iter"
	"math/rand/v2"
	"time"
)

// Step is one fault of a schedule: wait, then do.
type Step struct {
	After time.Duration
	Name  string
	Do    func(*Faults)
}

// Codes that tokens give at odd moments.
const (
	ckrGeneralError         = 0x05
	ckrFunctionFailed       = 0x06
	ckrDeviceError          = 0x30
	ckrDeviceMemory         = 0x31
	ckrDeviceRemoved        = 0x32
	ckrSessionHandleInvalid = 0xb3
)

// Schedule is an endless series of faults, the same for the same seed: log the seed. Every fault passes within 100 ms or strikes a few
// calls only; Clear ends those that still wait for their calls. None is a wrong PIN.
func Schedule(seed uint64) iter.Seq[Step] {
	return func(yield func(Step) bool) {
		r := rand.New(rand.NewPCG(seed, seed))
		for {
			s := kinds[r.IntN(len(kinds))](r)
			s.After = time.Duration(r.IntN(100)) * time.Millisecond
			if !yield(s) {
				return
			}
		}
	}
}

// kinds draw the details of a fault.
var kinds = []func(r *rand.Rand) Step{
	func(r *rand.Rand) Step {
		d := time.Duration(r.IntN(100)) * time.Millisecond
		return Step{Name: "reboot, away for " + d.String(), Do: func(f *Faults) { f.Reboot(d) }}
	},
	func(*rand.Rand) Step { return Step{Name: "lose sessions", Do: (*Faults).LoseSessions} },
	func(*rand.Rand) Step { return Step{Name: "lose logins", Do: (*Faults).LoseLogins} },
	func(*rand.Rand) Step {
		return Step{Name: "hang for ever in one signature", Do: func(f *Faults) { f.Hang(Sign, Next(1), Forever) }}
	},
	func(*rand.Rand) Step {
		return Step{Name: "crash in one signature", Do: func(f *Faults) { f.Crash(Sign, Next(1)) }}
	},
	func(r *rand.Rand) Step {
		n := 1 + r.IntN(5)
		return Step{Name: fmt.Sprintf("corrupt %d signatures", n), Do: func(f *Faults) { f.Corrupt(Next(n), 1, 0) }}
	},
	failure(Sign, "sign", ckrDeviceError, ckrDeviceMemory, ckrDeviceRemoved, ckrFunctionFailed, ckrSessionHandleInvalid),
	failure(SignInit, "sign init", ckrDeviceError, ckrGeneralError),
	failure(OpenSession, "open session", ckrGeneralError, ckrDeviceRemoved),
	failure(Login, "login", ckrGeneralError, ckrDeviceError),
	failure(Find, "find", ckrGeneralError, ckrDeviceError),
	failure(GetAttribute, "get attribute", ckrDeviceError),
}

// failure draws a code that the next few calls of a function return.
func failure(fn Function, name string, codes ...uint) func(*rand.Rand) Step {
	return func(r *rand.Rand) Step {
		code, n := codes[r.IntN(len(codes))], 1+r.IntN(3)
		return Step{Name: fmt.Sprintf("%d times %s: %#x", n, name, code), Do: func(f *Faults) { f.Return(fn, Next(n), code) }}
	}
}
