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
	"time"

	"golang.org/x/time/rate"
)

// Check judges a TBS in the signer process before it is signed. cmd joins ca.Policy to it.
type Check func(policy []byte) (func(kind string, tbs []byte) error, error)

// rateCap is how many signatures a second one signer makes at most: above what any token does, so that only a daemon gone wild meets it.
const rateCap = 100_000

// RunSigner is the body of the hidden signer subcommand: its lane is file descriptor 3, its keeper descriptor 4.
func RunSigner(check Check) error {
	if err := protect(); err != nil {
		return err
	}
	talk, err := unixConn(os.NewFile(4, "keeper"))
	if err != nil {
		return fmt.Errorf("signer is started by certmill itself: %w", err)
	}
	defer talk.Close()
	conn, err := unixConn(os.NewFile(3, "lane"))
	if err != nil {
		return err
	}
	defer conn.Close()
	var cfg start
	if _, err := receive(talk, &cfg); err != nil {
		return fmt.Errorf("read start: %w", err)
	}
	s := &signer{check: check, ceremony: cfg.Ceremony, limit: rate.NewLimiter(rateCap, rateCap)}
	if err := s.open(cfg); err != nil {
		return errors.Join(err, send(talk, report{Failure: asFailure(err)}, nil))
	}
	defer s.token.Close()
	if err := send(talk, report{PID: os.Getpid()}, nil); err != nil {
		return err
	}
	talk.Close()
	return s.serve(conn)
}

// signer is what runs in a signer process: one goroutine, one session of the token at a time.
type signer struct {
	token    *pkcs11Token
	check    Check
	keys     []signingKey
	ceremony bool
	limit    *rate.Limiter
	signed   uint64
}

// signingKey is a key with what is demanded of a TBS before it signs.
type signingKey struct {
	signer crypto.Signer
	hash   crypto.Hash
	public crypto.PublicKey
	allow  func(kind string, tbs []byte) error
}

// open logs in and finds every key.
func (s *signer) open(cfg start) (err error) {
	if s.token, err = openPKCS11(cfg); err != nil {
		return err
	}
	for _, k := range cfg.Keys {
		if _, err := s.addKey(k); err != nil {
			s.token.Close()
			return err
		}
	}
	return nil
}

// addKey finds a key and makes sure that it is the one that is meant.
func (s *signer) addKey(k startKey) (index int, err error) {
	public, err := x509.ParsePKIXPublicKey(k.SPKI)
	if err != nil {
		return 0, &failure{Code: codeUnfit, Text: fmt.Sprintf("key %s: %v", k.Label, err)}
	}
	allow, err := s.check(k.Policy)
	if err != nil {
		return 0, &failure{Code: codeRefused, Text: fmt.Sprintf("key %s: policy: %v", k.Label, err)}
	}
	key, err := s.token.find(k.Label)
	if err != nil {
		return 0, err
	}
	if p, ok := key.Public().(interface{ Equal(crypto.PublicKey) bool }); !ok || !p.Equal(public) {
		return 0, &failure{Code: codeUnfit, Text: fmt.Sprintf("key %s in the token is not the CA certificate's", k.Label)}
	}
	if err := s.token.gate(k.Label); err != nil {
		return 0, err
	}
	hash, err := hashOf(public)
	if err != nil {
		return 0, err
	}
	s.keys = append(s.keys, signingKey{signer: key, hash: hash, public: public, allow: allow})
	return len(s.keys) - 1, nil
}

// flushEvery is how often a long request's results are sent on, so that an answer is overdue when one signature is.
const flushEvery = 5 * time.Millisecond

// serve answers requests until the daemon closes the lane.
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
			if _, err := conn.Write(appendAnswer(nil, answer{ID: r.ID, Signed: s.signed, Results: []result{s.manage(r)}})); err != nil {
				return err
			}
			continue
		}
		if out, err = s.answer(conn, r, out[:0]); err != nil {
			return err
		}
	}
}

// answer signs the items of a request and sends what it has every few milliseconds.
func (s *signer) answer(conn net.Conn, r request, out []byte) ([]byte, error) {
	a := answer{ID: r.ID}
	last := time.Now()
	for i, tbs := range r.Items {
		a.Results = append(a.Results, s.sign(r, tbs))
		if i < len(r.Items)-1 && time.Since(last) < flushEvery {
			continue
		}
		a.Signed = s.signed
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
	if int(r.Key) >= len(s.keys) {
		return refuse(codeRefused, "no key %d", r.Key)
	}
	k := s.keys[r.Key]
	if err := k.allow(r.Kind, tbs); err != nil {
		return refuse(codeRefused, "%v", err)
	}
	if !s.limit.Allow() {
		return refuse(codeRate, "more than %d signatures a second", rateCap)
	}
	digest, err := digestOf(k.public, tbs)
	if err != nil {
		return refuse(codeUnfit, "%v", err)
	}
	sig, err := k.signer.Sign(nil, digest, k.hash)
	if err != nil {
		return refuse(codeToken, "sign: %v", err)
	}
	s.signed++
	return result{Code: codeDone, Bytes: sig}
}

func refuse(c code, format string, args ...any) result {
	text := fmt.Appendf(nil, format, args...)
	return result{Code: c, Bytes: text[:min(len(text), maxResult)]}
}

// manage does what ceremonies need.
func (s *signer) manage(r request) result {
	if !s.ceremony {
		return refuse(codeRefused, "not started for a ceremony")
	}
	bytes, err := s.ceremonyOp(r)
	if err != nil {
		f := asFailure(err)
		return refuse(f.Code, "%s", f.Text)
	}
	return result{Code: codeDone, Bytes: bytes}
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
		key, err := s.token.find(string(r.Items[0]))
		if err != nil {
			return nil, err
		}
		return x509.MarshalPKIXPublicKey(key.Public())
	}
	if len(r.Items) != 2 {
		return nil, errFrame
	}
	index, err := s.addKey(startKey{Label: r.Kind, SPKI: r.Items[0], Policy: r.Items[1]})
	return binary.BigEndian.AppendUint16(nil, uint16(index)), err
}
