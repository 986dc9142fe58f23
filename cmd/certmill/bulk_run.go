package main

import (
	"context"
	"sync"

	"github.com/certmill/certmill/issuer/client"
)

// A bulk run has one reader, --parallel askers and one writer. Batches are answered in any order and written in the order of the input: a slot is put
// into the queue before its batch is handed to an asker, and the writer waits for the slots one after another. Queue and askers bound what is in memory,
// and the first error ends all of them.

// maxParallel bounds --parallel: as many connections as the client keeps.
const maxParallel = 128

// slot is a batch on its way.
type slot struct {
	batch []bulkRequest
	lines []client.Line // of the whole batch; set before ready is closed
	err   error         // set before ready is closed
	ready chan struct{}
}

// all answers everything that no earlier run has answered.
func (r *bulkRun) all(ctx context.Context, cl *client.Client, o issueOptions) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	queue, jobs := make(chan *slot, o.Parallel), make(chan *slot)
	var work sync.WaitGroup
	var readErr error // of the reader; read after work has ended
	work.Go(func() {
		defer close(queue)
		defer close(jobs)
		readErr = r.read(ctx, queue, jobs)
	})
	for range o.Parallel {
		work.Go(func() {
			for s := range jobs {
				if s.lines, s.err = ask(ctx, cl, o, s.batch); s.err == nil {
					s.err = r.files.write(s.lines)
				}
				close(s.ready)
			}
		})
	}
	err := r.writeSlots(queue)
	cancel()
	for range queue { // what is behind an error is asked again by the next run, and gets the same answers
	}
	work.Wait()
	if err == nil {
		err = readErr
	}
	return err
}

// read hands out the batches until the input or ctx ends.
func (r *bulkRun) read(ctx context.Context, queue, jobs chan<- *slot) error {
	for more := true; more; {
		var batch []bulkRequest
		var err error
		if batch, more, err = r.gather(); err != nil {
			return err
		}
		if len(batch) == 0 {
			continue
		}
		s := &slot{batch: batch, ready: make(chan struct{})}
		for _, to := range []chan<- *slot{queue, jobs} {
			select {
			case to <- s:
			case <-ctx.Done():
				if to == jobs { // the writer may be waiting for it already
					s.err = context.Cause(ctx)
					close(s.ready)
				}
				return nil
			}
		}
	}
	return nil
}

// writeSlots writes the batches as they come, in order, until the first that has no answers.
func (r *bulkRun) writeSlots(queue <-chan *slot) error {
	for s := range queue {
		<-s.ready
		if s.err != nil {
			return s.err
		}
		if err := r.writeBatch(s); err != nil {
			return err
		}
	}
	return nil
}

// ask gets the answers to a batch. A line that is still refused for now after --wait means that the service is away: nothing of the batch is kept, and
// --resume asks again.
func ask(ctx context.Context, cl *client.Client, o issueOptions, batch []bulkRequest) ([]client.Line, error) {
	var asked []client.Request
	for _, b := range batch {
		if b.problem == nil {
			asked = append(asked, b.request)
		}
	}
	ctx, cancel := context.WithTimeout(ctx, o.Wait)
	defer cancel()
	answers := make([]client.Line, 0, len(asked))
	for line, err := range cl.IssueBatch(ctx, o.Order, asked) {
		if err != nil {
			return nil, err
		}
		if line.Problem != nil && line.Problem.Retryable {
			return nil, line.Problem
		}
		answers = append(answers, line)
	}
	lines := make([]client.Line, len(batch))
	for i, b := range batch {
		if b.problem != nil {
			lines[i] = client.Line{Status: b.problem.Status, Answer: client.Answer{DeviceID: b.request.DeviceID}, Problem: b.problem}
			continue
		}
		lines[i], answers = answers[0], answers[1:]
	}
	return lines, nil
}

// writeBatch writes a batch's rejects, then its certificates, so that bulkDone.has can tell what was done.
func (r *bulkRun) writeBatch(s *slot) (err error) {
	var out, rejects []byte
	for i, l := range s.lines {
		if out, rejects, err = r.sort(s.batch[i].line, l, out, rejects); err != nil {
			return err
		}
	}
	return r.write(out, rejects, len(s.batch))
}
