package hsm

import (
	"fmt"
	"runtime"
	"strings"
	"time"
)

// ExamineOptions says how far an examination goes.
type ExamineOptions struct {
	TestKey   bool      // make a key in the token, hold it against the gate, sign with it and destroy it; without it nothing is changed
	KeysOnly  bool      // list the keys and nothing else
	NotBefore time.Time // a moment that has passed for certain, such as the beginning of a CA certificate; zero: none known
}

// TestKeyPrefix begins the label of every key that an examination makes. A key that is found under it was left by one that was killed.
const TestKeyPrefix = "certmill-doctor-"

// Examination is what was found of a token, and what is to be said of it.
type Examination struct {
	At         time.Time     `json:"at"`
	Module     Library       `json:"module"`
	Slots      []Slot        `json:"slots"`
	Token      *TokenFacts   `json:"token"` // nil where it was not found
	Mechanisms []Mechanism   `json:"mechanisms"`
	LoggedIn   bool          `json:"logged_in"`
	Keys       []ExaminedKey `json:"keys"`      // those that were asked for, then every other key in the token
	Leftovers  []string      `json:"leftovers"` // labels of test keys that an earlier examination left
	RoundTrip  *RoundTrip    `json:"round_trip"`
	Rates      []Rate        `json:"rates"`
	TestKey    *TestKey      `json:"test_key,omitempty"`
	Advice     *Advice       `json:"advice"`
	Lines      []ExamineLine `json:"lines"` // the page
}

// ExaminedKey is a key pair in the token, or half of one.
type ExaminedKey struct {
	KeyReport
	Asked   bool `json:"asked"` // it stands in Config.Keys
	Private bool `json:"private"`
	Public  bool `json:"public"`
}

// Library is what a PKCS#11 module says of itself.
type Library struct {
	Path         string `json:"path"`
	Manufacturer string `json:"manufacturer"`
	Description  string `json:"description"`
	Version      string `json:"version"`
	Cryptoki     string `json:"cryptoki"` // version of PKCS#11
}

// Slot is a slot with a token in it.
type Slot struct {
	ID     uint   `json:"id"`
	Label  string `json:"label"`
	Serial string `json:"serial"`
	Ours   bool   `json:"ours"` // the configured one
}

// TokenFacts is what a token says of itself (PKCS#11 v2.40, CK_TOKEN_INFO), before anybody is logged in.
type TokenFacts struct {
	Label        string          `json:"label"`
	Serial       string          `json:"serial"`
	Manufacturer string          `json:"manufacturer"`
	Model        string          `json:"model"`
	Hardware     string          `json:"hardware"`
	Firmware     string          `json:"firmware"`
	Flags        map[string]bool `json:"flags"`    // CKF_…
	Sessions     int             `json:"sessions"` // most that may be open at a time, as the token or the configuration says; 0: no limit is known
	MinPIN       uint            `json:"min_pin"`
	MaxPIN       uint            `json:"max_pin"`
	Clock        *time.Time      `json:"clock,omitempty"`
	Read         time.Time       `json:"read"` // when, by our clock
}

// Mechanism is one that a CA's key may need.
type Mechanism struct {
	Name    string `json:"name"`
	Purpose string `json:"purpose"`
	Offered bool   `json:"offered"`
	MinBits uint   `json:"min_bits,omitempty"`
	MaxBits uint   `json:"max_bits,omitempty"`
}

// RoundTrip is a handful of signatures by a key that lived for a moment in a session, verified outside the token.
type RoundTrip struct {
	Kind     string   `json:"kind,omitempty"`
	Made     int      `json:"made"`
	Wrong    int      `json:"wrong"`
	Error    string   `json:"error,omitempty"`
	Measured Measured `json:"measured"`
}

// Rate is how many signatures a second so many processes made, on so many sessions each.
type Rate struct {
	Processes int     `json:"processes"`
	Sessions  int     `json:"sessions"` // in each process
	PerSecond float64 `json:"per_second"`
	Error     string  `json:"error,omitempty"`
}

// TestKey tells of a key that was made in the token, and destroyed again.
type TestKey struct {
	Removed   []string   `json:"removed"` // labels that an earlier examination had left
	Report    *KeyReport `json:"report"`
	Verified  bool       `json:"verified"` // its signature
	Destroyed bool       `json:"destroyed"`
	Error     string     `json:"error,omitempty"`
}

