package ca

import (
	"encoding/hex"
	"fmt"
	"strings"
	"time"

	"golang.org/x/crypto/cryptobyte"
	der "golang.org/x/crypto/cryptobyte/asn1"
)

// Description is what a certificate says, for people; made by the parser that signers use.
type Description struct {
	Subject    string      `json:"subject"`
	NotBefore  time.Time   `json:"not_before"`
	NotAfter   time.Time   `json:"not_after"`
	Extensions []Statement `json:"extensions"`
}

// Statement is what one extension says.
type Statement struct {
	OID      string   `json:"oid"`
	Name     string   `json:"name,omitempty"` // as RFC 5280 spells it; "" for the operator's own
	Critical bool     `json:"critical,omitempty"`
	Values   []string `json:"values"`
}

// Describe reads a certificate in the form that certmill makes.
func Describe(certificate []byte) (*Description, error) {
	in := cryptobyte.String(certificate)
	var outer, tbs cryptobyte.String
	if !in.ReadASN1(&outer, der.SEQUENCE) || !outer.ReadASN1Element(&tbs, der.SEQUENCE) {
		return nil, fmt.Errorf("%w: not a certificate", ErrMalformed)
	}
	t, err := parseTBS(tbs)
	if err != nil {
		return nil, err
	}
	d := &Description{NotBefore: t.notBefore, NotAfter: t.notAfter}
	var parts []string
	for _, a := range t.subject {
		parts = append(parts, shortName(a.oid)+"="+a.text)
	}
	d.Subject = strings.Join(parts, ", ")
	for _, e := range t.extensions {
		name, values := e.say()
		d.Extensions = append(d.Extensions, Statement{e.id.String(), name, e.critical, values})
	}
	return d, nil
}

// shortName is what people write for an attribute type (RFC 4514 3, RFC 4519 2).
func shortName(id oid) string {
	name := map[oid]string{
		oidCountry: "C", oidState: "ST", oidLocality: "L", oidOrganization: "O", oidOrganizationalUnit: "OU", oidCommonName: "CN",
		oidSerialNumber: "serialNumber", oidDNQualifier: "dnQualifier",
	}[id]
	if name == "" {
		return id.String()
	}
	return name
}

// say returns the name of an extension, and what it says.
func (e extension) say() (name string, values []string) {
	in := cryptobyte.String(e.value)
	switch e.id {
	case oidKeyUsage:
		return "keyUsage", sayUsage(e.value)
	case oidExtKeyUsage:
		return "extKeyUsage", sayEach(in, sayOID)
	case oidBasicConstraints:
		return "basicConstraints", []string{map[bool]string{true: "CA:FALSE", false: "CA:TRUE"}[string(e.value) == "\x30\x00"]}
	case oidSubjectKeyID:
		return "subjectKeyIdentifier", []string{hex.EncodeToString(e.value[min(2, len(e.value)):])}
	case oidAuthorityKeyID:
		return "authorityKeyIdentifier", []string{hex.EncodeToString(e.value[min(4, len(e.value)):])}
	case oidAuthorityInfoAccess:
		return "authorityInfoAccess", sayEach(in, sayAccess)
	case oidCRLDistribution:
		return "cRLDistributionPoints", sayEach(in, sayDistribution)
	case oidSubjectAltName:
		return "subjectAltName", sayEach(in, readAltName)
	case oidCertificatePolicies:
		return "certificatePolicies", sayEach(in, func(s *cryptobyte.String) (string, bool) {
			var one cryptobyte.String
			if !s.ReadASN1(&one, der.SEQUENCE) {
				return "", false
			}
			return sayOID(&one)
		})
	}
	return "", e.forms()
}

// forms are the ways in which an operator's own extension can be said, the one that tells most first.
func (e extension) forms() []string {
	in := cryptobyte.String(e.value)
	var content cryptobyte.String
	var tag der.Tag
	if in.ReadAnyASN1(&content, &tag) {
		switch tag {
		case der.UTF8String:
			return []string{formUTF8 + ":" + string(content)}
		case der.OCTET_STRING:
			return []string{formOctets + ":" + hex.EncodeToString(content)}
		}
	}
	return []string{formDER + ":" + hex.EncodeToString(e.value)}
}

// sayEach says every element of a sequence; what is in no form of ours ends it.
func sayEach(in cryptobyte.String, say func(*cryptobyte.String) (string, bool)) (values []string) {
	var list cryptobyte.String
	if !in.ReadASN1(&list, der.SEQUENCE) {
		return nil
	}
	for !list.Empty() {
		value, ok := say(&list)
		if !ok {
			return append(values, "…")
		}
		values = append(values, value)
	}
	return values
}

func sayOID(s *cryptobyte.String) (string, bool) {
	id, ok := readOID(s)
	name := map[oid]string{oidClientAuth: "clientAuth", oidServerAuth: "serverAuth", oidOCSP: "ocsp", oidCAIssuers: "caIssuers"}[id]
	if name == "" {
		name = id.String()
	}
	return name, ok
}

func sayAccess(s *cryptobyte.String) (string, bool) {
	var one, url cryptobyte.String
	if !s.ReadASN1(&one, der.SEQUENCE) {
		return "", false
	}
	method, ok := sayOID(&one)
	ok = ok && one.ReadASN1(&url, der.Tag(generalURI).ContextSpecific())
	return method + " " + string(url), ok
}

func sayDistribution(s *cryptobyte.String) (string, bool) {
	var point, name, full, url cryptobyte.String
	ok := s.ReadASN1(&point, der.SEQUENCE) && point.ReadASN1(&name, contextTag(0)) && name.ReadASN1(&full, contextTag(0)) &&
		full.ReadASN1(&url, der.Tag(generalURI).ContextSpecific())
	return string(url), ok
}

func sayUsage(value []byte) (names []string) {
	usage, _ := readUsage(value)
	for i, name := range []string{"digitalSignature", "contentCommitment", "keyEncipherment", "dataEncipherment", "keyAgreement", "keyCertSign", "cRLSign"} {
		if usage&(0x80>>i) != 0 {
			names = append(names, name)
		}
	}
	return names
}
