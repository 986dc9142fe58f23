//go:build cgo && linux

package hsm

import (
	"crypto"
	"crypto/rand"
	"crypto/sha256"
	"crypto/x509"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/miekg/pkcs11"
)

// survey notes what module, slots and token say before a login.
func (t *pkcs11Token) survey(x *Examination) {
	surveyRaw(t.raw, x, func(s uint) bool { return s == t.slot })
	info := t.info()
	f := &TokenFacts{Label: info.Label, Serial: info.SerialNumber, Manufacturer: info.ManufacturerID, Model: info.Model, Hardware: versionText(info.HardwareVersion),
		Firmware: versionText(info.FirmwareVersion), Flags: make(map[string]bool), Sessions: t.sessions(), MinPIN: info.MinPinLen, MaxPIN: info.MaxPinLen, Read: time.Now().UTC()}
	for name, bit := range tokenFlags {
		f.Flags[name] = info.Flags&bit != 0
	}
	if f.Flags["CKF_CLOCK_ON_TOKEN"] && len(info.UTCTime) >= 14 { // YYYYMMDDhhmmss00 (PKCS#11 v2.40, CK_TOKEN_INFO)
		if at, err := time.ParseInLocation("20060102150405", info.UTCTime[:14], time.UTC); err == nil {
			f.Clock = &at
		}
	}
	x.Token, x.Mechanisms = f, t.mechanisms()
}

// surveyModule notes what can be seen without the token, where it could not be opened.
func surveyModule(cfg start, x *Examination) {
	raw := pkcs11.New(cfg.Module)
	if raw == nil {
		return
	}
	defer raw.Destroy()
	if cfg.InitArgs != "" || raw.Initialize() != nil {
		return
	}
	defer raw.Finalize()
	surveyRaw(raw, x, func(uint) bool { return false })
}

func surveyRaw(raw *pkcs11.Ctx, x *Examination, ours func(uint) bool) {
	if m, err := raw.GetInfo(); err == nil {
		x.Module.Manufacturer, x.Module.Description = clean(m.ManufacturerID), clean(m.LibraryDescription)
		x.Module.Version, x.Module.Cryptoki = versionText(m.LibraryVersion), versionText(m.CryptokiVersion)
	}
	slots, err := raw.GetSlotList(true)
	if err != nil {
		return
	}
	for _, s := range slots {
		if info, err := raw.GetTokenInfo(s); err == nil {
			x.Slots = append(x.Slots, Slot{ID: s, Label: clean(info.Label), Serial: clean(info.SerialNumber), Ours: ours(s)})
		}
	}
}

// clean makes a module's text one for a terminal.
func clean(s string) string {
	return strings.Map(func(r rune) rune {
		if r < ' ' || r == 0x7f {
			return -1
		}
		return r
	}, strings.TrimSpace(s))
}

func versionText(v pkcs11.Version) string { return fmt.Sprintf("%d.%d", v.Major, v.Minor) }

var tokenFlags = map[string]uint{
	"CKF_TOKEN_INITIALIZED": pkcs11.CKF_TOKEN_INITIALIZED, "CKF_USER_PIN_INITIALIZED": pkcs11.CKF_USER_PIN_INITIALIZED, "CKF_LOGIN_REQUIRED": pkcs11.CKF_LOGIN_REQUIRED,
	"CKF_PROTECTED_AUTHENTICATION_PATH": pkcs11.CKF_PROTECTED_AUTHENTICATION_PATH, "CKF_RNG": pkcs11.CKF_RNG, "CKF_CLOCK_ON_TOKEN": pkcs11.CKF_CLOCK_ON_TOKEN,
	"CKF_WRITE_PROTECTED": pkcs11.CKF_WRITE_PROTECTED, "CKF_USER_PIN_COUNT_LOW": pkcs11.CKF_USER_PIN_COUNT_LOW, "CKF_USER_PIN_FINAL_TRY": pkcs11.CKF_USER_PIN_FINAL_TRY,
	"CKF_USER_PIN_LOCKED": pkcs11.CKF_USER_PIN_LOCKED, "CKF_USER_PIN_TO_BE_CHANGED": pkcs11.CKF_USER_PIN_TO_BE_CHANGED, "CKF_ERROR_STATE": pkcs11.CKF_ERROR_STATE,
}

