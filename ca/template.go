package ca

import (
	"time"

	"golang.org/x/crypto/cryptobyte"
	der "golang.org/x/crypto/cryptobyte/asn1"
)

// template is everything that a TBS says. encode is a pure function of it.
type template struct {
	algorithm           oid    // of the signature to come
	issuer              []byte // DER Name
	issuerKeyID         []byte
	serial              Serial
	notBefore, notAfter time.Time
	subject             []subjectAttribute
	key                 publicKey
	keyUsage            byte
	extKeyUsage         []oid
	isCA                bool
	pathLen             uint8 // where isCA
	names               altNames
	policies            []oid
	links               links
	custom              []customExtension
}

// links are the URLs by which a certificate tells where its CA is heard of; "" leaves one out.
type links struct{ ocsp, caIssuers, crl string }

// encode returns the TBSCertificate (RFC 5280 4.1) in DER. Extensions stand in the order of crypto/x509, to which a test holds it.
func (t *template) encode() ([]byte, error) {
	b := cryptobyte.NewBuilder(make([]byte, 0, 1024))
	b.AddASN1(der.SEQUENCE, func(b *cryptobyte.Builder) {
		b.AddASN1(contextTag(0), func(b *cryptobyte.Builder) { b.AddASN1Uint64(2) }) // v3
		b.AddASN1(der.INTEGER, func(b *cryptobyte.Builder) { b.AddBytes(t.serial[:]) })
		addAlgorithm(b, t.algorithm)
		b.AddBytes(t.issuer)
		b.AddASN1(der.SEQUENCE, func(b *cryptobyte.Builder) {
			addTime(b, t.notBefore)
			addTime(b, t.notAfter)
		})
		addName(b, t.subject)
		b.AddBytes(t.key.spki)
		b.AddASN1(contextTag(3), func(b *cryptobyte.Builder) { b.AddASN1(der.SEQUENCE, t.addExtensions) })
	})
	return b.Bytes()
}

func contextTag(n uint8) der.Tag { return der.Tag(n).ContextSpecific().Constructed() }

// addTime writes UTCTime up to 2049 and GeneralizedTime from 2050 on (RFC 5280 4.1.2.5).
func addTime(b *cryptobyte.Builder, t time.Time) {
	if t.Year() < 2050 {
		b.AddASN1UTCTime(t)
	} else {
		b.AddASN1GeneralizedTime(t)
	}
}

// addName writes a Name of one attribute in each RDN.
func addName(b *cryptobyte.Builder, name []subjectAttribute) {
	b.AddASN1(der.SEQUENCE, func(b *cryptobyte.Builder) {
		for _, a := range name {
			b.AddASN1(der.SET, func(b *cryptobyte.Builder) { b.AddASN1(der.SEQUENCE, a.add) })
		}
	})
}

// encodeName is a Name by itself.
func encodeName(name []subjectAttribute) []byte {
	b := cryptobyte.NewBuilder(nil)
	addName(b, name)
	return b.BytesOrPanic()
}

func (a subjectAttribute) add(b *cryptobyte.Builder) {
	tag := der.UTF8String
	if a.printable {
		tag = der.PrintableString
	}
	addOID(b, a.oid)
	b.AddASN1(tag, func(b *cryptobyte.Builder) { b.AddBytes([]byte(a.text)) })
}

func (t *template) addExtensions(b *cryptobyte.Builder) {
	addExtension(b, oidKeyUsage, true, func(b *cryptobyte.Builder) {
		b.AddASN1(der.BIT_STRING, func(b *cryptobyte.Builder) { b.AddBytes([]byte{byte(trailingZeros(t.keyUsage)), t.keyUsage}) })
	})
	if len(t.extKeyUsage) > 0 {
		addExtension(b, oidExtKeyUsage, false, sequence(func(b *cryptobyte.Builder) {
			for _, id := range t.extKeyUsage {
				addOID(b, id)
			}
		}))
	}
	addExtension(b, oidBasicConstraints, true, sequence(func(b *cryptobyte.Builder) {
		if t.isCA {
			b.AddASN1Boolean(true)
			b.AddASN1Uint64(uint64(t.pathLen))
		}
	}))
	addExtension(b, oidSubjectKeyID, false, func(b *cryptobyte.Builder) { b.AddASN1OctetString(t.key.id) })
	addExtension(b, oidAuthorityKeyID, false, sequence(func(b *cryptobyte.Builder) {
		b.AddASN1(der.Tag(0).ContextSpecific(), func(b *cryptobyte.Builder) { b.AddBytes(t.issuerKeyID) })
	}))
	t.links.addAccess(b)
	t.names.addExtension(b)
	t.addPolicies(b)
	t.links.addDistribution(b)
	for _, e := range t.custom {
		addExtension(b, e.id, false, func(b *cryptobyte.Builder) { b.AddBytes(e.value) })
	}
}

