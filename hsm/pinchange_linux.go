package hsm

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"time"

	"github.com/certmill/certmill/internal/durable"
)

// A change of the PIN is cut off nowhere without telling which PIN the token has, or costing one wrong try at most. N is PIN file.new.
//
//	step                                                cut off after it: the token has   the next serve        the next change
//	1  memory says good, flags are clean                old                               starts                starts anew
//	2  new PIN into N, synced                           old                               starts                starts anew
//	3  memory: changing, synced                         old                               refuses, no try       tries N: one wrong try; then goes on at 4
//	4  C_Login(old), C_SetPIN(old, new)                 new                               refuses, no try       tries N: right; goes on at 5
//	5  N renamed to the PIN file                        new                               starts                notes that it is good
//	6  memory: good, for the file as it is now          new                               starts                starts anew
//
// Where the PIN is no file of ours (a systemd credential) there is no N: a change that was cut off needs the same new PIN again.

// pinChange, in a start, has the keeper change the PIN.
type pinChange struct {
	NewFile string // "": asked for at the terminal
	Pad     bool   // both PINs are entered at the token's pad
}

// changing is a change on its way, in the keeper.
type changing struct {
	given    string // the new PIN of this call
	next     string // the one to set
	set      bool   // C_SetPIN is to be called
	again    bool   // there is another PIN to try where this one is refused
	finishes bool   // an earlier change
}

// ChangePIN changes the user PIN of a token: the new one stands in newFile, or is asked for, twice, where that is "". No process may hold the token that would
// log in anew with the old PIN. ErrPIN: not now, and why; ErrRefused: the token refused the new PIN; ErrUnavailable: unknown, call it again.
func ChangePIN(ctx context.Context, cfg Config, newFile string) (PINChange, error) {
	if cfg.PINMemory == "" {
		return PINChange{}, fmt.Errorf("%w: without a PIN memory nobody knows whether the present PIN is right", ErrRefused)
	}
	before, err := readPINMemory(cfg.PINMemory)
	if err != nil {
		return PINChange{}, fmt.Errorf("%w: %w", ErrPIN, err)
	}
	cfg.doctor = &doctor{Change: &pinChange{NewFile: newFile, Pad: cfg.PIN.ProtectedPath}}
	d, err := callDoctor(ctx, cfg)
	if err != nil {
		return PINChange{}, err
	}
	return PINChange{Finished: before.State == pinChanging, File: cfg.PIN.File}, d.close()
}

// pinStaged ends the name of the file that holds a PIN before the token has it.
const pinStaged = ".new"

// prepareChange reads the new PIN. Nothing has been done yet.
func (k *nursery) prepareChange(c pinChange) (err error) {
	switch {
	case c.Pad:
		return nil
	case c.NewFile != "":
		if k.doctor.change.given, _, err = readPINFile(c.NewFile, 0o077); err != nil {
			return fmt.Errorf("new PIN: %w", err)
		}
	default:
		if k.doctor.change.given, err = promptPIN("new token PIN: "); err != nil {
			return err
		}
		again, err := promptPIN("new token PIN, again: ")
		if err != nil {
			return err
		}
		if again != k.doctor.change.given {
			return errors.New("new PIN: the two that were typed differ")
		}
	}
	if k.doctor.change.given == k.secret {
		return errors.New("new PIN: it is the present one")
	}
	return nil
}

// permit is what the signer of a change is told beside the PIN.
func (d *doctorKeeper) permit(secret string) permit {
	return permit{Secret: secret, New: d.change.next, Set: d.change.set, Again: d.change.again}
}

// permitChange decides about the login before C_SetPIN, and takes steps 1 to 3.
func (k *nursery) permitChange(a asks) (pinMemory, *failure) {
	deny := func(format string, args ...any) (pinMemory, *failure) {
		return pinMemory{}, &failure{Code: codePIN, Text: "PIN change: " + fmt.Sprintf(format, args...)}
	}
	m, err := readPINMemory(k.start.PINMemory)
	if err != nil {
		return deny("%v", err)
	}
	c, known := &k.doctor.change, m.Token == a.Serial && m.Source == k.source
	if c.again { // the PIN of a change that was cut off was refused, so the token has the old one still
		m.State, m.At = pinGood, time.Now().UTC()
		if err := m.write(k.start.PINMemory); err != nil {
			return deny("%v", err)
		}
	}
	if a.Flags.Locked || a.Flags.FinalTry {
		return pinMemory{}, &failure{Code: codePIN, Text: m.mayTry(a.Serial, k.source, a.Flags).Error()}
	}
	k.doctor.tried = true
	if c.again {
		c.again = false
		return k.beginChange(a)
	}
	switch {
	case known && m.State == pinChanging:
		return k.finishChange(a)
	case m.State == pinChanging && m.Token == a.Serial: // step 5 was taken: the file holds the new PIN
		c.finishes = true
		return m.changing(a.Serial, k.source), nil
	case !a.Flags.clean():
		return deny("the token has counted a wrong PIN since the last good login: certmill hsm doctor logs in once with the present one; then again")
	case k.start.PIN.Prompt || k.start.PIN.ProtectedPath: // entered just now: nothing is known of it, and it is tried once
	case !known || m.State != pinGood:
		return deny("it is not known that the present PIN is right: certmill hsm doctor logs in once with it; then again")
	}
	return k.beginChange(a)
}