// mechanisms are those that a CA's key may need, with what the token offers of them.
func (t *pkcs11Token) mechanisms() (all []Mechanism) {
	for _, m := range []struct {
		typ           uint
		name, purpose string
	}{
		{pkcs11.CKM_ECDSA, "CKM_ECDSA", "signs with P-256 and P-384"}, {pkcs11.CKM_EC_KEY_PAIR_GEN, "CKM_EC_KEY_PAIR_GEN", "makes them"},
		{pkcs11.CKM_RSA_PKCS, "CKM_RSA_PKCS", "signs with RSA"}, {pkcs11.CKM_RSA_PKCS_KEY_PAIR_GEN, "CKM_RSA_PKCS_KEY_PAIR_GEN", "makes RSA keys"},
	} {
		r := Mechanism{Name: m.name, Purpose: m.purpose, Offered: t.offers(m.typ)}
		if info, err := t.raw.GetMechanismInfo(t.slot, []*pkcs11.Mechanism{pkcs11.NewMechanism(m.typ, nil)}); err == nil && r.Offered {
			r.MinBits, r.MaxBits = info.MinKeySize, info.MaxKeySize
		}
		all = append(all, r)
	}
	return all
}

// examineKeys holds every key in the token against the gate: first those that are asked for, then the others. leftovers are the labels of test keys.
func (t *pkcs11Token) examineKeys(asked []startKey) (all []ExaminedKey, leftovers []string, err error) {
	err = t.withSession(func(s pkcs11.SessionHandle) error {
		private, err := t.search(s, pkcs11.NewAttribute(pkcs11.CKA_CLASS, pkcs11.CKO_PRIVATE_KEY))
		if err != nil {
			return tokenFailure("list keys", err)
		}
		public, err := t.search(s, pkcs11.NewAttribute(pkcs11.CKA_CLASS, pkcs11.CKO_PUBLIC_KEY))
		if err != nil {
			return tokenFailure("list keys", err)
		}
		whole := make(map[pkcs11.ObjectHandle]bool) // public halves that belong to a private one
		for _, h := range private {
			ref := keyRef{handle: h, label: string(t.attribute(s, h, pkcs11.CKA_LABEL)), id: t.attribute(s, h, pkcs11.CKA_ID)}
			k := ExaminedKey{Private: true}
			for _, p := range public {
				if t.belong(s, p, ref) {
					whole[p], k.Public = true, true
				}
			}
			i := slices.IndexFunc(asked, func(a startKey) bool { return a.Label == ref.label })
			k.KeyReport, k.Asked = t.judgeHandle(s, ref, asked, i), i >= 0
			all = append(all, k)
			if strings.HasPrefix(ref.label, TestKeyPrefix) {
				leftovers = append(leftovers, ref.label)
			}
		}
		for _, p := range public {
			if !whole[p] {
				label := clean(string(t.attribute(s, p, pkcs11.CKA_LABEL)))
				all = append(all, ExaminedKey{Public: true, KeyReport: KeyReport{Label: label, ID: fmt.Sprintf("%x", t.attribute(s, p, pkcs11.CKA_ID)), Kind: describe(t.publicAt(s, p))}})
				if strings.HasPrefix(label, TestKeyPrefix) {
					leftovers = append(leftovers, label)
				}
			}
		}
		return nil
	})
	return sortKeys(all, asked), leftovers, err
}

// belong reports whether a public key has the id, or without one the label, of a private one.
func (t *pkcs11Token) belong(s pkcs11.SessionHandle, public pkcs11.ObjectHandle, k keyRef) bool {
	if len(k.id) > 0 {
		return string(t.attribute(s, public, pkcs11.CKA_ID)) == string(k.id)
	}
	return string(t.attribute(s, public, pkcs11.CKA_LABEL)) == k.label
}

// judgeHandle judges one private key; i is its place among those that are asked for, or -1.
func (t *pkcs11Token) judgeHandle(s pkcs11.SessionHandle, ref keyRef, asked []startKey, i int) KeyReport {
	f := t.facts(s, ref)
	if i < 0 {
		r := judge(startKey{Label: clean(ref.label), Backup: BackupClone}, nil, f)
		r.Backup = "" // nobody has said
		return r
	}
	public, err := parseSPKI(asked[i])
	if err != nil {
		return KeyReport{Label: ref.label, Findings: []Finding{{Attribute: "CKA_EC_POINT", Level: LevelFail, Text: err.Error()}}}
	}
	r := judge(asked[i], public, f)
	r.Kind = describe(public)
	return r
}

func parseSPKI(k startKey) (crypto.PublicKey, error) {
	public, err := x509.ParsePKIXPublicKey(k.SPKI)
	if err != nil {
		return nil, fmt.Errorf("key %s: %w", k.Label, err)
	}
	return public, nil
}

