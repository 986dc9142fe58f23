package awsim

import (
	"crypto/rand"
	"maps"
	"net/http"
	"time"
)

// thing is a thing of the registry. Its type and billing group cannot be made here, so no thing has one (PT-24).
type thing struct {
	Name       string            `json:"name"`
	ID         string            `json:"id"`
	Attributes map[string]string `json:"attributes,omitempty"`
	Version    int64             `json:"version"`
	Created    time.Time         `json:"created"`
}

const (
	things table[thing] = "things"
	// thingPrincipals relates a thing to the certificates it holds; the word is the kind of attachment (DC-42).
	thingPrincipals relation = "thing-principals"
)

// maxAttributes is how many attributes a thing without a type may have.
const maxAttributes = 3

func checkAttributes(attributes map[string]string) error {
	if len(attributes) > maxAttributes {
		return invalidRequest("a thing without a thing type has at most %d attributes", maxAttributes)
	}
	for k, v := range attributes {
		if err := limitAttributeKey.check(k); err != nil {
			return err
		}
		if err := limitAttribute.check(v); err != nil {
			return err
		}
	}
	return nil
}

// makeThing is CreateThing: the same again is fine, another configuration is a conflict (rules section 5.5).
func makeThing(tx *tx, at place, name string, attributes map[string]string) (*thing, error) {
	if err := limitThingName.check(name); err != nil {
		return nil, err
	}
	if err := checkAttributes(attributes); err != nil {
		return nil, err
	}
	there, err := things.get(tx, at.key(name))
	if err != nil {
		return nil, err
	}
	if there != nil {
		if maps.Equal(there.Attributes, attributes) {
			return there, nil
		}
		return nil, alreadyExists(name, at.arn("thing/"+name), "Thing %s already exists in account with different properties", name)
	}
	t := &thing{Name: name, ID: rand.Text(), Attributes: attributes, Version: 1, Created: tx.now}
	return t, things.put(tx, at.key(name), t)
}

// thingInput is the body of CreateThing and UpdateThing.
type thingInput struct {
	ThingTypeName    string `json:"thingTypeName"`
	BillingGroupName string `json:"billingGroupName"`
	AttributePayload struct {
		Attributes map[string]string `json:"attributes"`
		Merge      bool              `json:"merge"`
	} `json:"attributePayload"`
	ExpectedVersion int64 `json:"expectedVersion"`
}

func (c *call) readThing() (name string, in thingInput, err error) {
	if name, err = c.pathName("thingName", limitThingName); err != nil {
		return name, in, err
	}
	if err := c.decode(&in); err != nil {
		return name, in, err
	}
	for _, missing := range []string{in.ThingTypeName, in.BillingGroupName} {
		if missing != "" {
			return name, in, notFound("%s does not exist", missing)
		}
	}
	return name, in, nil
}

func createThing(c *call) (any, error) {
	name, in, err := c.readThing()
	if err != nil {
		return nil, err
	}
	t, err := makeThing(c.tx, c.place, name, in.AttributePayload.Attributes)
	if err != nil {
		return nil, err
	}
	return object{"thingName": t.Name, "thingArn": c.arn("thing/" + t.Name), "thingId": t.ID}, nil
}

func (c *call) registeredThing() (*thing, error) {
	name, err := c.pathName("thingName", limitThingName)
	if err != nil {
		return nil, err
	}
	t, err := things.get(c.tx, c.key(name))
	if err == nil && t == nil {
		err = notFound("Thing %s does not exist", name)
	}
	return t, err
}

func describeThing(c *call) (any, error) {
	t, err := c.registeredThing()
	if err != nil {
		return nil, err
	}
	return object{
		"defaultClientId": t.Name, "thingName": t.Name, "thingId": t.ID, "thingArn": c.arn("thing/" + t.Name),
		"attributes": orEmpty(t.Attributes), "version": t.Version,
	}, nil
}

func orEmpty(m map[string]string) map[string]string {
	if m == nil {
		return map[string]string{}
	}
	return m
}

func updateThing(c *call) (any, error) {
	t, err := c.registeredThing()
	if err != nil {
		return nil, err
	}
	_, in, err := c.readThing()
	if err != nil {
		return nil, err
	}
	if in.ExpectedVersion != 0 && in.ExpectedVersion != t.Version {
		return nil, refuse(http.StatusConflict, "VersionConflictException", "Expected version %d, found %d", in.ExpectedVersion, t.Version)
	}
	if in.AttributePayload.Attributes != nil {
		t.setAttributes(in.AttributePayload.Attributes, in.AttributePayload.Merge)
	}
	if err := checkAttributes(t.Attributes); err != nil {
		return nil, err
	}
	t.Version++
	return object{}, things.put(c.tx, c.key(t.Name), t)
}

