package server

import (
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"net/http"
	"path"
	"runtime/debug"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/certmill/certmill/issuer"
	"github.com/certmill/certmill/issuer/client"
)

// handler answers one call: with an answer, or with an error that becomes a problem.
type handler func(c *call) error

// methods of one path.
type methods map[string]handler

// door is one listener's handler: what it routes, and whom it lets in.
type door struct {
	s     *Server
	name  string
	admit func(c *call) (leave func(), err error)
	mux   *http.ServeMux
}

// newDoor routes paths to methods. The mux only finds the path: it would answer a wrong method or a missing page
// in a way that is not ours.
func (s *Server) newDoor(name string, admit func(*call) (func(), error), routes map[string]methods) *door {
	d := &door{s: s, name: name, admit: admit, mux: http.NewServeMux()}
	for pattern, m := range routes {
		d.mux.HandleFunc(pattern, func(w http.ResponseWriter, r *http.Request) { d.serve(w, r, m) })
	}
	d.mux.HandleFunc("/", d.nothing)
	return d
}

// everybody is the admission of a door without a lock.
func everybody(*call) (leave func(), err error) { return func() {}, nil }

// ServeHTTP implements http.Handler.
func (d *door) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	if !strings.HasPrefix(r.URL.Path, "/") || path.Clean(r.URL.Path) != r.URL.Path {
		d.nothing(w, r) // the mux would redirect
		return
	}
	d.mux.ServeHTTP(w, r)
}

func (d *door) nothing(w http.ResponseWriter, r *http.Request) { d.serve(w, r, nil) }

// call is one request on its way through a door.
type call struct {
	s       *Server
	w       *writer
	r       *http.Request
	id      string
	station issuer.Station // who asks, at the stations' door
	actor   string         // who asks, at the admin door
	reading bool           // the body was asked for
}

// serve gives a call its id, and its error the form of a problem.
func (d *door) serve(w http.ResponseWriter, r *http.Request, m methods) {
	c := &call{s: d.s, r: r, id: d.s.run + "-" + strconv.FormatUint(d.s.calls.Add(1), 36)}
	c.w = &writer{ResponseWriter: w, control: http.NewResponseController(w), c: c}
	c.w.patient()
	if r.Body == http.NoBody {
		c.received()
	}
	err := d.s.guard(func() error { return d.answer(c, m) })
	if err != nil {
		c.refuse(err)
	}
	d.s.metrics.request(d.name, c.w.status)
}

// answer lets a call in and hands it to its method.
func (d *door) answer(c *call, m methods) error {
	leave, err := d.admit(c)
	if err != nil {
		return err
	}
	defer leave()
	if m == nil {
		return refuse(client.CodeNotFound, "no such path")
	}
	method := c.r.Method
	if method == http.MethodHead {
		method = http.MethodGet
	}
	h := m[method]
	if h == nil {
		c.w.Header().Set("Allow", strings.Join(slices.Sorted(maps.Keys(m)), ", "))
		return refuse(client.CodeMethod, "%s is not for this address", c.r.Method)
	}
	return h(c)
}

// errPanic is what a panic in a handler becomes.
var errPanic = errors.New("panic")

// guard turns a panic into an error with the stack, for the log alone: nobody else is told the text of such an error.
func (s *Server) guard(f func() error) (err error) {
	defer func() {
		if v := recover(); v != nil {
			s.metrics.panics.Inc()
			err = fmt.Errorf("%w: %v\n%s", errPanic, v, debug.Stack())
		}
	}()
	return f()
}

// refuse answers with a problem. Where an answer has begun already it is cut off, so that nobody takes it for a whole one.
func (c *call) refuse(err error) {
	p := c.problem(err)
	if c.w.status != 0 {
		panic(http.ErrAbortHandler)
	}
	c.drain()
	if p.RetryAfter > 0 {
		c.w.Header().Set("Retry-After", strconv.Itoa(p.RetryAfter))
	}
	c.w.Header().Set("Cache-Control", "no-store")
	c.sendJSON(p.Status, client.TypeProblem, p)
}

// problem makes, counts and logs a problem: a call that is refused or a line of one.
func (c *call) problem(err error) client.Problem {
	p := c.s.problemOf(c, err)
	c.s.metrics.refused.WithLabelValues(p.Code).Inc()
	c.refused(p.Code)
	level := slog.LevelInfo
	if p.Status >= http.StatusInternalServerError {
		level = slog.LevelError
	}
	c.s.log.Log(c.r.Context(), level, "refused", "request", c.id, "code", p.Code, "method", c.r.Method, "path", c.r.URL.Path,
		"station", c.station.Name, "actor", c.actor, "error", err)
	return p
}

// sendJSON answers with one JSON value.
func (c *call) sendJSON(status int, contentType string, v any) {
	b, err := json.Marshal(v)
	if err != nil {
		panic(fmt.Sprintf("server: encode %T: %v", v, err)) // our own types always encode
	}
	c.send(status, contentType, append(b, '\n'))
}

// send answers with a whole body. An error of the write is the other side's: it went away.
func (c *call) send(status int, contentType string, body []byte) {
	h := c.w.Header()
	h.Set("Content-Type", contentType)
	h.Set("Content-Length", strconv.Itoa(len(body)))
	c.w.WriteHeader(status)
	if _, err := c.w.Write(body); err != nil {
		c.s.log.Debug("answer not taken", "request", c.id, "error", err)
	}
}

// received says that the request is here in full, so that its deadline no longer counts: a pending one would end the
// call's context in the middle of a long answer.
func (c *call) received() { _ = c.w.control.SetReadDeadline(time.Time{}) } // not supported in process, where there is none

// writer sets what every answer carries, and gives the other side a bounded time for each piece.
type writer struct {
	http.ResponseWriter
	control *http.ResponseController
	c       *call
	status  int // 0: nothing was sent yet
}

// Unwrap serves http.ResponseController.
func (w *writer) Unwrap() http.ResponseWriter { return w.ResponseWriter }

// WriteHeader implements http.ResponseWriter.
func (w *writer) WriteHeader(status int) {
	h := w.Header()
	h.Set(client.HeaderCheckpoint, base64.StdEncoding.EncodeToString(w.c.s.Ledger.Checkpoint().Note))
	h.Set(client.HeaderRequest, w.c.id)
	h.Set("X-Content-Type-Options", "nosniff")
	w.status = status
	w.ResponseWriter.WriteHeader(status)
}

// Write implements http.ResponseWriter.
func (w *writer) Write(b []byte) (int, error) {
	if w.status == 0 {
		w.WriteHeader(http.StatusOK)
	}
	w.patient()
	return w.ResponseWriter.Write(b)
}

// patient starts the time for the next piece. The network has a clock of its own: this is not the injected one.
func (w *writer) patient() {
	_ = w.control.SetWriteDeadline(time.Now().Add(w.c.s.Limits.Write)) // not supported in process, where nobody is slow
}