func (t *pkcs11Token) publicAt(s pkcs11.SessionHandle, h pkcs11.ObjectHandle) crypto.PublicKey {
	return t.public(s, keyRef{handle: h})
}

// sortKeys puts those that are asked for first, in their order, and says which are missing or there more than once.
func sortKeys(found []ExaminedKey, asked []startKey) (all []ExaminedKey) {
	for _, a := range asked {
		n := 0
		for _, k := range found {
			if k.Asked && k.Label == a.Label {
				all = append(all, k)
				n++
			}
		}
		if n == 1 {
			continue
		}
		finding := Finding{Attribute: "CKA_LABEL", Level: LevelFail, Text: fmt.Sprintf("%d keys with this label in the token", n)}
		if n == 0 {
			kind := "unknown"
			if public, err := parseSPKI(a); err == nil {
				kind = describe(public)
			}
			all = append(all, ExaminedKey{Asked: true, KeyReport: KeyReport{Label: a.Label, Kind: kind, Backup: a.Backup, Findings: []Finding{finding}}})
		}
		for i := len(all) - n; n > 1 && i < len(all); i++ {
			all[i].Findings = append(all[i].Findings, finding)
		}
	}
	for _, k := range found {
		if !k.Asked {
			all = append(all, k)
		}
	}
	return all
}

// probe is a key pair that lives in a session, and ends with it.
type probe struct {
	session         pkcs11.SessionHandle
	kind            pairKind
	public, private pkcs11.ObjectHandle
	key             crypto.PublicKey
}

// newProbe makes one: P-256, or RSA-2048 where there is none.
func (t *pkcs11Token) newProbe() (*probe, error) {
	kind, err := t.kindOf(P256)
	if err != nil {
		if kind, err = t.kindOf(RSA2048); err != nil {
			return nil, errors.New("the token makes neither P-256 nor RSA-2048 keys")
		}
	}
	s, err := t.raw.OpenSession(t.slot, sessionFlags)
	if err != nil {
		return nil, tokenFailure("open a session", err)
	}
	p := &probe{session: s, kind: kind}
	if p.public, p.private, err = t.makePair(s, kind, keyRef{}); err != nil {
		t.raw.CloseSession(s)
		return nil, fmt.Errorf("make a key that lives in a session: %w", err)
	}
	if p.key = t.publicAt(s, p.public); p.key == nil {
		t.dismiss(p)
		return nil, errors.New("the token does not show the public half of a key that it made")
	}
	return p, nil
}

// dismiss ends a probe.
func (t *pkcs11Token) dismiss(p *probe) {
	if p == nil {
		return
	}
	t.raw.DestroyObject(p.session, p.private) // fails where the session is gone, and the key with it
	t.raw.DestroyObject(p.session, p.public)
	t.raw.CloseSession(p.session)
}

// roundTrip makes some signatures and verifies them outside the token.
func (t *pkcs11Token) roundTrip(p *probe) *RoundTrip {
	r := &RoundTrip{Kind: describe(p.key)}
	const tries, enough = 32, 2 * time.Second
	var wall, cpu time.Duration
	for began := time.Now(); r.Made < tries && (time.Since(began) < enough || r.Made == 0); r.Made++ {
		message := []byte(selftestWords + rand.Text())
		digest := sha256.Sum256(message)
		start, used := time.Now(), processorTime()
		sig, err := t.signWith(p.session, p.kind.sign, p.private, digest[:])
		if err != nil {
			r.Error = fmt.Sprintf("sign: %v", err)
			return r
		}
		if r.Made > 0 { // the first one may load what the others find
			wall, cpu = wall+time.Since(start), cpu+processorTime()-used
		}
		if verify(p.key, message, sig) != nil {
			r.Wrong++
		}
	}
	n := time.Duration(max(r.Made-1, 1))
	r.Measured = Measured{Wall: wall / n, CPU: cpu / n}
	return r
}

// rate signs on n sessions for a while. The session of the probe is one of them.
func (t *pkcs11Token) rate(p *probe, n int, lasts time.Duration) (signatures int, elapsed time.Duration, err error) {
	sessions := []pkcs11.SessionHandle{p.session}
	for len(sessions) < n {
		s, err := t.raw.OpenSession(t.slot, sessionFlags)
		if err != nil {
			return 0, 0, tokenFailure(fmt.Sprintf("open session %d", len(sessions)+1), err)
		}
		defer t.raw.CloseSession(s)
		sessions = append(sessions, s)
	}
	digest := sha256.Sum256([]byte("certmill measures"))
	var all sync.WaitGroup
	made, errs := make([]int, n), make([]error, n)
	began := time.Now()
	for i, s := range sessions {
		all.Go(func() {
			for made[i] == 0 || time.Since(began) < lasts {
				if _, errs[i] = t.signWith(s, p.kind.sign, p.private, digest[:]); errs[i] != nil {
					return
				}
				made[i]++
			}
		})
	}
	all.Wait()
	for _, m := range made {
		signatures += m
	}
	return signatures, time.Since(began), tokenFailure("sign", errors.Join(errs...))
}

