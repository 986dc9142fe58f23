package awsim

import (
	"bytes"
	"encoding/json"
	"errors"
	"io"
	"net/http"
	"strconv"
	"strings"
	"time"

	"crypto/rand"
)

// Bounds of one request to an AWS service.
const (
	maxRequest  = 1 << 20 // bytes; a CA registration has two PEMs of 64 KiB at most
	requestTime = 30 * time.Second
)

// call is one operation under way.
type call struct {
	*caller
	sim  *Sim
	tx   *tx
	r    *http.Request // its body was read
	body []byte
}

// operation is one of AWS's, by its name there.
type operation struct {
	name    string
	pattern string // of http.ServeMux, for the services that route by method and path
	write   bool   // runs in a transaction that may write
	serve   func(*call) (any, error)
}

// protocol is how a service writes its answers.
type protocol interface {
	answer(w http.ResponseWriter, op string, result any) error
	fail(w http.ResponseWriter, e *apiError) error
}

// ServeHTTP serves all services on one port: the scope of the signature names the service.
func (s *Sim) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	w.Header().Set("X-Amzn-Requestid", rand.Text())
	if strings.HasPrefix(r.URL.Path, "/_awsim/") {
		s.control.ServeHTTP(w, r)
		return
	}
	if err := http.NewResponseController(w).SetReadDeadline(time.Now().Add(requestTime)); err != nil {
		s.log.Warn("awsim: no read deadline", "err", err)
	}
	body, err := io.ReadAll(http.MaxBytesReader(w, r.Body, maxRequest))
	if err != nil {
		s.write(restJSON{}.fail(w, refuse(http.StatusRequestEntityTooLarge, "RequestEntityTooLargeException", "%v", err)))
		return
	}
	sig, err := readSignature(r)
	if err != nil {
		s.write(restJSON{}.fail(w, asAPI(err)))
		return
	}
	r.Body = bodyOf(body)
	service, ok := s.services[sig.service]
	if !ok {
		s.write(restJSON{}.fail(w, notSimulated("service "+sig.service)))
		return
	}
	service.ServeHTTP(w, r)
}

// perform runs one operation in one transaction: an error leaves nothing behind.
func (s *Sim) perform(w http.ResponseWriter, r *http.Request, p protocol, op *operation) {
	var result any
	run := func(tx *tx) error {
		body, err := io.ReadAll(r.Body)
		if err != nil {
			return err
		}
		who, err := s.authenticate(tx, r, body)
		if err != nil {
			return err
		}
		result, err = op.serve(&call{caller: who, sim: s, tx: tx, r: r, body: body})
		return err
	}
	transact := s.store.view
	if op.write {
		transact = s.store.update
	}
	err := transact(run)
	s.log.Debug("awsim: call", "operation", op.name, "err", err)
	if err != nil {
		s.write(p.fail(w, asAPI(err)))
		return
	}
	s.write(p.answer(w, op.name, result))
}

// write takes the error of an answer: the client is gone, and nobody else minds.
func (s *Sim) write(err error) {
	if err != nil {
		s.log.Debug("awsim: answer not delivered", "err", err)
	}
}

// asAPI gives errors of our own AWS's words for them.
func asAPI(err error) *apiError {
	var e *apiError
	if errors.As(err, &e) {
		return e
	}
	return refuse(http.StatusInternalServerError, "InternalFailureException", "awsim: %v", err)
}

func notSimulated(what string) *apiError {
	return refuse(http.StatusNotImplemented, "UnknownOperationException", "awsim does not simulate %s", what)
}

// restJSON is the protocol of IoT and Lambda (W-01, W-02).
type restJSON struct{}

func (restJSON) answer(w http.ResponseWriter, _ string, result any) error {
	if result == nil {
		w.WriteHeader(http.StatusOK)
		return nil
	}
	return writeJSON(w, http.StatusOK, "application/json", result)
}

func (restJSON) fail(w http.ResponseWriter, e *apiError) error {
	w.Header().Set("X-Amzn-Errortype", e.code)
	body := map[string]string{"message": e.message}
	for k, v := range e.more {
		body[k] = v
	}
	return writeJSON(w, e.status, "application/json", body)
}

func writeJSON(w http.ResponseWriter, status int, contentType string, v any) error {
	data, err := json.Marshal(v)
	if err != nil {
		return err
	}
	w.Header().Set("Content-Type", contentType)
	w.Header().Set("Content-Length", strconv.Itoa(len(data)))
	w.WriteHeader(status)
	_, err = w.Write(data)
	return err
}

// route makes the handler of a service that routes by method and path.
func (s *Sim) route(name string, operations []operation) http.Handler {
	mux := http.NewServeMux()
	for _, op := range operations {
		mux.HandleFunc(op.pattern, func(w http.ResponseWriter, r *http.Request) { s.perform(w, r, restJSON{}, &op) })
	}
	mux.HandleFunc("/", func(w http.ResponseWriter, r *http.Request) {
		s.write(restJSON{}.fail(w, notSimulated(name+" "+r.Method+" "+r.URL.Path)))
	})
	return mux
}

// object is the body of a JSON answer.
type object map[string]any

// decode reads the request's body; members that are not known are left alone, as AWS does.
func (c *call) decode(v any) error {
	if len(c.body) == 0 {
		return nil
	}
	if err := json.Unmarshal(c.body, v); err != nil {
		return refuse(http.StatusBadRequest, "SerializationException", "%v", err)
	}
	return nil
}

func (c *call) query(name string) string { return c.r.URL.Query().Get(name) }

// flag reads a boolean of the query; absent is false.
func (c *call) flag(name string) (bool, error) {
	v := c.query(name)
	if v == "" {
		return false, nil
	}
	b, err := strconv.ParseBool(v)
	if err != nil {
		return false, invalidRequest("%s is neither true nor false", name)
	}
	return b, nil
}

// epoch is a time as AWS's JSON has it: seconds, with a fraction (W-01).
func epoch(t time.Time) float64 { return float64(t.UnixMilli()) / 1000 }

func formatLength(n int64) string { return strconv.FormatInt(n, 10) }

func bodyOf(data []byte) io.ReadCloser { return io.NopCloser(bytes.NewReader(data)) }
