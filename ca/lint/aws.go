package lint

import (
	"crypto/elliptic"
	"fmt"
	"regexp"
	"slices"

	"github.com/zmap/zcrypto/x509"
)

// code is the form of an AWS registration code: whoever holds a certificate with one as a common name can register the CA as theirs.
var code = regexp.MustCompile(`^\s*(0[xX])?[0-9a-fA-F]{64}\s*$`)

// awsFindings are our own rules: what AWS IoT takes for a device or CA certificate (its Developer Guide, "X.509 client certificates").
func awsFindings(c *x509.Certificate, proof bool) (findings []Finding) {
	add := func(name, format string, args ...any) {
		findings = append(findings, Finding{"e_certmill_" + name, Error, "AWS", fmt.Sprintf(format, args...)})
	}
	for _, a := range c.Subject.Names {
		if value, ok := a.Value.(string); (!ok || code.MatchString(value)) && !proof {
			add("registration_code", "subject value of %s is 64 hex digits, or no text", a.Type)
		}
	}
	if why := badKey(c.PublicKey); why != "" {
		add("key", "%s", why)
	}
	if !slices.Contains(signatures(), c.SignatureAlgorithm) {
		add("signature_algorithm", "%s is not taken", c.SignatureAlgorithm)
	}
	return findings
}

// badKey says why AWS would not take a key: RSA from 2048 bits, P-256, P-384 and P-521 are taken. No upper size is documented for
// RSA; past 4096 nobody is known to have tried.
func badKey(key any) string {
	switch k := key.(type) {
	case *x509.AugmentedECDSA:
		switch k.Pub.Curve {
		case elliptic.P256(), elliptic.P384(), elliptic.P521():
			return ""
		}
		return "EC curve is none of P-256, P-384 and P-521"
	case interface{ Size() int }: // *rsa.PublicKey, of crypto/rsa or of zcrypto
		if n := k.Size() * 8; n < 2048 || n > 4096 {
			return fmt.Sprintf("RSA of %d bits is not within 2048 and 4096", n)
		}
		return ""
	}
	return fmt.Sprintf("a key of type %T is neither EC nor RSA", key)
}

func signatures() []x509.SignatureAlgorithm {
	return []x509.SignatureAlgorithm{
		x509.SHA256WithRSA, x509.SHA384WithRSA, x509.SHA512WithRSA,
		x509.SHA256WithRSAPSS, x509.SHA384WithRSAPSS, x509.SHA512WithRSAPSS,
		x509.ECDSAWithSHA256, x509.ECDSAWithSHA384, x509.ECDSAWithSHA512,
	}
}
