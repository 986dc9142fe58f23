package awsim

import (
	"crypto/rand"
	"crypto/x509"
	"errors"
	"strings"
	"time"
)

// Status, mode and auto-registration of certificates, as AWS writes them.
const (
	statusActive   = "ACTIVE"
	statusInactive = "INACTIVE"
	statusRevoked  = "REVOKED"
	statusPending  = "PENDING_ACTIVATION"

	modeDefault = "DEFAULT"
	modeSNIOnly = "SNI_ONLY"

	autoEnable  = "ENABLE"
	autoDisable = "DISABLE"
)

// caCertificate is a registered CA.
type caCertificate struct {
	ID               string              `json:"id"`
	PEM              string              `json:"pem"`
	Status           string              `json:"status"`
	Mode             string              `json:"mode"`
	AutoRegistration string              `json:"auto_registration"`
	Config           *registrationConfig `json:"config,omitempty"`
	Created          time.Time           `json:"created"`
	Modified         time.Time           `json:"modified"`
	Version          int                 `json:"version"`
	Generation       string              `json:"generation"`
}

// registrationConfig makes auto-registration provision by template (CA-52, CA-54).
type registrationConfig struct {
	TemplateBody string `json:"templateBody,omitempty"`
	RoleARN      string `json:"roleArn,omitempty"`
	TemplateName string `json:"templateName,omitempty"`
}

const (
	caCertificates table[caCertificate] = "ca-certificates"
	caByAge        table[string]        = "ca-by-age"     // place/age → id
	caBySubject    table[string]        = "ca-by-subject" // place/subject/id → id
	caOwners       table[string]        = "ca-owners"     // id/region/account → mode
)

// cert parses the CA's certificate, which was sound when it was registered.
func (ca *caCertificate) cert() (*x509.Certificate, error) { return parseOne(ca.PEM) }

// addCA stores a new CA with everything it is found by.
func addCA(tx *tx, at place, ca *caCertificate) error {
	cert, err := ca.cert()
	if err != nil {
		return err
	}
	return errors.Join(
		caCertificates.put(tx, at.key(ca.ID), ca),
		caByAge.put(tx, at.key(ageKey(ca.Created, ca.ID)), &ca.ID),
		caBySubject.put(tx, at.key(digest(cert.RawSubject)+"/"+ca.ID), &ca.ID),
		caOwners.put(tx, ca.ID+"/"+at.region+"/"+at.account, &ca.Mode))
}

func removeCA(tx *tx, at place, ca *caCertificate) error {
	cert, err := ca.cert()
	if err != nil {
		return err
	}
	return errors.Join(
		caCertificates.delete(tx, at.key(ca.ID)),
		caByAge.delete(tx, at.key(ageKey(ca.Created, ca.ID))),
		caBySubject.delete(tx, at.key(digest(cert.RawSubject)+"/"+ca.ID)),
		caOwners.delete(tx, ca.ID+"/"+at.region+"/"+at.account))
}

// casNamed gives the CAs of a place with this subject.
func casNamed(tx *tx, at place, rawSubject []byte) ([]*caCertificate, error) {
	ids, err := caBySubject.all(tx, at.key(digest(rawSubject)+"/"))
	if err != nil {
		return nil, err
	}
	cas := make([]*caCertificate, len(ids))
	for i, id := range ids {
		if cas[i], err = caCertificates.get(tx, at.key(*id)); err != nil {
			return nil, err
		}
	}
	return cas, nil
}

// changed stamps a change (CA-80).
func (ca *caCertificate) changed(now time.Time) {
	ca.Modified = now
	ca.Version++
	ca.Generation = rand.Text()
}

func (c *call) registeredCA() (*caCertificate, error) {
	id, err := c.pathID("caCertificateId")
	if err != nil {
		return nil, err
	}
	ca, err := caCertificates.get(c.tx, c.key(id))
	if err != nil {
		return nil, err
	}
	if ca == nil { // rule CA-79
		return nil, notFound("CA Certificate with id %s does not exist", id)
	}
	return ca, nil
}

func describeCACertificate(c *call) (any, error) {
	ca, err := c.registeredCA()
	if err != nil {
		return nil, err
	}
	cert, err := ca.cert()
	if err != nil {
		return nil, err
	}
	answer := object{"certificateDescription": object{ // rule CA-70
		"certificateArn": c.arn("cacert/" + ca.ID), "certificateId": ca.ID, "status": ca.Status, "certificatePem": ca.PEM,
		"ownedBy": c.account, "creationDate": epoch(ca.Created), "lastModifiedDate": epoch(ca.Modified),
		"autoRegistrationStatus": ca.AutoRegistration, "certificateMode": ca.Mode,
		"customerVersion": ca.Version, "generationId": ca.Generation, "validity": validity(cert),
	}}
	if ca.Config != nil {
		answer["registrationConfig"] = ca.Config
	}
	return answer, nil
}