// Advice is what a Token opened with this configuration does, and what follows from the rates.
type Advice struct {
	Processes int           `json:"processes"`
	Lanes     int           `json:"lanes"` // signatures at a time in one process
	Deadline  time.Duration `json:"deadline"`
	Best      Rate          `json:"best"`
}

// ExamineLine is one line of the page.
type ExamineLine struct {
	Level Level  `json:"level"` // LevelOK, LevelWarn or LevelFail
	Name  string `json:"name"`
	Text  string `json:"text"`
	Do    string `json:"do,omitempty"` // what to do about it
}

// Failed reports whether a line of the page says so.
func (x *Examination) Failed() bool {
	for _, l := range x.Lines {
		if l.Level == LevelFail {
			return true
		}
	}
	return false
}

// Verdict is the worst level of a key's findings, in capitals.
func (r KeyReport) Verdict() string {
	worst := "OK"
	for _, f := range r.Findings {
		switch {
		case f.Level == LevelFail:
			return "FAIL"
		case f.Level == LevelWaived:
			worst = "WAIVED"
		case f.Level == LevelWarn && worst == "OK":
			worst = "WARN"
		}
	}
	return worst
}

// say adds a line.
func (x *Examination) say(l Level, name, do, format string, args ...any) {
	if l == LevelOK {
		do = ""
	}
	x.Lines = append(x.Lines, ExamineLine{Level: l, Name: name, Text: fmt.Sprintf(format, args...), Do: do})
}

// warnIf is a level: LevelWarn where something is so.
func warnIf(is bool) Level {
	if is {
		return LevelWarn
	}
	return LevelOK
}

func failIf(is bool) Level {
	if is {
		return LevelFail
	}
	return LevelOK
}

// judge writes the page. It is a pure function of what was found and the configuration; why is what ended the examination early, or nil.
func (x *Examination) judge(cfg Config, o ExamineOptions, why error) {
	x.judgeModule(cfg)
	if t := x.Token; t != nil {
		x.judgeToken(cfg, t)
		x.judgeMechanisms()
		x.judgeClock(o, t)
	}
	x.judgeKeys(o)
	if why != nil {
		x.say(LevelFail, "examination", "see above; certmill hsm doctor again when it is mended", "ended early: %v", why)
		return
	}
	x.judgeRoundTrip()
	x.judgeRates(cfg)
	x.judgeTestKey(o)
}

func (x *Examination) judgeModule(cfg Config) {
	m := x.Module
	x.say(failIf(m.Cryptoki == ""), "module", "check module: in the configuration, and that its package is installed", "%s", m.Path)
	if m.Cryptoki == "" {
		return
	}
	x.say(LevelOK, "library", "", "%s %s by %s, PKCS#11 %s", orDash(m.Description), m.Version, orDash(m.Manufacturer), m.Cryptoki)
	var names []string
	for _, s := range x.Slots {
		mark := ""
		if s.Ours {
			mark = " (this one)"
		}
		names = append(names, fmt.Sprintf("%d: %s %s%s", s.ID, s.Label, s.Serial, mark))
	}
	x.say(failIf(x.Token == nil), "slots", "is the token plugged in, its network reachable, its label or serial right? what there is stands on this line",
		"%d with a token; %s", len(x.Slots), orDash(strings.Join(names, ", ")))
}

