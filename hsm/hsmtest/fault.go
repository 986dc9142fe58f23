//go:build unix

package hsmtest

import (
	"bytes"
	"context"
	_ "embed"
	"encoding/binary"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"
	"unsafe"

	"github.com/certmill/certmill/hsm"
)

// Environment of the processes that load the fault module.
const (
	faultModule = "CERTMILL_FAULT_MODULE" // path of the real module
	faultDir    = "CERTMILL_FAULT_DIR"    // folder with the state that test and processes share
)

// Function names a function of PKCS#11 that can be made to fail.
type Function int

// The functions, in the order of the enum in module/fault.c.
const (
	Initialize Function = iota
	Finalize
	SlotList
	SlotInfo
	TokenInfo
	MechanismList
	MechanismInfo
	OpenSession
	CloseSession
	Login
	Logout
	SetPIN
	Find // C_FindObjectsInit
	GetAttribute
	SignInit
	Sign
	Generate // C_GenerateKeyPair
	Create   // C_CreateObject
	Random
	functions
)

// Forever is a duration or a number of times without end.
const Forever = 1<<63 - 1

// noLimit is how the module spells Forever, "claim this" and "any class".
const noLimit = ^uint64(0)

// The types below are the layout of module/fault.c, which documents them; magic tells versions of it apart.
const magic = 0x31746c7561666d63

type fault struct{ value, left, pid uint64 }

type function struct {
	code, hang, crash fault
	delay, calls      uint64
}

type process struct{ pid, sessions, died, lost, signatures uint64 }

type attribute struct {
	mode, typ, class, length uint64
	value                    [512]byte
	label                    [64]byte
}

type made struct {
	number, pid, length uint64
	id                  [64]byte
}

type state struct {
	magic, size uint64

	sessionsLost, loginsLost, reboots uint64
	downUntil, deadCode, stayBroken   uint64
	released                          uint64

	functions [functions]function

	corrupt     fault
	corruptSeed uint64

	maxSessions, linger uint64

	attributes             [16]attribute
	flagsSet, flagsCleared uint64
	serial                 [16]byte
	firmware               uint64
	padPINLength           uint64
	padPIN                 [64]byte

	hideEC, refuseFalse, hideNewKeys, uniqueIDs, refuseFork, noLogin uint64

	logins, wrongPINs            uint64
	sessionsOpened, sessionsPeak uint64
	signatures, corrupted        uint64
	madeCount                    uint64
	made                         [64]made
	processes                    [256]process
}

// Faults says what the token of a test does wrong. Its methods may be called while signers run, from one goroutine at a time.
type Faults struct {
	state *state
	file  []byte        // state, as mapped
	done  chan struct{} // closed to end watch
	watch sync.WaitGroup
}

// Faulty puts the fault module in front of the token of cfg, which SoftHSM made, and returns the configuration that opens it there. The
// token has no faults until Faults is told so. The test is skipped where there is no C compiler.
func Faulty(t testing.TB, cfg hsm.Config) (hsm.Config, *Faults) {
	t.Helper()
	module := buildModule(t)
	dir := t.TempDir()
	f := &Faults{file: mapState(t, filepath.Join(dir, "state")), done: make(chan struct{})}
	f.state = (*state)(unsafe.Pointer(&f.file[0]))
	f.watch.Go(f.stampDeaths)
	t.Cleanup(func() {
		f.Clear()
		close(f.done)
		f.watch.Wait()
		must(t, syscall.Munmap(f.file))
	})
	env := append(make([]string, 0, len(cfg.Env)+2), cfg.Env...)
	cfg.Env = append(env, faultModule+"="+cfg.Module, faultDir+"="+dir)
	cfg.Module = module
	return cfg, f
}

// mapState makes the file of a token without faults.
func mapState(t testing.TB, path string) []byte {
	t.Helper()
	const size = int(unsafe.Sizeof(state{}))
	head := make([]byte, size)
	binary.NativeEndian.PutUint64(head, magic)
	binary.NativeEndian.PutUint64(head[8:], uint64(size))
	must(t, os.WriteFile(path, head, 0o600))
	file, err := os.OpenFile(path, os.O_RDWR, 0)
	must(t, err)
	defer file.Close()
	mapped, err := syscall.Mmap(int(file.Fd()), 0, size, syscall.PROT_READ|syscall.PROT_WRITE, syscall.MAP_SHARED)
	must(t, err)
	return mapped
}

//go:embed module/fault.c
var faultSource []byte

// built is the module, compiled once in a test binary by whoever asks first.
var built struct {
	sync.Once
	module []byte
	skip   string
	err    error
}

