package ca

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"regexp"
	"slices"
	"time"

	"golang.org/x/crypto/cryptobyte"
	der "golang.org/x/crypto/cryptobyte/asn1"
)

// Policy is what a signer process demands of a TBS before it signs: made when a CA is adopted, handed to the signer as bytes.
type Policy struct {
	Issuer       []byte    `json:"issuer"` // DER Name that the TBS must carry
	Kinds        []string  `json:"kinds"`  // kinds allowed for this key
	SerialPrefix uint16    `json:"serial_prefix"`
	NotAfter     time.Time `json:"not_after"`        // no certificate beyond it
	Devices      Allowance `json:"devices,omitzero"` // what device certificates may carry beyond the rest

	devices *allowed // compiled Devices; nil allows nothing
}

// ParsePolicy reads a policy: the JSON form of Policy, with nothing missing and nothing added.
func ParsePolicy(b []byte) (*Policy, error) {
	var p Policy
	d := json.NewDecoder(bytes.NewReader(b))
	d.DisallowUnknownFields()
	if err := d.Decode(&p); err != nil {
		return nil, fmt.Errorf("policy: %w", err)
	}
	name, err := parseName(p.Issuer)
	switch {
	case err != nil || len(name) == 0:
		return nil, errors.New("policy: issuer is not a DER name")
	case len(p.Kinds) == 0 || slices.ContainsFunc(p.Kinds, func(k string) bool { return !knownKind(k) }):
		return nil, fmt.Errorf("policy: kinds %q", p.Kinds)
	case !validPrefix(p.SerialPrefix):
		return nil, fmt.Errorf("policy: serial prefix %#04x is not within 0x0100 and 0x7fff", p.SerialPrefix)
	case p.NotAfter.IsZero():
		return nil, errors.New("policy: not_after is missing")
	}
	p.devices, err = p.Devices.compile()
	return &p, err
}

func knownKind(kind string) bool {
	_, endEntity := kindRules(kind)
	return endEntity || kind == KindProof || kind == KindCA
}

// A TBS is new when its notBefore is that close to now: what was recorded must be signable after a long weekend without power.
const (
	maxAge    = 7 * 24 * time.Hour
	maxAhead  = time.Hour
	proofLife = 8 * 24 * time.Hour
)

// Check refuses a TBS that this key must not sign as this kind (issuer, CA:FALSE, validity window, serial prefix,
// registration codes only for KindProof, kinds). It parses the TBS anew, with nothing taken from the caller's word. Pure; microseconds.
func (p *Policy) Check(kind string, tbs []byte, now time.Time) error {
	t, err := parseTBS(tbs)
	if err != nil {
		return err
	}
	if err := p.check(kind, t); err != nil {
		return err
	}
	if kind != KindCA && (t.notBefore.Before(now.Add(-maxAge)) || t.notBefore.After(now.Add(maxAhead))) {
		return fmt.Errorf("notBefore %s is not within %s before and %s after now", t.notBefore.Format(time.RFC3339), maxAge, maxAhead)
	}
	return nil
}

// check is Check without the clock.
func (p *Policy) check(kind string, t *parsedTBS) error {
	switch {
	case !slices.Contains(p.Kinds, kind) || !knownKind(kind):
		return fmt.Errorf("this key does not sign kind %q", kind)
	case !bytes.Equal(t.issuer, p.Issuer):
		return errors.New("issuer is another CA")
	case t.serial.Prefix() != p.SerialPrefix:
		return fmt.Errorf("serial prefix is %#04x, not %#04x", t.serial.Prefix(), p.SerialPrefix)
	case t.notAfter.Before(t.notBefore):
		return errors.New("notAfter is before notBefore")
	case t.notAfter.After(p.NotAfter):
		return fmt.Errorf("notAfter is after the CA's end, %s", p.NotAfter.UTC().Format(time.RFC3339))
	}
	if err := t.checkSubject(kind); err != nil {
		return err
	}
	if err := t.checkExtensions(kind, p.devices); err != nil {
		return err
	}
	return t.checkUsages(kind)
}

// checkSubject: a proof is one common name and nothing else, everything else has no registration code anywhere.
func (t *parsedTBS) checkSubject(kind string) error {
	switch {
	case len(t.subject) == 0:
		return errors.New("subject is empty")
	case kind != KindProof:
		return refuseCodes(t.subject)
	case len(t.subject) != 1 || t.subject[0].oid != oidCommonName || !codeForm.MatchString(t.subject[0].text):
		return errors.New("the subject of a proof is one common name, a registration code")
	case t.notAfter.Sub(t.notBefore) > proofLife:
		return fmt.Errorf("a proof lives %s at most", proofLife)
	}
	return nil
}

