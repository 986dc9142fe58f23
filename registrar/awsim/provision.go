package awsim

import (
	"crypto/sha1" // the shape of AWS's names for policies made of documents (PT-29), not a secret
	"encoding/hex"
	"errors"
	"fmt"
	"maps"
	"strings"

	"github.com/certmill/certmill/registrar/jitp"
)

// provisioning is one run of a JITP template for a certificate (P-01).
type provisioning struct {
	tx     *tx
	at     place
	cert   *certificate
	rights rightsOf
	out    *jitp.Resources
}

// provision runs the template of a pending certificate's CA. A failure leaves the certificate pending, and what was made
// before it stays (P-04, P-08); the log has the reason, as AWS's has (P-05).
func (s *Sim) provision(at place, certID string, rc *registrationConfig) error {
	var failure error
	err := s.store.update(func(tx *tx) error {
		cert, err := certificates.get(tx, at.key(certID))
		if err != nil || cert == nil || cert.Status != statusPending {
			return err
		}
		failure = provision(tx, at, cert, rc)
		var bug *apiError
		var fault *jitp.Fault
		if failure != nil && !errors.As(failure, &bug) && !errors.As(failure, &fault) {
			return failure // of the store: nothing of it stays
		}
		return nil
	})
	return errors.Join(err, failure)
}

func provision(tx *tx, at place, cert *certificate, rc *registrationConfig) error {
	body, role, err := rc.resolve(tx, at)
	if err != nil {
		return err
	}
	rights, err := takeRole(tx, at, role, rc.source(at, cert.CA))
	if err != nil {
		return err
	}
	t, err := jitp.Parse([]byte(body))
	if err != nil {
		return err
	}
	leaf, err := cert.parsed()
	if err != nil {
		return err
	}
	params, err := jitp.SubjectParameters(leaf)
	if err != nil {
		return invalidRequest("%v", err) // rule PT-55
	}
	out, err := t.Resolve(params)
	if err != nil {
		return err
	}
	p := &provisioning{tx, at, cert, rights, out}
	for _, step := range []func() error{p.makeThing, p.attachPolicies, p.attachThing, p.setStatus} {
		if err := step(); err != nil {
			return err
		}
	}
	return nil
}

// resolve gives body and role: of the named template's default version (PT-07), or of the configuration itself (CA-54).
func (rc *registrationConfig) resolve(tx *tx, at place) (body, role string, err error) {
	if rc.TemplateName == "" {
		return rc.TemplateBody, rc.RoleARN, nil
	}
	t, err := templates.get(tx, at.key(rc.TemplateName))
	if err != nil {
		return "", "", err
	}
	if t == nil { // rule PT-14
		return "", "", notFound("Provisioning template %s does not exist", rc.TemplateName)
	}
	return t.body(), t.Role, nil
}

// takeRole is what AWS IoT does before it acts for the customer: the role must exist, trust it for this source, and then its
// rights count (CA-58, CA-60).
func takeRole(tx *tx, at place, arn, source string) (rightsOf, error) {
	m := roleARN.FindStringSubmatch(arn)
	if m == nil || m[1] != at.account {
		return rightsOf{}, invalidRequest("%q is not a role of account %s", arn, at.account)
	}
	r, err := roles.get(tx, global(at.account).key(m[2]))
	if err != nil {
		return rightsOf{}, err
	}
	if r == nil {
		return rightsOf{}, refuse(403, "AccessDeniedException", "role %s does not exist", arn)
	}
	trust, err := parseDocument(r.Trust)
	if err != nil {
		return rightsOf{}, invalidRequest("trust policy of %s: %v", arn, err)
	}
	vars := map[string]string{"aws:sourceaccount": at.account, "aws:sourcearn": source}
	if !allowed([]*document{trust}, access{action: "sts:AssumeRole", by: &actor{service: "iot.amazonaws.com"}, vars: vars}) {
		return rightsOf{}, refuse(403, "AccessDeniedException", "role %s does not trust iot.amazonaws.com for %s", arn, source)
	}
	documents, err := r.documents()
	if err != nil {
		return rightsOf{}, invalidRequest("rights of %s: %v", arn, err)
	}
	return rightsOf{documents}, nil
}

func (p *provisioning) makeThing() error {
	want := p.out.Thing
	for what, name := range map[string]string{"thing type": want.Type, "billing group": want.BillingGroup, "thing group": strings.Join(want.Groups, ", ")} {
		if name != "" { // rule PT-24
			return notFound("%s %s does not exist", what, name)
		}
	}
	there, err := things.get(p.tx, p.at.key(want.Name))
	if err != nil {
		return err
	}
	arn := p.at.arn("thing/" + want.Name)
	if there == nil {
		if err := p.rights.need("iot:CreateThing", arn); err != nil {
			return err
		}
		_, err := makeThing(p.tx, p.at, want.Name, want.Attributes)
		return err
	}
	if maps.Equal(there.Attributes, want.Attributes) { // rule PT-35
		return nil
	}
	switch want.Override["AttributePayload"] { // rule PT-31
	case "DO_NOTHING":
		return nil
	case "REPLACE", "MERGE":
		if err := p.rights.need("iot:UpdateThing", arn); err != nil {
			return err
		}
		there.setAttributes(want.Attributes, want.Override["AttributePayload"] == "MERGE")
		if err := checkAttributes(there.Attributes); err != nil {
			return err
		}
		there.Version++
		return things.put(p.tx, p.at.key(there.Name), there)
	}
	return refuse(409, "ResourceConflictsException", "thing %s exists with other attributes", want.Name)
}

func (p *provisioning) attachPolicies() error {
	for _, want := range p.out.Policies {
		name := want.Name
		if want.Document != "" {
			var err error
			if name, err = p.policyOf(want.Document); err != nil {
				return err
			}
		}
		if err := p.rights.need("iot:AttachPolicy", p.at.arn("cert/"+p.cert.ID)); err != nil {
			return err
		}
		if err := attachExisting(p.tx, p.at, name, p.cert.ID); err != nil {
			return err
		}
	}
	return nil
}

// policyOf gives the policy of a document: the same document, the same policy (PT-29).
func (p *provisioning) policyOf(document string) (string, error) {
	sum := sha1.Sum([]byte(document))
	name := strings.ToUpper(hex.EncodeToString(sum[:]))
	there, err := policies.get(p.tx, p.at.key(name))
	if err != nil || there != nil {
		return name, err
	}
	if err := p.rights.need("iot:CreatePolicy", p.at.arn("policy/"+name)); err != nil {
		return name, err
	}
	_, err = makePolicy(p.tx, p.at, name, document)
	return name, err
}

func (p *provisioning) attachThing() error {
	if err := p.rights.need("iot:AttachThingPrincipal", "*"); err != nil {
		return err
	}
	return attachThing(p.tx, p.at, p.out.Thing.Name, p.cert.ID, p.out.Certificate.ThingPrincipalType)
}

func (p *provisioning) setStatus() error {
	if err := p.rights.need("iot:UpdateCertificate", p.at.arn("cert/"+p.cert.ID)); err != nil {
		return err
	}
	if err := p.cert.become(p.out.Certificate.Status, p.tx.now); err != nil {
		return fmt.Errorf("set status: %w", err)
	}
	return certificates.put(p.tx, p.at.key(p.cert.ID), p.cert)
}
