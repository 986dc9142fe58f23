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

// service asks for the service's own TLS certificate.
type service struct{ own }

// ServiceCertificate signs the service's own TLS certificate with the plant CA. names: DNS names and IP literals. Asked again with the
// same key and names it returns the same certificate; a key is never certified twice: ErrKeyInUse.
func (i *Issuer) ServiceCertificate(ctx context.Context, csr []byte, names []string, by string) ([]byte, error) {
	o, err := i.newOwn(ca.KindService, csr, right{By: by, Names: names})
	if err != nil {
		return nil, fmt.Errorf("service certificate: %w", err)
	}
	r := newRequest(&service{o}, o.authority)
	a, err := i.ask(ctx, r)
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
