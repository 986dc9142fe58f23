package format

import (
	"crypto"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"strings"
)

// ParseKey reads a private key, PEM or DER, in PKCS#8, SEC 1 or PKCS#1. Its errors hold nothing of the key.
func ParseKey(data []byte) (crypto.Signer, error) {
	for block, rest := pem.Decode(data); block != nil; block, rest = pem.Decode(rest) {
		if strings.HasSuffix(block.Type, "ENCRYPTED PRIVATE KEY") || block.Headers["DEK-Info"] != "" {
			return nil, errors.New("the private key is encrypted: decrypt it first (openssl pkey -in KEY)")
		}
		if strings.HasSuffix(block.Type, "PRIVATE KEY") {
			data = block.Bytes
			break
		}
	}
	if k, err := x509.ParsePKCS8PrivateKey(data); err == nil {
		if s, ok := k.(crypto.Signer); ok {
			return s, nil
		}
	}
	if k, err := x509.ParseECPrivateKey(data); err == nil {
		return k, nil
	}
	if k, err := x509.ParsePKCS1PrivateKey(data); err == nil {
		return k, nil
	}
	return nil, errors.New("there is no private key in PKCS#8, SEC 1 or PKCS#1")
}
