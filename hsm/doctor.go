//go:build linux

package hsm

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"os"
	"sync"
	"time"
)

// An examination goes through a keeper and a signer like everything that logs in, so that the PIN rule holds for it. The signer answers questions on its
// first lane instead of signing: one JSON object each way. It signs with keys that it made itself, never with one that was there.

// doctor, in a start, makes keeper and signers those of an examination.
type doctor struct {
	Change *pinChange // change the PIN, and end
}

// question is what the daemon asks such a signer.
type question struct {
	Op       string // ask…
	Sessions int
	For      time.Duration
}

const (
	askToken = "token" // what was seen before the login
	askKeys  = "keys"
	askTrip  = "round-trip"
	askRate  = "rate"
	askTest  = "test-key"
)

// reply answers a question.
type reply struct {
	Found      *Examination
	Signatures int
	Elapsed    time.Duration
	Test       *TestKey
	Error      string
}

const (
	maxReplies    = 8 << 20 // bytes that are read from one signer
	rateFor       = 200 * time.Millisecond
	questionLimit = 2 * time.Minute // a token may take long to make an RSA key
)

// Examine looks at a token, with one login, and judges what it finds. The Examination says as much as could be found, also where the error is not nil:
// ErrPIN, ErrUnavailable, ErrUnsupported.
func Examine(ctx context.Context, cfg Config, o ExamineOptions) (*Examination, error) {
	x := &Examination{At: time.Now().UTC(), Module: Library{Path: cfg.Module}}
	cfg.doctor = &doctor{}
	d, err := callDoctor(ctx, cfg)
	if err == nil {
		err = errors.Join(d.examine(x, o), ctx.Err())
		err = errors.Join(err, d.close())
	}
	var f *failure
	if errors.As(err, &f) && f.Found != nil {
		x.take(f.Found)
	}
	x.judge(cfg, o, err)
	return x, err
}

// take copies what a signer found.
func (x *Examination) take(found *Examination) {
	x.Module, x.Slots, x.Token, x.Mechanisms = found.Module, found.Slots, found.Token, found.Mechanisms
	x.LoggedIn, x.Keys, x.Leftovers, x.RoundTrip = found.LoggedIn, found.Keys, found.Leftovers, found.RoundTrip
}

// visit is the daemon's view of an examination: a keeper, and its signers' lanes.
type visit struct {
	keeper *keeper
	stop   func() bool
	lanes  []*consultation
}

// consultation is a lane on which questions are asked.
type consultation struct {
	conn net.Conn
	in   *json.Decoder
}

// callDoctor starts a keeper and waits for its first signer.
func callDoctor(ctx context.Context, cfg Config) (*visit, error) {
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	log := cfg.Log
	if log == nil {
		log = slog.New(slog.DiscardHandler)
	}
	m := newMember(&Token{cfg: cfg, log: log}, cfg)
	d := &visit{keeper: &keeper{member: m, out: make(map[int]bool)}}
	if err := d.keeper.start(); err != nil {
		return nil, err
	}
	d.stop = context.AfterFunc(ctx, func() { d.keeper.control.Close() })
	if err := d.await(); err != nil {
		return nil, errors.Join(err, ctx.Err(), d.close())
	}
	return d, nil
}

// await waits for a signer's lane. A prompt or a PIN pad may take a person a while.
func (d *visit) await() error {
	if err := d.keeper.control.SetReadDeadline(time.Now().Add(questionLimit)); err != nil {
		return err
	}
	for {
		var r report
		file, err := receive(d.keeper.control, &r)
		switch {
		case err != nil:
			return fmt.Errorf("%w: keeper: %w", ErrUnavailable, err)
		case r.Failure != nil:
			return r.Failure
		case file != nil:
			conn, err := unixConn(file)
			if err != nil {
				return err
			}
			d.lanes = append(d.lanes, &consultation{conn: conn, in: json.NewDecoder(io.LimitReader(conn, maxReplies))})
			return nil
		}
	}
}

// close ends keeper and signers and waits for them.
func (d *visit) close() error {
	d.stop()
	for _, l := range d.lanes {
		l.conn.Close()
	}
	d.keeper.control.Close()
	d.keeper.wait() // how it ended says nothing that was not said
	d.keeper.logs.Wait()
	return nil
}

