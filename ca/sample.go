package ca

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"errors"
	"fmt"
	"math/big"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/certmill/certmill/ca/lint"
)

// lintSamples makes a certificate of each kind of key that the profile takes, under a CA that does not exist, and lints it: what is
// wrong with a profile shows when it is loaded.
func lintSamples(p *Profile) error {
	linter, err := lint.New()
	if err != nil {
		return err
	}
	for _, kind := range p.config.Keys {
		tbs, err := sampleTBS(p, kind)
		if err != nil {
			return fmt.Errorf("sample certificate (%s): %w", kind, err)
		}
		if err := lintTBS(linter, p.Kind(), tbs, oidECDSAWithSHA256); err != nil {
			return fmt.Errorf("sample certificate (%s): %w", kind, err)
		}
	}
	return nil
}

// Sample makes a certificate of the profile in DER, to be looked at: with its first kind of key, thrown away, under a CA that does not exist, and with a
// signature that verifies for nobody. It is what ParseProfile linted.
func (p *Profile) Sample() ([]byte, error) {
	tbs, err := sampleTBS(p, p.config.Keys[0])
	if err != nil {
		return nil, err
	}
	return assemble(tbs, oidECDSAWithSHA256, placeholderSignature(oidECDSAWithSHA256))
}

func sampleTBS(p *Profile, keyKind string) ([]byte, error) {
	key, err := sampleKey(keyKind)
	if err != nil {
		return nil, err
	}
	l, err := newLanguage(p.config.DeviceID.Pattern)
	if err != nil {
		return nil, err
	}
	in := Issuance{DeviceID: l.sample(), Request: &Request{publicKey: key}, Serial: Serial{1, 0, 19: 1}}
	if p.usesID() && p.matchID(in.DeviceID) != nil {
		return nil, errors.New("no id was found that device_id.pattern matches: write it without assertions such as \\b")
	}
	if in.Attributes, err = p.sampleAttributes(); err != nil {
		return nil, err
	}
	if p.Kind() == KindService {
		in.Names = []string{"localhost"}
	}
	t, err := p.template(in)
	if err != nil {
		return nil, err
	}
	begin := time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC) // zlint's rules have dates from which they hold
	t.notBefore, t.notAfter = p.validity.window(begin, begin.AddDate(30, 0, 0))
	if !t.notAfter.After(begin) {
		return nil, errors.New("validity.not_after is past")
	}
	t.algorithm, t.issuer, t.issuerKeyID = oidECDSAWithSHA256, encodeName([]subjectAttribute{{oidCommonName, "Sample CA", true}}), keyID([]byte("sample"))
	all, err := newLinks("http://pki.example.com", "sample")
	if err != nil {
		return nil, err
	}
	t.links = all.without(p.omitted)
	return t.encode()
}

// sampleAttributes makes a value of each attribute.
func (p *Profile) sampleAttributes() (Attributes, error) {
	if len(p.attributes) == 0 {
		return nil, nil
	}
	all := make(Attributes)
	for name, re := range p.attributes {
		l, err := newLanguage(p.config.Attributes[name])
		if err != nil {
			return nil, err
		}
		if all[name] = l.sample(); !re.MatchString(all[name]) {
			return nil, fmt.Errorf("no value was found that attributes.%s matches: write it without assertions such as \\b", name)
		}
	}
	return all, nil
}

// sampleKey makes a public key of a kind; its private half is thrown away, or was never known.
func sampleKey(kind string) (publicKey, error) {
	key, err := samplePublic(kind)
	if err != nil {
		return publicKey{}, err
	}
	return newPublicKey(key)
}

func samplePublic(kind string) (crypto.PublicKey, error) {
	curve := map[string]elliptic.Curve{keyP256: elliptic.P256(), keyP384: elliptic.P384()}[kind]
	if curve != nil {
		k, err := ecdsa.GenerateKey(curve, rand.Reader)
		if err != nil {
			return nil, err
		}
		return k.Public(), nil
	}
	bits, err := strconv.Atoi(strings.TrimPrefix(kind, "rsa"))
	if err != nil {
		return nil, err
	}
	return sampleRSA(bits)
}

// sampleRSA makes a modulus without small factors, which is all that a lint can see; finding two primes for it would take seconds.
func sampleRSA(bits int) (*rsa.PublicKey, error) {
	for {
		n, err := rand.Int(rand.Reader, new(big.Int).Lsh(big.NewInt(1), uint(bits-1)))
		if err != nil {
			return nil, err
		}
		n.SetBit(n, bits-1, 1).SetBit(n, 0, 1)
		if checkModulus(n) == nil {
			return &rsa.PublicKey{N: n, E: 65537}, nil
		}
	}
}

// usesID reports whether the subject holds the device id.
func (p *Profile) usesID() bool {
	return slices.ContainsFunc(p.subject, func(v subjectValue) bool { return v.text.has(placeholder) })
}
