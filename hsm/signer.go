//go:build linux

package hsm

import (
	"bufio"
	"crypto"
	"crypto/x509"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"runtime"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"golang.org/x/time/rate"
)

// Check judges a TBS in the signer process before it is signed. cmd joins ca.Policy to it.
type Check func(policy []byte) (func(kind string, tbs []byte) error, error)

// rateCap is how many signatures a second one signer makes at most where none is configured: above what any token does, so that only a daemon gone wild meets it.
const rateCap = 100_000

// RunSigner is the body of the hidden signer subcommand: its keeper is file descriptor 3, its lanes are those behind it.
func RunSigner(check Check) error {
	if err := protect(); err != nil {
		return err
	}
	endWithParent(2 * retireGrace)
	talk, err := unixConn(os.NewFile(3, "keeper"))
	if err != nil {
		return fmt.Errorf("signer is started by certmill itself: %w", err)
	}
	defer talk.Close()
	var cfg start
	if _, err := receive(talk, &cfg); err != nil {
		return fmt.Errorf("read start: %w", err)
	}
	if cfg.Doctor != nil {
		return runDoctorSigner(cfg, talk)
	}
	limit := cfg.RateCap
	if limit <= 0 {
		limit = rateCap
	}
	s := &signer{check: check, cfg: cfg, limit: rate.NewLimiter(rate.Limit(limit), limit)}
	ready, err := s.open(talk)
	if err != nil {
		f := asFailure(err)
		f.LoggedIn = s.loggedIn
		return errors.Join(err, send(talk, report{Failure: f}, nil))
	}
	defer s.token.close()
	lanes, err := openLanes(ready.Lanes)
	if err != nil {
		return err
	}
	if err := send(talk, report{PID: os.Getpid(), Ready: ready}, nil); err != nil {
		return nil // the keeper has ended, and nobody needs this process
	}
	runtime.GOMAXPROCS(max(runtime.NumCPU(), len(lanes)+1)) // a call that waits in the module must not keep others from running: Go takes its processor away only after a while
	go untilRetired(talk, lanes)
	return s.serveAll(lanes)
}

func openLanes(n int) (lanes []net.Conn, err error) {
	for i := range n {
		c, err := unixConn(os.NewFile(uintptr(4+i), "lane"))
		if err != nil {
			return lanes, err
		}
		lanes = append(lanes, c)
	}
	return lanes, nil
}

// untilRetired waits for the keeper to close the talk; then no further request is read. What is being signed is finished and answered.
func untilRetired(talk *net.UnixConn, lanes []net.Conn) {
	var r report
	if _, err := receive(talk, &r); err == nil {
		return // nothing is ever said on it
	}
	for _, l := range lanes {
		l.SetReadDeadline(time.Now())
	}
}

// signer is what runs in a signer process: a goroutine for each lane, each with a session of the token at a time.
type signer struct {
	token    *pkcs11Token
	check    Check
	cfg      start
	loggedIn bool
	limit    *rate.Limiter
	signed   atomic.Uint64

	mu   sync.RWMutex // guards keys: a ceremony adds to them
	keys []signingKey
}

// signingKey is a key with what is demanded of a TBS before it signs.
type signingKey struct {
	ref    keyRef
	signer crypto.Signer
	hash   crypto.Hash
	public crypto.PublicKey
	allow  func(kind string, tbs []byte) error
	tested *atomic.Bool // its one self-test was made
}

// open loads the module, logs in if the keeper permits it, holds every key against the gate, and sees how many sessions there are.
func (s *signer) open(talk *net.UnixConn) (ready *TokenReport, err error) {
	if s.token, err = openPKCS11(s.cfg); err != nil {
		return nil, err
	}
	defer func() {
		if err != nil {
			s.token.close()
		}
	}()
	if err := s.logIn(talk); err != nil {
		return nil, err
	}
	r := s.token.report()
	var checked []signingKey
	for _, k := range s.cfg.Keys {
		found, key, err := s.checkKey(k)
		r.Keys = append(r.Keys, found)
		if err != nil {
			return nil, err
		}
		checked = append(checked, key)
	}
	if s.cfg.Measured != nil {
		r.Measured = *s.cfg.Measured
	} else if !s.cfg.Ceremony {
		r.Measured = s.token.measure()
	}
	l := resources{cores: runtime.NumCPU(), signers: s.cfg.Signers, sessions: r.Sessions, measured: r.Measured}.plan()
	if s.cfg.Ceremony {
		l = layout{Processes: 1, Lanes: 1}
	}
	r.Processes = l.Processes
	if r.Lanes, err = s.token.reserve(l.Lanes); err != nil {
		return nil, err
	}
	for _, k := range checked { // from here on the sessions are crypto11's: a token with two in all has none left to look around with
		if err := s.addKey(k); err != nil {
			return nil, err
		}
	}
	return r, nil
}

