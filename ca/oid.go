package ca

import (
	"encoding/asn1"
	"fmt"
	"strconv"
	"strings"

	"golang.org/x/crypto/cryptobyte"
	der "golang.org/x/crypto/cryptobyte/asn1"
)

// oid is an object identifier as its DER content octets: comparable, and written without conversion.
type oid string

// Attribute types (X.520, RFC 5280 appendix A).
const (
	oidCommonName         oid = "\x55\x04\x03"
	oidSerialNumber       oid = "\x55\x04\x05"
	oidCountry            oid = "\x55\x04\x06"
	oidLocality           oid = "\x55\x04\x07"
	oidState              oid = "\x55\x04\x08"
	oidOrganization       oid = "\x55\x04\x0a"
	oidOrganizationalUnit oid = "\x55\x04\x0b"
	oidDNQualifier        oid = "\x55\x04\x2e"
)

// Extensions (RFC 5280 4.2).
const (
	oidSubjectKeyID        oid = "\x55\x1d\x0e"
	oidKeyUsage            oid = "\x55\x1d\x0f"
	oidSubjectAltName      oid = "\x55\x1d\x11"
	oidBasicConstraints    oid = "\x55\x1d\x13"
	oidCRLDistribution     oid = "\x55\x1d\x1f"
	oidAuthorityKeyID      oid = "\x55\x1d\x23"
	oidExtKeyUsage         oid = "\x55\x1d\x25"
	oidCertificatePolicies oid = "\x55\x1d\x20"
	oidAuthorityInfoAccess oid = "\x2b\x06\x01\x05\x05\x07\x01\x01"
)

// Extended key usages and access methods (RFC 5280 4.2.1.12, 4.2.2.1).
const (
	oidServerAuth oid = "\x2b\x06\x01\x05\x05\x07\x03\x01"
	oidClientAuth oid = "\x2b\x06\x01\x05\x05\x07\x03\x02"
	oidOCSP       oid = "\x2b\x06\x01\x05\x05\x07\x30\x01"
	oidCAIssuers  oid = "\x2b\x06\x01\x05\x05\x07\x30\x02"
)

// oidHardwareModule is the type of an otherName (RFC 4108 5).
const oidHardwareModule oid = "\x2b\x06\x01\x05\x05\x07\x08\x04"

// Public keys and signatures (RFC 3279, RFC 5480, RFC 5758, RFC 4055).
const (
	oidRSA             oid = "\x2a\x86\x48\x86\xf7\x0d\x01\x01\x01"
	oidEC              oid = "\x2a\x86\x48\xce\x3d\x02\x01"
	oidP256            oid = "\x2a\x86\x48\xce\x3d\x03\x01\x07"
	oidP384            oid = "\x2b\x81\x04\x00\x22"
	oidECDSAWithSHA256 oid = "\x2a\x86\x48\xce\x3d\x04\x03\x02"
	oidECDSAWithSHA384 oid = "\x2a\x86\x48\xce\x3d\x04\x03\x03"
	oidSHA256WithRSA   oid = "\x2a\x86\x48\x86\xf7\x0d\x01\x01\x0b"
)

// String is the dotted form, for people.
func (o oid) String() string {
	var id asn1.ObjectIdentifier
	element := append([]byte{byte(der.OBJECT_IDENTIFIER), byte(len(o))}, o...)
	if rest, err := asn1.Unmarshal(element, &id); err != nil || len(rest) > 0 || len(o) > 127 {
		return fmt.Sprintf("%x", string(o))
	}
	return id.String()
}

// parseOID reads the dotted form.
func parseOID(dotted string) (oid, error) {
	bad := fmt.Errorf("%q is no object identifier, such as 1.3.6.1.4.1.99999.1", clip(dotted))
	var id asn1.ObjectIdentifier
	for arc := range strings.SplitSeq(dotted, ".") {
		n, err := strconv.ParseUint(arc, 10, 31)
		if err != nil || strconv.FormatUint(n, 10) != arc {
			return "", bad
		}
		id = append(id, int(n))
	}
	element, err := asn1.Marshal(id)
	if err != nil || len(element) > 64 {
		return "", bad
	}
	return oid(element[2:]), nil
}

// readOID reads an OBJECT IDENTIFIER in DER. ReadASN1 hands out the content of an element with another tag too, so that nothing
// of it may be returned then.
func readOID(s *cryptobyte.String) (oid, bool) {
	var content cryptobyte.String
	if !s.ReadASN1(&content, der.OBJECT_IDENTIFIER) || !isOID(content) {
		return "", false
	}
	return oid(content), true
}

// isOID reports whether content octets are whole subidentifiers without leading zeros (X.690 8.19.2).
func isOID(content []byte) bool {
	first := true
	for _, octet := range content {
		if first && octet == 0x80 {
			return false
		}
		first = octet < 0x80
	}
	return first && len(content) > 0
}

// addOID writes an OBJECT IDENTIFIER.
func addOID(b *cryptobyte.Builder, o oid) {
	b.AddASN1(der.OBJECT_IDENTIFIER, func(b *cryptobyte.Builder) { b.AddBytes([]byte(o)) })
}
