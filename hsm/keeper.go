//go:build linux

package hsm

import (
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"syscall"
	"time"
)

// RunKeeper is the body of the hidden keeper subcommand: it speaks on file descriptor 3 and returns when that closes. It holds the PIN and
// starts signers, one after another: SoftHSM fails one start in six when several log in at once.
func RunKeeper() error {
	if err := protect(); err != nil {
		return err
	}
	endWithParent(3 * retireGrace)
	control, err := unixConn(os.NewFile(3, "control"))
	if err != nil {
		return fmt.Errorf("keeper is started by certmill itself: %w", err)
	}
	var first order
	if _, err := receive(control, &first); err != nil || first.Start == nil {
		return fmt.Errorf("read start: %w", errors.Join(err, errProtocol))
	}
	k := &nursery{control: control, start: *first.Start, want: 1, signers: make(map[int]*child), ended: make(chan int),
		orders: make(chan order), gone: make(chan struct{}), stopped: make(chan struct{})}
	if k.start.Doctor != nil {
		return k.runDoctor()
	}
	if !k.start.NoLogin {
		if k.secret, k.source, err = readPIN(k.start.PIN); err != nil {
			return send(control, report{Failure: &failure{Code: codePIN, Text: err.Error()}}, nil)
		}
	}
	go k.listen()
	return k.run()
}

// nursery is the keeper's state; run's goroutine owns it.
type nursery struct {
	control *net.UnixConn
	start   start
	secret  string
	source  pinSource
	want    int // processes: one until the first has told how many the token bears
	signers map[int]*child
	ended   chan int // process ids
	orders  chan order
	gone    chan struct{} // closed when the daemon is
	stopped chan struct{} // closed when run has returned
	ready   bool          // a signer was, once: the token and the keys are there
	noKey   int           // starts in a row that did not find a key
	failing time.Time     // when the first of the failed starts in a row was
	last    *failure      // a failure that would only repeat itself: nothing is started any more
	doctor  doctorKeeper
}

// child is a signer process.
type child struct {
	process *exec.Cmd
	talk    *net.UnixConn // closing it tells the process to end
}

// listen reads the daemon's orders.
func (k *nursery) listen() {
	defer close(k.gone)
	for {
		var o order
		if _, err := receive(k.control, &o); err != nil {
			return
		}
		select {
		case k.orders <- o:
		case <-k.stopped:
			return
		}
	}
}

// left reports whether the daemon is gone. Its signers end before the keeper hears of it, and must not be replaced.
func (k *nursery) left() bool {
	select {
	case <-k.gone:
		return true
	default:
		return false
	}
}

// run keeps the number of signers up. A failed start is tried again after a pause, unless it would fail again; then those that run go on.
func (k *nursery) run() error {
	defer close(k.stopped)
	defer k.retireAll()
	var again <-chan time.Time
	for {
		for again == nil && k.last == nil && len(k.signers) < k.want && !k.left() {
			f := k.judge(k.spawn())
			if f == nil {
				k.failing = time.Time{}
				continue
			}
			if err := send(k.control, report{Failure: f}, nil); err != nil {
				return err
			}
			if f.final() {
				k.last = f
				break
			}
			again = time.After(k.pause())
		}
		if k.last != nil && len(k.signers) == 0 {
			return send(k.control, report{Failure: k.last}, nil)
		}
		select {
		case <-again:
			again = nil
		case pid := <-k.ended:
			delete(k.signers, pid)
		case <-k.gone:
			return nil
		case o := <-k.orders:
			if o.Key != nil {
				k.start.Keys = append(k.start.Keys, *o.Key)
			}
			if c := k.signers[o.Kill]; c != nil {
				c.retire(o.Hung)
				if o.Useless && again == nil {
					again = time.After(k.pause())
				}
			}
		}
	}
}

// judge decides whether a failed start would fail again. A key that is not found may be one that cannot be seen for a moment: the login was lost on the way.
func (k *nursery) judge(f *failure) *failure {
	switch {
	case f == nil:
		k.ready, k.noKey = true, 0
	case f.Code == codeNoKey:
		if k.noKey++; k.ready || k.noKey < 3 {
			return &failure{Code: codeToken, Text: f.Text, LoggedIn: f.LoggedIn}
		}
	}
	return f
}

// pause is a twentieth of the time that starts have been failing: a token that comes back is in use soon, and one that stays away
// is asked every few seconds, by one process at a time.
func (k *nursery) pause() time.Duration {
	if k.failing.IsZero() {
		k.failing = time.Now()
	}
	return min(max(time.Since(k.failing)/20, firstPause), lastPause)
}

// spawn starts a signer, lets it log in where that is allowed, waits until it is ready, and hands its lanes to the daemon.
func (k *nursery) spawn() *failure {
	lanes, theirs, err := socketPairs(maxLanes)
	defer closeAll(lanes)
	if err != nil {
		return asFailure(err)
	}
	talk, theirTalk, err := socketPair(syscall.SOCK_SEQPACKET)
	if err != nil {
		closeAll(theirs)
		return asFailure(err)
	}
	c := &child{process: exec.Command(k.start.SignerCommand[0], k.start.SignerCommand[1:]...)}
	c.process.ExtraFiles = append([]*os.File{theirTalk}, theirs...)
	c.process.Dir, c.process.Env, c.process.Stderr = k.start.Dir, append(os.Environ(), k.start.Env...), os.Stderr
	c.process.SysProcAttr = childAttributes()
	err = c.process.Start()
	closeAll(append(theirs, theirTalk))
	if err != nil {
		talk.Close()
		return asFailure(fmt.Errorf("start signer: %w", err))
	}
	if c.talk, err = unixConn(talk); err != nil {
		c.process.Process.Kill()
		return asFailure(errors.Join(err, c.process.Wait()))
	}
	pid := c.process.Process.Pid
	k.signers[pid] = c
	go func() {
		c.process.Wait()
		k.ended <- pid
	}()
	ready, f := k.introduce(c.talk)
	if f == nil {
		f = asFailureOrNil(k.handOver(pid, ready, lanes))
	}
	if f != nil {
		c.retire(errors.Is(f.cause, os.ErrDeadlineExceeded))
	}
	return f
}