// logIn asks the keeper for the PIN: it decides by what the token said of its logins, and notes the try first.
func (s *signer) logIn(talk *net.UnixConn) error {
	if !s.token.needsLogin() {
		return nil
	}
	if err := send(talk, report{Asks: &asks{Serial: s.token.identity(), Flags: s.token.flags()}}, nil); err != nil {
		return err
	}
	var p permit
	if _, err := receive(talk, &p); err != nil {
		return fmt.Errorf("wait for the keeper's permission: %w", err)
	}
	if p.Denied != nil {
		return p.Denied
	}
	if err := s.token.login(p.Secret); err != nil {
		return err
	}
	s.loggedIn = true
	return nil
}

// checkKey finds a key and makes sure that it is the one that is meant, and fit.
func (s *signer) checkKey(k startKey) (KeyReport, signingKey, error) {
	r, key := KeyReport{Label: k.Label}, signingKey{tested: new(atomic.Bool)}
	var err error
	if key.public, err = x509.ParsePKIXPublicKey(k.SPKI); err != nil {
		return r, key, &failure{Code: codeUnfit, Text: fmt.Sprintf("key %s: %v", k.Label, err)}
	}
	if key.allow, err = s.check(k.Policy); err != nil {
		return r, key, &failure{Code: codeRefused, Text: fmt.Sprintf("key %s: policy: %v", k.Label, err)}
	}
	if key.hash, err = hashOf(key.public); err != nil {
		return r, key, err
	}
	found, f, err := s.token.find(k.Label)
	if err != nil {
		r.Findings = []Finding{{Attribute: "CKA_LABEL", Level: LevelFail, Text: err.Error()}}
		return r, key, err
	}
	key.ref, r = found, judge(k, key.public, f)
	return r, key, r.fit()
}