// buildModule returns the path of a copy of the module in a folder of the test's own.
func buildModule(t testing.TB) string {
	t.Helper()
	dir := t.TempDir()
	built.Do(func() { built.module, built.skip, built.err = compile(t.Context(), dir) })
	if built.skip != "" {
		t.Skip("no fault module: " + built.skip)
	}
	must(t, built.err)
	path := filepath.Join(dir, "fault.so")
	must(t, os.WriteFile(path, built.module, 0o700))
	return path
}

// compile returns the module, or why it cannot be had here. The header is that of miekg/pkcs11, where Go keeps its modules.
func compile(ctx context.Context, dir string) (module []byte, skip string, err error) {
	compiler, err := exec.LookPath("cc")
	if err != nil {
		return nil, "no C compiler", nil
	}
	headers, err := exec.CommandContext(ctx, "go", "list", "-m", "-f", "{{.Dir}}", "github.com/miekg/pkcs11").Output()
	if err != nil {
		return nil, "go list does not say where pkcs11.h is", nil
	}
	source, out := filepath.Join(dir, "fault.c"), filepath.Join(dir, "built.so")
	if err := os.WriteFile(source, faultSource, 0o600); err != nil {
		return nil, "", err
	}
	c := exec.CommandContext(ctx, compiler, "-shared", "-fPIC", "-O2", "-Wall", "-Wextra", "-Werror", "-pthread", "-I", strings.TrimSpace(string(headers)), "-o", out, source, "-ldl")
	if text, err := c.CombinedOutput(); err != nil {
		return nil, "", fmt.Errorf("compile the fault module: %w\n%s", err, text)
	}
	module, err = os.ReadFile(out)
	return module, "", err
}

// stampDeaths notes when processes end, so that their sessions linger from then on, not from when the token is next asked.
func (f *Faults) stampDeaths() {
	tick := time.NewTicker(5 * time.Millisecond)
	defer tick.Stop()
	for {
		select {
		case <-f.done:
			return
		case <-tick.C:
		}
		for i := range f.state.processes {
			p := &f.state.processes[i]
			if pid := atomic.LoadUint64(&p.pid); pid != 0 && ended(int(pid)) {
				atomic.CompareAndSwapUint64(&p.died, 0, uint64(time.Now().UnixNano()))
			}
		}
	}
}

// ended reports whether a process has, also where nobody has waited for it yet.
func ended(pid int) bool {
	if errors.Is(syscall.Kill(pid, 0), syscall.ESRCH) {
		return true
	}
	text, err := os.ReadFile("/proc/" + strconv.Itoa(pid) + "/stat")
	if err != nil {
		return errors.Is(err, os.ErrNotExist)
	}
	_, rest, _ := bytes.Cut(text[bytes.LastIndexByte(text, ')')+1:], []byte(" "))
	return bytes.HasPrefix(rest, []byte("Z")) || bytes.HasPrefix(rest, []byte("X"))
}

// Times says how often, and in which process, a fault strikes.
type Times struct {
	N   int  // Forever: until it is switched off; 0: it is off
	PID int  // 0: in any process
	One bool // in the first process that meets it, and in no other
}

// Next is the next n calls, in whatever process.
func Next(n int) Times { return Times{N: n} }

// Always is every call until the fault is switched off.
func Always() Times { return Times{N: Forever} }

// InOneProcess is every call in the first process that meets the fault. Its successor is sound.
func InOneProcess() Times { return Times{N: Forever, One: true} }

// Never switches a fault off.
func Never() Times { return Times{} }

// set switches a fault off, changes it, and switches it on: processes may be reading.
func (f *fault) set(when Times, value uint64) {
	pid, left := uint64(when.PID), uint64(when.N)
	if when.One {
		pid = noLimit
	}
	if when.N == Forever {
		left = noLimit
	}
	atomic.StoreUint64(&f.left, 0)
	atomic.StoreUint64(&f.pid, pid)
	atomic.StoreUint64(&f.value, value)
	atomic.StoreUint64(&f.left, left)
}

// Reboot is a power cycle of the token: every session and login is gone, and there is no token for a while.
func (f *Faults) Reboot(away time.Duration) {
	f.Away(away)
	atomic.AddUint64(&f.state.reboots, 1)
	f.LoseSessions()
	f.LoseLogins()
}

// Away takes the token away: no slots with a token, CKR_DEVICE_REMOVED. Forever is allowed, and 0 brings it back.
func (f *Faults) Away(d time.Duration) {
	until := uint64(0)
	if d == Forever {
		until = noLimit
	} else if d > 0 {
		until = uint64(time.Now().Add(d).UnixNano())
	}
	atomic.StoreUint64(&f.state.downUntil, until)
}

