//go:build linux

package hsm

import (
	"bufio"
	"context"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"slices"
	"sync"
	"syscall"
	"time"
)

// supervise keeps one keeper running until ctx ends; a failure that would only repeat itself ends it too.
func (m *member) supervise(ctx context.Context) {
	defer close(m.done)
	failing := time.Now()
	for ctx.Err() == nil {
		began := time.Now()
		err := m.keep(ctx)
		if ctx.Err() != nil {
			return
		}
		m.token.log.Error("keeper ended", "token", m.name, "err", err)
		m.setWhy(m.asUnavailable(err))
		var f *failure
		if errors.As(err, &f) && f.final() {
			<-ctx.Done() // nobody tries a wrong PIN again
			return
		}
		if time.Since(began) > lastPause {
			failing = time.Now()
		}
		select {
		case <-time.After(min(max(time.Since(failing)/20, firstPause), lastPause)):
		case <-ctx.Done():
		}
	}
}

func (m *member) asUnavailable(err error) error {
	var f *failure
	if errors.As(err, &f) || errors.Is(err, ErrUnavailable) {
		return fmt.Errorf("token %s: %w", m.name, err)
	}
	return fmt.Errorf("token %s: %w: %w", m.name, ErrUnavailable, err)
}

// keeper is the daemon's view of a keeper process.
type keeper struct {
	member  *member
	process *exec.Cmd
	control *net.UnixConn
	tested  bool // the self-test of a clone was made
	lanes   sync.WaitGroup
	logs    sync.WaitGroup

	mu  sync.Mutex
	out map[int]bool // guarded by mu: processes that were reported out of service
}

// keep starts a keeper and serves the lanes it hands over, until it ends or ctx does. Everything it started has ended when it returns.
func (m *member) keep(ctx context.Context) error {
	k := &keeper{member: m, out: make(map[int]bool)}
	if err := k.start(); err != nil {
		return err
	}
	m.setKeeper(k)
	defer m.setKeeper(nil)
	stop := context.AfterFunc(ctx, func() { k.control.Close() }) // the keeper sees it first, and ends its signers
	defer stop()
	ctx, cancel := context.WithCancel(context.WithoutCancel(ctx))
	err := k.listen(ctx)
	k.control.Close()
	err = errors.Join(err, k.wait()) // lanes stay open until the signers have ended: their keeper would replace those that end before
	cancel()
	k.lanes.Wait()
	k.logs.Wait()
	return err
}

// start starts the process and tells it what it must know.
func (k *keeper) start() error {
	cfg := k.member.cfg
	msg := start{Module: cfg.Module, InitArgs: cfg.InitArgs, Token: cfg.Token, Serial: cfg.Serial, NoLogin: cfg.NoLogin, PIN: cfg.PIN, PINMemory: cfg.PINMemory,
		Env: cfg.Env, Dir: cfg.Dir, Signers: cfg.Signers, Sessions: cfg.Sessions, RateCap: cfg.RateCap, SignerCommand: cfg.SignerCommand,
		Ceremony: cfg.Ceremony, Selftest: len(k.member.token.members) > 1, Doctor: cfg.doctor}
	for _, key := range k.member.keys() {
		sk, err := key.wire()
		if err != nil {
			return err
		}
		msg.Keys = append(msg.Keys, sk)
	}
	ours, theirs, err := socketPair(syscall.SOCK_SEQPACKET)
	if err != nil {
		return err
	}
	defer theirs.Close()
	if k.control, err = unixConn(ours); err != nil {
		return err
	}
	k.process = exec.Command(cfg.Command[0], cfg.Command[1:]...)
	k.process.ExtraFiles = []*os.File{theirs}
	k.process.SysProcAttr = childAttributes()
	k.process.SysProcAttr.Setpgid = !cfg.PIN.Prompt // the terminal stops who asks from the background
	noise, w, err := os.Pipe()
	if err != nil {
		return errors.Join(err, k.control.Close())
	}
	k.process.Stderr = w
	err = k.process.Start()
	w.Close()
	if err != nil {
		noise.Close()
		return fmt.Errorf("start keeper: %w", errors.Join(err, k.control.Close()))
	}
	k.logs.Go(func() { k.member.logNoise(noise) })
	return send(k.control, order{Start: &msg}, nil)
}

// wire is a key as a keeper is told of it.
func (k KeyConfig) wire() (startKey, error) {
	spki, err := x509.MarshalPKIXPublicKey(k.Public)
	if err != nil {
		return startKey{}, &failure{Code: codeUnfit, Text: fmt.Sprintf("key %s: %v", k.Label, err)}
	}
	return startKey{Label: k.Label, SPKI: spki, Policy: k.Policy, Backup: k.Backup, Waivers: k.Waivers}, nil
}