// addKey takes a key that was checked into use.
func (s *signer) addKey(k signingKey) (err error) {
	if k.signer, err = s.token.signerFor(k.ref, k.public); err != nil {
		return err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.keys = append(s.keys, k)
	return nil
}

func (s *signer) key(index uint16) (signingKey, bool) {
	s.mu.RLock()
	defer s.mu.RUnlock()
	if int(index) >= len(s.keys) {
		return signingKey{}, false
	}
	return s.keys[index], true
}

// serveAll serves every lane until the daemon closes them or the keeper retires the process.
func (s *signer) serveAll(lanes []net.Conn) error {
	var running sync.WaitGroup
	errs := make([]error, len(lanes))
	for i, l := range lanes {
		running.Go(func() {
			defer l.Close()
			if err := s.serve(l); !over(err) {
				errs[i] = err
			}
		})
	}
	running.Wait()
	return errors.Join(errs...)
}

// over reports whether a lane has ended as it should: the daemon closed it, or the keeper retires this process.
func over(err error) bool {
	return errors.Is(err, os.ErrDeadlineExceeded) || errors.Is(err, syscall.EPIPE) || errors.Is(err, syscall.ECONNRESET)
}

// flushEvery is how often a long request's results are sent on, so that an answer is overdue when one signature is.
const flushEvery = 100 * time.Millisecond

// serve answers the requests of one lane.
func (s *signer) serve(conn net.Conn) error {
	if _, err := conn.Write(appendHello(nil)); err != nil {
		return err
	}
	in := bufio.NewReaderSize(conn, 64<<10)
	var buf, out []byte
	for {
		op, body, grown, err := readFrame(in, buf)
		buf = grown
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil {
			return err
		}
		r, err := parseRequest(op, body)
		if err != nil {
			return err // a daemon that speaks nonsense gets no answer
		}
		if r.Op != opSign {
			if _, err := conn.Write(appendAnswer(nil, answer{ID: r.ID, Signed: s.signed.Load(), Results: []result{s.manage(r)}})); err != nil {
				return err
			}
			continue
		}
		if out, err = s.answer(conn, r, out[:0]); err != nil {
			return err
		}
	}
}

// answer signs the items of a request and sends what it has every now and then.
func (s *signer) answer(conn net.Conn, r request, out []byte) ([]byte, error) {
	a := answer{ID: r.ID}
	last := time.Now()
	for i, tbs := range r.Items {
		a.Results = append(a.Results, s.sign(r, tbs))
		if i < len(r.Items)-1 && time.Since(last) < flushEvery {
			continue
		}
		a.Signed = s.signed.Load()
		out = appendAnswer(out[:0], a)
		if _, err := conn.Write(out); err != nil {
			return out, err
		}
		a.First, a.Results, last = uint16(i+1), a.Results[:0], time.Now()
	}
	return out, nil
}

// sign checks one TBS and signs it.
func (s *signer) sign(r request, tbs []byte) result {
	k, there := s.key(r.Key)
	if !there {
		return refuse(codeRefused, "no key %d", r.Key)
	}
	if err := k.allow(r.Kind, tbs); err != nil {
		return refuse(codeRefused, "%v", err)
	}
	return s.use(k, tbs)
}

// use has the token sign, within the rate cap.
func (s *signer) use(k signingKey, message []byte) result {
	if !s.limit.Allow() {
		return refuse(codeRate, "more than %v signatures a second", s.limit.Limit())
	}
	digest, err := digestOf(k.public, message)
	if err != nil {
		return refuse(codeUnfit, "%v", err)
	}
	sig, err := k.sign(message, digest)
	if err != nil {
		return refuse(codeToken, "sign: %v", err)
	}
	s.signed.Add(1)
	return result{Code: codeDone, Bytes: sig}
}

// sign has the token sign a digest, or hash as well where it wants to.
func (k signingKey) sign(message, digest []byte) ([]byte, error) {
	if h, ok := k.signer.(interface {
		signMessage(message, digest []byte) ([]byte, error)
	}); ok {
		return h.signMessage(message, digest)
	}
	return k.signer.Sign(nil, digest, k.hash)
}

func refuse(c code, format string, args ...any) result {
	text := fmt.Appendf(nil, format, args...)
	return result{Code: c, Bytes: text[:min(len(text), maxResult)]}
}

// manage does what is no signature of a TBS.
func (s *signer) manage(r request) result {
	if r.Op == opSelftest {
		return s.selftest(r)
	}
	if !s.cfg.Ceremony {
		return refuse(codeRefused, "not started for a ceremony")
	}
	bytes, err := s.ceremonyOp(r)
	if err != nil {
		f := asFailure(err)
		return refuse(f.Code, "%s", f.Text)
	}
	return result{Code: codeDone, Bytes: bytes}
}

// selftest signs what can never be a certificate, once for each key in the life of the process, and only where the keeper was started for it: it shows
// that two tokens hold the same key.
func (s *signer) selftest(r request) result {
	k, there := s.key(r.Key)
	switch {
	case !there || !s.cfg.Selftest:
		return refuse(codeRefused, "not started for a self-test of key %d", r.Key)
	case !isSelftest(r.Items[0]):
		return refuse(codeRefused, "not the words of a self-test")
	case k.tested.Swap(true):
		return refuse(codeRefused, "key %d had its self-test", r.Key)
	}
	return s.use(k, r.Items[0])
}

func (s *signer) ceremonyOp(r request) ([]byte, error) {
	switch r.Op {
	case opGenerate:
		public, err := s.token.generate(string(r.Items[0]), Algorithm(r.Kind))
		if err != nil {
			return nil, err
		}
		return x509.MarshalPKIXPublicKey(public)
	case opPublic:
		_, f, err := s.token.find(string(r.Items[0]))
		if err != nil {
			return nil, err
		}
		if f.public == nil {
			return nil, &failure{Code: codeUnfit, Text: fmt.Sprintf("the token does not show the public half of key %s", r.Items[0])}
		}
		return x509.MarshalPKIXPublicKey(f.public)
	}
	if len(r.Items) != 2 {
		return nil, errFrame
	}
	_, k, err := s.checkKey(startKey{Label: r.Kind, SPKI: r.Items[0], Policy: r.Items[1]})
	if err == nil {
		err = s.addKey(k)
	}
	return binary.BigEndian.AppendUint16(nil, uint16(len(s.keys)-1)), err
}
