package hsm

import (
	"bufio"
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"net"
	"os"
	"slices"
	"sync"
	"sync/atomic"
	"time"
)

// lane is the daemon's end of one session of a signer. Its goroutine alone uses the connection.
type lane struct {
	token  *Token
	member *member
	conn   net.Conn
	in     *bufio.Reader
	buf    []byte
	frame  []byte
	id     uint64
	met    bool // hello was read

	checking sync.WaitGroup // the share before, while the signer has the next one
	good     atomic.Uint64  // signatures that were verified
	lied     chan error     // one that was not
}

func newLane(m *member, conn net.Conn) *lane {
	return &lane{token: m.token, member: m, conn: conn, in: bufio.NewReaderSize(conn, 16<<10), lied: make(chan error, 1)}
}

// errHung says that a call did not come back: its process is killed, others are asked to end.
var errHung = errors.New("signer did not answer in time")

// serve signs what comes from the queue until ctx ends or the signer fails; then its process must be replaced.
func (l *lane) serve(ctx context.Context) error {
	if err := l.hello(); err != nil {
		return err
	}
	defer l.checking.Wait()
	for {
		select {
		case <-ctx.Done():
			return nil
		case err := <-l.lied:
			return err
		case s := <-l.token.queue:
			if s.ctx.Err() != nil {
				close(s.done)
				continue
			}
			err := l.exchange(s)
			s.last = err
			l.checking.Wait()
			l.checking.Go(func() { l.settle(s) })
			if err != nil {
				return err
			}
		}
	}
}

// hello makes sure that both ends speak the same wire: the binary on disk may have been replaced since the daemon started.
func (l *lane) hello() error {
	if l.met {
		return nil
	}
	typ, body, grown, err := readFrame(l.in, l.buf)
	l.buf = grown
	if err != nil {
		return fmt.Errorf("read from signer: %w", err)
	}
	l.met = true
	return checkHello(typ, body)
}

// settle verifies what a share got and gives it back, while the signer is at the next one: neither waits for the other. A wrong signature takes the process
// out of service; its item stays open and is tried elsewhere.
func (l *lane) settle(s *share) {
	defer close(s.done)
	for _, i := range s.fresh {
		if err := verify(s.public, s.items[i], s.results[i]); err != nil {
			s.results[i] = nil
			l.token.wrong.Add(1)
			s.last = fmt.Errorf("the token lies: %w", err)
			select {
			case l.lied <- s.last:
			default: // it is known
			}
			continue
		}
		l.token.signatures.Add(1)
		l.good.Add(1)
	}
}

// exchange sends the open items of a share and takes what comes back. An error means that the process is out of service.
func (l *lane) exchange(s *share) error {
	at := s.open()
	items := make([][]byte, len(at))
	for n, i := range at {
		items[n] = s.items[i]
	}
	l.id++
	l.frame = appendRequest(l.frame[:0], request{Op: s.op, ID: l.id, Key: s.key, Kind: s.kind, Items: items})
	if err := l.conn.SetDeadline(time.Now().Add(l.deadline(s.op))); err != nil {
		return err
	}
	if _, err := l.conn.Write(l.frame); err != nil {
		return fmt.Errorf("send to signer: %w", err)
	}
	for next := 0; next < l.expected(s, at); {
		a, err := l.answer()
		if err != nil {
			return err
		}
		if int(a.First) != next || next+len(a.Results) > len(at) {
			return errProtocol
		}
		for n, r := range a.Results {
			if err := l.take(s, at[next+n], r); err != nil {
				return err
			}
		}
		next += len(a.Results)
	}
	return nil
}

// deadline is that of one signature; making a key may take a token much longer.
func (l *lane) deadline(op byte) time.Duration {
	if op == opSign {
		return l.member.deadline()
	}
	return max(l.member.deadline(), startLimit)
}

// expected is how many results a request has: one for each TBS, else one.
func (l *lane) expected(s *share, at []int) int {
	if s.op == opSign {
		return len(at)
	}
	return 1
}

// answer reads one answer; every answer renews the deadline, because each carries at least one signature.
func (l *lane) answer() (answer, error) {
	typ, body, grown, err := readFrame(l.in, l.buf)
	l.buf = grown
	if errors.Is(err, os.ErrDeadlineExceeded) {
		return answer{}, fmt.Errorf("%w: %v", errHung, l.member.deadline())
	}
	if err != nil {
		return answer{}, fmt.Errorf("read from signer: %w", err)
	}
	a, err := parseAnswer(typ, body)
	if err != nil {
		return a, err
	}
	if a.ID != l.id {
		return a, errProtocol
	}
	return a, l.conn.SetDeadline(time.Now().Add(l.member.deadline()))
}

// take judges one result. An error takes the process out of service; the item stays open and is tried elsewhere.
func (l *lane) take(s *share, i int, r result) error {
	t := l.token
	switch {
	case r.Code == codeDone:
		s.results[i] = slices.Clone(r.Bytes)
		if s.public != nil {
			s.fresh = append(s.fresh, i)
		}
	case r.Code == codeToken:
		return &failure{Code: r.Code, Text: string(r.Bytes)}
	default:
		if r.Code == codeRefused {
			t.refused.Add(1)
			t.log.Error("signer refused", "token", l.member.name, "kind", s.kind, "why", string(r.Bytes))
		}
		s.errs[i] = &failure{Code: r.Code, Text: string(r.Bytes)}
	}
	return nil
}

// selftest has the signer sign the words of a self-test with a key. A signature that does not verify means another key, or a token that lies.
func (l *lane) selftest(index uint16, k KeyConfig) error {
	nonce := make([]byte, 32)
	if _, err := rand.Read(nonce); err != nil {
		return err
	}
	s := newShare(opSelftest, index, "", [][]byte{append([]byte(selftestWords), nonce...)}, nil)
	if err := l.exchange(s); err != nil {
		return err
	}
	if s.errs[0] != nil {
		return s.errs[0]
	}
	if err := verify(k.Public, s.items[0], s.results[0]); err != nil {
		return fmt.Errorf("%w: token %s does not sign with the key %s that the others hold", ErrUnfit, l.member.name, k.Label)
	}
	return nil
}