func (x *Examination) judgeToken(cfg Config, t *TokenFacts) {
	x.say(LevelOK, "token", "", "%s, serial %s, %s %s", t.Label, orDash(t.Serial), orDash(t.Manufacturer), orDash(t.Model))
	x.say(LevelOK, "firmware", "", "%s, hardware %s", t.Firmware, t.Hardware)
	f := t.Flags
	login := !cfg.NoLogin
	for _, r := range []struct {
		bad        bool
		level      Level
		text, cure string
	}{
		{!f["CKF_TOKEN_INITIALIZED"], LevelFail, "the token is not initialised", "initialise it with its vendor's tool"},
		{login && !f["CKF_USER_PIN_INITIALIZED"], LevelFail, "the user PIN is not initialised", "its security officer sets it: pkcs11-tool --init-pin"},
		{f["CKF_USER_PIN_LOCKED"], LevelFail, "the user PIN is locked", "its security officer has to unlock it"},
		{f["CKF_USER_PIN_FINAL_TRY"] && !f["CKF_USER_PIN_LOCKED"], LevelFail, "one last try of the PIN is left", "log in once by hand with the right PIN: pkcs11-tool --login; certmill does not try"},
		{f["CKF_USER_PIN_COUNT_LOW"], LevelWarn, "a wrong PIN was entered since the last good login", "check the PIN before anything logs in; a good login clears the count"},
		{login && f["CKF_USER_PIN_TO_BE_CHANGED"], LevelWarn, "the PIN is to be changed", "certmill hsm pin-change"},
		{login && !f["CKF_LOGIN_REQUIRED"], LevelWarn, "the token asks for no login: whoever reaches it may use its keys", "require a login, or restrict who reaches the token"},
		{cfg.NoLogin && f["CKF_LOGIN_REQUIRED"], LevelFail, "the token wants a login and the configuration has none", "set pin: in the configuration"},
		{cfg.PIN.ProtectedPath && !f["CKF_PROTECTED_AUTHENTICATION_PATH"], LevelFail, "pin: {protected_path: true}, and the token has none", "use pin: {file: …} or {credential: …}"},
		{!cfg.PIN.ProtectedPath && f["CKF_PROTECTED_AUTHENTICATION_PATH"], LevelWarn, "the token has a PIN pad of its own", "pin: {protected_path: true} keeps the PIN off this machine"},
		{f["CKF_WRITE_PROTECTED"], LevelWarn, "the token is write protected", "no ceremony can make a key in it"},
		{!f["CKF_RNG"], LevelWarn, "the token names no random number generator", "ask its vendor where its keys come from"},
		{f["CKF_ERROR_STATE"], LevelFail, "the token is in its error state", "reset or replace it"},
	} {
		if r.bad {
			x.say(r.level, "flags", r.cure, "%s", r.text)
		}
	}
	x.say(LevelOK, "flags", "", "%s", strings.Join(sortedTrue(f), " "))
	switch {
	case t.Sessions == 0:
		x.say(LevelOK, "sessions", "", "no limit known")
	case t.Sessions < kept+1:
		x.say(LevelFail, "sessions", "free sessions, or raise the limit: a signer needs two", "%d at a time", t.Sessions)
	default:
		x.say(LevelOK, "sessions", "", "%d at a time, over all processes", t.Sessions)
	}
}

func (x *Examination) judgeMechanisms() {
	needed := map[string]string{} // mechanism → label of a key that needs it
	for _, k := range x.Keys {
		switch {
		case k.Asked && strings.HasPrefix(k.Kind, "EC"):
			needed["CKM_ECDSA"] = k.Label
		case k.Asked && strings.HasPrefix(k.Kind, "RSA"):
			needed["CKM_RSA_PKCS"] = k.Label
		}
	}
	offered := map[string]bool{}
	for _, m := range x.Mechanisms {
		offered[m.Name] = m.Offered
		switch {
		case m.Offered && m.MaxBits > 0:
			x.say(LevelOK, "mechanism", "", "%s, %d to %d bits: %s", m.Name, m.MinBits, m.MaxBits, m.Purpose)
		case m.Offered:
			x.say(LevelOK, "mechanism", "", "%s: %s", m.Name, m.Purpose)
		case needed[m.Name] != "":
			x.say(LevelFail, "mechanism", "the key cannot sign here: update the firmware, or move to a token that has it", "%s is not offered, and key %s needs it", m.Name, needed[m.Name])
		default:
			x.say(LevelWarn, "mechanism", "write an algorithm into ceremony files that this token has", "%s is not offered: %s", m.Name, m.Purpose)
		}
	}
	if !(offered["CKM_ECDSA"] && offered["CKM_EC_KEY_PAIR_GEN"]) && !(offered["CKM_RSA_PKCS"] && offered["CKM_RSA_PKCS_KEY_PAIR_GEN"]) {
		x.say(LevelFail, "mechanism", "certmill needs one of them: use another token", "the token makes and uses neither EC nor RSA keys")
	}
}