// addPolicies writes CertificatePolicies without qualifiers (RFC 5280 4.2.1.4).
func (t *template) addPolicies(b *cryptobyte.Builder) {
	if len(t.policies) == 0 {
		return
	}
	addExtension(b, oidCertificatePolicies, false, sequence(func(b *cryptobyte.Builder) {
		for _, id := range t.policies {
			b.AddASN1(der.SEQUENCE, func(b *cryptobyte.Builder) { addOID(b, id) })
		}
	}))
}

// addExtension writes one Extension; value writes what stands inside its OCTET STRING.
func addExtension(b *cryptobyte.Builder, id oid, critical bool, value cryptobyte.BuilderContinuation) {
	b.AddASN1(der.SEQUENCE, func(b *cryptobyte.Builder) {
		addOID(b, id)
		if critical {
			b.AddASN1Boolean(true)
		}
		b.AddASN1(der.OCTET_STRING, value)
	})
}

func sequence(content cryptobyte.BuilderContinuation) cryptobyte.BuilderContinuation {
	return func(b *cryptobyte.Builder) { b.AddASN1(der.SEQUENCE, content) }
}

// addAccess writes AuthorityInfoAccess (RFC 5280 4.2.2.1).
func (l links) addAccess(b *cryptobyte.Builder) {
	if l.ocsp == "" && l.caIssuers == "" {
		return
	}
	addExtension(b, oidAuthorityInfoAccess, false, sequence(func(b *cryptobyte.Builder) {
		for _, m := range []struct {
			method oid
			url    string
		}{{oidOCSP, l.ocsp}, {oidCAIssuers, l.caIssuers}} {
			if m.url != "" {
				b.AddASN1(der.SEQUENCE, func(b *cryptobyte.Builder) {
					addOID(b, m.method)
					addURL(b, m.url)
				})
			}
		}
	}))
}

// addDistribution writes CRLDistributionPoints with one full name (RFC 5280 4.2.1.13).
func (l links) addDistribution(b *cryptobyte.Builder) {
	if l.crl == "" {
		return
	}
	addExtension(b, oidCRLDistribution, false, sequence(sequence(func(b *cryptobyte.Builder) {
		b.AddASN1(contextTag(0), func(b *cryptobyte.Builder) {
			b.AddASN1(contextTag(0), func(b *cryptobyte.Builder) { addURL(b, l.crl) })
		})
	})))
}

// GeneralName choices (RFC 5280 4.2.1.6).
const (
	generalOther = 0
	generalEmail = 1
	generalDNS   = 2
	generalURI   = 6
	generalIP    = 7
)

func addGeneral(b *cryptobyte.Builder, choice uint8, value []byte) {
	b.AddASN1(der.Tag(choice).ContextSpecific(), func(b *cryptobyte.Builder) { b.AddBytes(value) })
}

func addURL(b *cryptobyte.Builder, url string) { addGeneral(b, generalURI, []byte(url)) }

// addExtension writes SubjectAltName.
func (n altNames) addExtension(b *cryptobyte.Builder) {
	if n.count() == 0 {
		return
	}
	addExtension(b, oidSubjectAltName, false, sequence(func(b *cryptobyte.Builder) {
		for _, name := range n.dns {
			addGeneral(b, generalDNS, []byte(name))
		}
		for _, address := range n.emails {
			addGeneral(b, generalEmail, []byte(address))
		}
		for _, ip := range n.ips {
			addGeneral(b, generalIP, ip)
		}
		for _, uri := range n.uris {
			addURL(b, uri)
		}
		for _, m := range n.modules {
			m.add(b)
		}
	}))
}

// add writes an otherName with a HardwareModuleName (RFC 4108 5).
func (m hardwareModule) add(b *cryptobyte.Builder) {
	b.AddASN1(contextTag(generalOther), func(b *cryptobyte.Builder) {
		addOID(b, oidHardwareModule)
		b.AddASN1(contextTag(0), sequence(func(b *cryptobyte.Builder) {
			addOID(b, m.kind)
			b.AddASN1OctetString([]byte(m.serial))
		}))
	})
}