// setKeeper notes the keeper that runs.
func (m *member) setKeeper(k *keeper) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.keeper = k
}

// keys are those that signers know from their start.
func (m *member) keys() []KeyConfig {
	m.mu.Lock()
	defer m.mu.Unlock()
	return slices.Clone(m.cfg.Keys)
}

// addKey has signers and keepers to come know a key that Use has added: a ceremony goes on when its signer is replaced.
func (m *member) addKey(k KeyConfig) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.cfg.Keys = append(slices.Clone(m.cfg.Keys), k)
	sk, err := k.wire()
	if m.keeper == nil || err != nil {
		return
	}
	if err := send(m.keeper.control, order{Key: &sk}, nil); err != nil {
		m.token.log.Error("tell keeper", "token", m.name, "err", err) // the next keeper knows it
	}
}

// wait waits for the process; one that does not end by itself is killed.
func (k *keeper) wait() error {
	timer := time.AfterFunc(k.member.deadline()+retireGrace, func() { k.process.Process.Kill() })
	defer timer.Stop()
	return k.process.Wait()
}

// logNoise logs what the module and the processes print, line by line, capped.
func (m *member) logNoise(r io.ReadCloser) {
	defer r.Close()
	s := bufio.NewScanner(r)
	s.Buffer(make([]byte, 4<<10), 64<<10)
	for s.Scan() {
		m.token.log.Warn("token process", "token", m.name, "text", s.Text())
	}
	io.Copy(io.Discard, r) // a line past the cap must not block the process
}

// listen takes reports until the keeper ends.
func (k *keeper) listen(ctx context.Context) error {
	m := k.member
	var last *failure
	for {
		var r report
		file, err := receive(k.control, &r)
		switch {
		case err != nil && last != nil:
			return last
		case err != nil:
			return fmt.Errorf("keeper: %w", err)
		case r.Failure != nil:
			m.setWhy(m.asUnavailable(r.Failure))
			m.token.log.Warn("no signer could be started", "token", m.name, "err", r.Failure)
			if r.Failure.final() {
				last = r.Failure // those that run go on; the keeper ends with the last of them
			}
		case r.Ready != nil:
			m.found.Store(r.Ready)
			k.tellFindings(r.Ready)
		case file != nil:
			conn, err := unixConn(file)
			if err != nil {
				return err
			}
			l := newLane(m, conn)
			if err := k.selftest(l, r.PID); err != nil {
				conn.Close()
				m.setWhy(m.asUnavailable(err))
				k.outOfService(r.PID, 0, err) // its successor is tested again, after a pause
				continue
			}
			k.lanes.Go(func() { k.serve(ctx, l, r.PID) })
		}
	}
}

// tellFindings logs what was waived: it stays visible for ever.
func (k *keeper) tellFindings(r *TokenReport) {
	for _, key := range r.Keys {
		for _, f := range key.Findings {
			if f.Level == LevelWaived {
				k.member.token.log.Warn("waived", "token", k.member.name, "key", key.Label, "attribute", f.Attribute, "text", f.Text, "reason", f.Reason)
			}
		}
	}
}

// selftest has the first lane of each of several tokens show that it holds the keys of the others. Who opened the token has recorded
// that these signatures are made.
func (k *keeper) selftest(l *lane, pid int) error {
	m := k.member
	if k.tested || len(m.token.members) == 1 {
		return nil
	}
	if err := l.hello(); err != nil {
		return err
	}
	for i, key := range m.cfg.Keys {
		if err := l.selftest(uint16(i), key); err != nil {
			return fmt.Errorf("process %d, key %s: %w", pid, key.Label, err)
		}
	}
	k.tested = true
	return nil
}

// serve serves one lane; when it fails, the keeper is told to replace the process.
func (k *keeper) serve(ctx context.Context, l *lane, pid int) {
	m := k.member
	defer l.conn.Close()
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	context.AfterFunc(ctx, func() { l.conn.Close() })
	m.enter(pid)
	err := l.serve(ctx)
	m.leave(pid, fmt.Errorf("token %s: no signer left: %w", m.name, ErrUnavailable))
	if ctx.Err() == nil {
		k.outOfService(pid, l.good.Load(), err)
	}
}

// outOfService has a process replaced, once, however many of its lanes fail.
func (k *keeper) outOfService(pid int, good uint64, why error) {
	k.mu.Lock()
	known := k.out[pid]
	k.out[pid] = true
	k.mu.Unlock()
	if known {
		return
	}
	m := k.member
	m.token.respawns.Add(1)
	m.token.log.Error("signer out of service", "token", m.name, "pid", pid, "err", why)
	if err := send(k.control, order{Kill: pid, Hung: errors.Is(why, errHung), Useless: good == 0}, nil); err != nil {
		m.token.log.Error("tell keeper", "token", m.name, "err", err) // it has ended: listen sees that too
	}
}
