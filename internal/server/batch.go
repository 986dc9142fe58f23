package server

import (
	"encoding/json"
	"iter"
	"net/http"

	"github.com/certmill/certmill/issuer/client"
)

// How many lines are under way at once, of one batch and of all that a station has sent: enough to fill a commit, few enough that
// the lines of one station neither stand before everybody else's nor fill the issuer's pool.
const (
	window        = 256
	stationWindow = 2 * window
)

// issueBatch answers each line in the order asked. The body is read as a whole first, because its number of lines
// decides about all of it, and because many clients read nothing before they have sent everything.
func (c *call) issueBatch() error {
	body, err := c.body(client.MaxBatch)
	if err != nil {
		return err
	}
	lines, err := readLines(body)
	if err != nil {
		return err
	}
	if _, err := c.drawable(); err != nil {
		return err
	}
	if err := c.s.gates.charge(c.station.Name, len(lines), c.s.Now()); err != nil {
		return err
	}
	c.w.Header().Set("Content-Type", client.TypeNDJSON)
	c.w.WriteHeader(http.StatusOK) // the request stands: from here on, a problem is a line's
	enc := json.NewEncoder(c.w)
	for answer := range c.answers(lines) {
		var line client.Line
		select {
		case line = <-answer:
		default: // the next answer takes its time: what is there goes out meanwhile
			_ = c.w.control.Flush() // fails where the next write fails
			line = <-answer
		}
		_ = enc.Encode(line) // the other side went away: the lines under way are finished all the same
	}
	return nil
}

// answers has the lines answered, at most window at a time and stationWindow together with the station's other batches, and
// yields a channel for each in the order asked. Whoever ranges over it and takes from every channel waits thereby for every
// goroutine started.
func (c *call) answers(lines [][]byte) <-chan chan client.Line {
	out := make(chan chan client.Line, window)
	places := c.s.gates.of(c.station.Name).lines
	go func() {
		defer close(out)
		for _, text := range lines {
			select {
			case places <- struct{}{}:
			case <-c.r.Context().Done():
				return
			}
			answer := make(chan client.Line, 1)
			go func() {
				answer <- c.line(text)
				<-places
			}()
			out <- answer
		}
	}()
	return out
}

// line answers one line: never nothing, whatever happens.
func (c *call) line(text []byte) (line client.Line) {
	var req client.Request
	err := c.s.guard(func() error {
		var err error
		if req, err = decodeLine(text); err != nil {
			return err
		}
		line.Answer, err = c.submit(req)
		return err
	})
	if err != nil {
		p := c.problem(err)
		return client.Line{
			Status:  p.Status,
			Answer:  client.Answer{DeviceID: req.DeviceID, ClientRef: req.ClientRef},
			Problem: &p,
		}
	}
	line.Status = http.StatusCreated
	if line.Answer.Replayed {
		line.Status = http.StatusOK
	}
	return line
}

// stream writes a sequence as NDJSON. An error before the first line is a problem; one behind it cuts the answer off, so
// that nobody takes it for a whole one.
func stream[T any](c *call, seq iter.Seq2[T, error]) error {
	enc := json.NewEncoder(c.w)
	c.w.Header().Set("Content-Type", client.TypeNDJSON)
	for v, err := range seq {
		if err != nil {
			return err
		}
		if enc.Encode(v) != nil {
			return nil // the other side went away
		}
	}
	if c.w.status == 0 {
		c.w.WriteHeader(http.StatusOK)
	}
	return nil
}
