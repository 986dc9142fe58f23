package ca

import (
	"context"
	"errors"
)

// Signer signs with one CA key. *hsm.Key satisfies it. What it returns was verified with the CA's public key.
type Signer interface {
	// Sign signs each TBS: len(sigs) == len(errs) == len(tbs), one of sigs[i], errs[i] is nil.
	Sign(ctx context.Context, kind string, tbs [][]byte) (sigs [][]byte, errs []error)
}

// Kinds of signature: what a CA key may be asked for. They travel to the signer process with the TBS.
const (
	KindDevice  = "device"  // a device certificate, by an order
	KindStation = "station" // a client certificate of the plant CA: stations
	KindService = "service" // a server certificate of the plant CA: the service's own TLS
	KindProof   = "proof"   // AWS verification certificate: the only kind whose CN may be 64 hex digits
	KindCA      = "ca"      // a CA certificate, at a ceremony
)

// Errors a caller branches on. Their wrapping text says what an operator can do about it; the comment names the problem code
// of the HTTP answer.
var (
	ErrMalformed = errors.New("CSR is malformed")                     // csr-malformed
	ErrSignature = errors.New("CSR signature does not verify")        // csr-signature
	ErrWeakKey   = errors.New("key is not acceptable")                // key-weak
	ErrRefused   = errors.New("refused by profile")                   // profile-refused
	ErrMismatch  = errors.New("device id and CSR common name differ") // device-mismatch
	ErrNoDevice  = errors.New("no device id")                         // body-malformed
)
