package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"

	"github.com/certmill/certmill/issuer/client"
)

// bulkLines is how many requests travel together: enough that connection and commit no longer count, few enough that an answer never
// waits long.
const bulkLines = 200

// bulkRun is one run of issue --in.
type bulkRun struct {
	in           *bulkInput
	done         *bulkDone    // of the reader; rejects of the writer
	out, rejects *os.File     // rejects is nil where problems stand in out
	files        *deviceFiles // nil: no file for each device
	bar          *progress
	count        int // answers written by this run
}

func (e *env) issueBulk(ctx context.Context, cl *client.Client, o issueOptions) error {
	files, err := e.newDeviceFiles(ctx, cl, o)
	if err != nil {
		return err
	}
	run, closeAll, err := e.openBulkRun(o)
	if err != nil {
		return err
	}
	defer closeAll()
	run.files = files
	err = run.all(ctx, cl, o)
	run.bar.done()
	if ctx.Err() != nil {
		return fail(exitInterrupted, "run it again with --resume", "interrupted after %d answers", run.count)
	}
	if err != nil {
		return problemError(err)
	}
	e.talk("%d answers, %d refused in all", run.count, run.done.rejects)
	if run.done.rejects > 0 {
		return silent(exitPartly)
	}
	return nil
}

// openBulkRun opens the files and skips what earlier runs have done.
func (e *env) openBulkRun(o issueOptions) (*bulkRun, func(), error) {
	var files []*os.File
	closeAll := func() {
		for _, f := range files {
			f.Close()
		}
	}
	open := func(name string, flags int) (*os.File, error) {
		f, err := os.OpenFile(name, flags, modePublic)
		switch {
		case errors.Is(err, fs.ErrExist):
			return nil, fail(exitUsage, "add --resume to go on with it, or choose another name", "%s exists already", name)
		case err != nil:
			return nil, fail(exitUsage, "check the path", "%w", err)
		}
		files = append(files, f)
		return f, nil
	}
	flags := os.O_RDWR | os.O_CREATE
	if !o.Resume {
		flags |= os.O_EXCL
	}
	run := &bulkRun{}
	source, err := open(o.In, os.O_RDONLY)
	var lines int64
	if err == nil && e.interactive() {
		lines, err = countLines(source)
	}
	if err == nil {
		run.in, err = openBulk(o.In, source)
	}
	if err == nil {
		run.out, err = open(o.Out, flags)
	}
	if err == nil && o.Rejects != "" {
		run.rejects, err = open(o.Rejects, flags)
	}
	if err == nil {
		run.done, err = readDone(run.out, run.rejects)
	}
	if err == nil && run.rejects != nil {
		var again *os.File
		if again, err = open(o.Rejects, os.O_RDONLY); err == nil {
			err = run.done.follow(again)
		}
	}
	if err != nil {
		closeAll()
		return nil, nil, err
	}
	run.bar = e.newProgress("issue", lines-run.done.lines)
	return run, closeAll, nil
}

// bulkRequest is a request with its place in the input; a line that could not be read carries its problem already.
type bulkRequest struct {
	line    int
	request client.Request
	problem *client.Problem
}

// gather reads the next requests that no earlier run has answered.
func (r *bulkRun) gather() (batch []bulkRequest, more bool, err error) {
	for size := 0; len(batch) < bulkLines && size < client.MaxBatch-client.MaxLine; {
		req, err := r.in.next()
		var stop fatalError
		switch {
		case errors.Is(err, io.EOF):
			return batch, false, nil
		case errors.As(err, &stop):
			return nil, false, fmt.Errorf("read the input behind line %d: %w", r.in.line, stop.error)
		}
		if done, err := r.done.has(r.in.line); err != nil {
			return nil, false, err
		} else if done {
			continue
		}
		b := bulkRequest{line: r.in.line, request: req}
		if text, _ := json.Marshal(req); len(text) > client.MaxLine && err == nil {
			err = errLongRequest
		} else if err == nil {
			size += len(text) + 1
		}
		if err != nil {
			b.problem = &client.Problem{Code: client.CodeBodyMalformed, Status: 400, Title: "line cannot be read", Detail: err.Error()}
		}
		batch = append(batch, b)
	}
	return batch, true, nil
}

// sort appends an answer to what goes into its file.
func (r *bulkRun) sort(line int, l client.Line, out, rejects []byte) (newOut, newRejects []byte, err error) {
	if l.Problem != nil {
		r.done.rejects++
	}
	if l.Problem != nil && r.rejects != nil {
		b, err := rejectLine(line, l)
		return out, append(append(rejects, b...), '\n'), err
	}
	b, err := json.Marshal(l)
	return append(append(out, b...), '\n'), rejects, err
}

// write appends to the files, each synced before the next.
func (r *bulkRun) write(out, rejects []byte, n int) error {
	if r.rejects != nil {
		if _, err := r.rejects.Write(rejects); err != nil {
			return err
		}
		if err := r.rejects.Sync(); err != nil {
			return err
		}
	}
	if _, err := r.out.Write(out); err != nil {
		return err
	}
	r.count += n
	r.bar.add(n)
	return r.out.Sync()
}
