package server

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
)

// InProcess gives commands to an admin door of the same process: for commands that run without serve. Actor is recorded
// as it is, such as offline:UID.
func InProcess(admin http.Handler, actor string) *AdminClient {
	return &AdminClient{&http.Client{Transport: &direct{admin, peer{name: actor, here: true}}}}
}

// direct carries a request to a handler without a network.
type direct struct {
	handler http.Handler
	peer    peer
}

// RoundTrip implements http.RoundTripper. The handler runs beside its reader, so that a long answer never stands in memory
// as a whole; it ends when its answer is read or closed.
func (d *direct) RoundTrip(r *http.Request) (*http.Response, error) {
	in := r.Clone(context.WithValue(r.Context(), peerKey{}, d.peer))
	if in.Body == nil {
		in.Body = http.NoBody
	}
	body, out := io.Pipe()
	w := &pipeWriter{header: make(http.Header), out: out, began: make(chan int, 1)}
	go func() {
		defer func() { _ = out.CloseWithError(cutOff(recover())) }() // never fails
		d.handler.ServeHTTP(w, in)
		w.begin(http.StatusOK)
	}()
	select {
	case status := <-w.began:
		return &http.Response{
			StatusCode: status, Status: fmt.Sprint(status, " ", http.StatusText(status)),
			Header: w.sent, Body: body, Request: r, ContentLength: -1,
		}, nil
	case <-r.Context().Done():
		return nil, errors.Join(r.Context().Err(), body.Close())
	}
}

// cutOff is what a reader of a cut-off answer gets.
func cutOff(panicked any) error {
	if panicked == nil {
		return nil
	}
	return io.ErrUnexpectedEOF
}

// pipeWriter is the http.ResponseWriter of direct. It belongs to the handler's goroutine until began is sent.
type pipeWriter struct {
	header, sent http.Header
	out          *io.PipeWriter
	began        chan int
}

// Header implements http.ResponseWriter.
func (w *pipeWriter) Header() http.Header { return w.header }

// WriteHeader implements http.ResponseWriter.
func (w *pipeWriter) WriteHeader(status int) { w.begin(status) }

// Write implements http.ResponseWriter.
func (w *pipeWriter) Write(b []byte) (int, error) {
	w.begin(http.StatusOK)
	return w.out.Write(b)
}

// begin sends the header, once.
func (w *pipeWriter) begin(status int) {
	if w.sent == nil {
		w.sent = w.header.Clone()
		w.began <- status
	}
}
