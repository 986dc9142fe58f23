package hsm

import (
	"context"
	"crypto"
	"crypto/x509"
	"encoding/binary"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"sync/atomic"
	"time"
)

// Config says which token, and how its processes are started.
type Config struct {
	Module        string // path of the PKCS#11 module
	Token         string // label
	Serial        string // or serial number
	PIN           PIN
	Env           []string      // K=V for the signer processes only
	Dir           string        // their working directory
	Signers       int           // processes; 0: one for each processor, at most 4
	Deadline      time.Duration // for one signature; 0: 2 s
	Command       []string      // argv that starts the keeper from this binary
	SignerCommand []string      // argv that starts a signer
	Keys          []KeyConfig
	Ceremony      bool         // Generate, Public and Use are allowed; fixed for the life of the keeper
	Log           *slog.Logger // nil: discard
}

// PIN says where the keeper finds the user PIN. The daemon never holds it.
type PIN struct {
	File          string // absolute path, mode 0600 or 0400
	Credential    string // name of a systemd credential ($CREDENTIALS_DIRECTORY)
	Prompt        bool   // at the controlling terminal
	ProtectedPath bool   // at the token's own pad
}

// KeyConfig names a key of the token and what it may sign.
type KeyConfig struct {
	Label  string
	Public crypto.PublicKey // of the CA certificate: every signature is verified with it
	Policy []byte           // opaque here; the signer process hands it to the check it was started with
}

const (
	defaultDeadline = 2 * time.Second
	startLimit      = 30 * time.Second // for a keeper to bring up its first signer
	queueLength     = 256              // shares that wait for a signer; past it ErrBusy
	firstPause      = 50 * time.Millisecond
	lastPause       = 5 * time.Second
)

// Token is a running keeper with its signers. Its methods may be called concurrently.
type Token struct {
	cfg    Config
	log    *slog.Logger
	queue  chan *share
	cancel context.CancelFunc
	done   chan struct{} // closed when supervise has returned

	mu    sync.Mutex
	why   error         // guarded by mu: why nothing can be signed; nil while a signer is ready
	ready chan struct{} // guarded by mu: closed and replaced when why changes

	signers                              atomic.Int64
	respawns, signatures, wrong, refused atomic.Uint64
}

// Stats counts since Open, for metrics and status.
type Stats struct {
	Signers    int // processes now
	Respawns   uint64
	Signatures uint64
	Wrong      uint64 // signatures that did not verify, never released
	Refused    uint64
}

// Open starts keeper and signers and waits until one signer is ready. ErrPIN: the PIN was not accepted and is not tried again;
// ErrNoKey, ErrUnfit: a key of cfg.Keys is not there, or not what it must be; ErrUnsupported, ErrUnavailable.
func Open(ctx context.Context, cfg Config) (*Token, error) {
	if cfg.Deadline <= 0 {
		cfg.Deadline = defaultDeadline
	}
	if cfg.Signers <= 0 {
		cfg.Signers = automatic()
	}
	log := cfg.Log
	if log == nil {
		log = slog.New(slog.DiscardHandler)
	}
	t := &Token{cfg: cfg, log: log, queue: make(chan *share, queueLength), done: make(chan struct{}), ready: make(chan struct{}),
		why: fmt.Errorf("no signer is ready yet: %w", ErrUnavailable)}
	running, cancel := context.WithCancel(context.WithoutCancel(ctx))
	t.cancel = cancel
	go t.supervise(running)
	if err := t.waitReady(ctx); err != nil {
		return nil, errors.Join(err, t.Close())
	}
	return t, nil
}

// waitReady waits for the first signer, a final failure, or the end of patience.
func (t *Token) waitReady(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, startLimit)
	defer cancel()
	for {
		t.mu.Lock()
		why, changed := t.why, t.ready
		t.mu.Unlock()
		var f *failure
		if why == nil || errors.As(why, &f) && f.final() {
			return why
		}
		select {
		case <-changed:
		case <-ctx.Done():
			return errors.Join(why, ctx.Err())
		}
	}
}

func (t *Token) setWhy(err error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.why = err
	close(t.ready)
	t.ready = make(chan struct{})
}

// Ready reports whether a signature could be made now: nil, ErrUnavailable with the reason, or ErrPIN.
func (t *Token) Ready() error {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.why
}

// Stats tells the counts.
func (t *Token) Stats() Stats {
	return Stats{Signers: int(t.signers.Load()), Respawns: t.respawns.Load(), Signatures: t.signatures.Load(), Wrong: t.wrong.Load(), Refused: t.refused.Load()}
}

// Close ends signers and keeper and waits for them.
func (t *Token) Close() error {
	t.cancel()
	<-t.done
	return nil
}

// Key returns a key of Config.Keys, or ErrNoKey.
func (t *Token) Key(label string) (*Key, error) {
	for i, k := range t.cfg.Keys {
		if k.Label == label {
			return &Key{token: t, index: uint16(i), public: k.Public}, nil
		}
	}
	return nil, fmt.Errorf("%s: %w", label, ErrNoKey)
}

// Algorithm of a key to generate.
type Algorithm string

// The algorithms of Generate.
const (
	P256 Algorithm = "p256"
	P384 Algorithm = "p384"
)

// Generate makes a key pair in the token: sensitive, private, not extractable. Ceremony only. ErrExists for a label that is there.
func (t *Token) Generate(ctx context.Context, label string, alg Algorithm) (crypto.PublicKey, error) {
	return t.ask(ctx, opGenerate, string(alg), label)
}

// Public returns the public half of a key in the token, or ErrNoKey. Ceremony only.
func (t *Token) Public(ctx context.Context, label string) (crypto.PublicKey, error) {
	return t.ask(ctx, opPublic, "", label)
}

// ask has one signer do one thing that answers with a public key.
func (t *Token) ask(ctx context.Context, op byte, kind, label string) (crypto.PublicKey, error) {
	if !t.cfg.Ceremony {
		return nil, fmt.Errorf("%w: the token was not opened for a ceremony", ErrRefused)
	}
	s := newShare(op, 0, kind, [][]byte{[]byte(label)}, nil)
	if err := t.run(ctx, s); err != nil {
		return nil, err
	}
	if s.lost && errors.Is(s.errs[0], ErrExists) { // made by the try whose answer was lost: a question, not a failure
		return t.ask(ctx, opPublic, "", label)
	}
	if s.errs[0] != nil {
		return nil, s.errs[0]
	}
	return x509.ParsePKIXPublicKey(s.results[0])
}

// Use adds a key to those the signer signs with. Ceremony only: there one signer runs, and it knows the key until it ends.
func (t *Token) Use(ctx context.Context, k KeyConfig) (*Key, error) {
	if !t.cfg.Ceremony {
		return nil, fmt.Errorf("%w: the token was not opened for a ceremony", ErrRefused)
	}
	spki, err := x509.MarshalPKIXPublicKey(k.Public)
	if err != nil {
		return nil, err
	}
	s := newShare(opUse, 0, k.Label, [][]byte{spki, k.Policy}, nil)
	if err := t.run(ctx, s); err != nil {
		return nil, err
	}
	if s.errs[0] != nil {
		return nil, s.errs[0]
	}
	return &Key{token: t, index: binary.BigEndian.Uint16(s.results[0]), public: k.Public}, nil
}
