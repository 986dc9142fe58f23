package main

import (
	"context"
	"fmt"
	"io"
	"log/slog"
	"os"
	"os/signal"
	"runtime/debug"
	"syscall"
)

func main() {
	debug.SetTraceback("crash") // a panic must not look like exit 2 ("differences"): it ends by SIGABRT
	if err := noCoreFiles(); err != nil {
		fmt.Fprintln(os.Stderr, "certmill:", err)
		os.Exit(exitFailed)
	}
	os.Exit(mainExit())
}

func mainExit() int {
	if code, child := runChild(os.Args); child {
		return code
	}
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	e := &env{stdin: os.Stdin, stdout: os.Stdout, stderr: os.Stderr, getenv: os.Getenv}
	return run(ctx, e, os.Args[1:])
}

// env is what a command gets from outside: streams, environment and the flags that every command has.
type env struct {
	stdin          io.Reader
	stdout, stderr io.Writer // data; talk
	getenv         func(string) string

	config string // -c: path of certmill.yaml or station.yaml; "" means the default places
	output string // -o: table, json or jsonl

	logLevel slog.Level // --log-level
}
