//go:build cgo && linux

package hsm

import (
	"errors"
	"fmt"
	"os"
	"runtime"
	"slices"
	"strings"
	"sync/atomic"
	"unsafe"

	"github.com/ThalesIgnite/crypto11"
	"github.com/miekg/pkcs11"
)

// Supported says whether this build can use tokens at all.
const Supported = true

// pkcs11Token is a token in a signer process. crypto11 signs; miekg/pkcs11 under it does what crypto11 cannot: read the token's flags before a
// login, ask for attributes one by one, make keys by templates that a module accepts, initialise modules that want arguments.
type pkcs11Token struct {
	cfg  start
	raw  *pkcs11.Ctx
	c11  *crypto11.Context // nil for modules that want arguments: crypto11 gives none
	own  pkcs11.SessionHandle
	slot uint
	pool chan pkcs11.SessionHandle // idle sessions of rawKey
	held atomic.Int32              // sessions that crypto11's pool has open already
}

// openPKCS11 loads the module and finds the token; nobody is logged in.
func openPKCS11(cfg start) (t *pkcs11Token, err error) {
	if _, err := os.Stat(cfg.Module); err != nil && strings.Contains(cfg.Module, "/") {
		return nil, &failure{Code: codeModule, Text: fmt.Sprintf("the PKCS#11 module cannot be loaded: %v", err)}
	}
	t = &pkcs11Token{cfg: cfg, pool: make(chan pkcs11.SessionHandle, maxLanes)}
	if t.raw = pkcs11.New(cfg.Module); t.raw == nil {
		return nil, &failure{Code: codeModule, Text: "the PKCS#11 module cannot be loaded: " + cfg.Module + " is no shared library with C_GetFunctionList"}
	}
	if err := t.initialize(); err != nil {
		t.raw.Destroy()
		return nil, err
	}
	if err := t.findSlot(); err != nil {
		t.close()
		return nil, err
	}
	if t.c11 == nil { // login and handles last as long as a session does
		if t.own, err = t.raw.OpenSession(t.slot, sessionFlags); err != nil {
			t.close()
			return nil, tokenFailure("open a session", err)
		}
	}
	return t, nil
}

const sessionFlags = pkcs11.CKF_SERIAL_SESSION | pkcs11.CKF_RW_SESSION

// initialize calls C_Initialize: through crypto11, or with the arguments that the module wants.
func (t *pkcs11Token) initialize() error {
	if t.cfg.InitArgs != "" {
		args := append([]byte(t.cfg.InitArgs), 0)
		err := t.raw.Initialize(pkcs11.InitializeWithReserved(unsafe.Pointer(&args[0])))
		runtime.KeepAlive(args)
		return tokenFailure("initialise the module", err)
	}
	c := &crypto11.Config{Path: t.cfg.Module, TokenLabel: t.cfg.Token, MaxSessions: kept + maxLanes, LoginNotSupported: true} // we log in: the PIN rule comes first
	if t.cfg.Serial != "" {
		c.TokenLabel, c.TokenSerial = "", t.cfg.Serial
	}
	if n := t.cfg.Sessions; n > 0 {
		c.MaxSessions = min(max(n/max(t.cfg.Signers, 1), kept+1), c.MaxSessions)
	}
	var err error
	t.c11, err = crypto11.Configure(c)
	return tokenFailure("open token", err)
}

// findSlot finds the slot of the configured token, and of no other.
func (t *pkcs11Token) findSlot() error {
	slots, err := t.raw.GetSlotList(true)
	if err != nil {
		return tokenFailure("list slots", err)
	}
	var found []uint
	for _, s := range slots {
		info, err := t.raw.GetTokenInfo(s)
		if err == nil && (t.cfg.Token == "" || info.Label == t.cfg.Token) && (t.cfg.Serial == "" || info.SerialNumber == t.cfg.Serial) {
			found = append(found, s)
		}
	}
	switch len(found) {
	case 0:
		return &failure{Code: codeToken, Text: fmt.Sprintf("no token %s%s among %d", t.cfg.Token, t.cfg.Serial, len(slots))}
	case 1:
		t.slot = found[0]
		return nil
	}
	return &failure{Code: codeModule, Text: fmt.Sprintf("%d tokens are called %s: name it by its serial number", len(found), t.cfg.Token)}
}

func (t *pkcs11Token) info() pkcs11.TokenInfo {
	info, err := t.raw.GetTokenInfo(t.slot)
	if err != nil {
		return pkcs11.TokenInfo{}
	}
	return info
}

// identity is the token's serial number, or its label where it has none.
func (t *pkcs11Token) identity() string {
	info := t.info()
	if info.SerialNumber != "" {
		return info.SerialNumber
	}
	return "label " + info.Label
}

