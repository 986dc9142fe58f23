package awsim

import (
	"crypto/rand"
	"crypto/x509"
	"errors"
	"net/http"
	"strings"
	"time"
)

// certificate is a registered device certificate.
type certificate struct {
	ID         string    `json:"id"`
	CA         string    `json:"ca,omitempty"` // id of the registered CA; "" for one registered without
	PEM        string    `json:"pem"`
	Status     string    `json:"status"`
	Mode       string    `json:"mode"`
	Created    time.Time `json:"created"`
	Modified   time.Time `json:"modified"`
	Version    int       `json:"version"`
	Generation string    `json:"generation"`
}

const (
	certificates        table[certificate] = "certificates"
	certificatesByAge   table[string]      = "certificates-by-age"  // place/age → id
	certificatesByCA    table[string]      = "certificates-by-ca"   // place/ca/age → id
	defaultCertificates table[string]      = "certificates-default" // id/region → account, of those in DEFAULT mode
)

func (cert *certificate) parsed() (*x509.Certificate, error) { return parseOne(cert.PEM) }

// addCertificate stores a new certificate with everything it is found by. Its mode is that of its CA (CA-20, DC-04).
func addCertificate(tx *tx, at place, x *x509.Certificate, ca *caCertificate, status string) (*certificate, error) {
	cert := &certificate{
		ID: certificateID(x), PEM: singlePEM(x), Status: status, Mode: modeSNIOnly,
		Created: tx.now, Modified: tx.now, Version: 1, Generation: rand.Text(),
	}
	if ca != nil {
		cert.CA, cert.Mode = ca.ID, ca.Mode
	}
	if err := checkNew(tx, at, cert); err != nil {
		return nil, err
	}
	age := ageKey(cert.Created, cert.ID)
	err := errors.Join(
		certificates.put(tx, at.key(cert.ID), cert),
		certificatesByAge.put(tx, at.key(age), &cert.ID))
	if cert.CA != "" {
		err = errors.Join(err, certificatesByCA.put(tx, at.key(cert.CA+"/"+age), &cert.ID))
	}
	if cert.Mode == modeDefault {
		err = errors.Join(err, defaultCertificates.put(tx, cert.ID+"/"+at.region, &at.account))
	}
	return cert, err
}

// checkNew refuses a certificate that is there already (DC-06), or in DEFAULT mode in another account of the region (DC-07).
func checkNew(tx *tx, at place, cert *certificate) error {
	there, err := certificates.get(tx, at.key(cert.ID))
	if err != nil {
		return err
	}
	if there != nil {
		return alreadyExists(cert.ID, at.arn("cert/"+cert.ID), "The certificate is already provisioned or registered")
	}
	if cert.Mode != modeDefault {
		return nil
	}
	owner, err := defaultCertificates.get(tx, cert.ID+"/"+at.region)
	if err != nil || owner == nil {
		return err
	}
	return refuse(http.StatusConflict, "ResourceAlreadyExistsException", "The certificate is already registered by another account")
}

func removeCertificate(tx *tx, at place, cert *certificate) error {
	age := ageKey(cert.Created, cert.ID)
	err := errors.Join(
		certificates.delete(tx, at.key(cert.ID)),
		certificatesByAge.delete(tx, at.key(age)),
		certificatesByCA.delete(tx, at.key(cert.CA+"/"+age)))
	if cert.Mode == modeDefault {
		err = errors.Join(err, defaultCertificates.delete(tx, cert.ID+"/"+at.region))
	}
	return err
}

// registerInput is the body of both ways of registering.
type registerInput struct {
	CertificatePEM   string `json:"certificatePem"`
	CACertificatePEM string `json:"caCertificatePem"`
	Status           string `json:"status"`
}