// updateCACertificate changes only what is sent (CA-61). Removing and setting the configuration in one call is undefined at
// AWS (CA-62) and refused here.
func updateCACertificate(c *call) (any, error) {
	ca, err := c.registeredCA()
	if err != nil {
		return nil, err
	}
	var in struct {
		RegistrationConfig     *registrationConfig `json:"registrationConfig"`
		RemoveAutoRegistration bool                `json:"removeAutoRegistration"`
	}
	if err := c.decode(&in); err != nil {
		return nil, err
	}
	if in.RemoveAutoRegistration && in.RegistrationConfig != nil {
		return nil, invalidRequest("registrationConfig and removeAutoRegistration exclude each other")
	}
	if v := c.query("newStatus"); v != "" {
		if err := oneOf("newStatus", v, statusActive, statusInactive); err != nil { // rule CA-76
			return nil, err
		}
		ca.Status = v
	}
	if v := c.query("newAutoRegistrationStatus"); v != "" {
		if err := oneOf("newAutoRegistrationStatus", v, autoEnable, autoDisable); err != nil {
			return nil, err
		}
		ca.AutoRegistration = v
	}
	if in.RegistrationConfig != nil {
		if err := in.RegistrationConfig.check(c.tx, c.place); err != nil {
			return nil, err
		}
		ca.Config = in.RegistrationConfig
	}
	if in.RemoveAutoRegistration { // rule CA-62
		ca.Config = nil
	}
	ca.changed(c.tx.now)
	return nil, caCertificates.put(c.tx, c.key(ca.ID), ca)
}

// deleteCACertificate lets the device certificates under the CA stay registered (CA-78).
func deleteCACertificate(c *call) (any, error) {
	ca, err := c.registeredCA()
	if err != nil {
		return nil, err
	}
	if ca.Status == statusActive { // rule CA-77
		return nil, badState("Certificate must be deactivated (not ACTIVE) before deletion. ID: %s", ca.ID)
	}
	if err := tags.delete(c.tx, c.key(c.arn("cacert/"+ca.ID))); err != nil {
		return nil, err
	}
	return nil, removeCA(c.tx, c.place, ca)
}

func listCACertificates(c *call) (any, error) {
	s, err := c.paging("pageSize", "marker")
	if err != nil {
		return nil, err
	}
	if s, err = c.oldestFirst(s); err != nil {
		return nil, err
	}
	s.prefix = c.key("")
	template := c.query("templateName")
	items, answer, err := page(c.tx, caByAge, s, "nextMarker", func(id *string) (any, error) {
		ca, err := caCertificates.get(c.tx, c.key(*id))
		if err != nil {
			return nil, err
		}
		if template != "" && (ca.Config == nil || ca.Config.TemplateName != template) { // rule CA-73
			return nil, nil
		}
		return object{ // rule CA-71
			"certificateArn": c.arn("cacert/" + ca.ID), "certificateId": ca.ID, "status": ca.Status, "creationDate": epoch(ca.Created),
		}, nil
	})
	if err != nil {
		return nil, err
	}
	answer["certificates"] = items
	return answer, nil
}

// registrationCode is that of one account in one region (CA-03).
const registrationCodes table[string] = "registration-codes"

func getRegistrationCode(c *call) (any, error) {
	code, err := registrationCodes.get(c.tx, c.key("code"))
	if err != nil {
		return nil, err
	}
	if code == nil { // rules CA-01, CA-02
		fresh := digest([]byte(rand.Text()))
		code = &fresh
		err = registrationCodes.put(c.tx, c.key("code"), code)
	}
	return object{"registrationCode": *code}, err
}

// deleteRegistrationCode makes proofs with the old code worthless (CA-04).
func deleteRegistrationCode(c *call) (any, error) {
	code, err := registrationCodes.get(c.tx, c.key("code"))
	if err != nil {
		return nil, err
	}
	if code == nil {
		return nil, notFound("Registration code does not exist")
	}
	return nil, registrationCodes.delete(c.tx, c.key("code"))
}

// templateARN names a provisioning template (PT-12).
func (p place) templateARN(name string) string { return p.arn("provisioningtemplate/" + name) }

// source is what STS is told when AWS IoT takes the role of this configuration (CA-60).
func (rc *registrationConfig) source(at place, caID string) string {
	if rc.TemplateName != "" {
		return at.templateARN(rc.TemplateName)
	}
	return at.arn("cacert/" + strings.ToLower(caID))
}
