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
	"runtime"
	"sync"
	"syscall"
	"time"
)

// automatic is the number of signers where none is given: more than the processors bring nothing.
func automatic() int { return min(runtime.NumCPU(), 4) }

// supervise keeps one keeper running until ctx ends; a failure that would only repeat itself ends it too.
func (t *Token) supervise(ctx context.Context) {
	defer close(t.done)
	pause := firstPause
	for ctx.Err() == nil {
		began := time.Now()
		err := t.keep(ctx)
		if ctx.Err() != nil {
			return
		}
		t.log.Error("keeper ended", "err", err)
		t.setWhy(asUnavailable(err))
		var f *failure
		if errors.As(err, &f) && f.final() {
			<-ctx.Done() // nobody tries a wrong PIN again
			return
		}
		if time.Since(began) > lastPause {
			pause = firstPause
		}
		select {
		case <-time.After(pause):
		case <-ctx.Done():
		}
		pause = min(2*pause, lastPause)
	}
}

func asUnavailable(err error) error {
	var f *failure
	if errors.As(err, &f) || errors.Is(err, ErrUnavailable) {
		return err
	}
	return fmt.Errorf("%w: %w", ErrUnavailable, err)
}

// keeper is the daemon's view of a keeper process.
type keeper struct {
	token   *Token
	process *exec.Cmd
	control *net.UnixConn
	lanes   sync.WaitGroup
	logs    sync.WaitGroup
}

// keep starts a keeper and serves the lanes it hands over, until it ends or ctx does. Everything it started has ended when it returns.
func (t *Token) keep(ctx context.Context) error {
	k := &keeper{token: t}
	if err := k.start(); err != nil {
		return err
	}
	ctx, cancel := context.WithCancel(ctx)
	stop := context.AfterFunc(ctx, func() { k.control.Close() })
	defer stop()
	err := k.listen(ctx)
	cancel()
	k.control.Close() // the keeper sees it and ends its signers
	k.lanes.Wait()
	k.logs.Wait()
	return errors.Join(err, k.wait())
}

// start starts the process and tells it what it must know.
func (k *keeper) start() error {
	cfg := k.token.cfg
	msg := start{Module: cfg.Module, Token: cfg.Token, Serial: cfg.Serial, PIN: cfg.PIN, Env: cfg.Env, Dir: cfg.Dir, Signers: cfg.Signers,
		SignerCommand: cfg.SignerCommand, Ceremony: cfg.Ceremony}
	for _, key := range cfg.Keys {
		spki, err := x509.MarshalPKIXPublicKey(key.Public)
		if err != nil {
			return &failure{Code: codeUnfit, Text: fmt.Sprintf("key %s: %v", key.Label, err)}
		}
		msg.Keys = append(msg.Keys, startKey{Label: key.Label, SPKI: spki, Policy: key.Policy})
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
	noise, w, err := os.Pipe()
	if err != nil {
		return err
	}
	k.process.Stderr = w
	err = k.process.Start()
	w.Close()
	if err != nil {
		noise.Close()
		return fmt.Errorf("start keeper: %w", err)
	}
	k.logs.Go(func() { k.token.logNoise(noise) })
	return send(k.control, order{Start: &msg}, nil)
}

// wait waits for the process; one that does not end by itself is killed.
func (k *keeper) wait() error {
	timer := time.AfterFunc(k.token.cfg.Deadline, func() { k.process.Process.Kill() })
	defer timer.Stop()
	return k.process.Wait()
}

// logNoise logs what the module and the processes print, line by line, capped.
func (t *Token) logNoise(r io.ReadCloser) {
	defer r.Close()
	s := bufio.NewScanner(r)
	s.Buffer(make([]byte, 4<<10), 64<<10)
	for s.Scan() {
		t.log.Warn("token process", "text", s.Text())
	}
	io.Copy(io.Discard, r) // a line past the cap must not block the process
}

// listen takes reports until the keeper ends.
func (k *keeper) listen(ctx context.Context) error {
	for {
		var r report
		file, err := receive(k.control, &r)
		switch {
		case err != nil:
			return fmt.Errorf("keeper: %w", err)
		case r.Failure != nil:
			k.token.setWhy(r.Failure)
			if r.Failure.final() {
				return r.Failure
			}
			k.token.log.Warn("no signer could be started", "err", r.Failure)
		case file != nil:
			conn, err := unixConn(file)
			if err != nil {
				return err
			}
			k.lanes.Go(func() { k.serve(ctx, conn, r.PID) })
		}
	}
}

// serve serves one lane; when it fails, the keeper is told to replace the process.
func (k *keeper) serve(ctx context.Context, conn net.Conn, pid int) {
	t := k.token
	defer conn.Close()
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	context.AfterFunc(ctx, func() { conn.Close() })
	if t.signers.Add(1) == 1 {
		t.setWhy(nil)
	}
	l := &lane{token: t, conn: conn, in: bufio.NewReaderSize(conn, 64<<10)}
	err := l.serve(ctx)
	if t.signers.Add(-1) == 0 {
		t.setWhy(fmt.Errorf("no signer left: %w", ErrUnavailable))
	}
	if ctx.Err() != nil {
		return
	}
	t.respawns.Add(1)
	t.log.Error("signer out of service", "pid", pid, "err", err)
	if err := send(k.control, order{Kill: pid}, nil); err != nil {
		t.log.Error("tell keeper", "err", err) // it has ended: listen sees that too
	}
}