// codeForm is a registration code as AWS makes them (64 hex digits) or as moto_server does (a UUID).
var codeForm = regexp.MustCompile(`^(?:[0-9a-fA-F]{64}|[0-9a-fA-F]{8}(?:-[0-9a-fA-F]{4}){3}-[0-9a-fA-F]{12})$`)

// checkExtensions: what must be there is there, and nothing whose meaning nobody has weighed.
func (t *parsedTBS) checkExtensions(kind string, devices *allowed) error {
	critical := []oid{oidKeyUsage, oidBasicConstraints}
	others := []oid{oidSubjectKeyID, oidAuthorityKeyID, oidAuthorityInfoAccess, oidCRLDistribution}
	switch kind {
	case KindService:
		others = append(others, oidExtKeyUsage, oidSubjectAltName)
	case KindDevice, KindStation:
		others = append(others, oidExtKeyUsage)
	}
	for _, id := range critical {
		if e, ok := t.extension(id); !ok || !e.critical {
			return fmt.Errorf("extension %s is missing or not critical (RFC 5280 4.2.1.3, 4.2.1.9)", id)
		}
	}
	for _, e := range t.extensions {
		if slices.Contains(critical, e.id) || !e.critical && slices.Contains(others, e.id) {
			continue
		}
		err := errNoPlace
		if kind == KindDevice && !slices.Contains(others, e.id) {
			err = devices.check(e)
		}
		switch {
		case errors.Is(err, errNoPlace):
			return fmt.Errorf("extension %s (critical %t) has no place in a %s certificate", e.id, e.critical, kind)
		case err != nil:
			return err
		}
	}
	if err := t.checkForms(kind); err != nil {
		return err
	}
	return t.checkConstraints(kind)
}

// checkConstraints: CA:FALSE in its one encoding, or for KindCA a CA with a path length of 0 or 1.
func (t *parsedTBS) checkConstraints(kind string) error {
	e, _ := t.extension(oidBasicConstraints)
	value := string(e.value)
	if kind != KindCA && value != "\x30\x00" {
		return errors.New("basicConstraints is not CA:FALSE")
	}
	if kind == KindCA && value != "\x30\x06\x01\x01\xff\x02\x01\x00" && value != "\x30\x06\x01\x01\xff\x02\x01\x01" {
		return errors.New("basicConstraints is not CA:TRUE with a path length of 0 or 1")
	}
	return nil
}

// checkUsages: who is no CA signs no certificates and no CRLs, and does what its kind does.
func (t *parsedTBS) checkUsages(kind string) error {
	e, _ := t.extension(oidKeyUsage)
	usage, ok := readUsage(e.value)
	const forCA = usageCertSign | usageCRLSign
	switch {
	case !ok:
		return errors.New("keyUsage is not DER")
	case kind == KindCA && usage != forCA:
		return errors.New("keyUsage of a CA is keyCertSign and cRLSign")
	case kind != KindCA && usage&forCA != 0:
		return errors.New("keyUsage holds keyCertSign or cRLSign")
	}
	allowed, restricted := kindRules(kind)
	if !restricted {
		return nil
	}
	e, _ = t.extension(oidExtKeyUsage)
	return checkExtendedUsage(e.value, allowed)
}

// readUsage reads a named bit list of one octet (X.690 11.2.2).
func readUsage(value []byte) (usage byte, ok bool) {
	in := cryptobyte.String(value)
	var bits cryptobyte.String
	if !in.ReadASN1(&bits, der.BIT_STRING) || !in.Empty() || len(bits) != 2 || bits[1] == 0 {
		return 0, false
	}
	return bits[1], int(bits[0]) == trailingZeros(bits[1])
}

func checkExtendedUsage(value []byte, allowed []oid) error {
	in := cryptobyte.String(value)
	var list cryptobyte.String
	if !in.ReadASN1(&list, der.SEQUENCE) || !in.Empty() || list.Empty() {
		return errors.New("extendedKeyUsage is missing or not DER")
	}
	for !list.Empty() {
		id, ok := readOID(&list)
		if !ok {
			return errors.New("extendedKeyUsage is not DER")
		}
		if !slices.Contains(allowed, id) {
			return fmt.Errorf("extendedKeyUsage %s has no place here", id)
		}
	}
	return nil
}
