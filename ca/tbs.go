package ca

import (
	"errors"
	"fmt"
	"time"

	"golang.org/x/crypto/cryptobyte"
	der "golang.org/x/crypto/cryptobyte/asn1"
)

// parsedTBS is a TBSCertificate taken apart. It shares nothing with the encoder: what the two agree on was said twice.
type parsedTBS struct {
	serial              Serial
	algorithm           oid
	issuer              []byte // DER
	notBefore, notAfter time.Time
	endTag              der.Tag // UTCTime or GeneralizedTime
	subject             []attribute
	key                 keyShape
	extensions          []extension
}

// keyShape is what can be seen of a key without doing arithmetic.
type keyShape struct {
	algorithm, parameter oid
	octets               int
}

type extension struct {
	id       oid
	critical bool
	value    []byte
}

// maxTBS bounds what is parsed, in octets: a service with a hundred long names has less than half of it.
const maxTBS = 64 << 10

// parseTBS reads a TBSCertificate (RFC 5280 4.1) strictly: DER, v3, a serial of 20 octets, no unique identifiers, no extension twice.
func parseTBS(tbs []byte) (*parsedTBS, error) {
	if len(tbs) > maxTBS {
		return nil, fmt.Errorf("TBS has %d octets, at most %d", len(tbs), maxTBS)
	}
	in := cryptobyte.String(tbs)
	var body, version cryptobyte.String
	var v uint64
	if !in.ReadASN1(&body, der.SEQUENCE) || !in.Empty() {
		return nil, errors.New("TBS is not one DER sequence")
	}
	if !body.ReadASN1(&version, contextTag(0)) || !version.ReadASN1Integer(&v) || !version.Empty() || v != 2 {
		return nil, errors.New("TBS is not version 3")
	}
	t := new(parsedTBS)
	for _, read := range []func(*cryptobyte.String) error{
		t.readSerial, t.readAlgorithm, t.readIssuer, t.readValidity, t.readSubject, t.readKey, t.readExtensions,
	} {
		if err := read(&body); err != nil {
			return nil, err
		}
	}
	if !body.Empty() {
		return nil, errors.New("TBS goes on after its extensions")
	}
	return t, nil
}

func (t *parsedTBS) readSerial(s *cryptobyte.String) error {
	var serial cryptobyte.String
	if !s.ReadASN1(&serial, der.INTEGER) || len(serial) != len(t.serial) {
		return errors.New("serial has not 20 octets")
	}
	copy(t.serial[:], serial)
	if !validPrefix(t.serial.Prefix()) {
		return errors.New("serial does not start with 01 to 7f")
	}
	return nil
}

func (t *parsedTBS) readAlgorithm(s *cryptobyte.String) (err error) {
	var id cryptobyte.String
	if !s.ReadASN1(&id, der.SEQUENCE) {
		return errors.New("signature algorithm is not DER")
	}
	t.algorithm, err = readAlgorithm(id)
	return err
}

// readAlgorithm reads the content of an AlgorithmIdentifier: one of those that a CA of ours signs with, in its one encoding.
func readAlgorithm(content cryptobyte.String) (oid, error) {
	algorithm, ok := readOID(&content)
	switch {
	case ok && (algorithm == oidECDSAWithSHA256 || algorithm == oidECDSAWithSHA384) && content.Empty(): // RFC 5758 3.2: no parameters
		return algorithm, nil
	case ok && algorithm == oidSHA256WithRSA && string(content) == "\x05\x00": // RFC 4055 5: NULL
		return algorithm, nil
	}
	return "", errors.New("signature algorithm is none of ecdsa-with-SHA256, ecdsa-with-SHA384 and sha256WithRSAEncryption")
}

func (t *parsedTBS) readIssuer(s *cryptobyte.String) error {
	var issuer cryptobyte.String
	if !s.ReadASN1Element(&issuer, der.SEQUENCE) {
		return errors.New("issuer is not DER")
	}
	t.issuer = issuer
	return nil
}

func (t *parsedTBS) readValidity(s *cryptobyte.String) (err error) {
	var pair cryptobyte.String
	if !s.ReadASN1(&pair, der.SEQUENCE) {
		return errors.New("validity is not DER")
	}
	if t.notBefore, _, err = readTime(&pair); err != nil {
		return fmt.Errorf("notBefore: %w", err)
	}
	if t.notAfter, t.endTag, err = readTime(&pair); err != nil {
		return fmt.Errorf("notAfter: %w", err)
	}
	if !pair.Empty() {
		return errors.New("validity is not DER")
	}
	return nil
}