func (c *call) readRegister() (in registerInput, cert *x509.Certificate, err error) {
	if err := c.decode(&in); err != nil {
		return in, nil, err
	}
	if in.Status == "" { // rule DC-05
		in.Status = statusInactive
		if active, err := c.flag("setAsActive"); err != nil {
			return in, nil, err
		} else if active {
			in.Status = statusActive
		}
	}
	if err := oneOf("status", in.Status, statusActive, statusInactive, statusRevoked); err != nil {
		return in, nil, err
	}
	if err := limitPEM.check(in.CertificatePEM); err != nil {
		return in, nil, err
	}
	if cert, err = parseOne(in.CertificatePEM); err != nil {
		return in, nil, err
	}
	return in, cert, checkContent(cert, c.tx.now)
}

// registerCertificate publishes no event (DC-09).
func registerCertificate(c *call) (any, error) {
	in, cert, err := c.readRegister()
	if err != nil {
		return nil, err
	}
	ca, err := c.issuerOf(cert, in.CACertificatePEM)
	if err != nil {
		return nil, err
	}
	return c.registered(cert, ca, in.Status)
}

func registerCertificateWithoutCA(c *call) (any, error) {
	in, cert, err := c.readRegister()
	if err != nil {
		return nil, err
	}
	return c.registered(cert, nil, in.Status)
}

func (c *call) registered(x *x509.Certificate, ca *caCertificate, status string) (any, error) {
	cert, err := addCertificate(c.tx, c.place, x, ca, status)
	if err != nil {
		return nil, err
	}
	return object{"certificateArn": c.arn("cert/" + cert.ID), "certificateId": cert.ID}, nil
}

// issuerOf finds the registered CA that signed cert (DC-02); which one must be said where several have its name (DC-03).
func (c *call) issuerOf(cert *x509.Certificate, caPEM string) (*caCertificate, error) {
	cas, err := casNamed(c.tx, c.place, cert.RawIssuer)
	if err != nil {
		return nil, err
	}
	if len(cas) > 1 && caPEM == "" {
		return nil, refuse(http.StatusConflict, "CertificateConflictException", "More than one CA certificate has the subject of the issuer: name one")
	}
	named := ""
	if caPEM != "" {
		ca, err := parseOne(caPEM)
		if err != nil {
			return nil, err
		}
		named = certificateID(ca)
	}
	for _, ca := range cas {
		x, err := ca.cert()
		if err != nil {
			return nil, err
		}
		if (named == "" || named == ca.ID) && signedBy(cert, x) {
			if ca.Status != statusActive { // rule CA-76
				return nil, badState("The CA certificate %s is not active", ca.ID)
			}
			return ca, nil
		}
	}
	return nil, badCertificate("The certificate is not signed by a registered CA certificate")
}

func (c *call) registeredCertificate() (*certificate, error) {
	id, err := c.pathID("certificateId")
	if err != nil {
		return nil, err
	}
	cert, err := certificates.get(c.tx, c.key(id))
	if err == nil && cert == nil {
		err = notFound("Certificate with id %s does not exist", id)
	}
	return cert, err
}

func describeCertificate(c *call) (any, error) {
	cert, err := c.registeredCertificate()
	if err != nil {
		return nil, err
	}
	x, err := cert.parsed()
	if err != nil {
		return nil, err
	}
	description := object{ // rule DC-40
		"certificateArn": c.arn("cert/" + cert.ID), "certificateId": cert.ID, "status": cert.Status, "certificatePem": cert.PEM,
		"ownedBy": c.account, "creationDate": epoch(cert.Created), "lastModifiedDate": epoch(cert.Modified),
		"customerVersion": cert.Version, "generationId": cert.Generation, "certificateMode": cert.Mode, "validity": validity(x),
	}
	if cert.CA != "" {
		description["caCertificateId"] = cert.CA
	}
	return object{"certificateDescription": description}, nil
}

func updateCertificate(c *call) (any, error) {
	cert, err := c.registeredCertificate()
	if err != nil {
		return nil, err
	}
	if err := cert.become(c.query("newStatus"), c.tx.now); err != nil {
		return nil, err
	}
	return nil, certificates.put(c.tx, c.key(cert.ID), cert)
}

