//go:build cgo && linux

package hsmtest_test

import (
	"bufio"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/sha256"
	"encoding/asn1"
	"errors"
	"fmt"
	"io"
	"math/big"
	"os"
	"os/exec"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/certmill/certmill/hsm"
	"github.com/certmill/certmill/hsm/hsmtest"
	"github.com/miekg/pkcs11"
)

func TestMain(m *testing.M) {
	if len(os.Args) > 1 && os.Args[1] == "peer" {
		servePeer(os.Args[2])
		return
	}
	if hsmtest.Main(hsmtest.AllowAll) {
		return
	}
	os.Exit(m.Run())
}

// peer is a process that uses the module as it is told, one line at a time, and answers "ok ..." or the code of the failure. It is what a
// signer is to the module, without the cures of package hsm.
type peer struct {
	t   *testing.T
	cmd *exec.Cmd
	in  io.WriteCloser
	out *bufio.Scanner
	pin string
}

// newPeer starts a process that has initialized the module.
func newPeer(t *testing.T, cfg hsm.Config) *peer {
	t.Helper()
	p := barePeer(t, cfg)
	p.want("init", "ok")
	return p
}

func barePeer(t *testing.T, cfg hsm.Config) *peer {
	t.Helper()
	pin, err := os.ReadFile(cfg.PIN.File)
	if err != nil {
		t.Fatal(err)
	}
	p := &peer{t: t, cmd: exec.Command("/proc/self/exe", "peer", cfg.Module), pin: string(pin)}
	p.cmd.Env, p.cmd.Stderr = append(os.Environ(), cfg.Env...), io.Discard
	if p.in, err = p.cmd.StdinPipe(); err != nil {
		t.Fatal(err)
	}
	out, err := p.cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	p.out = bufio.NewScanner(out)
	if err := p.cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(p.kill)
	return p
}

// ready is a peer with a session (0) that is logged in.
func readyPeer(t *testing.T, cfg hsm.Config) *peer {
	t.Helper()
	p := newPeer(t, cfg)
	p.want("open", "ok 0")
	p.want("login 0 "+p.pin, "ok")
	return p
}

// tell sends a line without waiting for the answer.
func (p *peer) tell(line string) {
	p.t.Helper()
	if _, err := io.WriteString(p.in, line+"\n"); err != nil {
		p.t.Fatalf("%s: %v", line, err)
	}
}

// answer is the next line, or "ended".
func (p *peer) answer() string {
	if !p.out.Scan() {
		return "ended"
	}
	return p.out.Text()
}

func (p *peer) do(line string) string {
	p.t.Helper()
	p.tell(line)
	return p.answer()
}

func (p *peer) want(line, want string) {
	p.t.Helper()
	if got := p.do(line); got != want {
		p.t.Errorf("%s: %s, want %s", line, got, want)
	}
}

// kill ends the process without any goodbye, and waits for it.
func (p *peer) kill() {
	p.cmd.Process.Kill() // fails where it has ended already
	p.cmd.Wait()
}

// servePeer is the body of the process.
func servePeer(module string) {
	ctx := pkcs11.New(module)
	if ctx == nil {
		fmt.Println("no module")
		return
	}
	u := &user{ctx: ctx}
	for in := bufio.NewScanner(os.Stdin); in.Scan(); {
		text, err := u.run(strings.Fields(in.Text()))
		var code pkcs11.Error
		switch {
		case errors.As(err, &code):
			fmt.Printf("0x%X\n", uint(code))
		case err != nil:
			fmt.Println(err)
		default:
			fmt.Println(strings.TrimSpace("ok " + text))
		}
	}
}

// user keeps what the lines of a peer speak of by number.
type user struct {
	ctx      *pkcs11.Ctx
	sessions []pkcs11.SessionHandle
	first    uint // slot, known since the first open
}

func (u *user) run(line []string) (string, error) {
	var n int
	if len(line) > 1 {
		fmt.Sscan(line[1], &n)
	}
	var h pkcs11.SessionHandle
	if n < len(u.sessions) {
		h = u.sessions[n]
	}
	switch line[0] {
	case "init":
		return "", u.ctx.Initialize()
	case "finalize":
		return "", u.ctx.Finalize()
	case "slots":
		slots, err := u.ctx.GetSlotList(true)
		return fmt.Sprint(len(slots)), err
	case "open":
		return u.open()
	case "close":
		return "", u.ctx.CloseSession(h)
	case "login":
		return "", u.ctx.Login(h, pkcs11.CKU_USER, strings.Join(line[2:], " "))
	case "generate": // session, label, id, and what the private key's template says beside
		return "", u.generate(h, line[2], line[3], line[4:])
	case "find":
		objects, err := u.find(h, pkcs11.CKO_PRIVATE_KEY, line[2])
		return fmt.Sprint(len(objects)), err
	case "attribute": // session, label, type
		return u.attribute(h, line[2], line[3])
	case "sign":
		return u.sign(h, 1)
	case "signatures": // session, how many: "ok wrong 0"
		var times int
		fmt.Sscan(line[2], &times)
		return u.sign(h, times)
	case "together": // all sessions sign n times each, at once: "ok 123ms"
		return u.together(n)
	case "storm": // threads, how long, PIN: "ok wrong 0 signed true"
		return u.storm(n, line[2], strings.Join(line[3:], " "))
	case "begin":
		return "", u.begin(h)
	case "finish":
		_, err := u.ctx.Sign(h, make([]byte, 32))
		return "", err
	case "token":
		return u.token()
	case "ec":
		return u.mechanisms()
	}
	return "", fmt.Errorf("no such command: %s", line[0])
}

