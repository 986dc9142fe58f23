//go:build cgo && linux

package hsm

import (
	"errors"
	"fmt"
	"os"
	"runtime"
	"slices"
	"strings"
	"unsafe"

	"github.com/ThalesIgnite/crypto11"
	"github.com/miekg/pkcs11"
)

// pkcs11Token is a token in a signer process. crypto11 signs; miekg/pkcs11 under it does what crypto11 cannot: read the token's flags before a
// login, ask for attributes one by one, make keys by templates that a module accepts, initialise modules that want arguments.
type pkcs11Token struct {
	cfg   start
	raw   *pkcs11.Ctx
	c11   *crypto11.Context // nil for modules that want arguments: crypto11 gives none
	own   pkcs11.SessionHandle
	slot  uint
	pool  chan pkcs11.SessionHandle // idle sessions of rawKey
	by    crypto11.Config           // how c11 was told to find the token
	apart bool                      // the module has a life of its own for raw
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
	if t.c11 == nil || t.apart { // login and handles last as long as a session does
		if t.own, err = t.raw.OpenSession(t.slot, sessionFlags); err != nil {
			t.close()
			return nil, tokenFailure("open a session", err)
		}
	}
	return t, nil
}

const sessionFlags = pkcs11.CKF_SERIAL_SESSION | pkcs11.CKF_RW_SESSION

// initialize calls C_Initialize and finds the slot: through crypto11, or without it where it cannot be used: it gives a module no arguments, it ends at
// the first slot whose token does not answer, and of two sessions in all it would leave none for a ceremony's own work.
func (t *pkcs11Token) initialize() error {
	if t.cfg.InitArgs != "" || t.tooFew(t.cfg.Sessions) {
		return t.initializeRaw()
	}
	c := crypto11.Config{TokenLabel: t.cfg.Token}
	if t.cfg.Serial != "" {
		c = crypto11.Config{TokenSerial: t.cfg.Serial}
	}
	err := t.configure(c)
	if f := (*failure)(nil); errors.As(err, &f) {
		return f
	}
	var code pkcs11.Error
	if errors.As(err, &code) && error(code) != err { // said of what it was doing: not of a slot it looked at
		return tokenFailure("open token", err)
	}
	if err == nil {
		err = t.findSlot()
		if err != nil || t.picks(c) && !t.tooFew(t.sessions()) {
			return t.closeAfter(err)
		}
		t.close11()
	}
	// It found no token, or stopped at another one, or not the one that is meant.
	if err := t.initializeRaw(); err != nil {
		return err
	}
	if t.tooFew(t.sessions()) {
		return nil
	}
	slot := int(t.slot)
	if err := t.raw.Finalize(); err != nil {
		return tokenFailure("finalise the module", err)
	}
	if t.configure(crypto11.Config{SlotNumber: &slot}) != nil {
		return t.initializeRaw()
	}
	return t.closeAfter(t.findSlot())
}

// tooFew reports whether so many sessions in all are not enough for crypto11, which never gives one back: at a ceremony,
// keys are made between signatures. Where the module has two lives, it would take them twice.
func (t *pkcs11Token) tooFew(sessions int) bool {
	needs := kept + 1
	if t.cfg.Ceremony {
		needs++
	}
	return sessions > 0 && (sessions < needs || t.apart)
}

// configure opens the token with crypto11. Its pool opens all the sessions it may, one after another, however few are used at a time: it begins with one,
// and reserve gives it as many as there are lanes. A module may have a life of its own for each C_GetFunctionList, as p11-kit's have: then it is
// initialised for us too, and the pool cannot be changed later.
func (t *pkcs11Token) configure(c crypto11.Config) error {
	c.Path, c.MaxSessions, c.LoginNotSupported = t.cfg.Module, kept+1, true // we log in: the PIN rule comes first
	var err error
	t.by = c
	if t.c11, err = configure11(c); err != nil {
		t.c11 = nil
		return err
	}
	if _, err := t.raw.GetSlotList(true); !errors.Is(err, pkcs11.Error(pkcs11.CKR_CRYPTOKI_NOT_INITIALIZED)) {
		return nil
	}
	t.close11()
	c.MaxSessions = kept + maxLanes
	if t.c11, err = configure11(c); err != nil {
		t.c11 = nil
		return err
	}
	t.apart = t.raw.Initialize() == nil
	return nil
}

// configure11 is crypto11.Configure, which panics at a token with one session in all.
func configure11(c crypto11.Config) (opened *crypto11.Context, err error) {
	defer func() {
		if why := recover(); why != nil {
			err = &failure{Code: codeModule, Text: fmt.Sprintf("the token has fewer than two sessions in all, and certmill needs two (crypto11: %v)", why)}
		}
	}()
	return crypto11.Configure(&c)
}

