package format

import (
	"crypto"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"

	"github.com/certmill/certmill/issuer/client"
)

// Device is what a form is made of.
type Device struct {
	Answer   client.Answer
	Leaf     *x509.Certificate
	Above    []*x509.Certificate // the issuing CA first, the root last; empty where the form does without
	Key      crypto.Signer       // nil: the key stays where it is
	Password string              // of the forms that encrypt
}

// NewDevice parses an answer. above holds the certificates above it in PEM, the issuing CA first; empty where the
// form does without.
func NewDevice(a client.Answer, above []byte) (*Device, error) {
	leaf, err := certificates([]byte(a.Certificate))
	if err != nil || len(leaf) != 1 {
		return nil, fmt.Errorf("the answer's certificate: %d found, want one: %w", len(leaf), errors.Join(err))
	}
	d := &Device{Answer: a, Leaf: leaf[0]}
	chain, err := certificates(above)
	if err != nil {
		return nil, fmt.Errorf("the chain: %w", err)
	}
	for child := d.Leaf; len(chain) > 0; chain = chain[1:] {
		if err := child.CheckSignatureFrom(chain[0]); err != nil {
			return nil, fmt.Errorf("the chain: %q is not signed by %q: %w", child.Subject, chain[0].Subject, err)
		}
		d.Above = append(d.Above, chain[0])
		child = chain[0]
	}
	return d, nil
}

// SetKey adds the device's private key, which must be the one that was certified.
func (d *Device) SetKey(k crypto.Signer) error {
	if !SamePublic(k.Public(), d.Leaf.PublicKey) {
		return errors.New("the private key does not belong to the certificate")
	}
	d.Key = k
	return nil
}

// SamePublic compares public keys of any kind.
func SamePublic(a, b crypto.PublicKey) bool {
	k, ok := a.(interface{ Equal(crypto.PublicKey) bool })
	return ok && k.Equal(b)
}

// withoutRoot is Above as TLS sends it (RFC 8446 section 4.4.2): whoever verifies has the root already.
func (d *Device) withoutRoot() []*x509.Certificate {
	if n := len(d.Above); n > 0 && d.Above[n-1].CheckSignatureFrom(d.Above[n-1]) == nil {
		return d.Above[:n-1]
	}
	return d.Above
}

func certificates(text []byte) (all []*x509.Certificate, err error) {
	for block, rest := pem.Decode(text); block != nil; block, rest = pem.Decode(rest) {
		c, err := x509.ParseCertificate(block.Bytes)
		if err != nil {
			return nil, err
		}
		all = append(all, c)
	}
	return all, nil
}

func pemOf(certs ...*x509.Certificate) (text []byte) {
	for _, c := range certs {
		text = append(text, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: c.Raw})...)
	}
	return text
}
