package issuer

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/sha256"
	"crypto/x509"
	"encoding/hex"
	"encoding/pem"
	"fmt"
	"regexp"
	"time"

	"github.com/certmill/certmill/ca"
	"github.com/certmill/certmill/internal/ledger"
)

var (
	accountID = regexp.MustCompile(`^[0-9]{12}$`)
	regionID  = regexp.MustCompile(`^[a-z0-9-]{1,40}$`)
)

const (
	maxCode   = 64             // characters: what a common name holds (RFC 5280 appendix A.1, ub-common-name)
	proofLeft = 24 * time.Hour // a proof that ends sooner is made anew: somebody still has to carry it to AWS
)

// proof is a certificate that shows AWS that we hold a CA's key.
type proof struct {
	authority *ca.Authority
	code      string
	public    *ecdsa.PublicKey
	key       [32]byte
	right     right
}

// Prove signs an AWS verification certificate for the registration code of (account, region) and returns it in PEM.
// Without officers, the admin socket's uid is the approval, recorded as by. The same question gives the same certificate while it is valid
// for a day or more. Errors: ErrInvalid, ErrNotFound, ErrFrozen, ca.ErrRefused for a code that AWS would not give.
func (i *Issuer) Prove(ctx context.Context, caName, account, region, code, by string) ([]byte, error) {
	p, err := i.newProof(caName, code, right{By: by, Account: account, Region: region})
	if err != nil {
		return nil, fmt.Errorf("prove CA %s: %w", caName, err)
	}
	r := newRequest(p, p.authority)
	a, err := i.ask(ctx, r)
	if err != nil {
		return nil, fmt.Errorf("prove CA %s to %s in %s: %w", caName, account, region, err)
	}
	der, err := ca.Assemble(a.intent.tbs, a.signature)
	if err != nil {
		return nil, fmt.Errorf("prove CA %s: %w", caName, err)
	}
	return pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der}), nil
}

func (i *Issuer) newProof(caName, code string, r right) (*proof, error) {
	switch {
	case !accountID.MatchString(r.Account):
		return nil, fmt.Errorf("account %q is not 12 digits: %w", r.Account, ErrInvalid)
	case !regionID.MatchString(r.Region):
		return nil, fmt.Errorf("region %q: %w", r.Region, ErrInvalid)
	case !printable(code, maxCode):
		return nil, fmt.Errorf("registration code is not 1 to %d printable characters: %w", maxCode, ErrInvalid)
	case !printable(r.By, maxText):
		return nil, fmt.Errorf("nobody says who asks: %w", ErrInvalid)
	}
	a, err := i.issuingAuthority(caName)
	if err != nil {
		return nil, err
	}
	private, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader) // its private half ends with this function: nobody is to use the certificate
	if err != nil {
		return nil, fmt.Errorf("key of the proof: %w", err)
	}
	spki, err := x509.MarshalPKIXPublicKey(&private.PublicKey)
	if err != nil {
		return nil, fmt.Errorf("key of the proof: %w", err)
	}
	hash := sha256.Sum256([]byte(code))
	r.Code = hex.EncodeToString(hash[:])
	return &proof{authority: a, code: code, public: &private.PublicKey, key: sha256.Sum256(spki), right: r}, nil
}

func (i *Issuer) issuingAuthority(name string) (*ca.Authority, error) {
	i.books.mu.RLock()
	defer i.books.mu.RUnlock()
	switch r, found := i.books.cas[name]; {
	case !found:
		return nil, fmt.Errorf("CA %q: %w", name, ErrNotFound)
	case r.Role != ca.RoleIssuing:
		return nil, fmt.Errorf("CA %s has the role %s; AWS registers those that sign devices: %w", name, r.Role, ErrInvalid)
	case i.authorities[name] == nil:
		return nil, fmt.Errorf("CA %s does not sign here: %w", name, ErrInvalid)
	}
	return i.authorities[name], nil
}

// head names the newest proof for one question.
func (p *proof) head() string {
	return "proof/" + p.authority.Name() + "/" + p.right.Account + "/" + p.right.Region + "/" + p.right.Code
}

// find implements subject.
func (p *proof) find(v *ledger.View, now time.Time) (uint64, bool, error) {
	index, made := v.Head(p.head())
	if !made {
		return 0, false, nil
	}
	in, err := intentAt(v, index)
	if err != nil {
		return 0, false, err
	}
	old, err := p.authority.Redeem(in.kind, in.tbs)
	if err != nil || old.NotAfter().Before(now.Add(proofLeft)) {
		return 0, false, nil // of no use any more
	}
	return index, true, nil
}

// allowed implements subject.
func (p *proof) allowed(b *books, _ time.Time) error { return b.stops(p.authority.Name(), "") }

// prepare implements subject.
func (p *proof) prepare(s ca.Serial, now time.Time) (*ca.Prepared, error) {
	return p.authority.PrepareProof(p.code, p.public, s, now)
}

// draft implements subject.
func (p *proof) draft() (intent, ledger.Draft) {
	in := intent{kind: ca.KindProof, ca: p.authority.Name(), key: p.key, right: p.right.encode()}
	return in, ledger.Draft{Claims: []ledger.Claim{{Space: claimKey, Key: string(p.key[:])}}, Heads: []string{p.head()}}
}

// landed implements subject.
func (p *proof) landed(*books) {}