// become changes the status as the matrix of rules section 3.2 lets it.
func (cert *certificate) become(status string, now time.Time) error {
	switch status {
	case statusPending, "PENDING_TRANSFER", "REGISTER_INACTIVE": // rule DC-30
		return invalidRequest("The status %s is set by AWS IoT alone", status)
	}
	if err := oneOf("newStatus", status, statusActive, statusInactive, statusRevoked); err != nil {
		return err
	}
	if cert.Status == statusRevoked && status != statusRevoked { // rule DC-33
		return badState("The certificate %s is revoked for ever", cert.ID)
	}
	if cert.Status != status { // rule DC-31
		cert.Status, cert.Modified, cert.Generation = status, now, rand.Text()
		cert.Version++
	}
	return nil
}

func deleteCertificate(c *call) (any, error) { // rule DC-35
	cert, err := c.registeredCertificate()
	if err != nil {
		return nil, err
	}
	force, err := c.flag("forceDelete")
	if err != nil {
		return nil, err
	}
	if cert.Status == statusActive {
		return nil, badState("Certificate must be deactivated (not ACTIVE) before deletion. ID: %s", cert.ID)
	}
	things, err := thingPrincipals.lefts(c.tx, c.place, cert.ID)
	if err != nil {
		return nil, err
	}
	if len(things) > 0 {
		return nil, deleteConflict("Things must be detached before deletion (arn: %s)", c.arn("cert/"+cert.ID))
	}
	attached, err := policyTargets.lefts(c.tx, c.place, cert.ID)
	if err != nil {
		return nil, err
	}
	if len(attached) > 0 && !force {
		return nil, deleteConflict("Certificate policies must be detached before deletion (arn: %s)", c.arn("cert/"+cert.ID))
	}
	for _, p := range attached {
		if err := policyTargets.remove(c.tx, c.place, p.key, cert.ID); err != nil {
			return nil, err
		}
	}
	return nil, removeCertificate(c.tx, c.place, cert)
}

func listCertificates(c *call) (any, error) { return c.listCertificates(certificatesByAge, c.key("")) }

// listCertificatesByCA models no ResourceNotFoundException: a CA that is not there has no certificates.
func listCertificatesByCA(c *call) (any, error) {
	id, err := c.pathID("caCertificateId")
	if err != nil {
		return nil, err
	}
	return c.listCertificates(certificatesByCA, c.key(id+"/"))
}

func (c *call) listCertificates(index table[string], prefix string) (any, error) {
	s, err := c.paging("pageSize", "marker")
	if err != nil {
		return nil, err
	}
	if s, err = c.oldestFirst(s); err != nil {
		return nil, err
	}
	s.prefix = prefix
	items, answer, err := page(c.tx, index, s, "nextMarker", func(id *string) (any, error) {
		cert, err := certificates.get(c.tx, c.key(*id))
		if err != nil {
			return nil, err
		}
		return object{
			"certificateArn": c.arn("cert/" + cert.ID), "certificateId": cert.ID, "status": cert.Status,
			"certificateMode": cert.Mode, "creationDate": epoch(cert.Created),
		}, nil
	})
	if err != nil {
		return nil, err
	}
	answer["certificates"] = items
	return answer, nil
}

// principalID takes a certificate's ARN apart; other principals are not known here.
func (p place) principalID(arn string) (string, error) {
	id, ok := strings.CutPrefix(arn, p.arn("cert/"))
	if !ok {
		return "", invalidRequest("%q is not the ARN of a certificate of this account and region", arn)
	}
	return id, limitID.check(id)
}

// principal finds the certificate of an ARN.
func (c *call) principal(arn string) (*certificate, error) {
	id, err := c.principalID(arn)
	if err != nil {
		return nil, err
	}
	cert, err := certificates.get(c.tx, c.key(id))
	if err == nil && cert == nil {
		err = notFound("The certificate %s does not exist", arn)
	}
	return cert, err
}
