package hsm

import (
	"context"
	"crypto"
	"crypto/ecdsa"
	"crypto/rsa"
	"crypto/sha256"
	"crypto/sha512"
	"errors"
	"fmt"
	"sync"
)

// Key signs batches of to-be-signed bytes with one key. Safe for concurrent use; satisfies ca.Signer.
type Key struct {
	token  *Token
	index  uint16 // in the signers' list
	public crypto.PublicKey
}

// Public is the key that every signature is verified with: that of the CA certificate, not what the token says.
func (k *Key) Public() crypto.PublicKey { return k.public }

// Sign hands the batch to the signer processes in shares, verifies each signature with the configured public key, and retries what
// failed in another process until ctx ends, or half a minute where ctx has no deadline. len(sigs) == len(errs) == len(tbs), and one of sigs[i], errs[i]
// is nil. Errors: ErrRefused (the signer's check said no), ErrUnavailable, ErrBusy.
func (k *Key) Sign(ctx context.Context, kind string, tbs [][]byte) (sigs [][]byte, errs []error) {
	sigs, errs = make([][]byte, len(tbs)), make([]error, len(tbs))
	size := shareSize(len(tbs), k.token)
	var shares sync.WaitGroup
	for start := 0; start < len(tbs); start += size {
		end := min(start+size, len(tbs))
		shares.Go(func() {
			s := newShare(opSign, k.index, kind, tbs[start:end], k.public)
			err := k.token.run(ctx, s)
			for i := range s.items {
				sigs[start+i], errs[start+i] = s.results[i], s.errs[i]
				if s.results[i] == nil && s.errs[i] == nil {
					errs[start+i] = err
				}
			}
		})
	}
	shares.Wait()
	return sigs, errs
}

// shareSize spreads a batch over the lanes, in pieces large enough that the hand-over no longer counts.
func shareSize(n int, t *Token) int {
	lanes, row := t.parallel()
	return min(max((n+lanes-1)/lanes, row), maxItems)
}

// verify checks a signature with the public key of the CA certificate. A token that lies is found here, outside its process.
func verify(public crypto.PublicKey, tbs, sig []byte) error {
	switch p := public.(type) {
	case *ecdsa.PublicKey:
		digest, err := digestOf(p, tbs)
		if err != nil {
			return err
		}
		if !ecdsa.VerifyASN1(p, digest, sig) {
			return errWrong
		}
	case *rsa.PublicKey:
		digest, err := digestOf(p, tbs)
		if err != nil {
			return err
		}
		if rsa.VerifyPKCS1v15(p, crypto.SHA256, digest, sig) != nil {
			return errWrong
		}
	default:
		return fmt.Errorf("%w: public key of type %T", ErrUnfit, public)
	}
	return nil
}

var errWrong = errors.New("signature does not verify with the CA's public key")

// digestOf hashes a TBS as the signature algorithm of its CA demands: SHA-384 for P-384, SHA-256 otherwise.
func digestOf(public crypto.PublicKey, tbs []byte) ([]byte, error) {
	h, err := hashOf(public)
	if err != nil {
		return nil, err
	}
	if h == crypto.SHA384 {
		d := sha512.Sum384(tbs)
		return d[:], nil
	}
	d := sha256.Sum256(tbs)
	return d[:], nil
}

func hashOf(public crypto.PublicKey) (crypto.Hash, error) {
	switch p := public.(type) {
	case *rsa.PublicKey:
		return crypto.SHA256, nil
	case *ecdsa.PublicKey:
		switch p.Curve.Params().BitSize {
		case 256:
			return crypto.SHA256, nil
		case 384:
			return crypto.SHA384, nil
		}
	}
	return 0, fmt.Errorf("%w: neither P-256, P-384 nor RSA", ErrUnfit)
}
