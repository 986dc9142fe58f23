package issuer

import (
	"context"
	"encoding/json"
	"fmt"
	"slices"
	"time"

	"github.com/certmill/certmill/ca"
	"github.com/certmill/certmill/internal/ledger"
)

// own is what stations and the service have in common: certificates that the plant CA signs for the factory itself, where no order pays.
type own struct {
	authority *ca.Authority
	profile   *ca.Profile
	request   *ca.Request
	right     right
}

// newOwn checks a CSR for the plant CA.
func (i *Issuer) newOwn(kind string, csr []byte, r right) (own, error) {
	if !printable(r.By, maxText) {
		return own{}, fmt.Errorf("nobody says who asks: %w", ErrInvalid)
	}
	request, err := ca.ParseRequest(csr)
	if err != nil {
		return own{}, err
	}
	o := own{profile: i.own[kind], request: request, right: r}
	if err := o.profile.CheckKey(request); err != nil {
		return own{}, err
	}
	o.authority, err = i.plantAuthority()
	return o, err
}

// plantAuthority finds the plant CA, of which there is one.
func (i *Issuer) plantAuthority() (*ca.Authority, error) {
	i.books.mu.RLock()
	defer i.books.mu.RUnlock()
	for name, a := range i.authorities {
		if i.books.cas[name].Role == ca.RolePlant {
			return a, nil
		}
	}
	return nil, fmt.Errorf("plant CA: %w", ErrNotFound)
}

func (o *own) key() ledger.Claim {
	id := o.request.KeyID()
	return ledger.Claim{Space: claimKey, Key: string(id[:])}
}

func (o *own) allowed(b *books, _ time.Time) error { return b.stops(o.authority.Name(), "") }

func (o *own) landed(*books) {}

// draftOf is the intent of either kind.
func (o *own) draftOf(kind string) (intent, ledger.Draft) {
	in := intent{kind: kind, ca: o.authority.Name(), profile: profileHash(o.profile), key: o.request.KeyID(), right: o.right.encode()}
	return in, ledger.Draft{Claims: []ledger.Claim{o.key()}}
}

// addStation asks for a station's row and its certificate.
type addStation struct {
	own
	name string
	row  station // once it is recorded
}

// AddStation records a station and the intent of its certificate in one commit, signs, and returns the certificate (DER); Chain has the plant CA's.
// Asked again with a CSR of the same key it returns the same certificate; with another key ErrExists. ErrKeyInUse.
func (i *Issuer) AddStation(ctx context.Context, name string, csr []byte, by string) (Station, []byte, error) {
	if err := checkName("station", name); err != nil {
		return Station{}, nil, err
	}
	o, err := i.newOwn(ca.KindStation, csr, right{By: by})
	if err != nil {
		return Station{}, nil, fmt.Errorf("add station %s: %w", name, err)
	}
	r := newRequest(&addStation{own: o, name: name}, o.authority)
	a, err := i.ask(ctx, r, r.answers)
	if err != nil {
		return Station{}, nil, fmt.Errorf("add station %s: %w", name, err)
	}
	der, err := ca.Assemble(a.intent.tbs, a.signature)
	if err != nil {
		return Station{}, nil, fmt.Errorf("add station %s: %w", name, err)
	}
	s, err := i.Station(name)
	return s, der, err
}

func (s *addStation) nameClaim() ledger.Claim { return ledger.Claim{Space: claimStation, Key: s.name} }

// find implements subject.
func (s *addStation) find(v *ledger.View, _ time.Time) (uint64, bool, error) {
	if index, held := v.Claimed(s.nameClaim()); held {
		in, err := intentAt(v, index)
		switch {
		case err != nil:
			return 0, false, err
		case in.key != s.request.KeyID():
			return 0, false, fmt.Errorf("with another key: %w", ErrExists)
		}
		return index, true, nil
	}
	if _, held := v.Claimed(s.key()); held {
		return 0, false, ErrKeyInUse
	}
	return 0, false, nil
}

// prepare implements subject.
func (s *addStation) prepare(n ca.Serial, now time.Time) (*ca.Prepared, error) {
	s.row.Added = entryTime(now)
	return s.authority.Prepare(ca.Issuance{Profile: s.profile, Request: s.request, DeviceID: s.name, Serial: n, Now: now})
}

// draft implements subject.
func (s *addStation) draft() (intent, ledger.Draft) {
	in, d := s.draftOf(ca.KindStation)
	in.device = s.name
	d.Claims = append(d.Claims, s.nameClaim())
	return in, d
}

// follow implements follower: the station's row stands right behind the intent of its certificate.
func (s *addStation) follow(tx *ledger.Tx, intent uint64) error {
	s.row.stationEntry = stationEntry{Name: s.name, Intent: intent, State: stationActive, Added: s.row.Added, By: s.right.By}
	_, err := put(tx, ledger.Draft{Kind: entryStation, Payload: payload(s.row.stationEntry), Heads: []string{"station/" + s.name}})
	return err
}

// landed implements subject.
func (s *addStation) landed(b *books) { s.row.enter(b) }

// serve is the service's own TLS certificate.
type service struct{ own }

// ServiceCertificate signs the service's own TLS certificate with the plant CA. names: DNS names and IP literals. Asked again with the
// same key and names it returns the same certificate; a key is never certified twice: ErrKeyInUse.
func (i *Issuer) ServiceCertificate(ctx context.Context, csr []byte, names []string, by string) ([]byte, error) {
	o, err := i.newOwn(ca.KindService, csr, right{By: by, Names: names})
	if err != nil {
		return nil, fmt.Errorf("service certificate: %w", err)
	}
	r := newRequest(&service{o}, o.authority)
	a, err := i.ask(ctx, r, r.answers)
	if err != nil {
		return nil, fmt.Errorf("service certificate: %w", err)
	}
	return ca.Assemble(a.intent.tbs, a.signature)
}

// find implements subject.
func (s *service) find(v *ledger.View, _ time.Time) (uint64, bool, error) {
	index, held := v.Claimed(s.key())
	if !held {
		return 0, false, nil
	}
	e, err := get(v, index)
	if err != nil {
		return 0, false, err
	}
	in, err := decodeIntent(e.Payload)
	var before right
	if e.Kind != entryIntent || err != nil || in.kind != ca.KindService || json.Unmarshal(in.right, &before) != nil ||
		!slices.Equal(before.Names, s.right.Names) {
		return 0, false, ErrKeyInUse
	}
	return index, true, nil
}

// prepare implements subject.
func (s *service) prepare(n ca.Serial, now time.Time) (*ca.Prepared, error) {
	return s.authority.Prepare(ca.Issuance{Profile: s.profile, Request: s.request, Names: s.right.Names, Serial: n, Now: now})
}

// draft implements subject.
func (s *service) draft() (intent, ledger.Draft) { return s.draftOf(ca.KindService) }
