package ca

import (
	"crypto"
	"crypto/sha256"
	"crypto/x509"
	"fmt"

	"golang.org/x/crypto/cryptobyte"
	der "golang.org/x/crypto/cryptobyte/asn1"
)

// MaxRequest is the largest CSR in octets that is looked at: an RSA-4096 CSR with a long subject has less than 2 KiB.
const MaxRequest = 16 << 10

// ParseRequest parses a PKCS#10 request in DER (RFC 2986; caps first: MaxRequest) and checks proof of possession and key quality.
// Errors: ErrMalformed, ErrSignature, ErrWeakKey, and ErrRefused for a subject value of 64 hex digits.
// What the CSR asks for beside its key is not looked at: extensions are never copied.
func ParseRequest(csr []byte) (*Request, error) {
	if len(csr) > MaxRequest {
		return nil, fmt.Errorf("%w: %d octets, at most %d", ErrMalformed, len(csr), MaxRequest)
	}
	name, spki, err := splitRequest(csr)
	if err != nil {
		return nil, err
	}
	commonName, err := checkSubject(name)
	if err != nil {
		return nil, err
	}
	key, err := parseKey(spki)
	if err != nil {
		return nil, err
	}
	if err := checkPossession(csr); err != nil {
		return nil, err
	}
	return &Request{publicKey: key, hash: sha256.Sum256(spki), commonName: commonName}, nil
}

// Request is a CSR that was parsed and checked. Only its key and, where a profile says so, its CN are ever used. Immutable.
type Request struct {
	publicKey  publicKey
	hash       [32]byte
	commonName string
}

// PublicKey is the key that the certificate will be about: *ecdsa.PublicKey or *rsa.PublicKey.
func (r *Request) PublicKey() crypto.PublicKey { return r.publicKey.key }

// SPKI is the key as DER SubjectPublicKeyInfo; a key has only one such encoding. The caller must not change it.
func (r *Request) SPKI() []byte { return r.publicKey.spki }

// KeyID is the SHA-256 of SPKI: what no two devices may share.
func (r *Request) KeyID() [32]byte { return r.hash }

// CommonName is the subject's common name, "" where it has none.
func (r *Request) CommonName() string { return r.commonName }

// splitRequest walks the outer structure of a CertificationRequest (RFC 2986 section 4), strictly DER, and returns the elements that matter.
func splitRequest(csr []byte) (name, spki []byte, err error) {
	in := cryptobyte.String(csr)
	var outer, info, subject, key cryptobyte.String
	var version uint64
	ok := in.ReadASN1(&outer, der.SEQUENCE) && in.Empty() &&
		outer.ReadASN1(&info, der.SEQUENCE) &&
		outer.SkipASN1(der.SEQUENCE) && outer.SkipASN1(der.BIT_STRING) && outer.Empty() &&
		info.ReadASN1Integer(&version) && version == 0 &&
		info.ReadASN1Element(&subject, der.SEQUENCE) &&
		info.ReadASN1Element(&key, der.SEQUENCE) &&
		info.SkipOptionalASN1(der.Tag(0).ContextSpecific().Constructed()) && info.Empty()
	if !ok {
		return nil, nil, fmt.Errorf("%w: not a PKCS#10 request in DER", ErrMalformed)
	}
	return subject, key, nil
}

// checkSubject returns the common name of a subject whose values are text and none a registration code.
func checkSubject(name []byte) (commonName string, err error) {
	attributes, err := parseName(name)
	if err != nil {
		return "", fmt.Errorf("%w: subject: %w", ErrMalformed, err)
	}
	if err := refuseCodes(attributes); err != nil {
		return "", err
	}
	for _, a := range attributes {
		if a.oid != oidCommonName {
			continue
		}
		if commonName != "" {
			return "", fmt.Errorf("%w: subject has two common names", ErrMalformed)
		}
		commonName = a.text
	}
	return commonName, nil
}

// checkPossession verifies the CSR's signature with its own key.
func checkPossession(csr []byte) error {
	r, err := x509.ParseCertificateRequest(csr)
	if err != nil {
		return fmt.Errorf("%w: %v", ErrMalformed, err)
	}
	switch r.SignatureAlgorithm {
	case x509.ECDSAWithSHA256, x509.ECDSAWithSHA384, x509.ECDSAWithSHA512,
		x509.SHA256WithRSA, x509.SHA384WithRSA, x509.SHA512WithRSA,
		x509.SHA256WithRSAPSS, x509.SHA384WithRSAPSS, x509.SHA512WithRSAPSS:
	case x509.UnknownSignatureAlgorithm:
		return fmt.Errorf("%w: unknown signature algorithm", ErrSignature)
	default:
		return fmt.Errorf("%w: made with %s; SHA-256, SHA-384 and SHA-512 are accepted", ErrSignature, r.SignatureAlgorithm)
	}
	if err := r.CheckSignature(); err != nil {
		return fmt.Errorf("%w: %v", ErrSignature, err)
	}
	return nil
}
