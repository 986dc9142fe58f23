package issuer

import (
	"fmt"
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
