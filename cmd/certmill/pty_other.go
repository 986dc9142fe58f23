//go:build !linux

package main

import (
	"errors"
	"os/exec"
)

func runAtTerminal(*exec.Cmd, ...string) error {
	return errors.New("making a token needs Linux; make it by hand and name it with --module, --token and --pin-file")
}
