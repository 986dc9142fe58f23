package jitp

import (
	"crypto/sha256"
	"crypto/x509"
	"encoding/asn1"
	"encoding/hex"
	"fmt"
)

// Parameter is an entry of a template's section Parameters; String is the only type there is (PT-21).
type Parameter struct {
	Default *string // value of a certificate that lacks the attribute; nil: provisioning fails (PT-53)
}

const parameterPrefix = "AWS::IoT::Certificate::"

// parameterID is the certificate's id: SHA-256 of its DER, lower-case hex (CA-43).
const parameterID = parameterPrefix + "Id"

// subjectParameters says which attribute of the subject gives which parameter (PT-50, PT-52).
// SerialNumber is the attribute 2.5.4.5 and not the serial of the certificate (PT-54).
func subjectParameters() map[string]asn1.ObjectIdentifier {
	return map[string]asn1.ObjectIdentifier{
		parameterPrefix + "Country":                    {2, 5, 4, 6},
		parameterPrefix + "Organization":               {2, 5, 4, 10},
		parameterPrefix + "OrganizationalUnit":         {2, 5, 4, 11},
		parameterPrefix + "DistinguishedNameQualifier": {2, 5, 4, 46},
		parameterPrefix + "StateName":                  {2, 5, 4, 8},
		parameterPrefix + "CommonName":                 {2, 5, 4, 3},
		parameterPrefix + "SerialNumber":               {2, 5, 4, 5},
	}
}

// CertificateID gives the id under which AWS IoT knows a certificate: SHA-256 of its DER, lower-case hex (CA-43).
func CertificateID(cert *x509.Certificate) string {
	sum := sha256.Sum256(cert.Raw)
	return hex.EncodeToString(sum[:])
}

// SubjectParameters gives the values that AWS draws from a certificate, by parameter name. An attribute that the subject
// lacks has no entry. One that stands there twice is an error: which of them AWS takes is not documented (PT-55).
func SubjectParameters(cert *x509.Certificate) (map[string]string, error) {
	values := map[string]string{parameterID: CertificateID(cert)}
	for name, oid := range subjectParameters() {
		for _, a := range cert.Subject.Names {
			if !a.Type.Equal(oid) {
				continue
			}
			if _, twice := values[name]; twice {
				return nil, fmt.Errorf("subject has more than one %s", name[len(parameterPrefix):])
			}
			values[name] = fmt.Sprint(a.Value)
		}
	}
	return values, nil
}

// known reports whether JITP has a parameter of this name (PT-50).
func known(name string) bool {
	_, ok := subjectParameters()[name]
	return ok || name == parameterID
}
