package awsim

import (
	"crypto/rand"
	"crypto/x509"
	"net/http"
	"strings"

	"github.com/certmill/certmill/registrar/jitp"
)

// registration is one RegisterCACertificate on its way through the decision table.
type registration struct {
	*call
	in struct {
		CACertificate           string              `json:"caCertificate"`
		VerificationCertificate *string             `json:"verificationCertificate"`
		CertificateMode         string              `json:"certificateMode"`
		RegistrationConfig      *registrationConfig `json:"registrationConfig"`
		Tags                    []tag               `json:"tags"`
	}
	active, auto bool

	id          string
	cert, proof *x509.Certificate
}

// registerCACertificate goes down the decision table of rules section 2.5, in its order; the first row that says no gives
// the answer. Row 1, signature and access, is behind us.
func registerCACertificate(c *call) (any, error) {
	r := &registration{call: c}
	for _, row := range []func() error{
		r.limits, r.parse, r.content, r.modeWithProof, r.proofSigned, r.proofCode,
		r.config, r.registeredHere, r.ownedElsewhere, r.sameSubject,
	} {
		if err := row(); err != nil {
			return nil, err
		}
	}
	return r.store()
}

// limits is row 2.
func (r *registration) limits() (err error) {
	if err := r.decode(&r.in); err != nil {
		return err
	}
	if r.active, err = r.flag("setAsActive"); err != nil { // rule CA-50
		return err
	}
	if r.auto, err = r.flag("allowAutoRegistration"); err != nil { // rule CA-51
		return err
	}
	if r.in.CertificateMode == "" { // rule CA-10
		r.in.CertificateMode = modeDefault
	}
	if err := oneOf("certificateMode", r.in.CertificateMode, modeDefault, modeSNIOnly); err != nil {
		return err
	}
	if err := limitPEM.check(r.in.CACertificate); err != nil {
		return err
	}
	if v := r.in.VerificationCertificate; v != nil {
		if err := limitPEM.check(*v); err != nil {
			return err
		}
	}
	return checkTags(r.in.Tags)
}

// parse is row 3.
func (r *registration) parse() (err error) {
	if r.cert, err = parseOne(r.in.CACertificate); err != nil {
		return err
	}
	r.id = certificateID(r.cert)
	return nil
}

// content is row 4.
func (r *registration) content() error {
	if !r.cert.BasicConstraintsValid || !r.cert.IsCA { // rule CA-30
		return badCertificate("CA certificate is not valid. The CA certificate does not have the basicConstraints extension as true")
	}
	return checkContent(r.cert, r.tx.now)
}

// modeWithProof is row 5.
func (r *registration) modeWithProof() error {
	given := r.in.VerificationCertificate != nil
	switch {
	case r.in.CertificateMode == modeDefault && !given: // rule CA-11
		return invalidRequest("verificationCertificate is required in DEFAULT mode")
	case r.in.CertificateMode == modeSNIOnly && given: // rule CA-12
		return invalidRequest("verificationCertificate must be empty in SNI_ONLY mode")
	}
	return nil
}

// proofSigned is row 6.
func (r *registration) proofSigned() (err error) {
	if r.in.VerificationCertificate == nil {
		return nil
	}
	if r.proof, err = parseOne(*r.in.VerificationCertificate); err != nil {
		return err
	}
	if !signedBy(r.proof, r.cert) { // rule CA-05
		return badCertificate("The verification certificate is not signed by the CA certificate")
	}
	if !valid(r.proof, r.tx.now) { // rule CA-06
		return badCertificate("The verification certificate is not within its validity period")
	}
	return nil
}

// proofCode is row 7: the code of this account in this region (CA-03, CA-05).
func (r *registration) proofCode() error {
	if r.proof == nil {
		return nil
	}
	code, err := registrationCodes.get(r.tx, r.key("code"))
	if err != nil {
		return err
	}
	if code == nil || !strings.EqualFold(r.proof.Subject.CommonName, *code) {
		return refuse(http.StatusBadRequest, "RegistrationCodeValidationException",
			"The common name of the verification certificate is not the registration code")
	}
	return nil
}