// widen gives crypto11's pool as many sessions as there are lanes. The new context shares the old one's login.
func (t *pkcs11Token) widen(lanes int) error {
	if t.c11 == nil || t.apart || lanes <= 1 {
		return nil
	}
	c := t.by
	c.MaxSessions = kept + lanes
	wide, err := configure11(c)
	if err != nil {
		return tokenFailure("open token", err)
	}
	t.c11.Close() // fails where a session is gone: whoever signs next has that error
	t.c11 = wide
	return nil
}

// picks reports whether crypto11, which takes the first slot that fits, took the one that findSlot found.
func (t *pkcs11Token) picks(c crypto11.Config) bool {
	slots, err := t.raw.GetSlotList(true)
	if err != nil {
		return false
	}
	for _, s := range slots {
		if info, err := t.raw.GetTokenInfo(s); err == nil && (c.TokenLabel != "" && info.Label == c.TokenLabel || c.TokenSerial != "" && info.SerialNumber == c.TokenSerial) {
			return s == t.slot
		}
	}
	return false
}

// initializeRaw calls C_Initialize, with the arguments that the module wants, and finds the slot.
func (t *pkcs11Token) initializeRaw() error {
	var err error
	if t.cfg.InitArgs == "" {
		err = t.raw.Initialize()
	} else {
		args := append([]byte(t.cfg.InitArgs), 0)
		err = t.raw.Initialize(pkcs11.InitializeWithReserved(unsafe.Pointer(&args[0])))
		runtime.KeepAlive(args)
	}
	if err != nil {
		return tokenFailure("initialise the module", err)
	}
	return t.closeAfter(t.findSlot())
}

// closeAfter gives the module back where there is an error.
func (t *pkcs11Token) closeAfter(err error) error {
	if err == nil {
		return nil
	}
	if t.c11 != nil {
		t.close11()
	} else {
		t.raw.Finalize()
	}
	return err
}

// findSlot finds the slot of the configured token, and of no other. A slot that does not answer is passed over: it may be another token's.
func (t *pkcs11Token) findSlot() error {
	slots, err := t.raw.GetSlotList(true)
	if err != nil {
		return tokenFailure("list slots", err)
	}
	var found []uint
	var silent error
	for _, s := range slots {
		info, err := t.raw.GetTokenInfo(s)
		if err != nil {
			silent = fmt.Errorf("; slot %d: %w", s, err)
			continue
		}
		if (t.cfg.Token == "" || unpad(info.Label) == t.cfg.Token) && (t.cfg.Serial == "" || unpad(info.SerialNumber) == t.cfg.Serial) {
			found = append(found, s)
		}
	}
	switch len(found) {
	case 0:
		text := fmt.Sprintf("no token %s%s among %d", t.cfg.Token, t.cfg.Serial, len(slots))
		if silent != nil {
			text += silent.Error()
		}
		return &failure{Code: codeToken, Text: text}
	case 1:
		t.slot = found[0]
		return nil
	}
	return &failure{Code: codeModule, Text: fmt.Sprintf("%d tokens are called %s%s: name it by its label and its serial number", len(found), t.cfg.Token, t.cfg.Serial)}
}

// unpad takes away what fills a field of CK_TOKEN_INFO: blanks (PKCS#11 v2.40, section 3.1), and NUL in some modules.
func unpad(s string) string { return strings.TrimRight(s, " \x00") }

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
	if serial := unpad(info.SerialNumber); serial != "" {
		return serial
	}
	return "label " + unpad(info.Label)
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
	if t.sessions() > 0 {
		var err error
		if lanes, err = t.count(lanes); lanes == 0 {
			return 0, tokenFailure("open a session to sign with", err)
		}
	}
	return lanes, t.widen(lanes)
}

// count opens so many sessions, if it can, and closes them.
func (t *pkcs11Token) count(lanes int) (free int, err error) {
	for free < lanes {
		s, err := t.raw.OpenSession(t.slot, sessionFlags)
		if err != nil {
			return free, err
		}
		defer t.raw.CloseSession(s) // they were for counting
		free++
	}
	return free, nil
}

func (t *pkcs11Token) report() *TokenReport {
	info := t.info()
	r := &TokenReport{Label: unpad(info.Label), Serial: unpad(info.SerialNumber), Manufacturer: info.ManufacturerID, Model: info.Model,
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
		t.close11()
	} else {
		t.raw.CloseAllSessions(t.slot)
		t.raw.Finalize()
	}
	t.raw.Destroy()
}

func (t *pkcs11Token) close11() {
	if t.apart {
		t.raw.CloseAllSessions(t.slot)
		t.raw.Finalize()
		t.apart = false
	}
	t.c11.Close()
	t.c11 = nil
}

// tokenFailure says what was being done; nil stays nil.
func tokenFailure(doing string, err error) error {
	if err == nil {
		return nil
	}
	return &failure{Code: codeToken, Text: fmt.Sprintf("%s: %v", doing, err)}
}
