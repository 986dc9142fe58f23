package ca

import (
	"encoding/hex"
	"errors"
	"fmt"
	"slices"
	"strings"
	"unicode/utf8"

	"golang.org/x/crypto/cryptobyte"
	der "golang.org/x/crypto/cryptobyte/asn1"
)

// ExtensionConfig is an extension of the operator's own: one of UTF8, Octets and DER is set. It is never critical: what nobody else knows would make
// everybody else refuse the certificate (RFC 5280 4.2). Placeholders stand as in the subject.
type ExtensionConfig struct {
	OID    string `yaml:"oid" json:"oid"`
	UTF8   string `yaml:"utf8" json:"utf8,omitempty"`     // a UTF8String
	Octets string `yaml:"octets" json:"octets,omitempty"` // an OCTET STRING, in hex
	DER    string `yaml:"der" json:"der,omitempty"`       // any one element in DER, in hex
}

// Limits of the operator's own extensions. With maxAltNames of 256 octets a TBS stays below the 16 KiB that signers take.
const (
	maxCustom      = 16
	maxCustomValue = 512 // octets of DER
)

// Forms of an extension's value, as they stand in an Allowance.
const (
	formUTF8   = "utf8"
	formOctets = "octets"
	formDER    = "der"
)

// reservedArcs are object identifiers that mean something to somebody already: a profile cannot use them for its own purposes.
func reservedArcs() map[string]string {
	return map[string]string{
		"2.5.29": "extensions of X.509", "1.3.6.1.5.5.7": "extensions of PKIX", "2.16.840.1.113730": "Netscape's", "1.3.6.1.4.1.311": "Microsoft's",
		"1.3.6.1.4.1.11129": "Certificate Transparency", "2.23.140": "the CA/Browser Forum's",
	}
}

// customValue is an extension that a profile adds.
type customValue struct {
	id   oid
	form string
	text text
}

// customExtension is one as it is encoded.
type customExtension struct {
	id    oid
	value []byte // DER
}

// checkCustom reads extensions.
func (p *Profile) checkCustom() error {
	if len(p.config.Extensions) > maxCustom {
		return fmt.Errorf("extensions: %d of them, at most %d", len(p.config.Extensions), maxCustom)
	}
	for i, c := range p.config.Extensions {
		v, err := newCustomValue(c, p.placeholders)
		if err == nil && slices.ContainsFunc(p.extensions, func(have customValue) bool { return have.id == v.id }) {
			err = fmt.Errorf("%s stands twice (RFC 5280 4.2)", c.OID)
		}
		if err != nil {
			return fmt.Errorf("extensions: number %d: %w", i+1, err)
		}
		p.extensions = append(p.extensions, v)
	}
	return nil
}

func newCustomValue(c ExtensionConfig, known patterns) (v customValue, err error) {
	if v.id, err = parseCustomOID(c.OID); err != nil {
		return v, err
	}
	var source string
	set := 0
	for _, f := range [][2]string{{formUTF8, c.UTF8}, {formOctets, c.Octets}, {formDER, c.DER}} {
		if f[1] != "" {
			v.form, source, set = f[0], f[1], set+1
		}
	}
	if set != 1 {
		return v, fmt.Errorf("%s: want one of utf8, octets and der", c.OID)
	}
	if v.text, err = parseText(source, known); err == nil {
		err = v.validate()
	}
	if err != nil {
		return v, fmt.Errorf("%s: %s: %w", c.OID, v.form, err)
	}
	return v, nil
}

func parseCustomOID(dotted string) (oid, error) {
	id, err := parseOID(dotted)
	if err != nil {
		return "", fmt.Errorf("oid: %w", err)
	}
	for arc, whose := range reservedArcs() {
		if strings.HasPrefix(dotted+".", arc+".") {
			return "", fmt.Errorf("oid %s lies under %s (%s): take one of your own arc", dotted, arc, whose)
		}
	}
	return id, nil
}

func (v customValue) validate() error {
	if v.text.fixed() {
		_, err := v.encode(v.text.parts[0])
		return err
	}
	l, err := newLanguage(v.text.pattern())
	if err != nil {
		return fmt.Errorf("%s: %w", v.text.sources(), err)
	}
	most, bounded := l.maxLength()
	switch {
	case !bounded || most > maxCustomValue/2:
		return fmt.Errorf("it may become longer than %d characters by %s", maxCustomValue/2, v.text.sources())
	case v.form != formUTF8 && !l.allows(func(r rune) bool { return !notHex(r) }):
		return fmt.Errorf("%s lets through what is no hex digit", v.text.sources())
	}
	return nil
}