// config is row 8.
func (r *registration) config() error {
	if r.in.RegistrationConfig == nil {
		return nil
	}
	return r.in.RegistrationConfig.check(r.tx, r.place)
}

// check is what AWS can know of a configuration when it is given; the role is only tried at the first connect (CA-58).
func (rc *registrationConfig) check(tx *tx, at place) error {
	named := rc.TemplateName != ""
	if named == (rc.TemplateBody != "") || named && rc.RoleARN != "" || !named && rc.RoleARN == "" { // rule CA-54
		return invalidRequest("registrationConfig wants either templateName, or templateBody and roleArn")
	}
	if !named {
		if err := limitRoleARN.check(rc.RoleARN); err != nil {
			return err
		}
		return checkBody(rc.TemplateBody)
	}
	if err := limitTemplateName.check(rc.TemplateName); err != nil {
		return err
	}
	t, err := templates.get(tx, at.key(rc.TemplateName))
	switch {
	case err != nil:
		return err
	case t == nil: // rule CA-55
		return notFound("Provisioning template %s does not exist", rc.TemplateName)
	case t.Type != typeJITP:
		return invalidRequest("Provisioning template %s is not of type JITP", rc.TemplateName)
	}
	return nil
}

// checkBody is rule PT-11.
func checkBody(body string) error {
	if err := limitTemplateBody.check(body); err != nil {
		return err
	}
	if _, err := jitp.Parse([]byte(body)); err != nil {
		return invalidRequest("Invalid template body: %v", err)
	}
	return nil
}

// registeredHere is row 9: the mode does not make it another resource (CA-18).
func (r *registration) registeredHere() error {
	ca, err := caCertificates.get(r.tx, r.key(r.id))
	if err != nil || ca == nil {
		return err
	}
	return alreadyExists(r.id, r.arn("cacert/"+r.id), "The CA certificate already exists")
}

// ownedElsewhere is row 10: a CA has one owner in DEFAULT mode in a region (CA-13); mixing the modes over accounts is not
// documented, and refused unless the switch says otherwise (CA-16). The other account is not named.
func (r *registration) ownedElsewhere() error {
	owners, err := caOwners.all(r.tx, r.id+"/"+r.region+"/")
	if err != nil {
		return err
	}
	for _, mode := range owners {
		bothDefault := *mode == modeDefault && r.in.CertificateMode == modeDefault
		mixed := *mode != r.in.CertificateMode && !r.sim.cfg.MixedModes
		if bothDefault || mixed {
			return refuse(http.StatusConflict, "ResourceAlreadyExistsException", "The CA certificate is already registered by another account in %s mode", *mode)
		}
	}
	return nil
}

// maxSameSubject is how many CAs of one subject an account may have in a region (CA-38).
const maxSameSubject = 10

// sameSubject is row 11.
func (r *registration) sameSubject() error {
	cas, err := casNamed(r.tx, r.place, r.cert.RawSubject)
	if err != nil {
		return err
	}
	if len(cas) >= maxSameSubject {
		return limitExceeded("The maximum number of CA certificates with the same subject has been reached")
	}
	return nil
}

// store is row 12.
func (r *registration) store() (any, error) {
	ca := &caCertificate{
		ID: r.id, PEM: singlePEM(r.cert), Status: statusInactive, Mode: r.in.CertificateMode, AutoRegistration: autoDisable,
		Config: r.in.RegistrationConfig, Created: r.tx.now, Modified: r.tx.now, Version: 1, Generation: rand.Text(),
	}
	if r.active {
		ca.Status = statusActive
	}
	if r.auto {
		ca.AutoRegistration = autoEnable
	}
	if err := addCA(r.tx, r.place, ca); err != nil {
		return nil, err
	}
	arn := r.arn("cacert/" + r.id) // rule CA-44
	if err := setTags(r.tx, r.place, arn, r.in.Tags); err != nil {
		return nil, err
	}
	return object{"certificateArn": arn, "certificateId": r.id}, nil
}
