//go:build cgo && linux

package hsm

import (
	"crypto"
	"crypto/elliptic"
	"crypto/rand"
	"errors"
	"fmt"
	"strings"

	"github.com/ThalesIgnite/crypto11"
	"github.com/miekg/pkcs11"
)

// pkcs11Token is a token with a login, in a signer process.
type pkcs11Token struct{ ctx *crypto11.Context }

// sessions of one signer: it signs one TBS at a time, and crypto11 keeps one for itself.
const sessions = 2

// openPKCS11 loads the module and logs in. Only what the module says of the PIN itself is codePIN: other codes at a login may be those of
// a sibling that logs in at the same moment (SoftHSM), and mean "again".
func openPKCS11(cfg start) (*pkcs11Token, error) {
	ctx, err := crypto11.Configure(&crypto11.Config{Path: cfg.Module, TokenLabel: cfg.Token, TokenSerial: cfg.Serial, Pin: cfg.Secret, MaxSessions: sessions})
	if err != nil {
		return nil, loginFailure(err)
	}
	return &pkcs11Token{ctx: ctx}, nil
}

func loginFailure(err error) *failure {
	var code pkcs11.Error
	if errors.As(err, &code) {
		switch code {
		case pkcs11.CKR_PIN_INCORRECT, pkcs11.CKR_PIN_LOCKED, pkcs11.CKR_PIN_EXPIRED, pkcs11.CKR_PIN_INVALID, pkcs11.CKR_PIN_LEN_RANGE:
			return &failure{Code: codePIN, Text: fmt.Sprintf("the token did not accept the PIN: %v", err)}
		}
	}
	if strings.Contains(err.Error(), "could not open PKCS#11") { // crypto11 has no type for it
		return &failure{Code: codeModule, Text: fmt.Sprintf("the PKCS#11 module cannot be loaded: %v", err)}
	}
	return &failure{Code: codeToken, Text: fmt.Sprintf("open token: %v", err)}
}

// Close logs out.
func (t *pkcs11Token) Close() error { return t.ctx.Close() }

// find returns the one key pair with a label.
func (t *pkcs11Token) find(label string) (crypto11.Signer, error) {
	keys, err := t.ctx.FindKeyPairs(nil, []byte(label))
	if err != nil {
		return nil, fmt.Errorf("look for key %s: %w", label, err)
	}
	if len(keys) != 1 {
		return nil, &failure{Code: codeNoKey, Text: fmt.Sprintf("%d keys with the label %s in the token", len(keys), label)}
	}
	return keys[0], nil
}

// demanded are the attributes without which a key is not used (promise P6).
var demanded = []struct {
	name string
	typ  crypto11.AttributeType
	want bool
}{
	{"CKA_SENSITIVE", crypto11.CkaSensitive, true},
	{"CKA_PRIVATE", crypto11.CkaPrivate, true},
	{"CKA_EXTRACTABLE", crypto11.CkaExtractable, false},
	{"CKA_SIGN", crypto11.CkaSign, true},
	{"CKA_DECRYPT", crypto11.CkaDecrypt, false},
	{"CKA_UNWRAP", crypto11.CkaUnwrap, false},
}

// gate refuses a key whose attributes let it leave the token. They are asked for one by one: a token that does not know one of
// them would answer none.
func (t *pkcs11Token) gate(label string) error {
	key, err := t.find(label)
	if err != nil {
		return err
	}
	for _, d := range demanded {
		a, err := t.ctx.GetAttribute(key, d.typ)
		if err != nil || a == nil || len(a.Value) != 1 {
			continue // not offered by this token; a later issue says so in hsm doctor
		}
		if is := a.Value[0] != 0; is != d.want {
			return &failure{Code: codeUnfit, Text: fmt.Sprintf("key %s has %s = %v, %v is demanded: make a new key at a ceremony", label, d.name, is, d.want)}
		}
	}
	return nil
}

// generate makes a key pair that can sign and nothing else, and cannot leave.
func (t *pkcs11Token) generate(label string, alg Algorithm) (crypto.PublicKey, error) {
	curve := map[Algorithm]elliptic.Curve{P256: elliptic.P256(), P384: elliptic.P384()}[alg]
	if curve == nil {
		return nil, &failure{Code: codeUnfit, Text: fmt.Sprintf("algorithm %q", alg)}
	}
	if old, err := t.ctx.FindKeyPairs(nil, []byte(label)); err != nil || len(old) > 0 {
		return nil, errors.Join(err, &failure{Code: codeExists, Text: "a key with the label " + label + " is in the token"})
	}
	id := make([]byte, 16)
	if _, err := rand.Read(id); err != nil {
		return nil, err
	}
	public, err := crypto11.NewAttributeSetWithIDAndLabel(id, []byte(label))
	if err != nil {
		return nil, err
	}
	private := public.Copy()
	for _, d := range demanded {
		if err := private.Set(d.typ, d.want); err != nil {
			return nil, err
		}
	}
	key, err := t.ctx.GenerateECDSAKeyPairWithAttributes(public, private, curve)
	if err != nil {
		return nil, fmt.Errorf("generate key %s: %w", label, err)
	}
	return key.Public(), nil
}