// tryTestKey makes a key in the token as a ceremony would, holds it against the gate, signs with it and destroys it; before that it destroys those
// that an examination left which was killed. A key of ours by its label is never one that a CA uses: those are left alone.
func (t *pkcs11Token) tryTestKey(asked []startKey) *TestKey {
	r := &TestKey{}
	err := t.withSession(func(s pkcs11.SessionHandle) (err error) {
		if r.Removed, err = t.removeTestKeys(s, asked); err != nil {
			return err
		}
		kind, err := t.kindOf(P256)
		if err != nil {
			if kind, err = t.kindOf(RSA2048); err != nil {
				return err
			}
		}
		ref := keyRef{label: TestKeyPrefix + strings.ToLower(rand.Text()[:12]), id: make([]byte, 16)}
		if _, err := rand.Read(ref.id); err != nil {
			return err
		}
		public, private, err := t.makePair(s, kind, ref)
		if err != nil {
			return fmt.Errorf("make a key in the token: %w", err)
		}
		defer func() {
			gone := errors.Join(t.raw.DestroyObject(s, private), t.raw.DestroyObject(s, public))
			r.Destroyed = gone == nil
			err = errors.Join(err, gone)
		}()
		ref.handle = private
		f := t.facts(s, ref)
		report := judge(startKey{Label: ref.label, Backup: BackupNone}, f.public, f)
		r.Report = &report
		message := []byte(selftestWords + rand.Text())
		digest := sha256.Sum256(message)
		sig, err := t.signWith(s, kind.sign, private, digest[:])
		if err != nil {
			return fmt.Errorf("sign with %s: %w", ref.label, err)
		}
		r.Verified = f.public != nil && verify(f.public, message, sig) == nil
		return nil
	})
	if err != nil {
		r.Error = err.Error()
	}
	return r
}

func (t *pkcs11Token) removeTestKeys(s pkcs11.SessionHandle, asked []startKey) (removed []string, err error) {
	for _, class := range []uint{pkcs11.CKO_PRIVATE_KEY, pkcs11.CKO_PUBLIC_KEY} {
		found, err := t.search(s, pkcs11.NewAttribute(pkcs11.CKA_CLASS, class))
		if err != nil {
			return removed, tokenFailure("list keys", err)
		}
		for _, h := range found {
			label := string(t.attribute(s, h, pkcs11.CKA_LABEL))
			if !strings.HasPrefix(label, TestKeyPrefix) || slices.ContainsFunc(asked, func(a startKey) bool { return a.Label == label }) {
				continue
			}
			if err := t.raw.DestroyObject(s, h); err != nil {
				return removed, fmt.Errorf("destroy %s: %w", label, err)
			}
			if !slices.Contains(removed, label) {
				removed = append(removed, label)
			}
		}
	}
	return removed, nil
}

// setPIN changes the PIN of the user who is logged in. codeRefused: the token said no and the old PIN holds; any other failure: nobody knows.
func (t *pkcs11Token) setPIN(old, new string) error {
	return t.withSession(func(s pkcs11.SessionHandle) error {
		err := t.raw.SetPIN(s, old, new)
		var code pkcs11.Error
		if errors.As(err, &code) {
			switch code {
			case pkcs11.CKR_PIN_LEN_RANGE, pkcs11.CKR_PIN_INVALID, pkcs11.CKR_PIN_INCORRECT, pkcs11.CKR_PIN_LOCKED, pkcs11.CKR_SESSION_READ_ONLY,
				pkcs11.CKR_TOKEN_WRITE_PROTECTED, pkcs11.CKR_FUNCTION_NOT_SUPPORTED, pkcs11.CKR_ARGUMENTS_BAD:
				info := t.info()
				return &failure{Code: codeRefused, Text: fmt.Sprintf("the token refused the new PIN: %v (it takes %d to %d characters)", err, info.MinPinLen, info.MaxPinLen)}
			}
		}
		return tokenFailure("set the PIN", err)
	})
}
