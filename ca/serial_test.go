package ca

import (
	"crypto/aes"
	"math/big"
	"strings"
	"testing"

	"pgregory.net/rapid"
)

func TestSerial(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		block, err := aes.NewCipher(rapid.SliceOfN(rapid.Byte(), 16, 16).Draw(t, "key"))
		if err != nil {
			t.Fatal(err)
		}
		prefix, epoch := rapid.Uint16Range(0x0100, 0x7fff).Draw(t, "prefix"), rapid.Uint16().Draw(t, "epoch")
		seq := rapid.Uint64().Draw(t, "sequence")
		s := NewSerial(prefix, epoch, block, seq, [8]byte(rapid.SliceOfN(rapid.Byte(), 8, 8).Draw(t, "random")))
		if s.Prefix() != prefix || s.Sequence(block) != seq {
			t.Fatalf("%s: prefix %#x, sequence %d", s, s.Prefix(), s.Sequence(block))
		}
		if back, err := ParseSerial(s.String()); err != nil || back != s {
			t.Fatalf("%s read back as %s, %v", s, back, err)
		}
		if n := new(big.Int).SetBytes(s[:]); n.BitLen() > 159 || n.BitLen() <= 152 {
			t.Fatalf("%s is not a positive number of 20 octets", s)
		}
	})
}

// The form stands in every certificate that was ever made.
func TestSerialForm(t *testing.T) {
	s := NewSerial(0x0123, 0x4567, testCipher(), 1, [8]byte{2})
	if got, want := s.String(), "0123456730d1fc2120314313da6f623ad7f69dab"; got != want {
		t.Fatalf("%s, want %s", got, want)
	}
}

func TestParseSerialRefuses(t *testing.T) {
	for _, text := range []string{"", "01", strings.Repeat("01", 21), strings.Repeat("0g", 20), strings.Repeat("80", 20), strings.Repeat("00", 20)} {
		if s, err := ParseSerial(text); err == nil {
			t.Errorf("%q is %s", text, s)
		}
	}
	if s, err := ParseSerial(strings.Repeat("7F", 20)); err != nil || s.String() != strings.Repeat("7f", 20) {
		t.Errorf("capital letters: %s, %v", s, err)
	}
}

func TestSerialPanicsForAPrefixOfOurs(t *testing.T) {
	defer func() {
		if recover() == nil {
			t.Error("no panic")
		}
	}()
	NewSerial(0x8000, 0, testCipher(), 1, [8]byte{})
}
