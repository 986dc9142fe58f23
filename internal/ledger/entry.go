package ledger

import (
	"errors"
	"fmt"
	"time"
)

// Draft is an entry before it has a number.
type Draft struct {
	Kind    string   // what it is, to the package that owns it, such as "order" or "intent": 1 to 32 of [a-z.-]
	Payload []byte   // owned by the same package, at most 1 MiB
	Claims  []Claim  // each may be made once, for ever; at most 256
	Debits  []Debit  // each must stay within its limit; at most 256, one a counter
	Heads   []string // names that from now on point at this entry: the newest version of a document; at most 256
	Opens   bool     // the entry leaves something open, until another entry closes it
	Closes  uint64   // the open entry this one closes; 0 none (entry 0 is the ledger's own and never open)
}

// Claim is a key that only one entry can ever hold. Both parts hold 1 to 255 raw bytes.
type Claim struct{ Space, Key string }

// Debit draws on a counter.
type Debit struct {
	Counter string // 1 to 255 bytes
	Amount  uint64 // not 0
	Limit   uint64 // the counter may not exceed it with this debit
}

// Entry is a Draft that was recorded.
type Entry struct {
	Index uint64
	Time  time.Time // UTC, millisecond resolution; never decreases
	Draft
}

// The ledger's own kinds; nobody else may append them.
const (
	kindGenesis = "genesis"
	kindBoot    = "boot"
)

// What an entry may hold. The decoder refuses the same as Append: a count or a length past these is damage.
const (
	maxKind    = 32
	maxPayload = 1 << 20
	maxList    = 256
	maxName    = 255
)

// check says what is wrong with a draft by itself, whatever the ledger holds.
func (d *Draft) check() error {
	if !validKind(d.Kind) {
		return fmt.Errorf("kind %q is not 1 to %d of a-z . -", d.Kind, maxKind)
	}
	if len(d.Payload) > maxPayload {
		return fmt.Errorf("payload of %d bytes, at most %d", len(d.Payload), maxPayload)
	}
	if max(len(d.Claims), len(d.Debits), len(d.Heads)) > maxList {
		return fmt.Errorf("%d claims, %d debits, %d heads: at most %d each", len(d.Claims), len(d.Debits), len(d.Heads), maxList)
	}
	return errors.Join(d.checkClaims(), d.checkDebits(), d.checkHeads())
}

func (d *Draft) checkClaims() error {
	for i, c := range d.Claims {
		if !validName(c.Space) || !validName(c.Key) {
			return fmt.Errorf("claim %d in %q: space or key not of 1 to %d bytes", i, c.Space, maxName)
		}
		for _, before := range d.Claims[:i] {
			if c == before {
				return fmt.Errorf("claim %d in %q stands twice in the draft", i, c.Space)
			}
		}
	}
	return nil
}

func (d *Draft) checkDebits() error {
	for i, b := range d.Debits {
		if !validName(b.Counter) || b.Amount == 0 {
			return fmt.Errorf("debit of %d on %q: name not of 1 to %d bytes, or amount 0", b.Amount, b.Counter, maxName)
		}
		for _, before := range d.Debits[:i] {
			if b.Counter == before.Counter {
				return fmt.Errorf("counter %q stands twice in the draft", b.Counter)
			}
		}
	}
	return nil
}

func (d *Draft) checkHeads() error {
	for i, h := range d.Heads {
		if !validName(h) {
			return fmt.Errorf("head %q: name not of 1 to %d bytes", h, maxName)
		}
		for _, before := range d.Heads[:i] {
			if h == before {
				return fmt.Errorf("head %q stands twice in the draft", h)
			}
		}
	}
	return nil
}

func validName(s string) bool { return len(s) >= 1 && len(s) <= maxName }

func validKind(s string) bool {
	for i := range len(s) {
		if c := s[i]; (c < 'a' || c > 'z') && c != '.' && c != '-' {
			return false
		}
	}
	return len(s) >= 1 && len(s) <= maxKind
}