func (u *user) slot() (uint, error) {
	slots, err := u.ctx.GetSlotList(true)
	if err == nil && len(slots) == 0 {
		return 0, errors.New("no slots")
	}
	if err != nil {
		return 0, err
	}
	return slots[0], nil
}

func (u *user) open() (string, error) {
	slot, err := u.slot()
	if err != nil {
		return "", err
	}
	h, err := u.ctx.OpenSession(slot, pkcs11.CKF_SERIAL_SESSION|pkcs11.CKF_RW_SESSION)
	if err != nil {
		return "", err
	}
	u.sessions, u.first = append(u.sessions, h), slot
	return fmt.Sprint(len(u.sessions) - 1), nil
}

func (u *user) generate(h pkcs11.SessionHandle, label, id string, extra []string) error {
	oid, err := asn1.Marshal(asn1.ObjectIdentifier{1, 2, 840, 10045, 3, 1, 7})
	if err != nil {
		return err
	}
	public := []*pkcs11.Attribute{pkcs11.NewAttribute(pkcs11.CKA_TOKEN, true), pkcs11.NewAttribute(pkcs11.CKA_LABEL, label),
		pkcs11.NewAttribute(pkcs11.CKA_ID, id), pkcs11.NewAttribute(pkcs11.CKA_EC_PARAMS, oid)}
	private := []*pkcs11.Attribute{pkcs11.NewAttribute(pkcs11.CKA_TOKEN, true), pkcs11.NewAttribute(pkcs11.CKA_LABEL, label),
		pkcs11.NewAttribute(pkcs11.CKA_PRIVATE, true), pkcs11.NewAttribute(pkcs11.CKA_SIGN, true), pkcs11.NewAttribute(pkcs11.CKA_EXTRACTABLE, false)}
	if id != "none" {
		private = append(private, pkcs11.NewAttribute(pkcs11.CKA_ID, id))
	}
	if slices.Contains(extra, "no-decrypt") {
		private = append(private, pkcs11.NewAttribute(pkcs11.CKA_DECRYPT, false))
	}
	_, _, err = u.ctx.GenerateKeyPair(h, []*pkcs11.Mechanism{pkcs11.NewMechanism(pkcs11.CKM_EC_KEY_PAIR_GEN, nil)}, public, private)
	return err
}

func (u *user) find(h pkcs11.SessionHandle, class uint, label string) ([]pkcs11.ObjectHandle, error) {
	template := []*pkcs11.Attribute{pkcs11.NewAttribute(pkcs11.CKA_CLASS, class), pkcs11.NewAttribute(pkcs11.CKA_LABEL, label)}
	if err := u.ctx.FindObjectsInit(h, template); err != nil {
		return nil, err
	}
	objects, _, err := u.ctx.FindObjects(h, 10)
	return objects, errors.Join(err, u.ctx.FindObjectsFinal(h))
}

func (u *user) one(h pkcs11.SessionHandle, class uint, label string) (pkcs11.ObjectHandle, error) {
	objects, err := u.find(h, class, label)
	if err == nil && len(objects) != 1 {
		return 0, fmt.Errorf("%d objects", len(objects))
	}
	if err != nil {
		return 0, err
	}
	return objects[0], nil
}

func (u *user) attribute(h pkcs11.SessionHandle, label, typ string) (string, error) {
	var number uint
	fmt.Sscan(typ, &number)
	key, err := u.one(h, pkcs11.CKO_PRIVATE_KEY, label)
	if err != nil {
		return "", err
	}
	// With the label, which is always the truth: a lie about one attribute must not spoil another.
	a, err := u.ctx.GetAttributeValue(h, key, []*pkcs11.Attribute{pkcs11.NewAttribute(pkcs11.CKA_LABEL, nil), pkcs11.NewAttribute(number, nil)})
	if err != nil {
		return "", err
	}
	return fmt.Sprintf("%s %x", a[0].Value, a[1].Value), nil
}