// encode returns the extension's value.
func (v customValue) encode(value string) ([]byte, error) {
	b := cryptobyte.NewBuilder(nil)
	if v.form == formUTF8 {
		if !utf8.ValidString(value) || value == "" || strings.ContainsFunc(value, isControl) {
			return nil, errors.New("it is empty, or holds a control character or invalid UTF-8")
		}
		b.AddASN1(der.UTF8String, func(b *cryptobyte.Builder) { b.AddBytes([]byte(value)) })
		return sized(b)
	}
	octets, err := hex.DecodeString(value)
	switch {
	case err != nil:
		return nil, errors.New("it is not hex of whole octets")
	case v.form == formDER && !isDER(octets, 0):
		return nil, errors.New("it is not one element in DER (X.690)")
	case v.form == formDER:
		b.AddBytes(octets)
	default:
		b.AddASN1OctetString(octets)
	}
	return sized(b)
}

func sized(b *cryptobyte.Builder) ([]byte, error) {
	value, err := b.Bytes()
	if err == nil && len(value) > maxCustomValue {
		err = fmt.Errorf("it has %d octets, at most %d", len(value), maxCustomValue)
	}
	return value, err
}

// isDER reports whether b is one element, and everything constructed in it is made of elements, with lengths as DER has them.
func isDER(b []byte, depth int) bool {
	in := cryptobyte.String(b)
	var content cryptobyte.String
	var tag der.Tag
	if depth > 16 || !in.ReadAnyASN1(&content, &tag) || !in.Empty() {
		return false
	}
	if tag&0x20 == 0 {
		return true
	}
	for !content.Empty() {
		var element cryptobyte.String
		if !content.ReadAnyASN1Element(&element, &tag) || !isDER(element, depth+1) {
			return false
		}
	}
	return true
}

// renderCustom returns the extensions of one certificate.
func renderCustom(all []customValue, with values) (made []customExtension, err error) {
	for _, v := range all {
		value, err := v.encode(v.text.render(with))
		if err != nil {
			return nil, fmt.Errorf("%w: extension %s: %s: %w", ErrRefused, v.id, v.form, err)
		}
		made = append(made, customExtension{v.id, value})
	}
	return made, nil
}

// checkPolicies reads policies (RFC 5280 4.2.1.4, without qualifiers, as it recommends).
func (p *Profile) checkPolicies() error {
	if len(p.config.Policies) > maxCustom {
		return fmt.Errorf("policies: %d of them, at most %d", len(p.config.Policies), maxCustom)
	}
	for _, dotted := range p.config.Policies {
		id, err := parseOID(dotted)
		switch {
		case err != nil:
			return fmt.Errorf("policies: %w", err)
		case slices.Contains(p.policies, id):
			return fmt.Errorf("policies: %s stands twice (RFC 5280 4.2.1.4)", dotted)
		case strings.HasPrefix(dotted+".", "2.5.29."):
			return fmt.Errorf("policies: %s is not for a device: any policy is what a CA may say of itself (RFC 5280 4.2.1.4)", dotted)
		}
		p.policies = append(p.policies, id)
	}
	return nil
}

// checkLinks reads links: which of the CA's URLs a certificate carries.
func (p *Profile) checkLinks() error {
	if len(p.config.Links) == 0 {
		return nil
	}
	p.omitted = links{"-", "-", "-"}
	for _, name := range p.config.Links {
		switch name {
		case "ocsp":
			p.omitted.ocsp = ""
		case "ca_issuers":
			p.omitted.caIssuers = ""
		case "crl":
			p.omitted.crl = ""
		case "none":
			if len(p.config.Links) > 1 {
				return errors.New("links: none stands alone")
			}
		default:
			return fmt.Errorf("links: %q is none of ocsp, ca_issuers, crl, none", name)
		}
	}
	return nil
}

// without returns the links that are not left out.
func (l links) without(omitted links) links {
	for _, one := range []struct {
		link *string
		omit string
	}{{&l.ocsp, omitted.ocsp}, {&l.caIssuers, omitted.caIssuers}, {&l.crl, omitted.crl}} {
		if one.omit != "" {
			*one.link = ""
		}
	}
	return l
}