// setAttributes replaces them, or merges: then an empty value removes an attribute.
func (t *thing) setAttributes(attributes map[string]string, merge bool) {
	if !merge {
		t.Attributes = attributes
		return
	}
	t.Attributes = orEmpty(t.Attributes)
	for k, v := range attributes {
		t.Attributes[k] = v
		if v == "" {
			delete(t.Attributes, k)
		}
	}
}

func deleteThing(c *call) (any, error) {
	t, err := c.registeredThing()
	if err != nil {
		return nil, err
	}
	held, err := thingPrincipals.rights(c.tx, c.place, t.Name)
	if err != nil {
		return nil, err
	}
	if len(held) > 0 {
		return nil, invalidRequest("Cannot delete. Thing %s is still attached to one or more principals", t.Name)
	}
	return object{}, things.delete(c.tx, c.key(t.Name))
}

func listThings(c *call) (any, error) {
	s, err := c.paging("maxResults", "nextToken")
	if err != nil {
		return nil, err
	}
	s.prefix = c.key("")
	name, value := c.query("attributeName"), c.query("attributeValue")
	items, answer, err := page(c.tx, things, s, "nextToken", func(t *thing) (any, error) {
		if name != "" && t.Attributes[name] != value {
			return nil, nil
		}
		return object{
			"thingName": t.Name, "thingArn": c.arn("thing/" + t.Name), "attributes": orEmpty(t.Attributes), "version": t.Version,
		}, nil
	})
	if err != nil {
		return nil, err
	}
	answer["things"] = items
	return answer, nil
}

const (
	exclusiveThing    = "EXCLUSIVE_THING"
	nonExclusiveThing = "NON_EXCLUSIVE_THING"
)

func attachThingPrincipal(c *call) (any, error) {
	t, err := c.registeredThing()
	if err != nil {
		return nil, err
	}
	cert, err := c.principal(c.r.Header.Get("X-Amzn-Principal"))
	if err != nil {
		return nil, err
	}
	return object{}, attachThing(c.tx, c.place, t.Name, cert.ID, c.query("thingPrincipalType"))
}

// attachThing is fine when repeated; a certificate that a thing holds exclusively goes to no other (DC-42).
func attachThing(tx *tx, at place, thing, cert, kind string) error {
	if kind == "" {
		kind = nonExclusiveThing
	}
	if err := oneOf("thingPrincipalType", kind, exclusiveThing, nonExclusiveThing); err != nil {
		return err
	}
	held, err := thingPrincipals.lefts(tx, at, cert)
	if err != nil {
		return err
	}
	for _, other := range held {
		if other.key != thing && (kind == exclusiveThing || *other.value == exclusiveThing) {
			return invalidRequest("The principal is attached to thing %s, and one of the two attachments is exclusive", other.key)
		}
	}
	return thingPrincipals.add(tx, at, thing, cert, kind)
}

func detachThingPrincipal(c *call) (any, error) {
	t, err := c.registeredThing()
	if err != nil {
		return nil, err
	}
	id, err := c.principalID(c.r.Header.Get("X-Amzn-Principal"))
	if err != nil {
		return nil, err
	}
	return object{}, thingPrincipals.remove(c.tx, c.place, t.Name, id)
}

func listThingPrincipals(c *call) (any, error) {
	t, err := c.registeredThing()
	if err != nil {
		return nil, err
	}
	held, err := thingPrincipals.rights(c.tx, c.place, t.Name)
	arns := make([]string, len(held))
	for i, r := range held {
		arns[i] = c.arn("cert/" + r.key)
	}
	return object{"principals": arns}, err
}

func listPrincipalThings(c *call) (any, error) {
	id, err := c.principalID(c.r.Header.Get("X-Amzn-Principal"))
	if err != nil {
		return nil, err
	}
	held, err := thingPrincipals.lefts(c.tx, c.place, id)
	return object{"things": keys(held)}, err
}

func keys(rows []row[string]) []string {
	out := make([]string, len(rows))
	for i, r := range rows {
		out[i] = r.key
	}
	return out
}
