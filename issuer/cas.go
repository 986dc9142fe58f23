package issuer

import (
	"bytes"
	"crypto/sha256"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
	"time"

	"github.com/certmill/certmill/ca"
	"github.com/certmill/certmill/internal/ledger"
)

// States of a CA.
const (
	stateIssuing = "issuing"
	stateOffline = "offline"
)

// CARecord is a CA as the ledger knows it since its adoption.
type CARecord struct {
	Name        string    `json:"name"`
	Role        string    `json:"role"`  // root, issuing, plant
	Token       string    `json:"token"` // name in the configuration
	Label       string    `json:"label"`
	Backup      string    `json:"backup,omitempty"` // of the key: none, vendor-clone, wrapped
	Certificate []byte    `json:"certificate"`      // DER
	Prefix      uint16    `json:"prefix"`
	Generation  int       `json:"generation"`
	State       string    `json:"state"` // issuing; offline for a root
	NotAfter    time.Time `json:"not_after"`
	IssueUntil  time.Time `json:"issue_until"`
	Transcript  string    `json:"transcript"` // hex SHA-256 of the ceremony's transcript
	By          string    `json:"by"`
}

// caEntry is the stored form. Fields are only ever added.
type caEntry struct {
	Name        string    `json:"name"`
	Role        string    `json:"role"`
	Token       string    `json:"token"`
	Label       string    `json:"label"`
	Backup      string    `json:"backup,omitempty"`
	Certificate []byte    `json:"certificate"`
	Prefix      uint16    `json:"prefix"`
	Generation  int       `json:"generation"`
	State       string    `json:"state"`
	NotAfter    time.Time `json:"not_after"`
	IssueUntil  time.Time `json:"issue_until"`
	Transcript  string    `json:"transcript"`
	By          string    `json:"by"`
}

// caDocument is a caEntry on its way into the books.
type caDocument caEntry

func (d *caDocument) read(_ *Issuer, _ *ledger.View, e ledger.Entry) error {
	return decodePayload(e, (*caEntry)(d))
}

func (d *caDocument) enter(b *books) { b.cas[d.Name] = CARecord(*d) }

// Serial prefixes are allotted in the order of adoption. The first octet stays between 0x01 and 0x7F: a serial is positive and has its full length.
const (
	firstPrefix = 0x0101
	lastPrefix  = 0x7fff
)

// Spaces of claims.
const (
	claimCA      = "ca"        // name
	claimPrefix  = "ca-prefix" // two octets
	claimKey     = "key"       // SHA-256 of an SPKI, whosever it is: device, station, service, proof or CA (promise P4)
	claimDevice  = "device"    // product NUL id NUL slot NUL generation
	claimRekey   = "rekey"     // the same, of the generation that it ends
	claimConfirm = "confirm"   // index of the intent, 8 octets
	claimOrder   = "order"     // id
	claimProfile = "profile"   // SHA-256 of a version
	claimStation = "station"   // name
)

// AdoptCA records a CA that a ceremony made and allots its serial prefix. Works before Run: it commits by itself.
// Adopting the same certificate under the same name again returns what is recorded; another one is ErrExists, a key under a second name ErrKeyInUse.
func AdoptCA(l *ledger.Ledger, r CARecord) (CARecord, error) {
	cert, err := checkCA(&r)
	if err != nil {
		return CARecord{}, err
	}
	key := sha256.Sum256(cert.RawSubjectPublicKeyInfo)
	_, err = l.Update(func(tx *ledger.Tx) error {
		if at, held := tx.Claimed(ledger.Claim{Space: claimCA, Key: r.Name}); held {
			return adopted(&tx.View, at, &r)
		}
		prefix, err := freePrefix(tx)
		if err != nil {
			return err
		}
		r.Prefix = prefix
		_, err = tx.Append(ledger.Draft{
			Kind: entryCA, Payload: payload(caEntry(r)), Heads: []string{"ca/" + r.Name},
			Claims: []ledger.Claim{{Space: claimCA, Key: r.Name}, prefixClaim(prefix), {Space: claimKey, Key: string(key[:])}},
		})
		return err
	})
	var claimed *ledger.ClaimedError
	switch {
	case errors.As(err, &claimed):
		return CARecord{}, fmt.Errorf("adopt CA %s: %w", r.Name, ErrKeyInUse)
	case err != nil:
		return CARecord{}, fmt.Errorf("adopt CA %s: %w", r.Name, err)
	}
	return r, nil
}