// ask asks one question.
func (c *consultation) ask(q question) (r reply, err error) {
	if err := c.conn.SetDeadline(time.Now().Add(questionLimit)); err != nil {
		return r, err
	}
	if err = json.NewEncoder(c.conn).Encode(q); err == nil {
		err = c.in.Decode(&r)
	}
	switch {
	case errors.Is(err, os.ErrDeadlineExceeded):
		return r, fmt.Errorf("%w: the token did not answer within %v", ErrUnavailable, questionLimit)
	case err != nil:
		return r, fmt.Errorf("%w: the signer ended while it was asked for %s: the module may have crashed: %w", ErrUnavailable, q.Op, err)
	case r.Error != "":
		return r, &failure{Code: codeToken, Text: r.Error}
	}
	return r, nil
}

func (d *visit) examine(x *Examination, o ExamineOptions) error {
	first := d.lanes[0]
	questions := []string{askToken, askKeys, askTrip}
	if o.KeysOnly {
		questions = questions[:2]
	}
	for _, q := range questions { // one after another: what is known when the module crashes stays known
		r, err := first.ask(question{Op: q})
		if err != nil {
			return err
		}
		if r.Found != nil {
			x.take(r.Found)
		}
	}
	if o.KeysOnly {
		return nil
	}
	if x.RoundTrip != nil && x.RoundTrip.Error == "" {
		if err := d.rates(x); err != nil {
			return err
		}
	}
	if !o.TestKey {
		return nil
	}
	r, err := first.ask(question{Op: askTest})
	x.TestKey = r.Test
	return err
}

// rates measures with more and more sessions, as long as that brings something, then with a second process.
func (d *visit) rates(x *Examination) error {
	limit := maxLanes
	if n := x.Token.Sessions; n > 0 {
		limit = min(limit, n-kept)
	}
	best := Rate{Sessions: 1}
	for n, last := 1, 0.0; n <= limit; n *= 2 {
		r, err := rateOn(d.lanes[:1], n)
		if err != nil {
			return err
		}
		x.Rates = append(x.Rates, r)
		if r.PerSecond > best.PerSecond*1.05 {
			best = r
		}
		if r.Error != "" || n >= 4 && r.PerSecond < last*1.1 {
			break
		}
		last = r.PerSecond
	}
	if n := x.Token.Sessions; n > 0 && n < 2*(kept+1) || d.keeper.member.cfg.PIN.ProtectedPath { // nobody is asked to enter the PIN a second time
		return nil
	}
	if err := send(d.keeper.control, order{Another: true}, nil); err != nil {
		return err
	}
	if err := d.await(); err != nil {
		x.Rates = append(x.Rates, Rate{Processes: 2, Sessions: 1, Error: err.Error()})
		return nil
	}
	for _, n := range []int{1, best.Sessions} {
		if have := x.Token.Sessions; n == 0 || have > 0 && 2*(n+kept) > have {
			break
		}
		r, err := rateOn(d.lanes, n)
		if err != nil {
			return err
		}
		x.Rates = append(x.Rates, r)
		if best.Sessions == 1 {
			break
		}
	}
	return nil
}

// rateOn has several signers sign at the same time, on n sessions each.
func rateOn(lanes []*consultation, n int) (Rate, error) {
	var all sync.WaitGroup
	replies, errs := make([]reply, len(lanes)), make([]error, len(lanes))
	for i, l := range lanes {
		all.Go(func() { replies[i], errs[i] = l.ask(question{Op: askRate, Sessions: n, For: rateFor}) })
	}
	all.Wait()
	rate := Rate{Processes: len(lanes), Sessions: n}
	for i, r := range replies {
		switch {
		case r.Error != "":
			rate.Error = r.Error
		case errs[i] != nil:
			return rate, errs[i]
		case r.Elapsed > 0:
			rate.PerSecond += float64(r.Signatures) / r.Elapsed.Seconds()
		}
	}
	return rate, nil
}

// doctorKeeper is what a keeper of an examination has beside the others.
type doctorKeeper struct {
	unread error  // why the PIN could not be read: the token is looked at all the same
	tried  bool   // a login was allowed
	old    string // PIN, while that of a change that was cut off is tried
	change changing
}

// runDoctor starts one signer, and others as they are ordered. What fails after a login was tried is not tried again.
func (k *nursery) runDoctor() error {
	defer close(k.stopped)
	defer k.retireAll()
	if !k.start.NoLogin {
		k.secret, k.source, k.doctor.unread = readPIN(k.start.PIN)
	}
	if c := k.start.Doctor.Change; c != nil && k.doctor.unread == nil {
		k.doctor.unread = k.prepareChange(*c)
	}
	go k.listen()
	for more := true; more; {
		f := k.spawn()
		for range 3 {
			if f == nil || f.final() || k.doctor.tried {
				break
			}
			select {
			case <-k.gone:
				return nil
			case <-time.After(300 * time.Millisecond): // a sibling may be starting: SoftHSM then says that there is no token
			}
			f = k.spawn()
		}
		if f != nil {
			if k.start.Doctor.Change != nil && k.doctor.tried && !f.final() {
				f.Text += ": whether the token has the new PIN is not known; certmill hsm pin-change again finishes it"
			}
			if err := send(k.control, report{Failure: f}, nil); err != nil {
				return err
			}
		}
		k.doctor.tried = false // what follows a good login is as good
		more = k.awaitOrder()
	}
	return nil
}

