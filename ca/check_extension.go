package ca

import (
	"errors"
	"fmt"

	"golang.org/x/crypto/cryptobyte"
	der "golang.org/x/crypto/cryptobyte/asn1"
)

// checkForms looks into the extensions that carry data: each in the one form that our encoder writes. The general forms hold more
// than we mean: a distribution point can name another CRL issuer, an authority key identifier another certificate.
func (t *parsedTBS) checkForms(kind string) error {
	for _, e := range t.extensions {
		in := cryptobyte.String(e.value)
		var ok bool
		switch e.id {
		case oidKeyUsage, oidBasicConstraints, oidExtKeyUsage: // checkConstraints and checkUsages
			continue
		case oidSubjectKeyID:
			ok = takeLeaf(&in, der.OCTET_STRING)
		case oidAuthorityKeyID:
			ok = takeEach(&in, der.SEQUENCE, func(s *cryptobyte.String) bool { return takeLeaf(s, der.Tag(0).ContextSpecific()) && s.Empty() })
		case oidAuthorityInfoAccess:
			ok = takeEach(&in, der.SEQUENCE, takeAccess)
		case oidCRLDistribution:
			ok = takeEach(&in, der.SEQUENCE, takeDistribution)
		case oidSubjectAltName:
			if kind == KindDevice { // allowed.check
				continue
			}
			ok = takeEach(&in, der.SEQUENCE, takeAltName)
		default: // what checkExtensions let through by its Allowance
			continue
		}
		if !ok || !in.Empty() {
			return fmt.Errorf("extension %s is not in the form that this CA writes", e.id)
		}
	}
	if _, ok := t.extension(oidAuthorityKeyID); !ok {
		return errors.New("authority key identifier is missing (RFC 5280 4.2.1.1)")
	}
	return nil
}

// takeLeaf reads one element that holds something.
func takeLeaf(s *cryptobyte.String, tag der.Tag) bool {
	var content cryptobyte.String
	return s.ReadASN1(&content, tag) && len(content) > 0
}

// takeEach reads an element and everything in it, which is at least one of what take reads.
func takeEach(s *cryptobyte.String, tag der.Tag, take func(*cryptobyte.String) bool) bool {
	var content cryptobyte.String
	if !s.ReadASN1(&content, tag) || content.Empty() {
		return false
	}
	for !content.Empty() {
		if !take(&content) {
			return false
		}
	}
	return true
}

// takeURL reads a GeneralName that is a URL in ASCII.
func takeURL(s *cryptobyte.String) bool {
	var content cryptobyte.String
	return s.ReadASN1(&content, der.Tag(generalURI).ContextSpecific()) && len(content) > 0 && isASCII(content)
}

// takeAccess reads an AccessDescription: the method's name and a URL.
func takeAccess(s *cryptobyte.String) bool {
	var one cryptobyte.String
	if !s.ReadASN1(&one, der.SEQUENCE) {
		return false
	}
	method, ok := readOID(&one)
	return ok && (method == oidOCSP || method == oidCAIssuers) && takeURL(&one) && one.Empty()
}

// takeDistribution reads a DistributionPoint that is one full name, a URL, and nothing else.
func takeDistribution(s *cryptobyte.String) bool {
	return takeEach(s, der.SEQUENCE, func(s *cryptobyte.String) bool {
		return takeEach(s, contextTag(0), func(s *cryptobyte.String) bool { return takeEach(s, contextTag(0), takeURL) && s.Empty() }) && s.Empty()
	})
}

// takeAltName reads a GeneralName that is a DNS name or an address.
func takeAltName(s *cryptobyte.String) bool {
	var content cryptobyte.String
	var tag der.Tag
	if !s.ReadAnyASN1(&content, &tag) {
		return false
	}
	switch tag {
	case der.Tag(generalDNS).ContextSpecific():
		return isHostName(string(content))
	case der.Tag(generalIP).ContextSpecific():
		return len(content) == 4 || len(content) == 16
	}
	return false
}
