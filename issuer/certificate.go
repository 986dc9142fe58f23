package issuer

import (
	"crypto/x509"
	"errors"
	"fmt"
	"io/fs"
	"time"

	"github.com/certmill/certmill/ca"
	"github.com/certmill/certmill/internal/ledger"
)

// Certificate is the answer: the same bytes for ever.
type Certificate struct {
	DeviceID, Slot      string
	Serial              ca.Serial
	DER                 []byte
	NotBefore, NotAfter time.Time
	Index               uint64 // of the signature's entry
	Checkpoint          []byte // a signed note that covers it
	Replayed            bool
}

// certificate puts the answer together, in the goroutine of whoever waited for it.
func (a *answer) certificate() (Certificate, error) {
	der, cert, err := assemble(&a.intent, a.signature)
	if err != nil {
		return Certificate{}, err
	}
	return Certificate{
		DeviceID: a.intent.device, Slot: a.intent.slot, Serial: serialOf(cert), DER: der,
		NotBefore: cert.NotBefore, NotAfter: cert.NotAfter,
		Index: a.index, Checkpoint: a.checkpoint, Replayed: a.replayed,
	}, nil
}

// assemble makes the certificate of an intent and its signature.
func assemble(in *intent, sig []byte) (der []byte, cert *x509.Certificate, err error) {
	if der, err = ca.Assemble(in.tbs, sig); err != nil {
		return nil, nil, fmt.Errorf("assemble certificate: %w", err)
	}
	if cert, err = x509.ParseCertificate(der); err != nil {
		return nil, nil, fmt.Errorf("read the certificate made: %w", err)
	}
	return der, cert, nil
}

func serialOf(cert *x509.Certificate) (s ca.Serial) {
	cert.SerialNumber.FillBytes(s[:])
	return s
}

// Certificate finds a certificate by serial: ErrNotFound. The serial itself says where it stands, to us alone.
func (i *Issuer) Certificate(s ca.Serial) (Certificate, error) {
	var found *Certificate
	checkpoint := i.ledger.Checkpoint()
	err := i.ledger.View(func(v *ledger.View) (err error) {
		found, err = certificateAt(v, s.Sequence(i.ledger.Cipher()))
		return err
	})
	switch {
	case err != nil:
		return Certificate{}, fmt.Errorf("certificate %s: %w", s, err)
	case found == nil || found.Serial != s: // any block decrypts to some number
		return Certificate{}, fmt.Errorf("certificate %s: %w", s, ErrNotFound)
	}
	if found.Index >= checkpoint.Size { // it came between the two looks
		checkpoint = i.ledger.Checkpoint()
	}
	found.Checkpoint, found.Replayed = checkpoint.Note, true
	return *found, nil
}

// certificateAt returns the certificate of an intent's entry; nil where there is no signed one.
func certificateAt(v *ledger.View, index uint64) (*Certificate, error) {
	e, err := v.Entry(index)
	if errors.Is(err, fs.ErrNotExist) || err == nil && e.Kind != entryIntent {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	in, err := decodeIntent(e.Payload)
	if err != nil {
		return nil, fmt.Errorf("entry %d: %w", index, err)
	}
	by, sig, signed, err := signatureOf(v, index)
	if err != nil || !signed {
		return nil, err
	}
	a := answer{intent: in, signature: sig, index: by}
	c, err := a.certificate()
	return &c, err
}
