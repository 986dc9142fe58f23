package server

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"sync/atomic"
	"time"

	"github.com/certmill/certmill/ca"
	"github.com/certmill/certmill/internal/ledger"
	"github.com/certmill/certmill/issuer"
)

// Config is what a Server works with. Issuer and Ledger are needed; the rest has a useful zero value.
type Config struct {
	Issuer   *issuer.Issuer
	Ledger   *ledger.Ledger
	Profiles []*ca.Profile    // as configured, for the admin socket's list
	Tokens   map[string]Token // by their name in the configuration
	Errors   []ErrorCode      // joins errors of packages that server does not import to problems; asked before the table
	Ready    func() error     // why nothing can be answered yet or any more; nil: always ready

	Node      string
	Version   string
	Listeners map[string]string // name to address, for status
	Officers  string            // who must agree to what, for status; "": there is no quorum
	TLSMin    string            // for status; "": 1.3
	AdminUIDs []int             // may use the admin socket, beside root and the server's own

	Limits Limits
	Now    func() time.Time // nil: time.Now
	Log    *slog.Logger     // nil: discard
}

// Token is what the server asks of a token: cmd joins it to the hsm package.
type Token struct {
	Ready func() error // nil where a signature could be made now
	Stats func() TokenStats
	Notes func() []string // what was found and let pass; may be nil
}

// TokenStats counts since the token was opened. Its fields are those of hsm.Stats, so that one converts to the other.
type TokenStats struct {
	Signers    int // processes now
	Respawns   uint64
	Signatures uint64
	Wrong      uint64 // did not verify and were never released
	Refused    uint64 // by the signer's own check
}

// Limits bound what one request and one station may cost.
type Limits struct {
	Header     time.Duration // for a request's header to arrive; 0: 10 s
	Request    time.Duration // for a whole request to arrive; 0: 30 s
	Answer     time.Duration // for the answer to one request or line; 0: 20 s
	Write      time.Duration // for the other side to take a piece of an answer; 0: 30 s
	Idle       time.Duration // for the next request of a connection; 0: 2 min
	Concurrent int           // requests of one station at once; 0: 128
	Rate       float64       // certificates one station may ask for in a second, in the long run; 0: no limit
}

func (l *Limits) setDefaults() {
	setDefault(&l.Header, 10*time.Second)
	setDefault(&l.Request, 30*time.Second)
	setDefault(&l.Answer, 20*time.Second)
	setDefault(&l.Write, 30*time.Second)
	setDefault(&l.Idle, 2*time.Minute)
	setDefault(&l.Concurrent, 128)
}

// setDefault gives v its default.
func setDefault[T comparable](v *T, byDefault T) {
	var zero T
	if *v == zero {
		*v = byDefault
	}
}

// Server makes the handlers. They may be used concurrently.
type Server struct {
	Config
	log     *slog.Logger
	metrics *metrics
	gates   *gates
	tally   *tally
	run     string // of request ids: one value for each start of the service
	calls   atomic.Uint64
}

// New checks the configuration. It starts nothing.
func New(cfg Config) (*Server, error) {
	if cfg.Issuer == nil || cfg.Ledger == nil {
		return nil, errors.New("server needs an issuer and a ledger")
	}
	if cfg.Limits.Rate < 0 || cfg.Limits.Concurrent < 0 {
		return nil, errors.New("server limits must not be negative")
	}
	for _, e := range cfg.Errors {
		if _, ok := problems[e.Code]; !ok {
			return nil, fmt.Errorf("error %q is joined to a code that does not exist: %q", e.Err, e.Code)
		}
	}
	cfg.Limits.setDefaults()
	setDefault(&cfg.Officers, "none: no quorum")
	setDefault(&cfg.TLSMin, "1.3")
	if cfg.Now == nil {
		cfg.Now = time.Now
	}
	if cfg.Ready == nil {
		cfg.Ready = func() error { return nil }
	}
	log := cfg.Log
	if log == nil {
		log = slog.New(slog.DiscardHandler)
	}
	s := &Server{Config: cfg, log: log, gates: newGates(cfg.Limits), tally: newTally(), run: rand.Text()[:8]}
	s.metrics = newMetrics(s)
	return s, nil
}

// HTTPServer wraps a handler of the Server for a listener, with its timeouts. It speaks HTTP/1.1 only: stations keep
// their connections, batches are bodies, and HTTP/2 would only add ways to be attacked.
func (s *Server) HTTPServer(h http.Handler) *http.Server {
	http1 := new(http.Protocols)
	http1.SetHTTP1(true)
	return &http.Server{
		Handler:                      h,
		Protocols:                    http1,
		DisableGeneralOptionsHandler: true,
		ReadHeaderTimeout:            s.Limits.Header,
		ReadTimeout:                  s.Limits.Request,
		IdleTimeout:                  s.Limits.Idle,
		MaxHeaderBytes:               16 << 10,
		ErrorLog:                     slog.NewLogLogger(s.log.Handler(), slog.LevelDebug), // other people's broken handshakes
		ConnContext: func(ctx context.Context, c net.Conn) context.Context {
			return withPeer(ctx, c)
		},
	}
}