// sign makes signatures with the key "k" and verifies them: "ok wrong 0".
func (u *user) sign(h pkcs11.SessionHandle, times int) (string, error) {
	key, err := u.one(h, pkcs11.CKO_PRIVATE_KEY, "k")
	if err != nil {
		return "", err
	}
	public, err := u.public(h)
	if err != nil {
		return "", err
	}
	wrong := 0
	for range times {
		digest := sha256.Sum256([]byte(rand.Text()))
		if err := u.ctx.SignInit(h, ecdsaMechanism, key); err != nil {
			return "", err
		}
		sig, err := u.ctx.Sign(h, digest[:])
		if err != nil {
			return "", err
		}
		if !ecdsa.Verify(public, digest[:], new(big.Int).SetBytes(sig[:32]), new(big.Int).SetBytes(sig[32:])) {
			wrong++
		}
	}
	return fmt.Sprint("wrong ", wrong), nil
}

var ecdsaMechanism = []*pkcs11.Mechanism{pkcs11.NewMechanism(pkcs11.CKM_ECDSA, nil)}

func (u *user) begin(h pkcs11.SessionHandle) error {
	key, err := u.one(h, pkcs11.CKO_PRIVATE_KEY, "k")
	if err != nil {
		return err
	}
	return u.ctx.SignInit(h, ecdsaMechanism, key)
}

// storm signs in several threads, each of which opens a session and logs in again after an error, as long as that lasts.
func (u *user) storm(threads int, long, pin string) (string, error) {
	d, err := time.ParseDuration(long)
	if err != nil {
		return "", err
	}
	end := time.Now().Add(d)
	var wait sync.WaitGroup
	var signed, wrong atomic.Int64
	for range threads {
		wait.Go(func() {
			for time.Now().Before(end) {
				h, err := u.ctx.OpenSession(u.first, pkcs11.CKF_SERIAL_SESSION|pkcs11.CKF_RW_SESSION)
				if err != nil {
					time.Sleep(time.Millisecond)
					continue
				}
				u.ctx.Login(h, pkcs11.CKU_USER, pin) // another thread may have done it
				for err == nil && time.Now().Before(end) {
					var text string
					if text, err = u.sign(h, 1); err == nil {
						signed.Add(1)
					}
					if text == "wrong 1" {
						wrong.Add(1)
					}
				}
				u.ctx.CloseSession(h) // fails where it is lost
			}
		})
	}
	wait.Wait()
	return fmt.Sprintf("wrong %d signed %v", wrong.Load(), signed.Load() > 0), nil
}

func (u *user) public(h pkcs11.SessionHandle) (*ecdsa.PublicKey, error) {
	object, err := u.one(h, pkcs11.CKO_PUBLIC_KEY, "k")
	if err != nil {
		return nil, err
	}
	a, err := u.ctx.GetAttributeValue(h, object, []*pkcs11.Attribute{pkcs11.NewAttribute(pkcs11.CKA_EC_POINT, nil)})
	if err != nil {
		return nil, err
	}
	var point []byte
	if _, err := asn1.Unmarshal(a[0].Value, &point); err != nil {
		return nil, err
	}
	return ecdsa.ParseUncompressedPublicKey(elliptic.P256(), point)
}

func (u *user) together(n int) (string, error) {
	var wait sync.WaitGroup
	var failed atomic.Pointer[error]
	start := time.Now()
	for _, h := range u.sessions {
		wait.Go(func() {
			if _, err := u.sign(h, n); err != nil {
				failed.Store(&err)
			}
		})
	}
	wait.Wait()
	if err := failed.Load(); err != nil {
		return "", *err
	}
	return time.Since(start).String(), nil
}

func (u *user) token() (string, error) {
	slot, err := u.slot()
	if err != nil {
		return "", err
	}
	info, err := u.ctx.GetTokenInfo(slot)
	return fmt.Sprintf("serial %s firmware %d.%d low %v sessions %d/%d", info.SerialNumber, info.FirmwareVersion.Major, info.FirmwareVersion.Minor,
		info.Flags&pkcs11.CKF_USER_PIN_COUNT_LOW != 0, info.SessionCount, info.MaxSessionCount), err
}

// mechanisms counts those of elliptic curves and says what the token knows of ECDSA.
func (u *user) mechanisms() (string, error) {
	slot, err := u.slot()
	if err != nil {
		return "", err
	}
	list, err := u.ctx.GetMechanismList(slot)
	if err != nil {
		return "", err
	}
	n := 0
	for _, m := range list {
		if m.Mechanism == pkcs11.CKM_EC_KEY_PAIR_GEN || m.Mechanism == pkcs11.CKM_ECDSA {
			n++
		}
	}
	_, err = u.ctx.GetMechanismInfo(slot, ecdsaMechanism)
	return fmt.Sprintf("%d of %d, %v", n, min(len(list), 3), err), nil
}
