package main

import (
	"os"
	"testing"

	"github.com/rogpeppe/go-internal/testscript"

	"github.com/certmill/certmill/internal/testdisk"
)

// TestMain lets the test binary be what the real one is: the command in scripts, and the keeper and signer processes it starts.
func TestMain(m *testing.M) {
	testdisk.ServeIfAsked()
	if code, child := runChild(os.Args); child {
		os.Exit(code)
	}
	testscript.Main(m, map[string]func(){"certmill": main})
}
