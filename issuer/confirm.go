package issuer

import (
	"context"
	"crypto"
	"crypto/ecdsa"
	"crypto/rsa"
	"crypto/sha256"
	"crypto/x509"
	"encoding/binary"
	"encoding/hex"
	"fmt"
	"time"

	"github.com/certmill/certmill/ca"
	"github.com/certmill/certmill/internal/ledger"
)

// Confirmed says when a device showed that it holds the key of its certificate, and who brought the proof.
type Confirmed struct {
	At time.Time `json:"at"`
	By string    `json:"by"` // a station's name, or who sat at the admin socket
}

// confirmEntry is the stored form: whoever has the certificate can check the proof again.
type confirmEntry struct {
	Intent    uint64 `json:"intent"`
	Order     string `json:"order"`
	Challenge string `json:"challenge"`
	Signature []byte `json:"signature"`
	Confirmed
}

// confirm is a confirmEntry on its way into the books.
type confirm confirmEntry

func (c *confirm) read(_ *Issuer, _ *ledger.View, e ledger.Entry) error {
	return decodePayload(e, (*confirmEntry)(c))
}

func (c *confirm) enter(b *books) { b.orders[c.Order].confirmed++ }

func confirmClaim(intent uint64) ledger.Claim {
	return ledger.Claim{Space: claimConfirm, Key: string(binary.BigEndian.AppendUint64(nil, intent))}
}

// confirmOf finds the confirmation of an intent's certificate.
func confirmOf(v *ledger.View, intent uint64) (c confirmEntry, ok bool, err error) {
	index, ok := v.Claimed(confirmClaim(intent))
	if !ok {
		return c, false, nil
	}
	e, err := get(v, index)
	if err != nil {
		return c, false, err
	}
	if err := decodePayload(e, &c); err != nil || e.Kind != entryConfirm || c.Intent != intent {
		return c, false, fmt.Errorf("%w: entry %d is no confirmation of entry %d", errStore, index, intent)
	}
	return c, true, nil
}

// confirmable is a certificate of an order, as a proof is held against it.
type confirmable struct {
	index  uint64 // of the intent
	id     string // certificate id
	public crypto.PublicKey
}

// confirmable finds the certificate: ErrOrderUnknown, ErrNotFound where it is none of the order's, ErrRevoked.
func (i *Issuer) confirmable(v *ledger.View, order string, s ca.Serial) (c confirmable, err error) {
	c.index = s.Sequence(i.ledger.Cipher())
	found, err := certificateAt(v, c.index)
	if err != nil {
		return c, err
	}
	if found == nil || found.Serial != s {
		return c, fmt.Errorf("certificate %s: %w", s, ErrNotFound)
	}
	in, err := intentAt(v, c.index)
	if err != nil {
		return c, err
	}
	if in.kind != ca.KindDevice || in.order != order {
		return c, fmt.Errorf("certificate %s in order %s: %w", s, order, ErrNotFound)
	}
	cert, err := x509.ParseCertificate(found.DER)
	if err != nil {
		return c, err
	}
	id := sha256.Sum256(found.DER)
	c.id, c.public = hex.EncodeToString(id[:]), cert.PublicKey
	return c, notRevoked(v, c.index, i.best())
}

// Challenge is something to sign, and how long it may be used.
type Challenge struct {
	Text          string    `json:"challenge"`
	Expires       time.Time `json:"expires"`
	CertificateID string    `json:"-"` // signed beside it
}

// Challenge makes a challenge for the device that got a certificate of an order. It leaves no entry.
func (i *Issuer) Challenge(order string, s ca.Serial) (ch Challenge, err error) {
	err = i.ledger.View(func(v *ledger.View) error {
		c, err := i.confirmable(v, order, s)
		if err != nil {
			return err
		}
		ch = newChallenge(i.ledger.Cipher(), c.id, i.now())
		return nil
	})
	return ch, err
}

// Confirm records that the device which got a certificate holds its key: signature is over ConfirmDigest, by ECDSA in ASN.1 or RSA in PKCS #1 v1.5.
// Doing it again gives the time of the first. Errors: those of Challenge; ErrChallenge; ErrProof.
func (i *Issuer) Confirm(ctx context.Context, order string, s ca.Serial, challenge string, signature []byte, by string) (Confirmed, error) {
	var c confirmable
	err := i.ledger.View(func(v *ledger.View) (err error) {
		c, err = i.confirmable(v, order, s)
		return err
	})
	if err != nil {
		return Confirmed{}, err
	}
	expires, err := openChallenge(i.ledger.Cipher(), c.id, challenge)
	if err != nil {
		return Confirmed{}, err
	}
	if err := checkPossession(c.public, ConfirmDigest(challenge, c.id), signature); err != nil {
		return Confirmed{}, err
	}
	e := confirmEntry{Intent: c.index, Order: order, Challenge: challenge, Signature: signature, Confirmed: Confirmed{By: by}}
	err = i.act(ctx, func(o *owner, tx *ledger.Tx) (uint64, error) {
		before, found, err := confirmOf(&tx.View, c.index)
		if err != nil || found {
			e = before
			return 0, err
		}
		now := o.now()
		if err := notRevoked(&tx.View, c.index, o.books.clock.best(now)); err != nil {
			return 0, err
		}
		if now.After(expires) {
			return 0, fmt.Errorf("it expired %s: %w", expires.Format(time.RFC3339), ErrChallenge)
		}
		e.At = entryTime(now)
		return put(tx, ledger.Draft{Kind: entryConfirm, Payload: payload(e), Claims: []ledger.Claim{confirmClaim(c.index)},
			Debits: []ledger.Debit{{Counter: confirmedCounter(order), Amount: 1, Limit: 4 * maxQuantity}}}) // a claim bounds it, not the counter
	})
	if err != nil {
		return Confirmed{}, err
	}
	return e.Confirmed, nil
}

// confirmLabel keeps what a device signs here from meaning anything anywhere else.
const confirmLabel = "certmill-confirm-v1\x00"

// ConfirmDigest is what a device signs: SHA-256 of the label, the challenge and the certificate id, both as they travel.
func ConfirmDigest(challenge, certificateID string) []byte {
	d := sha256.Sum256([]byte(confirmLabel + challenge + certificateID))
	return d[:]
}

func checkPossession(public crypto.PublicKey, digest, signature []byte) error {
	good := false
	switch k := public.(type) {
	case *ecdsa.PublicKey:
		good = ecdsa.VerifyASN1(k, digest, signature)
	case *rsa.PublicKey:
		good = rsa.VerifyPKCS1v15(k, crypto.SHA256, digest, signature) == nil
	default:
		return fmt.Errorf("no way to confirm a key of type %T: %w", public, ErrInvalid)
	}
	if !good {
		return fmt.Errorf("the signature is not one of the certificate's key over this challenge: %w", ErrProof)
	}
	return nil
}