// handOver gives the daemon the lanes of a signer, and what it found.
func (k *nursery) handOver(pid int, ready *TokenReport, lanes []*os.File) error {
	if ready.Lanes < 1 || ready.Lanes > len(lanes) {
		return errProtocol
	}
	k.want, k.start.Measured = ready.Processes, &ready.Measured
	if err := send(k.control, report{PID: pid, Ready: ready}, nil); err != nil {
		return err
	}
	for _, l := range lanes[:ready.Lanes] {
		if err := send(k.control, report{PID: pid}, l); err != nil {
			return err
		}
	}
	return nil
}

// introduce tells a signer what it must know, decides about its login, and waits until it is ready.
func (k *nursery) introduce(talk *net.UnixConn) (*TokenReport, *failure) {
	if err := errors.Join(talk.SetDeadline(time.Now().Add(startLimit)), send(talk, k.start, nil)); err != nil {
		return nil, asFailure(err)
	}
	asked := pinMemory{}
	var memory io.Closer // locked before the first question is answered
	for {
		var r report
		if _, err := receive(talk, &r); err != nil {
			return nil, asFailure(fmt.Errorf("signer did not get ready: %w", err))
		}
		switch {
		case r.Asks != nil:
			if memory == nil {
				var err error
				if memory, err = lockMemory(k.start.PINMemory); err != nil {
					return nil, asFailure(err)
				}
				defer memory.Close()
			}
			var p permit
			if asked, p.Denied = k.permit(*r.Asks); p.Denied == nil {
				p = k.doctor.permit(k.secret)
			}
			if err := send(talk, p, nil); err != nil {
				return nil, asFailure(err)
			}
		case r.Failure != nil:
			return nil, k.remember(asked, r.Failure)
		case r.Ready != nil:
			return r.Ready, k.remember(asked, nil)
		default:
			return nil, asFailure(errProtocol)
		}
	}
}

// lockMemory keeps other keepers of the same token (a second service, hsm doctor) from a login until the outcome of this one is noted. The lock ends with
// the file, and with the process.
func lockMemory(path string) (io.Closer, error) {
	if path == "" {
		return io.NopCloser(nil), nil
	}
	f, err := os.OpenFile(path+".lock", os.O_CREATE|os.O_RDWR, 0o600)
	if err != nil {
		return nil, fmt.Errorf("PIN memory: %w", err)
	}
	if err := syscall.Flock(int(f.Fd()), syscall.LOCK_EX); err != nil {
		return nil, fmt.Errorf("PIN memory %s: lock: %w", path, errors.Join(err, f.Close()))
	}
	return f, nil
}

// permit holds the PIN rule against what a signer found, and notes the try before it is made.
func (k *nursery) permit(a asks) (pinMemory, *failure) {
	if k.start.Doctor != nil {
		if m, f, decided := k.permitDoctor(a); decided {
			return m, f
		}
	}
	m, err := readPINMemory(k.start.PINMemory)
	if err == nil {
		err = m.mayTry(a.Serial, k.source, a.Flags)
	}
	if err != nil {
		return pinMemory{}, &failure{Code: codePIN, Text: err.Error()}
	}
	if k.start.PINMemory == "" {
		return pinMemory{}, nil
	}
	m = pinMemory{State: pinTrying, Token: a.Serial, Source: k.source, At: time.Now().UTC()}
	if err := m.write(k.start.PINMemory); err != nil {
		return m, asFailure(err)
	}
	return m, nil
}

// remember notes what became of a login, and returns f. A login whose outcome is not known stays "trying".
func (k *nursery) remember(asked pinMemory, f *failure) *failure {
	if asked.State == pinChanging {
		return k.rememberChange(asked, f)
	}
	if asked.State == "" || f != nil && !f.LoggedIn && f.Code != codePIN {
		return f
	}
	asked.State, asked.At = pinGood, time.Now().UTC()
	if f != nil && f.Code == codePIN {
		asked.State = pinWrong
	}
	if err := asked.write(k.start.PINMemory); err != nil && f == nil {
		return asFailure(err)
	}
	return f
}

func asFailureOrNil(err error) *failure {
	if err == nil {
		return nil
	}
	return asFailure(err)
}

// retire has a signer close its sessions and end; one that is hung, or does not end within the grace, is killed.
func (c *child) retire(hung bool) {
	c.talk.Close()
	if hung {
		c.process.Process.Kill() // fails where it has ended already
		return
	}
	time.AfterFunc(retireGrace, func() { c.process.Process.Kill() })
}

func (k *nursery) retireAll() {
	for _, c := range k.signers {
		c.retire(false)
	}
	for len(k.signers) > 0 {
		delete(k.signers, <-k.ended)
	}
}
