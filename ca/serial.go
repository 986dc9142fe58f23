package ca

import (
	"crypto/cipher"
	"encoding/binary"
	"encoding/hex"
	"fmt"
)

// Serial is an X.509 serial number: prefix (2 octets, first 0x01–0x7F), epoch (2), one AES block over (sequence, 64 random bits).
// It is positive and has 20 octets whatever the numbers (RFC 5280 4.1.2.2), cannot be predicted, and tells nobody how many were made.
type Serial [20]byte

// NewSerial makes the serial of a sequence number. b is the ledger's secret AES cipher. It panics for a prefix outside 0x0100–0x7FFF
// or another block size: both are ours to get right.
func NewSerial(prefix, epoch uint16, b cipher.Block, seq uint64, random [8]byte) Serial {
	if !validPrefix(prefix) || b.BlockSize() != 16 {
		panic(fmt.Sprintf("ca: serial prefix %#04x, block of %d octets", prefix, b.BlockSize()))
	}
	var s Serial
	binary.BigEndian.PutUint16(s[0:], prefix)
	binary.BigEndian.PutUint16(s[2:], epoch)
	binary.BigEndian.PutUint64(s[4:], seq)
	copy(s[12:], random[:])
	b.Encrypt(s[4:], s[4:])
	return s
}

// ParseSerial reads 40 hex digits.
func ParseSerial(digits string) (Serial, error) {
	var s Serial
	if len(digits) != 2*len(s) {
		return Serial{}, fmt.Errorf("serial has %d characters, not %d hex digits", len(digits), 2*len(s))
	}
	if _, err := hex.Decode(s[:], []byte(digits)); err != nil {
		return Serial{}, fmt.Errorf("serial: %w", err)
	}
	if !validPrefix(s.Prefix()) {
		return Serial{}, fmt.Errorf("serial starts with %02x, not 01 to 7f", s[0])
	}
	return s, nil
}

// String is 40 lower-case hex digits.
func (s Serial) String() string { return hex.EncodeToString(s[:]) }

// Prefix names the CA that the ledger allotted it to.
func (s Serial) Prefix() uint16 { return binary.BigEndian.Uint16(s[0:]) }

// Sequence takes the sequence number out again. Any block decrypts to some number: compare the serial stored there.
func (s Serial) Sequence(b cipher.Block) uint64 {
	var plain [16]byte
	b.Decrypt(plain[:], s[4:])
	return binary.BigEndian.Uint64(plain[:])
}

func validPrefix(p uint16) bool { return p >= 0x0100 && p <= 0x7fff }
