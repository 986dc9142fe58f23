package ca

import (
	"encoding/binary"
	"strconv"
	"strings"

	"golang.org/x/crypto/cryptobyte"
	der "golang.org/x/crypto/cryptobyte/asn1"
)

// structure is a TBS with everything masked that differs from device to device: serial, times (not their types), the key (not its
// kind), its identifier, and plain subject text. Two certificates of one structure get the same answer from every lint that does
// not judge the key itself, so that one of them is enough to be linted.
func (t *parsedTBS) structure() []byte {
	s := make([]byte, 0, 768)
	add := func(part []byte) { s = append(binary.AppendUvarint(s, uint64(len(part))), part...) }
	add([]byte(t.algorithm))
	add(t.issuer)
	s = append(s, byte(t.endTag))
	for _, a := range t.subject {
		add([]byte(a.oid))
		s = append(s, byte(a.tag))
		add(unusual(a.text))
	}
	s = append(s, 0) // no attribute starts with that
	add([]byte(t.key.algorithm))
	add([]byte(t.key.parameter))
	s = binary.AppendUvarint(s, uint64(t.key.octets))
	for _, e := range t.extensions {
		value := e.value
		switch {
		case e.id == oidSubjectKeyID:
			value = make([]byte, len(value))
		case e.id == oidSubjectAltName:
			value = nameShapes(value)
		case !lintable(e.id):
			value = value[:min(1, len(value))] // its tag: no lint knows what it means
		}
		add([]byte(e.id))
		add(value)
		s = strconv.AppendBool(s, e.critical)
	}
	return s
}

// lintable reports whether a lint may look into an extension: the operator's own are in nobody's arc but theirs (reservedArcs).
func lintable(id oid) bool {
	return strings.HasPrefix(string(id), "\x55\x1d") || id == oidAuthorityInfoAccess
}

// nameShapes is a subject alternative name with the runs of letters and digits in it masked; names that a lint could see more in stand as they are.
func nameShapes(value []byte) []byte {
	in := cryptobyte.String(value)
	var names cryptobyte.String
	if !in.ReadASN1(&names, der.SEQUENCE) || !in.Empty() {
		return value
	}
	s := make([]byte, 0, len(value))
	for !names.Empty() {
		before := names
		name, ok := readAltName(&names)
		kind, text, _ := strings.Cut(name, ":")
		switch {
		case !ok:
			return value
		case kind == nameModule || kind == nameIP: // octets to every lint
			text = ""
		case strings.Contains(strings.ToLower(text), "xn--"):
		default:
			text = wordShape(text)
		}
		s = append(append(s, before[0]), kind+":"+text+"\x00"...)
	}
	return s
}

// wordShape writes "a" for every run of letters and digits.
func wordShape(text string) string {
	shape := make([]byte, 0, len(text))
	for i := 0; i < len(text); i++ {
		c := text[i]
		if 'a' <= c && c <= 'z' || 'A' <= c && c <= 'Z' || '0' <= c && c <= '9' {
			if n := len(shape); n > 0 && shape[n-1] == 'a' {
				continue
			}
			c = 'a'
		}
		shape = append(shape, c)
	}
	return string(shape)
}

// unusual returns text as it stands where a lint might have something to say about its characters, and nothing where it is plain.
func unusual(text string) []byte {
	plain := func(r rune) bool { return isPrintable(r) || r == '_' }
	if strings.TrimSpace(text) == text && strings.IndexFunc(text, func(r rune) bool { return !plain(r) }) < 0 {
		return nil
	}
	return []byte(text)
}

// Assemble puts a certificate together from TBS and signature: Certificate ::= SEQUENCE { tbs, algorithm as in the TBS, BIT STRING } (RFC 5280 4.1).
// It is pure: the same two give the same bytes. An error means that tbs is none.
func Assemble(tbs, sig []byte) ([]byte, error) {
	t, err := parseTBS(tbs)
	if err != nil {
		return nil, err
	}
	return assemble(tbs, t.algorithm, sig)
}

func assemble(tbs []byte, algorithm oid, sig []byte) ([]byte, error) {
	b := cryptobyte.NewBuilder(make([]byte, 0, len(tbs)+len(sig)+32))
	b.AddASN1(der.SEQUENCE, func(b *cryptobyte.Builder) {
		b.AddBytes(tbs)
		addAlgorithm(b, algorithm)
		b.AddASN1BitString(sig)
	})
	return b.Bytes()
}

// addAlgorithm writes an AlgorithmIdentifier.
func addAlgorithm(b *cryptobyte.Builder, algorithm oid) {
	b.AddASN1(der.SEQUENCE, func(b *cryptobyte.Builder) {
		addOID(b, algorithm)
		if algorithm == oidSHA256WithRSA {
			b.AddASN1NULL()
		}
	})
}
