package issuer

import (
	"context"
	"crypto/sha256"
	"crypto/x509"
	"encoding/hex"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/certmill/certmill/ca"
	"github.com/certmill/certmill/internal/ledger"
)

// States of a station.
const (
	stationActive   = "active"
	stationDisabled = "disabled"
	stationFrozen   = "frozen"
)

// Station may draw on orders. It is known by the certificate the plant CA gave it.
type Station struct {
	Name          string    `json:"name"`
	State         string    `json:"state"`          // active, disabled, frozen
	CertificateID string    `json:"certificate_id"` // SHA-256 of its DER; "" until it is signed
	Serial        string    `json:"serial"`
	NotAfter      time.Time `json:"not_after"`
	Added         time.Time `json:"added"`
	By            string    `json:"by"`
}

// stationEntry is the stored form.
type stationEntry struct {
	Name   string    `json:"name"`
	Intent uint64    `json:"intent"` // of its certificate
	State  string    `json:"state"`  // active, disabled
	Added  time.Time `json:"added"`
	By     string    `json:"by"`               // who added it
	Reason string    `json:"reason,omitempty"` // of the last change
	Actor  string    `json:"actor,omitempty"`  // who made it
}

// station is a station in the books.
type station struct {
	stationEntry
	id       [32]byte // SHA-256 of its certificate; zero until it is signed
	serial   ca.Serial
	notAfter time.Time
}

func (s *station) read(_ *Issuer, v *ledger.View, e ledger.Entry) error {
	if err := decodePayload(e, &s.stationEntry); err != nil {
		return err
	}
	_, sig, signed, err := signatureOf(v, s.Intent)
	if err != nil || !signed {
		return err
	}
	in, err := intentAt(v, s.Intent)
	if err != nil {
		return err
	}
	return s.certify(&in, sig)
}

// certify notes the station's certificate: by it the station is known.
func (s *station) certify(in *intent, sig []byte) error {
	der, cert, err := assemble(in, sig)
	if err != nil {
		return err
	}
	s.id, s.serial, s.notAfter = sha256.Sum256(der), serialOf(cert), cert.NotAfter
	return nil
}

func (s *station) enter(b *books) {
	b.stations[s.Name] = s
	if s.id != [32]byte{} {
		b.certified[s.id] = s
	}
}

// certify is told of every signature; those of stations make them known.
func (b *books) certify(in *intent, sig []byte) error {
	if in.kind != ca.KindStation {
		return nil
	}
	s := *b.stations[in.device] // a copy: readers may hold the one in the books
	if err := s.certify(in, sig); err != nil {
		return err
	}
	s.enter(b)
	return nil
}

// state is a station's standing: a freeze hides the rest.
func (b *books) stationState(s *station) string {
	if b.frozen[Target{targetStation, s.Name}] {
		return stationFrozen
	}
	return s.State
}

// mayAsk says whether a station may have anything at all.
func (b *books) mayAsk(name string) error {
	s := b.stations[name]
	if s == nil {
		return fmt.Errorf("station %q is unknown: %w", name, ErrStation)
	}
	if state := b.stationState(s); state != stationActive {
		return fmt.Errorf("station %s is %s: %w", name, state, ErrStation)
	}
	return nil
}

func (b *books) publicStation(s *station) Station {
	p := Station{Name: s.Name, State: b.stationState(s), NotAfter: s.notAfter, Added: s.Added, By: s.By}
	if s.id != [32]byte{} {
		p.CertificateID, p.Serial = hex.EncodeToString(s.id[:]), s.serial.String()
	}
	return p
}

// Station returns a station as it stands: ErrNotFound.
func (i *Issuer) Station(name string) (Station, error) {
	i.books.mu.RLock()
	defer i.books.mu.RUnlock()
	s := i.books.stations[name]
	if s == nil {
		return Station{}, fmt.Errorf("station %q: %w", name, ErrNotFound)
	}
	return i.books.publicStation(s), nil
}

// Stations lists all stations, by name.
func (i *Issuer) Stations() ([]Station, error) {
	i.books.mu.RLock()
	defer i.books.mu.RUnlock()
	var list []Station
	for _, s := range i.books.stations {
		list = append(list, i.books.publicStation(s))
	}
	slices.SortFunc(list, func(a, b Station) int { return strings.Compare(a.Name, b.Name) })
	return list, nil
}

// Identify maps a verified client certificate to its station: ErrStation where there is no row, it is disabled or frozen, or the
// certificate's time is over. Called on every request: no disk. The row is found by the certificate itself, so no other that the plant CA
// signed, and none of a device, stands for a station.
func (i *Issuer) Identify(cert *x509.Certificate) (Station, error) {
	id := sha256.Sum256(cert.Raw)
	i.books.mu.RLock()
	defer i.books.mu.RUnlock()
	s := i.books.certified[id]
	if s == nil {
		return Station{}, fmt.Errorf("certificate is no station's: %w", ErrStation)
	}
	if now := i.Time(); now.Before(cert.NotBefore) || now.After(cert.NotAfter) {
		return Station{}, fmt.Errorf("certificate of station %s is not valid now: %w", s.Name, ErrStation)
	}
	if err := i.books.mayAsk(s.Name); err != nil {
		return Station{}, err
	}
	return i.books.publicStation(s), nil
}

// DisableStation keeps a station out from its next request on, for ever. ErrNotFound; doing it twice is doing it once.
func (i *Issuer) DisableStation(ctx context.Context, name, reason, by string) error {
	if err := checkText(reason, by); err != nil {
		return fmt.Errorf("disable station: %w", err)
	}
	return i.act(ctx, func(o *owner, tx *ledger.Tx) (uint64, error) {
		s := o.books.stations[name]
		switch {
		case s == nil:
			return 0, fmt.Errorf("station %q: %w", name, ErrNotFound)
		case s.State == stationDisabled:
			return 0, nil
		}
		e := s.stationEntry
		e.State, e.Reason, e.Actor = stationDisabled, reason, by
		return put(tx, ledger.Draft{Kind: entryStation, Payload: payload(e), Heads: []string{"station/" + name}})
	})
}