func prefixClaim(prefix uint16) ledger.Claim {
	return ledger.Claim{Space: claimPrefix, Key: string([]byte{byte(prefix >> 8), byte(prefix)})}
}

// freePrefix finds the first prefix that is not allotted.
func freePrefix(tx *ledger.Tx) (uint16, error) {
	for prefix := uint16(firstPrefix); prefix <= lastPrefix; prefix++ {
		if _, held := tx.Claimed(prefixClaim(prefix)); !held {
			return prefix, nil
		}
	}
	return 0, errors.New("every serial prefix is allotted")
}

// checkCA checks what is asked to be adopted and fills in what follows from it.
func checkCA(r *CARecord) (*x509.Certificate, error) {
	if err := checkName("CA", r.Name); err != nil {
		return nil, err
	}
	cert, err := x509.ParseCertificate(r.Certificate)
	if err != nil {
		return nil, fmt.Errorf("certificate of CA %s: %w: %w", r.Name, err, ErrInvalid)
	}
	r.State, r.NotAfter = stateIssuing, cert.NotAfter.UTC()
	r.IssueUntil = r.IssueUntil.UTC()
	switch r.Role {
	case ca.RoleRoot:
		r.State = stateOffline
	case ca.RoleIssuing, ca.RolePlant:
	default:
		return nil, fmt.Errorf("role %q: root, issuing or plant: %w", r.Role, ErrInvalid)
	}
	if !cert.IsCA {
		return nil, fmt.Errorf("certificate of CA %s is none of a CA: %w", r.Name, ErrInvalid)
	}
	return cert, nil
}

// adopted replaces r by what is recorded under its name, if that is the same CA.
func adopted(v *ledger.View, at uint64, r *CARecord) error {
	stored, err := caAt(v, at)
	if err != nil {
		return err
	}
	if !bytes.Equal(stored.Certificate, r.Certificate) || stored.Role != r.Role {
		return ErrExists
	}
	*r = stored
	return nil
}

func caAt(v *ledger.View, index uint64) (CARecord, error) {
	e, err := v.Entry(index)
	if err != nil {
		return CARecord{}, err
	}
	var c caEntry
	if err := decodePayload(e, &c); err != nil {
		return CARecord{}, fmt.Errorf("entry %d: %w", index, err)
	}
	return CARecord(c), nil
}

// CAs lists adopted CAs, by name.
func CAs(l *ledger.Ledger) (all []CARecord, err error) {
	err = l.View(func(v *ledger.View) error {
		for _, index := range v.Heads("ca/") {
			r, err := caAt(v, index)
			if err != nil {
				return err
			}
			all = append(all, r)
		}
		return nil
	})
	if err != nil {
		return nil, fmt.Errorf("list CAs: %w", err)
	}
	return all, nil
}

// Chain returns PEM: the CA's certificate and those above it, as far as the ledger knows them. ErrNotFound.
func (i *Issuer) Chain(caName string) ([]byte, error) {
	i.books.mu.RLock()
	defer i.books.mu.RUnlock()
	r, found := i.books.cas[caName]
	if !found {
		return nil, fmt.Errorf("CA %s: %w", caName, ErrNotFound)
	}
	var chain []byte
	for found {
		chain = append(chain, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: r.Certificate})...)
		cert, err := x509.ParseCertificate(r.Certificate)
		if err != nil {
			return nil, fmt.Errorf("certificate of CA %s: %w", r.Name, err)
		}
		r, found = i.books.issuerOf(cert)
	}
	return chain, nil
}

// issuerOf finds the CA that signed a CA's certificate; none for one that signed its own.
func (b *books) issuerOf(cert *x509.Certificate) (CARecord, bool) {
	if bytes.Equal(cert.RawIssuer, cert.RawSubject) {
		return CARecord{}, false
	}
	for _, r := range b.cas {
		above, err := x509.ParseCertificate(r.Certificate)
		if err == nil && bytes.Equal(above.RawSubject, cert.RawIssuer) && cert.CheckSignatureFrom(above) == nil {
			return r, true
		}
	}
	return CARecord{}, false
}