// clockSlack is how far a token's clock may be off: it signs no times, but its log is read beside ours.
const clockSlack = time.Minute

func (x *Examination) judgeClock(o ExamineOptions, t *TokenFacts) {
	x.say(failIf(x.At.Before(o.NotBefore)), "clock", "set the system's clock: certificates would begin in the past", "system %s%s", x.At.UTC().Format(time.RFC3339), after(o.NotBefore))
	if t.Clock == nil {
		x.say(LevelOK, "clock", "", "the token has none")
		return
	}
	off := t.Clock.Sub(t.Read).Round(time.Second)
	x.say(warnIf(off.Abs() > clockSlack), "clock", "set the token's clock with its vendor's tool, or the system's", "token %s, %v from the system's", t.Clock.UTC().Format(time.RFC3339), off)
}

func after(t time.Time) string {
	if t.IsZero() {
		return ""
	}
	return "; the newest CA certificate begins " + t.UTC().Format(time.RFC3339)
}

func (x *Examination) judgeKeys(o ExamineOptions) {
	others := 0
	for _, k := range x.Keys {
		if !k.Asked {
			others++
			continue
		}
		level, texts, unknown := LevelOK, []string{}, []string{}
		for _, f := range k.Findings {
			switch f.Level {
			case LevelFail:
				level = LevelFail
			case LevelWarn, LevelWaived:
				if level == LevelOK {
					level = LevelWarn
				}
			}
			text := f.Attribute + " " + f.Text
			if f.Level == LevelWaived {
				text += " (waived: " + f.Reason + ")"
			}
			if f.Level == LevelUnknown {
				unknown = append(unknown, f.Attribute)
				continue
			}
			texts = append(texts, text)
		}
		if len(texts) == 0 {
			texts = []string{"as demanded"}
		}
		if len(unknown) > 0 {
			texts = append(texts, "not reported by this token: "+strings.Join(unknown, " "))
		}
		do := "known and tolerated: look whether it still has to be"
		if level == LevelFail {
			do = "make a new key at a ceremony, or waive the attribute with a reason in the configuration; another key needs its own token or label"
		}
		x.say(level, "key", do, "%s, %s, backup %s: %s", k.Label, k.Kind, orNone(k.Backup), strings.Join(texts, "; "))
	}
	if others > 0 {
		x.say(LevelOK, "keys", "", "%d more in the token that no CA uses: certmill hsm keys", others)
	}
	if len(x.Leftovers) > 0 && !o.TestKey {
		x.say(LevelWarn, "keys", "certmill hsm doctor --write-test-key removes them", "left by an examination that was cut off: %s", strings.Join(x.Leftovers, " "))
	}
}

func (x *Examination) judgeRoundTrip() {
	r := x.RoundTrip
	switch {
	case r == nil:
	case r.Error != "":
		x.say(LevelWarn, "round trip", "the token may make no keys that live in a session; --write-test-key tries with one that lives in the token", "not made: %s", r.Error)
	case r.Wrong > 0:
		x.say(LevelFail, "round trip", "the token lies: take it out of service and ask its vendor; certmill releases none of these", "%d of %d signatures do not verify", r.Wrong, r.Made)
	default:
		x.say(LevelOK, "round trip", "", "%s session key: %d signatures made, all verify; %v each, %v of them on this machine's processors",
			r.Kind, r.Made, r.Measured.Wall.Round(time.Microsecond), r.Measured.CPU.Round(time.Microsecond))
	}
}

