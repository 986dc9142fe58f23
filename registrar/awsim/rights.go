package awsim

import (
	"crypto/x509/pkix"
	"strings"
)

// may asks the policies as they stand now.
func (b *broker) may(d *deviceConn, action, resource string) bool {
	ok := false
	err := b.sim.store.view(func(tx *tx) (err error) {
		ok, err = permitted(tx, d, d.cert, action, resource)
		return err
	})
	if err != nil {
		b.sim.log.Error("awsim: policy check", "err", err)
		return false
	}
	if !ok {
		b.sim.log.Info("awsim: not allowed", "client_id", d.clientID, "action", action, "resource", resource)
	}
	return ok
}

// permitted evaluates the policies of a certificate for something that its device wants; resource is as "topic/x".
func permitted(tx *tx, d *deviceConn, cert *certificate, action, resource string) (bool, error) {
	attached, err := policyTargets.lefts(tx, d.at, cert.ID)
	if err != nil {
		return false, err
	}
	var documents []*document
	for _, name := range keys(attached) {
		p, err := policies.get(tx, d.at.key(name))
		if err != nil {
			return false, err
		}
		doc, err := parseDocument(byID(p.Versions, p.Default).Body)
		if err != nil {
			return false, err
		}
		documents = append(documents, doc)
	}
	vars, err := deviceVariables(tx, d, cert)
	if err != nil {
		return false, err
	}
	return allowed(documents, access{action: action, resource: d.at.arn(resource), vars: vars}), nil
}

// deviceVariables are the policy variables of a connection (M-20).
func deviceVariables(tx *tx, d *deviceConn, cert *certificate) (map[string]string, error) {
	leaf := d.chain[0]
	vars := map[string]string{
		"iot:clientid":                    d.clientID,
		"iot:certificate.serialnumber":    strings.ToUpper(leaf.SerialNumber.Text(16)),
		"iot:connection.thing.isattached": "false",
	}
	nameVariables(vars, "iot:certificate.subject.", leaf.Subject)
	nameVariables(vars, "iot:certificate.issuer.", leaf.Issuer)
	name, err := connectedThing(tx, d, cert)
	if err != nil || name == "" {
		return vars, err
	}
	t, err := things.get(tx, d.at.key(name))
	if err != nil || t == nil {
		return vars, err
	}
	vars["iot:connection.thing.thingname"] = t.Name
	vars["iot:connection.thing.isattached"] = "true"
	for k, v := range t.Attributes {
		vars["iot:connection.thing.attributes["+strings.ToLower(k)+"]"] = v
	}
	return vars, nil
}

// connectedThing is the thing a connection speaks for: the one that holds the certificate exclusively, else the one that holds
// it and is named as the client id.
func connectedThing(tx *tx, d *deviceConn, cert *certificate) (string, error) {
	held, err := thingPrincipals.lefts(tx, d.at, cert.ID)
	if err != nil {
		return "", err
	}
	for _, h := range held {
		if *h.value == exclusiveThing || h.key == d.clientID {
			return h.key, nil
		}
	}
	return "", nil
}

// nameVariables adds the attributes of a distinguished name; of one that stands there twice, none.
func nameVariables(vars map[string]string, prefix string, name pkix.Name) {
	for attribute, values := range map[string][]string{
		"commonname": one(name.CommonName), "serialnumber": one(name.SerialNumber), "country": name.Country,
		"organization": name.Organization, "organizationalunit": name.OrganizationalUnit, "state": name.Province,
		"localityname": name.Locality,
	} {
		if len(values) == 1 {
			vars[prefix+attribute] = values[0]
		}
	}
}

func one(v string) []string {
	if v == "" {
		return nil
	}
	return []string{v}
}

// rightsOf is what a role may do, asked step by step while a template runs.
type rightsOf struct{ documents []*document }

func (r rightsOf) need(action, resource string) error {
	if allowed(r.documents, access{action: action, resource: resource, vars: map[string]string{}}) {
		return nil
	}
	return refuse(403, "AccessDeniedException", "the provisioning role is not authorized to perform: %s on resource: %s", action, resource)
}
