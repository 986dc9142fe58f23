//go:build cgo && linux

package hsm

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/rsa"
	"crypto/sha256"
	"encoding/asn1"
	"errors"
	"fmt"
	"io"
	"math/big"
	"sync/atomic"
	"syscall"
	"time"

	"github.com/miekg/pkcs11"
)

// signerFor is the key as crypto11 signs with it; as rawKey where crypto11 cannot: it has not opened the token, or does not find the public half that it
// wants beside every private key.
func (t *pkcs11Token) signerFor(k keyRef, public crypto.PublicKey) (crypto.Signer, error) {
	if t.c11 != nil && k.paired {
		pairs, err := t.c11.FindKeyPairs(k.id, []byte(k.label))
		if err == nil && len(pairs) == 1 {
			return t.hashing(pairs[0], k, public), nil
		}
		var code pkcs11.Error
		if errors.As(err, &code) && !says(err, pkcs11.CKR_ATTRIBUTE_TYPE_INVALID, pkcs11.CKR_ATTRIBUTE_SENSITIVE) { // it wants to see the public half
			return nil, tokenFailure("find key "+k.label, err)
		}
	}
	r := &rawKey{token: t, handle: k.handle, public: public}
	switch public.(type) {
	case *ecdsa.PublicKey:
		r.mechanism = pkcs11.CKM_ECDSA
	case *rsa.PublicKey:
		r.mechanism = pkcs11.CKM_RSA_PKCS
	default:
		return nil, fmt.Errorf("%w: public key of type %T", ErrUnfit, public)
	}
	return t.hashing(r, k, public), nil
}

// hashing is an RSA key whose token may want to hash as well: some do not offer CKM_RSA_PKCS, and one, in TPMs, carries it out with an operation that a key
// which only signs is not allowed.
func (t *pkcs11Token) hashing(first crypto.Signer, k keyRef, public crypto.PublicKey) crypto.Signer {
	if _, ok := public.(*rsa.PublicKey); !ok || !t.offers(pkcs11.CKM_SHA256_RSA_PKCS) {
		return first
	}
	h := &hashingKey{Signer: first, raw: &rawKey{token: t, handle: k.handle, mechanism: pkcs11.CKM_SHA256_RSA_PKCS, public: public}}
	h.hashes.Store(!t.offers(pkcs11.CKM_RSA_PKCS))
	return h
}

// hashingKey tries a signature of the digest, and one of the message where the token will not have that.
type hashingKey struct {
	crypto.Signer
	raw    *rawKey
	hashes atomic.Bool // known to want the message
}

func (h *hashingKey) signMessage(message, digest []byte) ([]byte, error) {
	var first error
	if !h.hashes.Load() {
		var sig []byte
		if sig, first = h.Signer.Sign(nil, digest, crypto.SHA256); !says(first, pkcs11.CKR_GENERAL_ERROR, pkcs11.CKR_FUNCTION_FAILED, pkcs11.CKR_MECHANISM_INVALID,
			pkcs11.CKR_KEY_FUNCTION_NOT_PERMITTED, pkcs11.CKR_KEY_TYPE_INCONSISTENT) {
			return sig, first
		}
	}
	sig, err := h.raw.Sign(nil, message, nil)
	if err != nil {
		return nil, errors.Join(first, err)
	}
	h.hashes.Store(true)
	return sig, nil
}

// rawKey signs with miekg/pkcs11 alone. Safe for concurrent use.
type rawKey struct {
	token     *pkcs11Token
	handle    pkcs11.ObjectHandle
	mechanism uint
	public    crypto.PublicKey
}

// Public is the CA certificate's.
func (k *rawKey) Public() crypto.PublicKey { return k.public }

// Sign signs a digest: ECDSA, or RSASSA-PKCS1-v1_5 with SHA-256 (RFC 8017, section 8.2); with CKM_SHA256_RSA_PKCS a message.
func (k *rawKey) Sign(_ io.Reader, digest []byte, _ crypto.SignerOpts) ([]byte, error) {
	s, err := k.token.borrow()
	if err != nil {
		return nil, err
	}
	sig, err := k.token.signWith(s, k.mechanism, k.handle, digest)
	if err != nil {
		k.token.raw.CloseSession(s)
		return nil, err
	}
	k.token.pool <- s
	return sig, nil
}

// borrow takes an idle session, or opens one: there are never more than lanes, and pool holds as many.
func (t *pkcs11Token) borrow() (pkcs11.SessionHandle, error) {
	select {
	case s := <-t.pool:
		return s, nil
	default:
		return t.raw.OpenSession(t.slot, sessionFlags)
	}
}

// digestInfo stands before a SHA-256 digest (RFC 8017, section 9.2, note 1).
var digestInfo = []byte{0x30, 0x31, 0x30, 0x0d, 0x06, 0x09, 0x60, 0x86, 0x48, 0x01, 0x65, 0x03, 0x04, 0x02, 0x01, 0x05, 0x00, 0x04, 0x20}

func (t *pkcs11Token) signWith(s pkcs11.SessionHandle, mechanism uint, key pkcs11.ObjectHandle, digest []byte) ([]byte, error) {
	if err := t.raw.SignInit(s, []*pkcs11.Mechanism{pkcs11.NewMechanism(mechanism, nil)}, key); err != nil {
		return nil, err
	}
	if mechanism == pkcs11.CKM_RSA_PKCS {
		return t.raw.Sign(s, append(digestInfo[:len(digestInfo):len(digestInfo)], digest...))
	}
	sig, err := t.raw.Sign(s, digest)
	if err != nil || mechanism == pkcs11.CKM_SHA256_RSA_PKCS {
		return sig, err
	}
	half := len(sig) / 2 // r and s, of equal length (PKCS#11 v2.40 mechanisms, section 2.3.1)
	return asn1.Marshal(struct{ R, S *big.Int }{new(big.Int).SetBytes(sig[:half]), new(big.Int).SetBytes(sig[half:])})
}

// measure signs with a P-256 key (or RSA-2048 where there is none) that is made for it and ends with its session, so that no CA key is used and
// nothing stays in the token. Zero where the token makes no such keys.
func (t *pkcs11Token) measure() (m Measured) {
	kind, err := t.kindOf(P256)
	if err != nil {
		kind, err = t.kindOf(RSA2048)
	}
	if err != nil {
		return m
	}
	const tries, enough = 16, 100 * time.Millisecond
	digest := sha256.Sum256([]byte("certmill measures"))
	t.withSession(func(s pkcs11.SessionHandle) error {
		public, private, err := t.makePair(s, kind, keyRef{})
		if err != nil {
			return err
		}
		defer t.raw.DestroyObject(s, public)
		defer t.raw.DestroyObject(s, private)
		for range 2 { // the first one may load what the others find
			if _, err = t.signWith(s, kind.sign, private, digest[:]); err != nil {
				return err
			}
		}
		n, began, used := 0, time.Now(), processorTime()
		for n < tries && time.Since(began) < enough && err == nil {
			_, err = t.signWith(s, kind.sign, private, digest[:])
			n++
		}
		if err == nil {
			m = Measured{Wall: time.Since(began) / time.Duration(n), CPU: (processorTime() - used) / time.Duration(n)}
		}
		return err
	})
	return m
}

// processorTime is what this process has used.
func processorTime() time.Duration {
	var u syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &u); err != nil {
		return 0
	}
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}
