//go:build linux

package hsm

import (
	"encoding/json"
	"fmt"
	"net"
	"os"
	"syscall"
)

// The control socket between daemon and keeper, and the one between keeper and signer, carry one JSON object a packet
// (SOCK_SEQPACKET); a packet of the keeper may carry the daemon's end of a signer's lane (SCM_RIGHTS), so that no TBS passes the keeper.

// order is what the daemon tells the keeper.
type order struct {
	Start   *start    // first, once
	Kill    int       // process id of a signer that is out of service: end it and start another
	Hung    bool      // … it does not answer: no time for it to close its sessions
	Key     *startKey // ceremony: signers to come know it from their start
	Useless bool      // … it never made a good signature: as if it had not started
	Another bool      // start one more signer: of an examination only
}

// start is everything a keeper, and later a signer, must know. It is fixed for the keeper's life.
type start struct {
	Module, InitArgs string
	Token, Serial    string
	NoLogin          bool
	PIN              PIN
	PINMemory        string
	Env              []string
	Dir              string
	Signers          int
	Sessions         int
	RateCap          int
	SignerCommand    []string
	Keys             []startKey
	Ceremony         bool
	Selftest         bool
	Measured         *Measured // by the first signer of this keeper
	Doctor           *doctor   // the signers answer questions instead of signing
}

// report is what a keeper tells the daemon, and a signer its keeper.
type report struct {
	PID     int          // with a lane: the signer that serves it
	Asks    *asks        // signer to keeper: may I log in?
	Ready   *TokenReport // from a signer that is ready; the keeper passes it on
	Failure *failure     // why no signer could be started
}

// asks is what a signer found before its login.
type asks struct {
	Serial string
	Flags  pinFlags
}

// permit lets a signer log in. From keeper to signer only.
type permit struct {
	Secret string // the PIN
	New    string // the PIN to set, where Set
	Set    bool   // set a new PIN after the login
	Again  bool   // ask again where this PIN is refused
	Denied *failure
}

const maxPacket = 128 << 10

// send writes one packet, with a file where there is one.
func send(c *net.UnixConn, v any, file *os.File) error {
	b, err := json.Marshal(v)
	if err != nil {
		return err
	}
	if len(b) > maxPacket {
		return fmt.Errorf("packet of %d bytes", len(b))
	}
	var rights []byte
	if file != nil {
		rights = syscall.UnixRights(int(file.Fd()))
	}
	_, _, err = c.WriteMsgUnix(b, rights, nil)
	return err
}

// receive reads one packet and the file that came with it.
func receive(c *net.UnixConn, v any) (*os.File, error) {
	b, oob := make([]byte, maxPacket), make([]byte, syscall.CmsgSpace(4))
	n, oobn, _, _, err := c.ReadMsgUnix(b, oob)
	if err != nil {
		return nil, err
	}
	if n == 0 {
		return nil, fmt.Errorf("the other side has ended: %w", net.ErrClosed)
	}
	file, err := fileOf(oob[:oobn])
	if err != nil {
		return nil, err
	}
	return file, json.Unmarshal(b[:n], v)
}

func fileOf(oob []byte) (*os.File, error) {
	if len(oob) == 0 {
		return nil, nil
	}
	messages, err := syscall.ParseSocketControlMessage(oob)
	if err != nil || len(messages) != 1 {
		return nil, errProtocol
	}
	fds, err := syscall.ParseUnixRights(&messages[0])
	if err != nil || len(fds) != 1 {
		return nil, errProtocol
	}
	syscall.CloseOnExec(fds[0])
	return os.NewFile(uintptr(fds[0]), "lane"), nil
}

// socketPair makes two connected unix sockets.
func socketPair(kind int) (ours, theirs *os.File, err error) {
	fds, err := syscall.Socketpair(syscall.AF_UNIX, kind|syscall.SOCK_CLOEXEC, 0)
	if err != nil {
		return nil, nil, fmt.Errorf("socket pair: %w", err)
	}
	return os.NewFile(uintptr(fds[0]), "ours"), os.NewFile(uintptr(fds[1]), "theirs"), nil
}

// socketPairs makes n pairs; what it returns must be closed also where it failed.
func socketPairs(n int) (ours, theirs []*os.File, err error) {
	for range n {
		a, b, err := socketPair(syscall.SOCK_STREAM)
		if err != nil {
			closeAll(theirs)
			return ours, nil, err
		}
		ours, theirs = append(ours, a), append(theirs, b)
	}
	return ours, theirs, nil
}

func closeAll(files []*os.File) {
	for _, f := range files {
		f.Close()
	}
}

// unixConn turns a socket into a connection with deadlines; the file is closed.
func unixConn(f *os.File) (*net.UnixConn, error) {
	defer f.Close()
	c, err := net.FileConn(f)
	if err != nil {
		return nil, err
	}
	u, ok := c.(*net.UnixConn)
	if !ok {
		c.Close()
		return nil, errProtocol
	}
	return u, nil
}
