package main

import (
	"os/exec"
	"testing"

	"github.com/rogpeppe/go-internal/testscript"
)

// TestScripts runs testdata/script/*.txtar: the commands as people type them. `plant DIR` makes a plant with three CAs and free ports;
// `[softhsm]` holds where a token can be made.
func TestScripts(t *testing.T) {
	testscript.Run(t, testscript.Params{
		Dir: "testdata/script",
		Condition: func(name string) (bool, error) {
			if name != "softhsm" {
				return false, nil
			}
			_, err := exec.LookPath("softhsm2-util")
			return err == nil, nil
		},
		Cmds: map[string]func(*testscript.TestScript, bool, []string){
			"plant":    func(ts *testscript.TestScript, _ bool, args []string) { makeScriptPlant(ts, t, args[0]) },
			"exitcode": exitCode,
		},
	})
}

// makeScriptPlant makes a plant for a script.
func makeScriptPlant(ts *testscript.TestScript, t *testing.T, dir string) {
	p := newTestPlant(t)
	ts.Check(ts.Exec("cp", "-a", p.dir, ts.MkAbs(dir))) // with its modes: the secrets in it must stay closed
}

// exitCode runs certmill and wants a given exit code: exitcode 64 certmill issue …
func exitCode(ts *testscript.TestScript, _ bool, args []string) {
	want := args[0]
	err := ts.Exec(args[1], args[2:]...)
	got := "0"
	if err != nil {
		exit, ok := err.(*exec.ExitError)
		if !ok {
			ts.Fatalf("%v", err)
		}
		got = number(uint64(exit.ExitCode()))
	}
	if got != want {
		ts.Fatalf("exit %s, want %s", got, want)
	}
}
