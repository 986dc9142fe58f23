//go:build !cgo && linux

package hsm

import "crypto"

// pkcs11Token stands for tokens in a build without cgo, which cannot load a module.
type pkcs11Token struct{}

func openPKCS11(start) (*pkcs11Token, error) {
	return nil, &failure{Code: codeUnsupported, Text: "this build has no token support: it was built without cgo"}
}

func (*pkcs11Token) Close() error                                         { return nil }
func (*pkcs11Token) gate(string) error                                    { return ErrUnsupported }
func (*pkcs11Token) find(string) (crypto.Signer, error)                   { return nil, ErrUnsupported }
func (*pkcs11Token) generate(string, Algorithm) (crypto.PublicKey, error) { return nil, ErrUnsupported }
