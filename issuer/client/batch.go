package client

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"iter"
	"net/http"
)

// IssueBatch asks for many certificates of an order in one request, at most MaxLines and MaxBatch octets. It yields one
// line for each request, in the order asked, as answers arrive; a refused line carries its problem. Lines that may
// succeed later are asked again until ctx ends, the lines behind them wait their turn, and when ctx ends they are yielded with
// their last problem. An error ends the sequence: a *Problem where it concerns the whole request.
func (c *Client) IssueBatch(ctx context.Context, order string, reqs []Request) iter.Seq2[Line, error] {
	return func(yield func(Line, error) bool) {
		b := &batch{reqs: reqs, lines: make([]Line, len(reqs)), yield: yield}
		err := retry(ctx, func() error { return c.round(ctx, order, b) })
		if b.stopped {
			return
		}
		if ctx.Err() != nil {
			b.flush(true)
		}
		if b.next < len(reqs) && !b.stopped {
			yield(Line{}, err)
		}
	}
}

// batch is what is known of a batch's lines.
type batch struct {
	reqs    []Request
	lines   []Line // Status 0: not answered yet
	next    int    // lines before it were yielded
	yield   func(Line, error) bool
	stopped bool // the caller wants no more
}

// settled says whether asking again for line i would change nothing.
func (b *batch) settled(i int) bool {
	l := b.lines[i]
	return l.Status != 0 && (l.Problem == nil || !l.Problem.Retryable)
}

// flush yields what is settled, up to the first line that is not; at the end also what was answered but not settled.
func (b *batch) flush(end bool) {
	for b.next < len(b.lines) && !b.stopped {
		if !b.settled(b.next) && (!end || b.lines[b.next].Status == 0) {
			return
		}
		b.stopped = !b.yield(b.lines[b.next], nil)
		b.next++
	}
}

// open lists the lines to ask for, and writes them.
func (b *batch) open() (at []int, body []byte, err error) {
	var buf bytes.Buffer
	enc := json.NewEncoder(&buf)
	for i := b.next; i < len(b.reqs); i++ {
		if b.settled(i) {
			continue
		}
		if err := enc.Encode(b.reqs[i]); err != nil {
			return nil, nil, &permanent{fmt.Errorf("request %d: %w", i+1, err)}
		}
		at = append(at, i)
	}
	return at, buf.Bytes(), nil
}

// round asks once for every open line. nil means that nothing is left to ask.
func (c *Client) round(ctx context.Context, order string, b *batch) error {
	at, body, err := b.open()
	if err != nil || len(at) == 0 {
		return err
	}
	res, err := c.do(ctx, http.MethodPost, certificatesPath(order), TypeNDJSON, body)
	if err != nil {
		return err
	}
	defer res.Body.Close()
	var later *Problem // the one that asks for the longest pause
	in := bufio.NewReader(res.Body)
	for _, i := range at {
		if err := b.read(in, i); err != nil {
			return err
		}
		if b.stopped {
			return nil
		}
		if p := b.lines[i].Problem; p != nil && p.Retryable && (later == nil || p.RetryAfter > later.RetryAfter) {
			later = p
		}
	}
	if later != nil {
		return later
	}
	_, err = io.Copy(io.Discard, io.LimitReader(in, 1)) // to the stream's end, so that the connection can be used again
	return err
}

// read takes the answer to line i from the stream.
func (b *batch) read(in *bufio.Reader, i int) error {
	text, err := in.ReadBytes('\n')
	if err != nil {
		if errors.Is(err, io.EOF) {
			err = io.ErrUnexpectedEOF // the service went away in the middle: the rest is asked again
		}
		return fmt.Errorf("answer %d: %w", i+1, err)
	}
	if err := json.Unmarshal(text, &b.lines[i]); err != nil {
		return &permanent{fmt.Errorf("answer %d: %w", i+1, err)}
	}
	b.flush(false)
	return nil
}
