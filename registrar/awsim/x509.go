package awsim

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rsa"
	"crypto/sha256"
	"crypto/x509"
	"encoding/hex"
	"encoding/pem"
	"strings"
	"time"
)

// parseOne reads PEM with exactly one certificate (CA-31, CA-42).
func parseOne(text string) (*x509.Certificate, error) {
	block, rest := pem.Decode([]byte(text))
	if block == nil || block.Type != "CERTIFICATE" {
		return nil, badCertificate("The certificate could not be parsed")
	}
	if more, _ := pem.Decode(rest); more != nil {
		return nil, badCertificate("The certificate could not be parsed: more than one PEM block")
	}
	cert, err := x509.ParseCertificate(block.Bytes)
	if err != nil {
		return nil, badCertificate("The certificate could not be parsed")
	}
	return cert, nil
}

// certificateID is the SHA-256 of the DER (CA-43).
func certificateID(cert *x509.Certificate) string { return digest(cert.Raw) }

func digest(b []byte) string {
	sum := sha256.Sum256(b)
	return hex.EncodeToString(sum[:])
}

// checkContent is what AWS asks of every certificate that is registered: key, algorithm, validity (CA-32, CA-34, CA-40, DC-13, DC-15).
func checkContent(cert *x509.Certificate, now time.Time) error {
	if !keyAllowed(cert) {
		return badCertificate("The key in the certificate is not valid")
	}
	switch cert.SignatureAlgorithm {
	case x509.SHA256WithRSA, x509.SHA384WithRSA, x509.SHA512WithRSA,
		x509.SHA256WithRSAPSS, x509.SHA384WithRSAPSS, x509.SHA512WithRSAPSS,
		x509.ECDSAWithSHA256, x509.ECDSAWithSHA384, x509.ECDSAWithSHA512, x509.DSAWithSHA256:
	default:
		return badCertificate("The signature algorithm %s of the certificate is not supported", cert.SignatureAlgorithm)
	}
	if !valid(cert, now) {
		return badCertificate("The certificate is not within its validity period")
	}
	return nil
}

func valid(cert *x509.Certificate, now time.Time) bool {
	return !now.Before(cert.NotBefore) && !now.After(cert.NotAfter)
}

// maxRSA keeps RSA-8192 out: no upper bound is documented (CA-33).
const maxRSA = 4096

func keyAllowed(cert *x509.Certificate) bool {
	switch key := cert.PublicKey.(type) {
	case *rsa.PublicKey:
		return key.N.BitLen() >= 2048 && key.N.BitLen() <= maxRSA
	case *ecdsa.PublicKey:
		return key.Curve == elliptic.P256() || key.Curve == elliptic.P384() || key.Curve == elliptic.P521()
	}
	return false
}

// signedBy reports whether ca issued cert: by name and by signature.
func signedBy(cert, ca *x509.Certificate) bool {
	return string(cert.RawIssuer) == string(ca.RawSubject) &&
		ca.CheckSignature(cert.SignatureAlgorithm, cert.RawTBSCertificate, cert.Signature) == nil
}

// validity is the member of that name in what Describe answers.
func validity(cert *x509.Certificate) object {
	return object{"notBefore": epoch(cert.NotBefore), "notAfter": epoch(cert.NotAfter)}
}

// singlePEM gives a certificate in the form in which it is kept.
func singlePEM(cert *x509.Certificate) string {
	return strings.TrimSpace(string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: cert.Raw}))) + "\n"
}