func (t *pkcs11Token) flags() pinFlags {
	f := t.info().Flags
	return pinFlags{CountLow: f&pkcs11.CKF_USER_PIN_COUNT_LOW != 0, FinalTry: f&pkcs11.CKF_USER_PIN_FINAL_TRY != 0, Locked: f&pkcs11.CKF_USER_PIN_LOCKED != 0}
}

func (t *pkcs11Token) needsLogin() bool { return !t.cfg.NoLogin }

// login logs in all sessions of this process. Only what the module says of the PIN itself is codePIN: other codes at a login may be those of
// a sibling that logs in at the same moment (SoftHSM: CKR_GENERAL_ERROR, CKR_USER_PIN_NOT_INITIALIZED), and mean "again".
func (t *pkcs11Token) login(secret string) error {
	return t.withSession(func(s pkcs11.SessionHandle) error {
		err := t.raw.Login(s, pkcs11.CKU_USER, secret)
		var code pkcs11.Error
		if !errors.As(err, &code) {
			return err
		}
		switch code {
		case pkcs11.CKR_USER_ALREADY_LOGGED_IN:
			return nil
		case pkcs11.CKR_PIN_INCORRECT, pkcs11.CKR_PIN_LOCKED, pkcs11.CKR_PIN_EXPIRED, pkcs11.CKR_PIN_INVALID, pkcs11.CKR_PIN_LEN_RANGE:
			return &failure{Code: codePIN, Text: fmt.Sprintf("the token did not accept the PIN: %v", err)}
		}
		return tokenFailure("log in", err)
	})
}

// withSession lends a session for a moment.
func (t *pkcs11Token) withSession(f func(pkcs11.SessionHandle) error) error {
	if t.c11 == nil {
		return f(t.own)
	}
	s, err := t.raw.OpenSession(t.slot, sessionFlags)
	if err != nil {
		return tokenFailure("open a session", err)
	}
	defer t.raw.CloseSession(s) // fails where the session is gone: whoever used it has had that error
	return f(s)
}

// sessions is the most that may be open at a time, over all processes; 0 where no limit is known.
func (t *pkcs11Token) sessions() int {
	limit := t.cfg.Sessions
	info := t.info()
	for _, n := range []uint{info.MaxSessionCount, info.MaxRwSessionCount} {
		if n != pkcs11.CK_EFFECTIVELY_INFINITE && n != pkcs11.CK_UNAVAILABLE_INFORMATION && n < 1<<20 && (limit == 0 || int(n) < limit) {
			limit = int(n)
		}
	}
	return limit
}

// reserve makes sure that there are sessions for so many lanes, and says how many there are: those of a process that was killed may linger in the
// token. Where no limit is known nothing is tried.
func (t *pkcs11Token) reserve(lanes int) (int, error) {
	if t.sessions() == 0 {
		return lanes, nil
	}
	free := int(t.held.Load())
	var err error
	for free < lanes && err == nil {
		var s pkcs11.SessionHandle
		if s, err = t.raw.OpenSession(t.slot, sessionFlags); err == nil {
			free++
			defer t.raw.CloseSession(s)
		}
	}
	if free == 0 {
		return 0, tokenFailure("open a session to sign with", err)
	}
	return free, nil
}

func (t *pkcs11Token) report() *TokenReport {
	info := t.info()
	r := &TokenReport{Label: info.Label, Serial: info.SerialNumber, Manufacturer: info.ManufacturerID, Model: info.Model,
		Firmware: fmt.Sprintf("%d.%d", info.FirmwareVersion.Major, info.FirmwareVersion.Minor), Sessions: t.sessions()}
	if m, err := t.raw.GetInfo(); err == nil {
		r.Module = fmt.Sprintf("%s %d.%d", strings.TrimSpace(m.LibraryDescription), m.LibraryVersion.Major, m.LibraryVersion.Minor)
	}
	return r
}

// offers reports whether the token has every mechanism of a list.
func (t *pkcs11Token) offers(mechanisms ...uint) bool {
	list, err := t.raw.GetMechanismList(t.slot)
	return err == nil && !slices.ContainsFunc(mechanisms, func(want uint) bool {
		return !slices.ContainsFunc(list, func(m *pkcs11.Mechanism) bool { return m.Mechanism == want })
	})
}

// close closes every session and gives the module back.
func (t *pkcs11Token) close() {
	if t.c11 != nil {
		t.c11.Close()
	} else {
		t.raw.CloseAllSessions(t.slot)
		t.raw.Finalize()
	}
	t.raw.Destroy()
}

// tokenFailure says what was being done; nil stays nil.
func tokenFailure(doing string, err error) error {
	if err == nil {
		return nil
	}
	return &failure{Code: codeToken, Text: fmt.Sprintf("%s: %v", doing, err)}
}
