package client

import "time"

// Challenge is something for a device to sign, to show that it holds the key of its certificate: SHA-256 of "certmill-confirm-v1", a NUL octet, the
// challenge and the certificate id, as they travel, with ECDSA in ASN.1 or RSA in PKCS #1 v1.5.
type Challenge struct {
	Challenge string    `json:"challenge"`
	Expires   time.Time `json:"expires"`
}

// Confirmation is what the device made of it.
type Confirmation struct {
	Challenge string `json:"challenge"`
	Signature string `json:"signature"` // base64
}

// Confirmed says when a certificate was confirmed for the first time.
type Confirmed struct {
	ConfirmedAt time.Time `json:"confirmed_at"`
}
