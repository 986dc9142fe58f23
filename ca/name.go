package ca

import (
	"errors"
	"fmt"
	"strings"
	"unicode"
	"unicode/utf8"

	"golang.org/x/crypto/cryptobyte"
	der "golang.org/x/crypto/cryptobyte/asn1"
)

// attribute is one value of a distinguished name, decoded to text.
type attribute struct {
	oid  oid
	tag  der.Tag // its string type
	text string
}

// parseName reads a Name (RFC 5280 4.1.2.4) with every value in it, whatever its string type: what is looked for must not
// hide in a type that nobody decodes.
func parseName(element []byte) ([]attribute, error) {
	in := cryptobyte.String(element)
	var rdns cryptobyte.String
	if !in.ReadASN1(&rdns, der.SEQUENCE) || !in.Empty() {
		return nil, errors.New("name is not DER")
	}
	var all []attribute
	for !rdns.Empty() {
		var set cryptobyte.String
		if !rdns.ReadASN1(&set, der.SET) || set.Empty() {
			return nil, errors.New("name is not DER")
		}
		for !set.Empty() {
			a, err := readAttribute(&set)
			if err != nil {
				return nil, err
			}
			all = append(all, a)
		}
	}
	return all, nil
}

func readAttribute(set *cryptobyte.String) (a attribute, err error) {
	var pair, value cryptobyte.String
	var tag der.Tag
	if !set.ReadASN1(&pair, der.SEQUENCE) {
		return a, errors.New("name is not DER")
	}
	id, ok := readOID(&pair)
	if !ok || !pair.ReadAnyASN1(&value, &tag) || !pair.Empty() {
		return a, errors.New("name is not DER")
	}
	text, err := decodeText(tag, value)
	if err != nil {
		return a, fmt.Errorf("value of %s %w", id, err)
	}
	return attribute{id, tag, text}, nil
}

// String types that cryptobyte has no name for (X.680 41).
const (
	tagNumericString   = der.Tag(18)
	tagVisibleString   = der.Tag(26)
	tagUniversalString = der.Tag(28)
	tagBMPString       = der.Tag(30)
)

// decodeText turns any of ASN.1's string types into text without control characters.
func decodeText(tag der.Tag, value []byte) (string, error) {
	text, ok := "", true
	switch tag {
	case der.UTF8String:
		text, ok = string(value), utf8.Valid(value)
	case der.PrintableString:
		text, ok = string(value), strings.IndexFunc(string(value), notPrintableLoose) < 0
	case der.IA5String, tagVisibleString, tagNumericString:
		text, ok = string(value), isASCII(value)
	case der.T61String: // read as Latin-1, which is what is found in it
		text = wide(value, 1)
	case tagBMPString:
		text, ok = wide(value, 2), len(value)%2 == 0
	case tagUniversalString:
		text, ok = wide(value, 4), len(value)%4 == 0
	default:
		return "", fmt.Errorf("is not text (ASN.1 tag %d)", tag)
	}
	if !ok || strings.ContainsRune(text, utf8.RuneError) {
		return "", fmt.Errorf("is not valid in its string type (ASN.1 tag %d)", tag)
	}
	if strings.ContainsFunc(text, isControl) {
		return "", errors.New("holds a control character")
	}
	return text, nil
}

// wide reads big-endian characters of a fixed size; what is no character becomes U+FFFD.
func wide(b []byte, size int) string {
	var s strings.Builder
	for ; len(b) >= size; b = b[size:] {
		var r uint32
		for _, octet := range b[:size] {
			r = r<<8 | uint32(octet)
		}
		if r > unicode.MaxRune {
			r = utf8.RuneError
		}
		s.WriteRune(rune(r)) // surrogates become U+FFFD
	}
	return s.String()
}

func isASCII(b []byte) bool {
	for _, c := range b {
		if c >= utf8.RuneSelf {
			return false
		}
	}
	return true
}

// isControl reports what must not stand in a name: it breaks lines, ends strings, or shows something else than it is.
func isControl(r rune) bool {
	return unicode.IsControl(r) || r == '\u2028' || r == '\u2029' || unicode.Is(unicode.Bidi_Control, r)
}

// isPrintable reports whether r is in PrintableString (X.680 41.4).
func isPrintable(r rune) bool {
	return 'a' <= r && r <= 'z' || 'A' <= r && r <= 'Z' || '0' <= r && r <= '9' || strings.ContainsRune(" '()+,-./:=?", r)
}

// notPrintableLoose lets through what the world's encoders write into a PrintableString, as crypto/x509 does.
func notPrintableLoose(r rune) bool { return !isPrintable(r) && r != '*' && r != '&' }

// isRegistrationCode reports whether a value would pass for an AWS registration code: 64 hex digits, perhaps after 0x. It is
// stricter than AWS is believed to be: spaces around it and 0X do not help.
func isRegistrationCode(value string) bool {
	value = strings.TrimSpace(value)
	if len(value) == 66 && value[0] == '0' && (value[1] == 'x' || value[1] == 'X') {
		value = value[2:]
	}
	return len(value) == 64 && strings.IndexFunc(value, notHex) < 0
}

func notHex(r rune) bool {
	return ('0' > r || r > '9') && ('a' > r || r > 'f') && ('A' > r || r > 'F')
}

// refuseCodes returns an error that matches ErrRefused where a value of a name is a registration code.
func refuseCodes(name []attribute) error {
	for _, a := range name {
		if isRegistrationCode(a.text) {
			return fmt.Errorf("%w: subject value of %s is 64 hex digits, the form of an AWS registration code", ErrRefused, a.oid)
		}
	}
	return nil
}
