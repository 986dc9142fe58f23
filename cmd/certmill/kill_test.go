package main

import (
	"math/rand/v2"
	"strings"
	"testing"
	"time"
)

// killing runs a command and kills it, again and again, until a run ends by itself.
type killing struct {
	within time.Duration                    // the first run is killed at some moment within it
	later  time.Duration                    // and each next one within so much more: on a busy machine a start alone takes longer than the first limit
	most   int                              // runs that are killed; the next one is left alone. 0: all, and 500 kills mean that it never ends
	ends   func(code int, talk string) bool // whether there is nothing left to do, beside exitDone of a run that was left alone; nil: exitDone
	each   func()                           // looks at what a run has left; nil: nobody does
}

// run returns how often the command was killed.
func (k killing) run(t testing.TB, args ...string) (kills int) {
	t.Helper()
	for runs := 0; ; runs++ {
		alone := k.most > 0 && runs >= k.most
		code, talk := k.once(t, runs, alone, args)
		if k.each != nil {
			k.each()
		}
		switch {
		case code == exitDone && (alone || k.ends == nil), k.ends != nil && k.ends(code, talk):
			return kills
		case code == -1 && !alone:
			kills++
		case code != exitDone:
			t.Fatalf("certmill %s, after %d kills: exit %d\n%s", strings.Join(args, " "), kills, code, talk)
		}
		if kills > 500 {
			t.Fatalf("certmill %s: 500 kills and not done: it does not go on where it was", strings.Join(args, " "))
		}
	}
}

func (k killing) once(t testing.TB, runs int, alone bool, args []string) (code int, talk string) {
	t.Helper()
	c, log := command(t, args...), &lockedBuffer{}
	c.Stdout, c.Stderr = log, log
	if err := c.Start(); err != nil {
		t.Fatal(err)
	}
	if !alone {
		timer := time.AfterFunc(rand.N(k.within+time.Duration(runs)*k.later), func() { c.Process.Kill() })
		defer timer.Stop()
	}
	c.Wait()
	return c.ProcessState.ExitCode(), log.String()
}
