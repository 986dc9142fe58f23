//go:build !cgo && linux

package hsm

import "crypto"

// Supported says whether this build can use tokens at all.
const Supported = false

// pkcs11Token stands for tokens in a build without cgo, which cannot load a module.
type pkcs11Token struct{}

type keyRef struct{}

func openPKCS11(start) (*pkcs11Token, error) {
	return nil, &failure{Code: codeUnsupported, Text: "this build has no token support: it was built without cgo"}
}

func (*pkcs11Token) close()                             {}
func (*pkcs11Token) needsLogin() bool                   { return false }
func (*pkcs11Token) login(string) error                 { return ErrUnsupported }
func (*pkcs11Token) identity() string                   { return "" }
func (*pkcs11Token) flags() pinFlags                    { return pinFlags{} }
func (*pkcs11Token) report() *TokenReport               { return &TokenReport{} }
func (*pkcs11Token) reserve(int) (int, error)           { return 0, ErrUnsupported }
func (*pkcs11Token) measure() Measured                  { return Measured{} }
func (*pkcs11Token) find(string) (keyRef, facts, error) { return keyRef{}, facts{}, ErrUnsupported }
func (*pkcs11Token) signerFor(keyRef, crypto.PublicKey) (crypto.Signer, error) {
	return nil, ErrUnsupported
}
func (*pkcs11Token) generate(string, Algorithm) (crypto.PublicKey, error) { return nil, ErrUnsupported }