// readTime reads a Time in the one form that RFC 5280 4.1.2.5 has for it.
func readTime(s *cryptobyte.String) (time.Time, der.Tag, error) {
	var content cryptobyte.String
	var tag der.Tag
	if !s.ReadAnyASN1(&content, &tag) {
		return time.Time{}, 0, errors.New("not DER")
	}
	text := string(content)
	switch {
	case tag == der.UTCTime && text >= "5": // 50 to 99 are of the last century
		text = "19" + text
	case tag == der.UTCTime:
		text = "20" + text
	case tag != der.GeneralizedTime || text < "2050":
		return time.Time{}, 0, errors.New("neither UTCTime nor, from 2050 on, GeneralizedTime")
	}
	const layout = "20060102150405Z"
	when, err := time.Parse(layout, text)
	if err != nil || when.Format(layout) != text {
		return time.Time{}, 0, errors.New("not a whole second of UTC")
	}
	return when, tag, nil
}

func (t *parsedTBS) readSubject(s *cryptobyte.String) (err error) {
	var subject cryptobyte.String
	if !s.ReadASN1Element(&subject, der.SEQUENCE) {
		return errors.New("subject is not DER")
	}
	if t.subject, err = parseName(subject); err != nil {
		return fmt.Errorf("subject: %w", err)
	}
	for _, a := range t.subject {
		if a.tag != der.UTF8String && (a.tag != der.PrintableString || !allPrintable(a.text)) { // RFC 5280 4.1.2.4
			return fmt.Errorf("subject value of %s is neither PrintableString nor UTF8String", a.oid)
		}
	}
	return nil
}

func (t *parsedTBS) readKey(s *cryptobyte.String) error {
	var spki cryptobyte.String
	if !s.ReadASN1Element(&spki, der.SEQUENCE) {
		return errors.New("public key is not DER")
	}
	algorithm, parameter, bits, err := splitKey(spki)
	if err != nil {
		return err
	}
	point := func(curve oid, octets int) bool { // uncompressed (RFC 5480 2.2)
		return algorithm == oidEC && parameter == curve && len(bits) == 1+2*octets && bits[0] == 4
	}
	if algorithm != oidRSA && !point(oidP256, 32) && !point(oidP384, 48) {
		return errors.New("public key is neither RSA nor EC on P-256 or P-384")
	}
	t.key = keyShape{algorithm, parameter, len(bits)}
	return nil
}

func (t *parsedTBS) readExtensions(s *cryptobyte.String) error {
	var outer, list cryptobyte.String
	if !s.ReadASN1(&outer, contextTag(3)) || !outer.ReadASN1(&list, der.SEQUENCE) || !outer.Empty() {
		return errors.New("extensions are missing or not DER, or a unique identifier stands before them")
	}
	t.extensions = make([]extension, 0, 8)
	for !list.Empty() {
		e, err := readExtension(&list)
		if err != nil {
			return err
		}
		if _, twice := t.extension(e.id); twice {
			return fmt.Errorf("extension %s stands twice", e.id)
		}
		t.extensions = append(t.extensions, e)
	}
	return nil
}

func readExtension(list *cryptobyte.String) (e extension, err error) {
	var one, value cryptobyte.String
	if !list.ReadASN1(&one, der.SEQUENCE) {
		return e, errors.New("extension is not DER")
	}
	id, ok := readOID(&one)
	if !ok {
		return e, errors.New("extension has no name")
	}
	if one.PeekASN1Tag(der.BOOLEAN) && (!one.ReadASN1Boolean(&e.critical) || !e.critical) { // FALSE is the default, which DER leaves out
		return e, fmt.Errorf("extension %s: critical is not DER", id)
	}
	if !one.ReadASN1(&value, der.OCTET_STRING) || !one.Empty() {
		return e, fmt.Errorf("extension %s is not DER", id)
	}
	e.id, e.value = id, value
	return e, nil
}

// extension returns the extension of a name.
func (t *parsedTBS) extension(id oid) (extension, bool) {
	for _, e := range t.extensions {
		if e.id == id {
			return e, true
		}
	}
	return extension{}, false
}