// awaitOrder waits until another signer is wanted; false: the daemon is gone.
func (k *nursery) awaitOrder() bool {
	for {
		select {
		case pid := <-k.ended:
			delete(k.signers, pid)
		case <-k.gone:
			return false
		case o := <-k.orders:
			if o.Another {
				return true
			}
		}
	}
}

// permitDoctor decides where an examination is not like any other start.
func (k *nursery) permitDoctor(a asks) (m pinMemory, f *failure, decided bool) {
	if k.doctor.unread != nil {
		return m, &failure{Code: codePIN, Text: k.doctor.unread.Error()}, true
	}
	if k.start.Doctor.Change != nil {
		m, f = k.permitChange(a)
		return m, f, true
	}
	k.doctor.tried = true
	return m, nil, false
}

// runDoctorSigner is RunSigner for an examination.
func runDoctorSigner(cfg start, talk *net.UnixConn) error {
	s := &doctorSigner{signer: signer{cfg: cfg}, found: Examination{Module: Library{Path: cfg.Module}}}
	err := s.open(talk)
	if err != nil {
		f := asFailure(err)
		f.LoggedIn, f.Found = s.loggedIn, &s.found
		return send(talk, report{Failure: f}, nil)
	}
	defer s.token.close()
	lanes, err := openLanes(1)
	if err != nil {
		return err
	}
	if err := send(talk, report{PID: os.Getpid(), Ready: &TokenReport{Processes: 1, Lanes: 1}}, nil); err != nil {
		return err
	}
	go untilRetired(talk, lanes)
	return s.answerAll(lanes[0])
}

// doctorSigner is a signer that is asked questions.
type doctorSigner struct {
	signer
	found Examination
	probe *probe // the key that lives in a session; nil until it was needed
}

// open looks at module and token, then logs in.
func (s *doctorSigner) open(talk *net.UnixConn) (err error) {
	if s.token, err = openPKCS11(s.cfg); err != nil {
		surveyModule(s.cfg, &s.found)
		return err
	}
	defer func() {
		if err != nil {
			s.token.close()
		}
	}()
	s.token.survey(&s.found)
	if s.cfg.Doctor.Change != nil {
		return s.changePIN(talk)
	}
	if err := s.logIn(talk); err != nil {
		return err
	}
	s.found.LoggedIn = s.loggedIn
	return nil
}

// answerAll answers until nobody asks any more.
func (s *doctorSigner) answerAll(lane net.Conn) error {
	defer lane.Close()
	defer func() { s.token.dismiss(s.probe) }()
	in, out := json.NewDecoder(io.LimitReader(lane, 64<<10)), json.NewEncoder(lane)
	for {
		var q question
		if err := in.Decode(&q); err != nil {
			if errors.Is(err, io.EOF) || errors.Is(err, os.ErrDeadlineExceeded) {
				return nil
			}
			return err
		}
		if err := out.Encode(s.answerOne(q)); err != nil {
			return err
		}
	}
}

func (s *doctorSigner) answerOne(q question) (r reply) {
	var err error
	switch q.Op {
	case askToken:
		r.Found = &s.found
	case askKeys:
		s.found.Keys, s.found.Leftovers, err = s.token.examineKeys(s.cfg.Keys)
		r.Found = &s.found
	case askTrip:
		s.found.RoundTrip = s.roundTrip()
		r.Found = &s.found
	case askRate:
		if s.probe == nil {
			s.probe, err = s.token.newProbe()
		}
		if err == nil {
			r.Signatures, r.Elapsed, err = s.token.rate(s.probe, q.Sessions, q.For)
		}
	case askTest:
		r.Test = s.token.tryTestKey(s.cfg.Keys)
	default:
		err = fmt.Errorf("question %q is not known", q.Op)
	}
	if err != nil {
		r.Error = err.Error()
	}
	return r
}

func (s *doctorSigner) roundTrip() *RoundTrip {
	var err error
	if s.probe, err = s.token.newProbe(); err != nil {
		return &RoundTrip{Error: err.Error()}
	}
	return s.token.roundTrip(s.probe)
}