// LoseSessions ends every session that is open now. Logins live on, as after a network fault that the token did not notice.
func (f *Faults) LoseSessions() { atomic.AddUint64(&f.state.sessionsLost, 1) }

// LoseLogins logs every process out: CKR_USER_NOT_LOGGED_IN until it logs in again.
func (f *Faults) LoseLogins() { atomic.AddUint64(&f.state.loginsLost, 1) }

// Return makes a function fail with a code (CKR_).
func (f *Faults) Return(fn Function, when Times, code uint) {
	f.state.functions[fn].code.set(when, uint64(code))
}

// Hang makes calls of a function wait before they go on, for a time or Forever.
func (f *Faults) Hang(fn Function, when Times, d time.Duration) {
	value := uint64(d)
	if d == Forever {
		value = noLimit
	}
	f.state.functions[fn].hang.set(when, value)
}

// Release lets go of every call that hangs.
func (f *Faults) Release() { atomic.AddUint64(&f.state.released, 1) }

// Crash makes calls of a function end their process with SIGSEGV.
func (f *Faults) Crash(fn Function, when Times) { f.state.functions[fn].crash.set(when, 0) }

// Delay makes each call of a function take at least so long. Calls in several threads overlap: a token with n sessions makes n
// signatures in that time.
func (f *Faults) Delay(fn Function, d time.Duration) {
	atomic.StoreUint64(&f.state.functions[fn].delay, uint64(d))
}

// Corrupt turns a bit in one of so many signatures; seed decides in which.
func (f *Faults) Corrupt(when Times, oneIn int, seed uint64) {
	atomic.StoreUint64(&f.state.corruptSeed, seed)
	f.state.corrupt.set(when, uint64(oneIn))
}

// LimitSessions gives the token n sessions over all processes (0: no limit). Those of a process that ends without closing them count for
// a while longer. A YubiHSM 2 is LimitSessions(16, 30*time.Second).
func (f *Faults) LimitSessions(n int, linger time.Duration) {
	atomic.StoreUint64(&f.state.linger, uint64(linger))
	atomic.StoreUint64(&f.state.maxSessions, uint64(n))
}

// Attribute is what the token says of an attribute of its objects, whatever is true.
type Attribute struct {
	Type       uint // CKA_
	Class      uint // CKO_, where AnyClass is false
	AnyClass   bool
	Label      string // of the object; empty: any
	Value      []byte
	NotOffered bool // CKR_ATTRIBUTE_TYPE_INVALID in place of a value
}

// Attributes replaces what the token says of attributes. At most 16; the first that fits an object is taken.
func (f *Faults) Attributes(list ...Attribute) {
	rows := f.state.attributes[:]
	for i := range rows {
		atomic.StoreUint64(&rows[i].mode, 0)
	}
	for i, a := range list {
		r, class, mode := &rows[i], uint64(a.Class), uint64(1)
		if a.AnyClass {
			class = noLimit
		}
		if a.NotOffered {
			mode = 2
		}
		if len(a.Value) > len(r.value) || len(a.Label) > len(r.label) {
			panic("hsmtest: an attribute that is too long")
		}
		r.label = [64]byte{}
		copy(r.label[:], a.Label)
		copy(r.value[:], a.Value)
		atomic.StoreUint64(&r.typ, uint64(a.Type))
		atomic.StoreUint64(&r.class, class)
		atomic.StoreUint64(&r.length, uint64(len(a.Value)))
		atomic.StoreUint64(&r.mode, mode)
	}
}

// Quirks are peculiarities of a token that last. The zero value has none.
type Quirks struct {
	FlagsSet, FlagsCleared uint   // of the token (CKF_)
	Serial                 string // at most 16 characters
	Firmware               [2]byte
	PadPIN                 string // C_Login without a PIN takes this one, as if it were typed at the token's own pad

	DeadCode    uint // what a lost session answers; 0: CKR_SESSION_HANDLE_INVALID
	StayBroken  bool // for a process that was initialized before a reboot there is no token until its C_Finalize
	HideEC      bool // no mechanisms of elliptic curves
	RefuseFalse uint // the code for a template with an explicit CKA_DECRYPT = false or the like; 0: such templates are taken
	HideNewKeys bool // a process does not see keys that another one made after its C_Initialize
	UniqueIDs   bool // a key pair needs a CKA_ID that no other has
	RefuseFork  bool // C_Initialize fails in a process that has forked since it loaded the module, and in its child
	NoLogin     bool // the token knows no C_Login: a session is logged in as it opens, with PadPIN
}