func (x *Examination) judgeRates(cfg Config) {
	best := Rate{}
	for _, r := range x.Rates {
		if r.Error != "" {
			x.say(LevelWarn, "rate", "close other users of the token, or set sessions: to what it really has", "%s: %s", r.on(), r.Error)
			continue
		}
		x.say(LevelOK, "rate", "", "%s: %.0f signatures/s", r.on(), r.PerSecond)
		if r.PerSecond > best.PerSecond*1.05 { // fewer processes and sessions where more bring nothing
			best = r
		}
	}
	if x.RoundTrip == nil || x.Token == nil {
		return
	}
	m := x.RoundTrip.Measured
	auto := resources{cores: runtime.NumCPU(), sessions: x.Token.Sessions, measured: m}
	chosen := auto
	chosen.signers = cfg.Signers
	l, deadline := chosen.plan(), deadlineFor(cfg.Deadline, m)
	x.Advice = &Advice{Processes: l.Processes, Lanes: l.Lanes, Deadline: deadline, Best: best}
	text := fmt.Sprintf("%s, %s each to sign with, deadline %v", plural(l.Processes, "process", "es"), plural(l.Lanes, "session", "s"), deadline)
	if best.PerSecond > 0 {
		text += fmt.Sprintf("; fastest seen %s", best.on())
	}
	switch {
	case cfg.Signers > l.Processes:
		x.say(LevelWarn, "advice", fmt.Sprintf("signers: %d, or auto", l.Processes), "signers: %d is more than the sessions of the token allow; serve runs %s", cfg.Signers, text)
	case best.Processes > l.Processes:
		x.say(LevelWarn, "advice", fmt.Sprintf("signers: %d, or auto", best.Processes), "serve runs %s", text)
	default:
		x.say(LevelOK, "advice", "", "serve runs %s", text)
	}
	if least := 20 * m.Wall; cfg.Deadline > 0 && cfg.Deadline < least {
		x.say(LevelWarn, "advice", fmt.Sprintf("deadline: %v, or leave it out", least.Round(time.Millisecond)), "deadline: %v is less than 20 signatures: a token under load would be taken for one that hangs", cfg.Deadline)
	}
}

// on says what a rate was measured on.
func (r Rate) on() string {
	return fmt.Sprintf("%s, %s", plural(r.Processes, "process", "es"), plural(r.Sessions, "session", "s")+" each")
}

func plural(n int, one, more string) string {
	if n == 1 {
		return "1 " + one
	}
	return fmt.Sprintf("%d %s%s", n, one, more)
}

func (x *Examination) judgeTestKey(o ExamineOptions) {
	t := x.TestKey
	if t == nil {
		if !o.KeysOnly {
			x.say(LevelOK, "test key", "", "none made: --write-test-key makes one in the token and destroys it")
		}
		return
	}
	if len(t.Removed) > 0 {
		x.say(LevelOK, "test key", "", "removed what an earlier examination left: %s", strings.Join(t.Removed, " "))
	}
	if t.Error != "" {
		x.say(LevelFail, "test key", "a ceremony would fail in the same way: mend this first", "%s", t.Error)
	}
	if t.Report == nil {
		return
	}
	for _, f := range t.Report.Findings {
		if f.Level == LevelFail {
			x.say(LevelFail, "test key", "keys that this token makes would be refused: ask its vendor for the setting", "%s %s", f.Attribute, f.Text)
		}
	}
	if t.Report.Verdict() != "FAIL" && t.Error == "" {
		x.say(failIf(!t.Verified), "test key", "the token lies: take it out of service", "%s %s made in the token, as demanded; its signature verified: %v", t.Report.Label, t.Report.Kind, t.Verified)
	}
	x.say(failIf(!t.Destroyed), "test key", "run it again: it removes what is left", "%s destroyed: %v", t.Report.Label, t.Destroyed)
}

func orDash(s string) string {
	if s == "" {
		return "-"
	}
	return s
}

func orNone(b Backup) Backup {
	if b == "" {
		return BackupNone
	}
	return b
}

func sortedTrue(flags map[string]bool) (names []string) {
	for _, name := range tokenFlagNames {
		if flags[name] {
			names = append(names, name)
		}
	}
	return names
}

// tokenFlagNames are the flags of CK_TOKEN_INFO that are read, in the order in which they are shown.
var tokenFlagNames = []string{
	"CKF_TOKEN_INITIALIZED", "CKF_USER_PIN_INITIALIZED", "CKF_LOGIN_REQUIRED", "CKF_PROTECTED_AUTHENTICATION_PATH", "CKF_RNG", "CKF_CLOCK_ON_TOKEN", "CKF_WRITE_PROTECTED",
	"CKF_USER_PIN_COUNT_LOW", "CKF_USER_PIN_FINAL_TRY", "CKF_USER_PIN_LOCKED", "CKF_USER_PIN_TO_BE_CHANGED", "CKF_ERROR_STATE",
}
