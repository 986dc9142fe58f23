package issuer

import (
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"iter"
	"time"

	"github.com/certmill/certmill/internal/ledger"
)

// ManifestLine is one device of an order, as `order manifest` prints it.
type ManifestLine struct {
	Order         string    `json:"order"`
	DeviceID      string    `json:"device_id"`
	Slot          string    `json:"slot,omitempty"`
	Product       string    `json:"product"`
	Serial        string    `json:"serial"`
	CertificateID string    `json:"certificate_id"` // SHA-256 of the DER, as AWS IoT names it
	CA            string    `json:"ca"`
	NotAfter      time.Time `json:"not_after"`
	Denied        bool      `json:"denied,omitempty"` // revoked: the allow-list of JITR must not let it in
}

// manifestStretch is how many entries are read from one state of the ledger. A slow reader must not hold one state for long: the store could not
// use its freed pages again.
const manifestStretch = 512

// Manifest yields one line for each signed certificate of an order, in the order they were signed, as they stand when it begins. An error is the last
// thing it yields: ErrOrderUnknown, or the store's.
//
// It reads the log from the order's creation on and ends with the order's last signature. The other way, a chain that each intent hangs itself
// on, would write one more random row for every certificate on the line's hottest path, to make faster what is asked a few times in an order's life;
// and a chain reads backwards, so all of it would have to be held in memory.
func (i *Issuer) Manifest(id string) iter.Seq2[ManifestLine, error] {
	return func(yield func(ManifestLine, error) bool) {
		i.books.mu.RLock()
		o := i.books.orders[id]
		i.books.mu.RUnlock()
		if o == nil {
			yield(ManifestLine{}, fmt.Errorf("order %q: %w", id, ErrOrderUnknown))
			return
		}
		m := manifest{order: o, next: o.index, end: i.ledger.Checkpoint().Size, now: i.best()}
		for m.next < m.end {
			lines, err := m.stretch(i.ledger)
			for _, line := range lines {
				if !yield(line, nil) {
					return
				}
			}
			if err != nil {
				yield(ManifestLine{}, fmt.Errorf("manifest of order %s: %w", id, err))
				return
			}
		}
	}
}

// manifest is how far the reading of one has come.
type manifest struct {
	order     *order
	next, end uint64 // entries to read
	lines     uint64
	now       time.Time
}

// stretch reads the lines among the next entries.
func (m *manifest) stretch(l *ledger.Ledger) (lines []ManifestLine, err error) {
	from := m.next
	err = l.View(func(v *ledger.View) error {
		issued := v.Counter(orderCounter(m.order.ID))
		for e, err := range v.Entries(from) {
			if err != nil {
				return err
			}
			switch {
			case m.lines == issued || e.Index >= m.end:
				m.next = m.end
				return nil
			case e.Index >= from+manifestStretch:
				return nil
			}
			m.next = e.Index + 1
			line, ours, err := m.line(v, e)
			if err != nil {
				return err
			}
			if ours {
				m.lines++
				lines = append(lines, line)
			}
		}
		return nil
	})
	return lines, err
}

// line makes the line of a signature, if it is one of the order's.
func (m *manifest) line(v *ledger.View, e ledger.Entry) (line ManifestLine, ours bool, err error) {
	if e.Kind != entrySignature {
		return line, false, nil
	}
	of, sig, err := decodeSignature(e.Payload)
	if err != nil {
		return line, false, fmt.Errorf("entry %d: %w", e.Index, err)
	}
	in, err := intentAt(v, of)
	if err != nil || in.order != m.order.ID {
		return line, false, err
	}
	der, cert, err := assemble(&in, sig)
	if err != nil {
		return line, false, fmt.Errorf("entry %d: %w", e.Index, err)
	}
	id := sha256.Sum256(der)
	line = ManifestLine{
		Order: in.order, DeviceID: in.device, Product: m.order.Product, Serial: serialOf(cert).String(),
		CertificateID: hex.EncodeToString(id[:]), CA: in.ca, NotAfter: cert.NotAfter,
	}
	if in.slot != mainSlot {
		line.Slot = in.slot
	}
	revoked := notRevoked(v, of, m.now)
	if line.Denied = errors.Is(revoked, ErrRevoked); line.Denied {
		revoked = nil
	}
	return line, true, revoked
}
