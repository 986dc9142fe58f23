// Package ca says what a certificate may be, and makes the one signature that makes it so.
//
// A certificate comes about in four steps, and each leaves a type that the next one wants:
//
//	ParseRequest       DER of a stranger     → *Request   parsed, key quality and proof of possession checked
//	ParseProfile       YAML of an officer    → *Profile   checked field by field, a sample linted, named by its hash
//	Authority.Prepare  request and profile   → *Prepared  the exact bytes to be signed, compared with what was linted
//	Authority.Sign     prepared, recorded    → signature  each Prepared once
//
// Between Prepare and Sign the caller records Prepared.TBS durably; Redeem makes a Prepared of the record again after a crash.
// Assemble joins TBS and signature. TBS bytes are a pure function of profile, CA certificate, public key, device id, serial
// and time: the encoder is ours, and a test holds it byte for byte to crypto/x509.
//
// Policy.Check is the other side of the same rules: it runs in the process that holds the key, parses the TBS anew with a
// parser of its own and believes nothing that the caller says.
//
// No subject value may be 64 hex digits: a certificate whose common name is an AWS registration code proves ownership of the
// CA that signed it. That is refused in requests, in profiles, in Prepare and in Policy.Check; the proof kind alone carries one.
//
// The package knows no tokens, no ledger and no clock: it takes a Signer, and every time is an argument.
package ca
