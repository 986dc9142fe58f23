package ca

import (
	"bytes"
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rsa"
	"crypto/sha256"
	"crypto/x509"
	"fmt"

	"golang.org/x/crypto/cryptobyte"
	der "golang.org/x/crypto/cryptobyte/asn1"
)

// Key kinds, as profiles name them. An RSA key is "rsa" and the length of its modulus in bits.
const (
	keyP256 = "p256"
	keyP384 = "p384"
)

// publicKey is a public key that was checked.
type publicKey struct {
	key  crypto.PublicKey // *ecdsa.PublicKey or *rsa.PublicKey
	kind string           // p256, p384, rsa2048 …
	spki []byte           // DER SubjectPublicKeyInfo, the only encoding this key has
	id   []byte           // subject key identifier
}

// parseKey reads a SubjectPublicKeyInfo: P-256, P-384 or RSA of 2048 to 4096 bits. Ed25519 is not among them, for AWS IoT takes it for no certificate
// (aws-iot-rules CA-34, DC-13). An EC key, which is what lines make, costs none of the work that RSA does.
func parseKey(spki []byte) (publicKey, error) {
	algorithm, parameter, bits, err := splitKey(spki)
	if err != nil {
		return publicKey{}, err
	}
	isEC := algorithm == oidEC
	switch {
	case isEC && parameter != oidP256 && parameter != oidP384:
		return publicKey{}, fmt.Errorf("%w: its curve is neither P-256 nor P-384", ErrWeakKey)
	case !isEC && algorithm != oidRSA:
		return publicKey{}, fmt.Errorf("%w: algorithm %s, accepted are EC (P-256, P-384) and RSA", ErrWeakKey, algorithm)
	}
	if !isEC {
		if err := checkRSA(bits); err != nil {
			return publicKey{}, err
		}
	}
	key, err := x509.ParsePKIXPublicKey(spki)
	if err != nil && isEC {
		return publicKey{}, fmt.Errorf("%w: its point is not an uncompressed point of the curve", ErrWeakKey)
	}
	if err != nil {
		return publicKey{}, fmt.Errorf("%w: public key: %v", ErrMalformed, err)
	}
	if isEC {
		if err := checkEC(bits); err != nil {
			return publicKey{}, err
		}
	}
	kind, err := keyKind(key)
	if err != nil {
		return publicKey{}, err
	}
	// One key, one encoding: the hash of the SPKI is what keeps two devices from sharing a key.
	if canonical, err := x509.MarshalPKIXPublicKey(key); err != nil || !bytes.Equal(canonical, spki) {
		return publicKey{}, fmt.Errorf("%w: public key is not encoded as RFC 3279 and RFC 5480 say", ErrMalformed)
	}
	return publicKey{key: key, kind: kind, spki: spki, id: keyID(bits)}, nil
}

// newPublicKey is parseKey for a key that is at hand.
func newPublicKey(key crypto.PublicKey) (publicKey, error) {
	spki, err := x509.MarshalPKIXPublicKey(key)
	if err != nil {
		return publicKey{}, fmt.Errorf("%w: %v", ErrWeakKey, err)
	}
	return parseKey(spki)
}

// splitKey takes a SubjectPublicKeyInfo (RFC 5280 4.1) apart; parameter is empty where it is not an object identifier.
func splitKey(spki []byte) (algorithm, parameter oid, bits []byte, err error) {
	in := cryptobyte.String(spki)
	var info, id cryptobyte.String
	malformed := fmt.Errorf("%w: public key is not DER", ErrMalformed)
	if !in.ReadASN1(&info, der.SEQUENCE) || !in.Empty() || !info.ReadASN1(&id, der.SEQUENCE) {
		return "", "", nil, malformed
	}
	if !info.ReadASN1BitStringAsBytes(&bits) || !info.Empty() {
		return "", "", nil, malformed
	}
	algorithm, ok := readOID(&id)
	if !ok {
		return "", "", nil, malformed
	}
	if parameter, _ = readOID(&id); parameter != "" && !id.Empty() {
		return "", "", nil, malformed
	}
	return algorithm, parameter, bits, nil
}

// keyID is the subject key identifier: the leftmost 160 bits of SHA-256 over the key's BIT STRING (RFC 7093 section 2, method 1),
// as RFC 5280 4.2.1.2 allows, so that SHA-1 is used for nothing.
func keyID(bits []byte) []byte {
	sum := sha256.Sum256(bits)
	return sum[:20]
}

// keyKind names a key's kind, or says in an error that matches ErrWeakKey why it is not acceptable.
func keyKind(key crypto.PublicKey) (string, error) {
	switch k := key.(type) {
	case *ecdsa.PublicKey:
		switch k.Curve {
		case elliptic.P256():
			return keyP256, nil
		case elliptic.P384():
			return keyP384, nil
		}
	case *rsa.PublicKey:
		return rsaKind(k), nil
	}
	return "", fmt.Errorf("%w: accepted are EC (P-256, P-384) and RSA", ErrWeakKey)
}
