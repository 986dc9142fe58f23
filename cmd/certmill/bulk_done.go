package main

import (
	"bufio"
	"bytes"
	"container/heap"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"

	"github.com/certmill/certmill/issuer/client"
)

// bulkDone is what earlier runs have written. It takes the same memory however much that is.
type bulkDone struct {
	answers int64 // lines of --out that has has not yet given away
	lines   int64 // of both files together
	rejects int64 // problems in either file

	rejected *bufio.Scanner // the rest of --rejects; nil: none, or at its end
	ahead    lineHeap       // input lines read from it, the smallest first
}

// rejectsAhead is how many lines of --rejects are looked at together. Rejects are written in the order of the input, but after a crash a run begins
// anew with lines of the last batch, whose later rejects may be on disk already: no reject stands more than a batch before its place.
const rejectsAhead = bulkLines + 1

// has decides whether a request was answered by an earlier run. Requests must be asked about in their order. It is exact because the
// rejects of a batch are on disk before its certificates: what is in neither file comes after everything that is.
func (d *bulkDone) has(line int) (bool, error) {
	if err := d.fill(); err != nil {
		return false, err
	}
	switch {
	case len(d.ahead) > 0 && d.ahead[0] < line:
		return false, fail(exitUsage, "is --in the file of the first run?", "--rejects names line %d, which holds no request", d.ahead[0])
	case len(d.ahead) > 0 && d.ahead[0] == line:
		heap.Pop(&d.ahead)
		return true, nil
	}
	if d.answers > 0 {
		d.answers--
		return true, nil
	}
	return false, nil
}

// fill reads --rejects until enough of it is ahead.
func (d *bulkDone) fill() error {
	for d.rejected != nil && len(d.ahead) < rejectsAhead {
		if !d.rejected.Scan() {
			err := d.rejected.Err()
			d.rejected = nil
			return err
		}
		var r struct{ Line int }
		if err := json.Unmarshal(d.rejected.Bytes(), &r); err != nil {
			return fmt.Errorf("read the rejects again: %w", err)
		}
		heap.Push(&d.ahead, r.Line)
	}
	return nil
}

// follow gives has the rejects of earlier runs, from a file of its own, up to where it ends now.
func (d *bulkDone) follow(rejects *os.File) error {
	info, err := rejects.Stat()
	if err != nil {
		return err
	}
	d.rejected = bufio.NewScanner(io.LimitReader(rejects, info.Size()))
	d.rejected.Buffer(nil, maxAnswerLine)
	return nil
}

// maxAnswerLine is more than any line that we write: a request of client.MaxLine is echoed in parts at most.
const maxAnswerLine = 1 << 20

// lineHeap is a heap of input lines (container/heap).
type lineHeap []int

func (h lineHeap) Len() int           { return len(h) }
func (h lineHeap) Less(i, j int) bool { return h[i] < h[j] }
func (h lineHeap) Swap(i, j int)      { h[i], h[j] = h[j], h[i] }
func (h *lineHeap) Push(x any)        { *h = append(*h, x.(int)) }
func (h *lineHeap) Pop() any {
	last := (*h)[len(*h)-1]
	*h = (*h)[:len(*h)-1]
	return last
}

// readDone counts what earlier runs have written and cuts off a torn last line.
func readDone(out, rejects *os.File) (*bulkDone, error) {
	d := &bulkDone{}
	err := wholeLines(out, `{"status":`, func(line []byte) error {
		d.answers++
		if !bytes.HasPrefix(line, []byte(`{"status":2`)) {
			d.rejects++
		}
		return nil
	})
	d.lines = d.answers
	if err != nil || rejects == nil {
		return d, err
	}
	err = wholeLines(rejects, `{"line":`, func([]byte) error {
		d.rejects++
		d.lines++
		return nil
	})
	return d, err
}

// wholeLines calls f with each line that ends in a newline, truncates the file behind the last of them and leaves it there. A file with a
// line that does not begin as ours do is somebody else's: nothing is cut off that.
func wholeLines(f *os.File, begin string, each func([]byte) error) error {
	var whole int64
	r := bufio.NewReader(f)
	for n := 1; ; n++ {
		line, err := r.ReadBytes('\n')
		torn := errors.Is(err, io.EOF)
		if err != nil && !torn {
			return err
		}
		if common := min(len(line), len(begin)); string(line[:common]) != begin[:common] {
			return fail(exitUsage, "choose another name", "%s, line %d: not written by certmill issue", f.Name(), n)
		}
		if torn {
			break
		}
		if err := each(line); err != nil {
			return fail(exitUsage, "choose another name", "%s, line %d: not written by certmill issue: %w", f.Name(), n, err)
		}
		whole += int64(len(line))
	}
	if err := f.Truncate(whole); err != nil {
		return err
	}
	_, err := f.Seek(whole, io.SeekStart)
	return err
}

// rejectLine is a problem with its place in the input.
func rejectLine(line int, l client.Line) ([]byte, error) {
	b, err := json.Marshal(l)
	if err != nil {
		return nil, err
	}
	return append(fmt.Appendf(nil, `{"line":%d,`, line), b[1:]...), nil
}
