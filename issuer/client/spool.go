package client

import (
	"cmp"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"

	"github.com/certmill/certmill/internal/durable"
)

// Spool is a folder that keeps requests through an outage, and their answers until somebody has taken them. It may be used by several
// goroutines and by several processes at once: the worst that happens is that a request is sent twice, which is safe (promise P3).
//
//	waiting/00000007-6f2a….json    a request without an answer; numbered in the order of arrival
//	answered/00000007-6f2a….json   the same with its answer: a certificate, or a refusal that is final
//
// A request is on disk before it is sent, and its answer is on disk before the request is removed. After a crash between the two the
// request is asked again and gets the same answer.
type Spool struct {
	dir string
}

// Spooled is a request in a spool.
type Spooled struct {
	Name    string  `json:"-"` // of its file, in both folders
	Order   string  `json:"order"`
	Request Request `json:"request"`
	Line    *Line   `json:"line,omitempty"` // nil while it waits
}

const (
	waiting  = "waiting"
	answered = "answered"
)

// OpenSpool makes the folder where it is missing. CSRs are no secrets, but who is made when may be: it is open to its owner alone.
func OpenSpool(dir string) (*Spool, error) {
	for _, sub := range []string{waiting, answered} {
		if err := os.MkdirAll(filepath.Join(dir, sub), 0o700); err != nil {
			return nil, fmt.Errorf("spool: %w", err)
		}
	}
	return &Spool{dir: dir}, nil
}

// Add keeps a request, durably. A request that is there already, waiting or with a certificate, is found again; one that was refused waits
// anew, because whoever asks again has reason to hope.
func (s *Spool) Add(order string, r Request) (Spooled, error) {
	e := Spooled{Order: order, Request: r}
	text, err := json.Marshal(e)
	if err != nil {
		return e, err
	}
	sum := sha256.Sum256(text)
	id := hex.EncodeToString(sum[:16])
	last := 0
	for _, sub := range []string{answered, waiting} {
		names, err := s.names(sub)
		if err != nil {
			return e, err
		}
		for _, name := range names {
			last = max(last, number(name))
			if !strings.Contains(name, "-"+id) {
				continue
			}
			old, err := s.read(sub, name)
			if err != nil || old.Line == nil || old.Line.Problem == nil {
				return old, err
			}
			if err := s.Remove(name); err != nil {
				return old, err
			}
		}
	}
	e.Name = fmt.Sprintf("%08d-%s.json", last+1, id)
	return e, durable.WriteFile(s.path(waiting, e.Name), text, 0o600)
}

// Waiting lists the requests without an answer, oldest first.
func (s *Spool) Waiting() ([]Spooled, error) { return s.list(waiting) }

// Answered lists the requests whose answers nobody has taken, oldest first.
func (s *Spool) Answered() ([]Spooled, error) { return s.list(answered) }

// Find returns a request as it stands now.
func (s *Spool) Find(name string) (Spooled, error) {
	e, err := s.read(answered, name)
	if errors.Is(err, fs.ErrNotExist) {
		return s.read(waiting, name)
	}
	return e, err
}

// Remove forgets a request, once its answer is stored elsewhere or nobody wants it any more.
func (s *Spool) Remove(name string) error {
	for _, sub := range []string{waiting, answered} {
		if err := os.Remove(s.path(sub, name)); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return err
		}
	}
	return nil
}

// answer moves a request to its answer: the answer first. What another process has answered and taken meanwhile stays away.
func (s *Spool) answer(e Spooled, l Line) error {
	if _, err := os.Stat(s.path(waiting, e.Name)); errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	e.Line = &l
	text, err := json.Marshal(e)
	if err != nil {
		return err
	}
	if err := durable.WriteFile(s.path(answered, e.Name), text, 0o600); err != nil {
		return err
	}
	if err := os.Remove(s.path(waiting, e.Name)); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	return nil
}

// Replay asks for everything that waits in the spool, oldest first, each until it has an answer, and keeps the answers in the spool. The service may be away
// meanwhile: it waits for it until ctx ends; what has no answer by then goes on waiting. An error that is no refusal ends it.
func (c *Client) Replay(ctx context.Context, s *Spool) error {
	entries, err := s.Waiting()
	if err != nil {
		return err
	}
	for _, e := range entries {
		a, err := c.Issue(ctx, e.Order, e.Request)
		line := Line{Status: 201, Answer: a}
		var p *Problem
		switch {
		case errors.As(err, &p) && !p.Retryable && ctx.Err() == nil:
			line = Line{Status: p.Status, Answer: Answer{DeviceID: e.Request.DeviceID, ClientRef: e.Request.ClientRef}, Problem: p}
		case err != nil:
			return fmt.Errorf("%s: %w", e.Name, err)
		case a.Replayed:
			line.Status = 200
		}
		if err := s.answer(e, line); err != nil {
			return fmt.Errorf("keep the answer of %s: %w", e.Name, err)
		}
	}
	return nil
}

func (s *Spool) list(sub string) (all []Spooled, err error) {
	names, err := s.names(sub)
	if err != nil {
		return nil, err
	}
	for _, name := range names {
		e, err := s.read(sub, name)
		if errors.Is(err, fs.ErrNotExist) { // another process was faster
			continue
		}
		if err != nil {
			return nil, err
		}
		all = append(all, e)
	}
	return all, nil
}

// names are the files of a folder, oldest first. What we did not write, and what a crash left half written, has another form.
func (s *Spool) names(sub string) (names []string, err error) {
	files, err := os.ReadDir(filepath.Join(s.dir, sub))
	for _, f := range files {
		if number(f.Name()) > 0 {
			names = append(names, f.Name())
		}
	}
	slices.SortFunc(names, func(a, b string) int { return cmp.Or(cmp.Compare(number(a), number(b)), strings.Compare(a, b)) })
	return names, err
}

// number is the place of a file in the spool; 0 where it is none of ours.
func number(name string) int {
	digits, rest, _ := strings.Cut(name, "-")
	n, err := strconv.Atoi(digits)
	if err != nil || !strings.HasSuffix(rest, ".json") {
		return 0
	}
	return n
}

func (s *Spool) read(sub, name string) (Spooled, error) {
	e := Spooled{Name: name}
	text, err := os.ReadFile(s.path(sub, name))
	if err != nil {
		return e, err
	}
	if err := json.Unmarshal(text, &e); err != nil {
		return e, fmt.Errorf("spool file %s: %w", s.path(sub, name), err)
	}
	if sub == waiting {
		e.Line = nil
	}
	return e, nil
}

func (s *Spool) path(sub, name string) string { return filepath.Join(s.dir, sub, name) }
