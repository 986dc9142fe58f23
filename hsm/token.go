package hsm

import (
	"context"
	"crypto"
	"crypto/x509"
	"encoding/binary"
	"errors"
	"fmt"
	"log/slog"
	"sync/atomic"
	"time"
)

// Config says which token, and how its processes are started.
type Config struct {
	Name          string // in logs and errors; "": the label
	Module        string // path of the PKCS#11 module
	InitArgs      string // for modules that want arguments to C_Initialize, such as NSS softoken's configdir='…'
	Token         string // label
	Serial        string // or serial number, or both
	NoLogin       bool   // the token knows no login
	PIN           PIN
	PINMemory     string        // file that remembers what became of the last login; "": none, as for throw-away tokens
	Env           []string      // K=V for the signer processes only
	Dir           string        // their working directory
	Signers       int           // processes; 0: one for each processor, at most 4
	Sessions      int           // that may be open at a time, over all processes; 0: what the token reports
	Deadline      time.Duration // for one signature; 0: 2 s, or longer where the measured rate wants it
	RateCap       int           // signatures a second of one process; 0: 100,000
	Command       []string      // argv that starts the keeper from this binary
	SignerCommand []string      // argv that starts a signer
	Keys          []KeyConfig
	Clones        []Config     // other tokens that hold the same keys: they share the load, and one may go away. Their Keys, Ceremony and Log are this one's
	Ceremony      bool         // Generate, Public and Use are allowed; fixed for the life of the keeper
	Log           *slog.Logger // nil: discard

	doctor *doctor // what Examine and ChangePIN have the processes do instead of signing
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
	Label   string
	Public  crypto.PublicKey // of the CA certificate: every signature is verified with it
	Policy  []byte           // opaque here; the signer process hands it to the check it was started with
	Backup  Backup           // fixed when the key was made; "": as BackupNone
	Waivers []Waiver
}

const (
	defaultDeadline = 2 * time.Second
	startLimit      = 30 * time.Second // for a keeper to bring up its first signer
	retireGrace     = time.Second      // for a signer to close its sessions
	queueLength     = 256              // shares that wait for a signer; past it ErrBusy
	firstPause      = 50 * time.Millisecond
	lastPause       = 5 * time.Second
)

// Token signs with the keys of one PKCS#11 token, or of several that hold the same keys. Its methods may be called concurrently.
type Token struct {
	cfg     Config
	log     *slog.Logger
	queue   chan *share // whoever of the members has a free lane takes from it
	members []*member
	cancel  context.CancelFunc
	closed  chan struct{} // closed by Close

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
	t := Start(ctx, cfg)
	if err := t.WaitReady(ctx); err != nil {
		return nil, errors.Join(err, t.Close())
	}
	return t, nil
}

// Start is Open without the wait: the token may be away, and comes into use when it is there.
func Start(ctx context.Context, cfg Config) *Token {
	log := cfg.Log
	if log == nil {
		log = slog.New(slog.DiscardHandler)
	}
	t := &Token{cfg: cfg, log: log, queue: make(chan *share, queueLength), closed: make(chan struct{})}
	running, cancel := context.WithCancel(context.WithoutCancel(ctx))
	t.cancel = cancel
	for _, c := range append([]Config{cfg}, cfg.Clones...) {
		c.Keys, c.Ceremony = cfg.Keys, cfg.Ceremony
		m := newMember(t, c)
		t.members = append(t.members, m)
		go m.supervise(running)
	}
	return t
}

// WaitReady waits until a signature could be made, every member has failed for good, or half a minute is over.
func (t *Token) WaitReady(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, startLimit)
	defer cancel()
	look := time.NewTicker(5 * time.Millisecond)
	defer look.Stop()
	for {
		err := t.Ready()
		if err == nil {
			return nil
		}
		if t.failed() {
			return t.Ready() // err may be from before
		}
		select {
		case <-look.C:
		case <-ctx.Done():
			return errors.Join(err, ctx.Err())
		}
	}
}

// failed reports whether no member will ever be ready by itself.
func (t *Token) failed() bool {
	for _, m := range t.members {
		var f *failure
		if err := m.ready(); err == nil || !errors.As(err, &f) || !f.final() {
			return false
		}
	}
	return true
}

// Ready reports whether a signature could be made now: nil, ErrUnavailable with the reason, or ErrPIN, ErrNoKey, ErrUnfit.
func (t *Token) Ready() error {
	var errs []error
	for _, m := range t.members {
		err := m.ready()
		if err == nil {
			return nil
		}
		errs = append(errs, err)
	}
	return errors.Join(errs...)
}

// Reports says what the tokens were found to be when a signer was last ready; nil for one that never was.
func (t *Token) Reports() (all []*TokenReport) {
	for _, m := range t.members {
		all = append(all, m.found.Load())
	}
	return all
}

// Stats tells the counts.
func (t *Token) Stats() Stats {
	s := Stats{Respawns: t.respawns.Load(), Signatures: t.signatures.Load(), Wrong: t.wrong.Load(), Refused: t.refused.Load()}
	for _, m := range t.members {
		s.Signers += m.processes()
	}
	return s
}

// Close ends signers and keepers and waits for them.
func (t *Token) Close() error {
	t.cancel()
	for _, m := range t.members {
		<-m.done
	}
	select {
	case <-t.closed:
	default:
		close(t.closed)
	}
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
	P256    Algorithm = "p256"
	P384    Algorithm = "p384"
	RSA2048 Algorithm = "rsa2048"
	RSA3072 Algorithm = "rsa3072"
	RSA4096 Algorithm = "rsa4096"
)

// Generate makes a key pair in the token: sensitive, private, not extractable, for signing only. Ceremony only. ErrExists for a label that is there;
// ErrUnfit where the token has no such keys, or made one that is not as demanded.
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

// Use adds a key to those the signer signs with. Ceremony only: there one signer runs.
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
	for _, m := range t.members {
		m.addKey(k)
	}
	return &Key{token: t, index: binary.BigEndian.Uint16(s.results[0]), public: k.Public}, nil
}
