package main

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"

	"github.com/spf13/pflag"

	"github.com/certmill/certmill/internal/server"
)

// access says what a command does to the record when no serve is running.
type access struct {
	mode    plantMode
	offline *bool // the --offline flag; nil for commands that only read
}

// reads is the access of commands that change nothing: they work either way.
var reads = access{mode: forReading}

// addOffline is the flag of commands that change the record.
func addOffline(f *pflag.FlagSet) *bool {
	return f.Bool("offline", false, "work on the ledger itself while no certmill serve is running; the entry says so")
}

// admin runs f with the admin door: that of the running serve, or, where none is running, that of a plant opened in this process.
func (e *env) admin(ctx context.Context, a access, f func(context.Context, *server.AdminClient) error) error {
	cfg, err := e.loadConfig()
	if err != nil {
		return err
	}
	remote := server.NewAdminClient(socketPath(cfg.path(cfg.Listen.Admin)))
	defer remote.Close()
	_, err = remote.Frozen(ctx) // the cheapest question: is anybody there?
	switch {
	case err == nil:
		return problemError(f(ctx, remote))
	case errors.Is(err, fs.ErrPermission):
		return fail(exitNotAllowed, "run it as the user of certmill serve, or as root", "admin socket: %w", err)
	case !errors.Is(err, server.ErrNotServing):
		return problemError(err)
	case a.offline != nil && !*a.offline:
		return fail(exitTryAgain, "start certmill serve, or add --offline to work on the ledger itself", "%w", server.ErrNotServing)
	}
	return e.offlineAdmin(ctx, cfg, a, f)
}

// offlineAdmin opens the plant in this process. Only who owns the ledger may change it.
func (e *env) offlineAdmin(ctx context.Context, cfg *Config, a access, f func(context.Context, *server.AdminClient) error) error {
	if err := ownsLedger(cfg); err != nil && a.mode != forReading {
		return err
	}
	p, err := openPlant(ctx, cfg, a.mode, e.warnings())
	if err != nil {
		return err
	}
	srv, err := server.New(p.serverConfig())
	if err != nil {
		return errors.Join(err, p.Close())
	}
	local := server.InProcess(srv.Admin(), fmt.Sprintf("offline:%d", os.Getuid()))
	if a.mode == forReading {
		return errors.Join(problemError(f(ctx, local)), p.Close())
	}
	issuing, stop := context.WithCancel(context.WithoutCancel(ctx))
	ended := make(chan error, 1)
	go func() { ended <- p.issuer.Run(issuing) }()
	err = problemError(f(ctx, local))
	stop()
	if failed := ignoreCancel(<-ended); failed != nil {
		err = fail(exitStorage, hintStorage, "%w", failed)
	}
	return errors.Join(err, p.Close())
}
