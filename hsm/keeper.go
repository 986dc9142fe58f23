//go:build linux

package hsm

import (
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"time"

	"golang.org/x/term"
)

// RunKeeper is the body of the hidden keeper subcommand: it speaks on file descriptor 3 and returns when that closes. It holds the PIN and
// starts signers, one after another: SoftHSM fails one start in six when several log in at once.
func RunKeeper() error {
	if err := protect(); err != nil {
		return err
	}
	control, err := unixConn(os.NewFile(3, "control"))
	if err != nil {
		return fmt.Errorf("keeper is started by certmill itself: %w", err)
	}
	var first order
	if _, err := receive(control, &first); err != nil || first.Start == nil {
		return fmt.Errorf("read start: %w", errors.Join(err, errProtocol))
	}
	k := &nursery{control: control, start: *first.Start, signers: make(map[int]*exec.Cmd), ended: make(chan int), kill: make(chan int)}
	if k.start.Secret, err = readPIN(k.start.PIN); err != nil {
		return send(control, report{Failure: &failure{Code: codePIN, Text: err.Error()}}, nil)
	}
	go k.listen()
	return k.run()
}

// nursery is the keeper's state; run's goroutine owns it.
type nursery struct {
	control *net.UnixConn
	start   start
	signers map[int]*exec.Cmd
	ended   chan int // process ids
	kill    chan int // process ids; closed when the daemon is gone
}

// listen reads the daemon's orders.
func (k *nursery) listen() {
	defer close(k.kill)
	for {
		var o order
		if _, err := receive(k.control, &o); err != nil {
			return
		}
		k.kill <- o.Kill
	}
}

// run keeps the number of signers up. A failed start is tried again after a pause, unless it would fail again.
func (k *nursery) run() error {
	defer k.killAll()
	pause := firstPause
	var again <-chan time.Time
	for {
		for again == nil && len(k.signers) < k.start.Signers {
			f := k.spawn()
			if f == nil {
				pause = firstPause
				continue
			}
			if err := send(k.control, report{Failure: f}, nil); err != nil || f.final() {
				return err
			}
			again, pause = time.After(pause), min(2*pause, lastPause)
		}
		select {
		case <-again:
			again = nil
		case pid := <-k.ended:
			delete(k.signers, pid)
		case pid, open := <-k.kill:
			if !open {
				return nil
			}
			if c := k.signers[pid]; c != nil {
				c.Process.Kill() // fails where it has ended already
			}
		}
	}
}

// spawn starts a signer, waits until it is ready, and hands its lane to the daemon.
func (k *nursery) spawn() *failure {
	lane, theirs, err := socketPair(syscall.SOCK_STREAM)
	if err != nil {
		return asFailure(err)
	}
	defer lane.Close()
	talk, theirTalk, err := socketPair(syscall.SOCK_SEQPACKET)
	if err != nil {
		theirs.Close()
		return asFailure(err)
	}
	c := exec.Command(k.start.SignerCommand[0], k.start.SignerCommand[1:]...)
	c.ExtraFiles = []*os.File{theirs, theirTalk}
	c.Dir, c.Env, c.Stderr = k.start.Dir, append(os.Environ(), k.start.Env...), os.Stderr
	c.SysProcAttr = childAttributes()
	err = c.Start()
	theirs.Close()
	theirTalk.Close()
	if err != nil {
		talk.Close()
		return asFailure(fmt.Errorf("start signer: %w", err))
	}
	pid := c.Process.Pid
	k.signers[pid] = c
	go func() {
		c.Wait()
		k.ended <- pid
	}()
	if f := k.introduce(talk); f != nil {
		c.Process.Kill()
		return f
	}
	return asFailureOrNil(send(k.control, report{PID: pid}, lane))
}

// introduce tells a signer what it must know and waits for its answer.
func (k *nursery) introduce(talk *os.File) *failure {
	conn, err := unixConn(talk)
	if err != nil {
		return asFailure(err)
	}
	defer conn.Close()
	if err := conn.SetDeadline(time.Now().Add(startLimit)); err != nil {
		return asFailure(err)
	}
	if err := send(conn, k.start, nil); err != nil {
		return asFailure(err)
	}
	var r report
	if _, err := receive(conn, &r); err != nil {
		return asFailure(fmt.Errorf("signer did not get ready: %w", err))
	}
	return r.Failure
}

func asFailureOrNil(err error) *failure {
	if err == nil {
		return nil
	}
	return asFailure(err)
}

func (k *nursery) killAll() {
	for _, c := range k.signers {
		c.Process.Kill()
	}
	for len(k.signers) > 0 {
		delete(k.signers, <-k.ended)
	}
}

// readPIN reads the PIN from where the configuration says. A file that others may read is refused.
func readPIN(p PIN) (string, error) {
	switch {
	case p.ProtectedPath:
		return "", nil
	case p.Prompt:
		return promptPIN()
	case p.Credential != "":
		dir := os.Getenv("CREDENTIALS_DIRECTORY")
		if dir == "" {
			return "", fmt.Errorf("PIN credential %s: systemd passed none: add LoadCredential= to the unit", p.Credential)
		}
		return readPINFile(filepath.Join(dir, p.Credential))
	}
	return readPINFile(p.File)
}

const maxPIN = 1024

func readPINFile(path string) (string, error) {
	info, err := os.Stat(path)
	if err != nil {
		return "", fmt.Errorf("PIN file: %w", err)
	}
	if info.Mode().Perm()&0o077 != 0 {
		return "", fmt.Errorf("PIN file %s may be read by others (mode %04o): chmod 600", path, info.Mode().Perm())
	}
	if info.Size() > maxPIN {
		return "", fmt.Errorf("PIN file %s has %d bytes", path, info.Size())
	}
	b, err := os.ReadFile(path)
	if err != nil {
		return "", fmt.Errorf("PIN file: %w", err)
	}
	pin := strings.TrimRight(string(b), "\r\n")
	if pin == "" {
		return "", fmt.Errorf("PIN file %s is empty", path)
	}
	return pin, nil
}

func promptPIN() (string, error) {
	tty, err := os.OpenFile("/dev/tty", os.O_RDWR, 0)
	if err != nil {
		return "", fmt.Errorf("PIN prompt: no terminal: %w", err)
	}
	defer tty.Close()
	fmt.Fprint(tty, "token PIN: ")
	b, err := term.ReadPassword(int(tty.Fd()))
	fmt.Fprintln(tty)
	return string(b), err
}