// Quirks replaces the token's quirks. Set them before processes start: several are more than one word.
func (f *Faults) Quirks(q Quirks) {
	s := f.state
	if len(q.Serial) > len(s.serial) || len(q.PadPIN) > len(s.padPIN) {
		panic("hsmtest: a serial or PIN that is too long")
	}
	s.serial, s.padPIN = [16]byte{}, [64]byte{}
	copy(s.serial[:], q.Serial)
	copy(s.padPIN[:], q.PadPIN)
	firmware := uint64(0)
	if q.Firmware != [2]byte{} {
		firmware = 0x10000 | uint64(q.Firmware[0])<<8 | uint64(q.Firmware[1])
	}
	for _, w := range []struct {
		at    *uint64
		value uint64
	}{
		{&s.flagsSet, uint64(q.FlagsSet)}, {&s.flagsCleared, uint64(q.FlagsCleared)}, {&s.firmware, firmware}, {&s.padPINLength, uint64(len(q.PadPIN))},
		{&s.deadCode, uint64(q.DeadCode)}, {&s.stayBroken, word(q.StayBroken)}, {&s.hideEC, word(q.HideEC)}, {&s.refuseFalse, uint64(q.RefuseFalse)},
		{&s.hideNewKeys, word(q.HideNewKeys)}, {&s.uniqueIDs, word(q.UniqueIDs)}, {&s.refuseFork, word(q.RefuseFork)},
		{&s.noLogin, word(q.NoLogin)},
	} {
		atomic.StoreUint64(w.at, w.value)
	}
}

func word(b bool) uint64 {
	if b {
		return 1
	}
	return 0
}

// Clear ends every fault and quirk and lets go of what hangs. Counts go on.
func (f *Faults) Clear() {
	for i := range f.state.functions {
		fn := Function(i)
		f.Return(fn, Never(), 0)
		f.Hang(fn, Never(), 0)
		f.Crash(fn, Never())
		f.Delay(fn, 0)
	}
	f.Corrupt(Never(), 0, 0)
	f.LimitSessions(0, 0)
	f.Attributes()
	f.Quirks(Quirks{})
	f.Away(0)
	f.Release()
}

// Counts is what the module has seen, over all processes since Faulty.
type Counts struct {
	Calls          [functions]uint64 // by Function
	Logins         uint64            // of the user, right or wrong
	WrongPINs      uint64
	SessionsOpened uint64
	SessionsPeak   uint64 // most at one time, those that linger included
	SessionsNow    uint64 // those that linger included
	Signatures     uint64
	Corrupted      uint64
	Processes      map[int]Process // those that are initialized, by pid
}

// Process is what one process has of the token.
type Process struct{ Sessions, Signatures uint64 }

// Counts reads the counters.
func (f *Faults) Counts() Counts {
	s := f.state
	c := Counts{Logins: atomic.LoadUint64(&s.logins), WrongPINs: atomic.LoadUint64(&s.wrongPINs), SessionsOpened: atomic.LoadUint64(&s.sessionsOpened),
		SessionsPeak: atomic.LoadUint64(&s.sessionsPeak), Signatures: atomic.LoadUint64(&s.signatures), Corrupted: atomic.LoadUint64(&s.corrupted),
		Processes: make(map[int]Process)}
	for i := range c.Calls {
		c.Calls[i] = atomic.LoadUint64(&s.functions[i].calls)
	}
	for i := range s.processes {
		f.countProcess(&c, &s.processes[i])
	}
	return c
}

func (f *Faults) countProcess(c *Counts, p *process) {
	pid := int(atomic.LoadUint64(&p.pid))
	if pid == 0 {
		return
	}
	has := Process{Sessions: atomic.LoadUint64(&p.sessions), Signatures: atomic.LoadUint64(&p.signatures)}
	if atomic.LoadUint64(&p.lost) != atomic.LoadUint64(&f.state.sessionsLost) {
		has.Sessions = 0
	}
	dead := ended(pid)
	if dead && !f.lingers(p) {
		return
	}
	c.SessionsNow += has.Sessions
	if !dead {
		c.Processes[pid] = has
	}
}

// lingers reports whether the sessions of a process that has ended count still.
func (f *Faults) lingers(p *process) bool {
	died := atomic.LoadUint64(&p.died)
	linger := time.Duration(atomic.LoadUint64(&f.state.linger))
	return atomic.LoadUint64(&f.state.maxSessions) > 0 && (died == 0 && linger > 0 || time.Now().Before(time.Unix(0, int64(died)).Add(linger)))
}
