package issuer

import (
	"context"
	"fmt"
	"time"

	"github.com/certmill/certmill/ca"
	"github.com/certmill/certmill/internal/ledger"
)

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
	a, err := i.ask(ctx, r)
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
