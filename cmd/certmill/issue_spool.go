package main

import (
	"context"
	"errors"
	"fmt"
	"io/fs"

	"github.com/certmill/certmill/issuer/client"
)

// askSpooled asks for one certificate. With a spool, the request is kept first, and what waits there already goes before it; taken forgets it,
// and is called once its answer is stored.
func askSpooled(ctx context.Context, cl *client.Client, o issueOptions, r client.Request) (a client.Answer, taken func() error, err error) {
	if o.Spool == "" {
		a, err = cl.Issue(ctx, o.Order, r)
		return a, func() error { return nil }, err
	}
	s, err := openSpool(o.Spool)
	if err != nil {
		return a, nil, err
	}
	e, err := s.Add(o.Order, r)
	if err != nil {
		return a, nil, fail(exitStorage, "", "keep the request: %w", err)
	}
	if e.Line == nil {
		if err := cl.Replay(ctx, s); err != nil {
			return a, nil, fmt.Errorf("kept in %s: %w", o.Spool, err)
		}
		e, err = s.Find(e.Name)
		if errors.Is(err, fs.ErrNotExist) { // another process has asked the same and taken the answer
			a, err = cl.Issue(ctx, o.Order, r)
			return a, func() error { return nil }, err
		}
		if err != nil {
			return a, nil, err
		}
	}
	if e.Line.Problem != nil {
		return a, nil, e.Line.Problem // it stays in the spool as refused; asking again asks again
	}
	return e.Line.Answer, func() error { return s.Remove(e.Name) }, nil
}

func openSpool(dir string) (*client.Spool, error) {
	s, err := client.OpenSpool(dir)
	if err != nil {
		return nil, fail(exitUsage, "check the path of --spool, or of spool: in station.yaml", "%w", err)
	}
	return s, nil
}

// replaySpool sends what waits in the spool and prints what stands there answered.
func (e *env) replaySpool(ctx context.Context, cl *client.Client, o issueOptions) error {
	if o.Spool == "" {
		return fail(exitUsage, "name it with --spool, or with spool: in station.yaml", "there is no spool")
	}
	s, err := openSpool(o.Spool)
	if err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(ctx, o.Wait)
	defer cancel()
	failed := cl.Replay(ctx, s)
	all, err := s.Answered()
	if err != nil {
		return err
	}
	refused := false
	for _, a := range all {
		refused = refused || a.Line.Problem != nil
	}
	if err := printList(e, all, "ORDER DEVICE STATUS SERIAL CODE", spooledRow); err != nil {
		return err
	}
	switch {
	case failed != nil:
		return problemError(failed)
	case refused:
		return silent(exitPartly)
	}
	return nil
}

func spooledRow(a client.Spooled) []string {
	code := "-"
	if a.Line.Problem != nil {
		code = a.Line.Problem.Code
	}
	return []string{a.Order, a.Line.Answer.DeviceID, number(uint64(a.Line.Status)), a.Line.Answer.Serial, code}
}