// changing is the memory of a change that has begun.
func (m pinMemory) changing(token string, source pinSource) pinMemory {
	return pinMemory{State: pinChanging, Token: token, Source: source, At: time.Now().UTC()}
}

// beginChange takes steps 2 and 3.
func (k *nursery) beginChange(a asks) (pinMemory, *failure) {
	c := &k.doctor.change
	if !c.finishes {
		c.next = c.given
	}
	c.set = true
	if file := k.start.PIN.File; file != "" {
		if err := durable.WriteFile(file+pinStaged, []byte(c.next), 0o600); err != nil {
			return pinMemory{}, &failure{Code: codePIN, Text: fmt.Sprintf("PIN change: the new PIN cannot be kept beside the old one, nothing was changed: %v", err)}
		}
	}
	m := pinMemory{}.changing(a.Serial, k.source)
	if err := m.write(k.start.PINMemory); err != nil {
		return pinMemory{}, &failure{Code: codePIN, Text: fmt.Sprintf("PIN change: nothing was changed: %v", err)}
	}
	if c.finishes {
		k.secret = k.doctor.old
	}
	return m, nil
}

// finishChange goes on with a change that was cut off after step 3: the new PIN is the token's, or else the old one.
func (k *nursery) finishChange(a asks) (pinMemory, *failure) {
	c := &k.doctor.change
	c.next = c.given
	if file := k.start.PIN.File; file != "" {
		var err error
		if c.next, _, err = readPINFile(file+pinStaged, 0o077); err != nil {
			return pinMemory{}, &failure{Code: codePIN, Text: fmt.Sprintf("PIN change: an earlier one was cut off and its new PIN is gone: write the PIN that the token has into %s: %v", file, err)}
		}
	}
	c.finishes, c.again = true, true
	k.doctor.old, k.secret = k.secret, c.next
	return pinMemory{}.changing(a.Serial, k.source), nil
}

// rememberChange takes steps 5 and 6, or notes that the token has the old PIN still. What is not known stays so.
func (k *nursery) rememberChange(m pinMemory, f *failure) *failure {
	file := k.start.PIN.File
	switch {
	case f != nil && f.Code == codeRefused && f.LoggedIn:
		m.State = pinGood
	case f != nil && f.Code == codePIN && !f.LoggedIn:
		m.State = pinWrong
	case f != nil:
		return f
	case file != "":
		return asFailureOrNil(k.putPIN(m))
	case k.start.PIN.Credential != "":
		m.State = pinWrong // what systemd hands over is the old one until somebody replaces it
	default:
		m.State = pinGood
	}
	m.At = time.Now().UTC()
	err := m.write(k.start.PINMemory)
	if f != nil && file != "" && !k.doctor.change.finishes {
		err = errors.Join(err, os.Remove(file+pinStaged), durable.SyncDir(filepath.Dir(file)))
	}
	if f == nil {
		return asFailureOrNil(err)
	}
	return f
}

// putPIN puts the new PIN where the next start reads it.
func (k *nursery) putPIN(m pinMemory) error {
	file := k.start.PIN.File
	if k.doctor.change.next != "" { // else it is there already
		if err := os.Rename(file+pinStaged, file); err != nil {
			return fmt.Errorf("the token has the new PIN, and %s does not hold it yet: certmill hsm pin-change again: %w", file, err)
		}
		if err := durable.SyncDir(filepath.Dir(file)); err != nil {
			return err
		}
	}
	var err error
	if _, m.Source, err = readPINFile(file, 0o077); err != nil {
		return err
	}
	m.State, m.At = pinGood, time.Now().UTC()
	return m.write(k.start.PINMemory)
}

// changePIN logs in and sets the new PIN. The keeper is asked before each login.
func (s *doctorSigner) changePIN(talk *net.UnixConn) error {
	for {
		if err := send(talk, report{Asks: &asks{Serial: s.token.identity(), Flags: s.token.flags()}}, nil); err != nil {
			return err
		}
		var p permit
		if _, err := receive(talk, &p); err != nil {
			return fmt.Errorf("wait for the keeper's permission: %w", err)
		}
		if p.Denied != nil {
			return p.Denied
		}
		err := s.token.login(p.Secret)
		var f *failure
		if p.Again && errors.As(err, &f) && f.Code == codePIN {
			continue
		}
		if err != nil {
			return err
		}
		s.loggedIn = true
		if !p.Set {
			return nil
		}
		return s.token.setPIN(p.Secret, p.New)
	}
}
