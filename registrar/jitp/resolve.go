package jitp

import (
	"encoding/json"
	"maps"
	"regexp"
	"slices"
	"strings"
)

// Values of Certificate.Status and Certificate.ThingPrincipalType.
const (
	StatusActive      = "ACTIVE"
	StatusInactive    = "INACTIVE"
	ExclusiveThing    = "EXCLUSIVE_THING"
	NonExclusiveThing = "NON_EXCLUSIVE_THING"
)

// Resources is what a template makes of one certificate.
type Resources struct {
	Thing       Thing
	Certificate Certificate
	Policies    []Policy
}

// Thing is the thing that is made, or found and brought into line as Override says.
type Thing struct {
	Name            string
	Attributes      map[string]string
	Type            string   // thing type, which must exist (PT-24)
	Groups          []string // thing groups, which must exist (PT-24)
	BillingGroup    string   // must exist (PT-24)
	PackageVersions map[string]string
	Override        map[string]string // AttributePayload, ThingTypeName, ThingGroups → DO_NOTHING, REPLACE, FAIL, MERGE (PT-31)
}

// Certificate is what becomes of the certificate itself.
type Certificate struct {
	ID                 string
	Status             string // ACTIVE or INACTIVE
	ThingPrincipalType string // EXCLUSIVE_THING or NON_EXCLUSIVE_THING
}

// Policy is attached to the certificate: the one of that name, or one made of the document.
type Policy struct {
	Name     string // of a policy that exists; "" where Document is given
	Document string // JSON
}

// Patterns that AWS demands of what comes out (rules section 1.4, PT-56).
var (
	thingName      = regexp.MustCompile(`^[a-zA-Z0-9:_-]{1,128}$`)
	attributeKey   = regexp.MustCompile(`^[a-zA-Z0-9_.,@/:#-]{1,128}$`)
	attributeValue = regexp.MustCompile(`^[a-zA-Z0-9_.,@/:#=\[\]-]{0,800}$`)
	policyName     = regexp.MustCompile(`^[\w+=,.@-]{1,128}$`)
)

// Resolve runs the template with the parameters of one certificate (see SubjectParameters). The error is a *Fault where AWS
// would fail the provisioning: a declared parameter without value and default (PT-53), or a name that AWS does not take (PT-56).
func (t *Template) Resolve(params map[string]string) (*Resources, error) {
	values, err := t.values(params)
	if err != nil {
		return nil, err
	}
	res := &Resources{}
	if res.Thing, err = resolveThing(t.thing, values); err != nil {
		return nil, err
	}
	res.Certificate = resolveCertificate(t.certificate, values)
	for _, r := range t.policies {
		p, err := resolvePolicy(r, values)
		if err != nil {
			return nil, err
		}
		res.Policies = append(res.Policies, p)
	}
	return res, nil
}

// values are those of the declared parameters, all of which need one, whether they are used or not (PT-53).
func (t *Template) values(params map[string]string) (map[string]string, error) {
	values := make(map[string]string, len(t.Parameters))
	for _, name := range slices.Sorted(maps.Keys(t.Parameters)) {
		v, given := params[name]
		switch def := t.Parameters[name].Default; {
		case given:
			values[name] = v
		case def != nil:
			values[name] = *def
		default:
			return nil, fault(join("Parameters", name), "PT-53", "the certificate has no such attribute, and there is no default")
		}
	}
	return values, nil
}

func resolveThing(r *resource, values map[string]string) (thing Thing, err error) {
	path := join(r.path, "Properties")
	v, err := eval(r.properties, values, path)
	if err != nil {
		return thing, err
	}
	p := v.(map[string]any)
	thing = Thing{Override: map[string]string{}}
	for name, into := range map[string]*string{"ThingName": &thing.Name, "ThingTypeName": &thing.Type, "BillingGroup": &thing.BillingGroup} {
		*into, _ = p[name].(string)
	}
	thing.Attributes, thing.PackageVersions = textMap(p["AttributePayload"]), textMap(p["PackageVersions"])
	if groups, given := p["ThingGroups"]; given {
		if thing.Groups, err = texts(groups, join(path, "ThingGroups")); err != nil {
			return thing, err
		}
	}
	for key, setting := range r.override {
		thing.Override[overrideKey(key)] = setting.(string)
	}
	return thing, checkNames(thing, path)
}

func checkNames(thing Thing, path string) error {
	if !thingName.MatchString(thing.Name) {
		return fault(join(path, "ThingName"), "PT-56", "%q is not a name for a thing", thing.Name)
	}
	if thing.Type != "" && !thingName.MatchString(thing.Type) {
		return fault(join(path, "ThingTypeName"), "PT-56", "%q is not a name for a thing type", thing.Type)
	}
	for _, key := range slices.Sorted(maps.Keys(thing.Attributes)) {
		if !attributeKey.MatchString(key) || !attributeValue.MatchString(thing.Attributes[key]) {
			return fault(join(join(path, "AttributePayload"), key), "PT-56", "%q is not a value for an attribute", thing.Attributes[key])
		}
	}
	return nil
}

func resolveCertificate(r *resource, values map[string]string) Certificate {
	c := Certificate{ID: values[parameterID], Status: StatusActive, ThingPrincipalType: NonExclusiveThing}
	if s, ok := r.properties["Status"].(string); ok {
		c.Status = strings.ToUpper(s)
	}
	if s, ok := r.properties["ThingPrincipalType"].(string); ok {
		c.ThingPrincipalType = strings.ToUpper(s)
	}
	return c
}

func resolvePolicy(r *resource, values map[string]string) (Policy, error) {
	path := join(r.path, "Properties")
	v, err := eval(r.properties, values, path)
	if err != nil {
		return Policy{}, err
	}
	p := v.(map[string]any)
	if name, ok := p["PolicyName"].(string); ok {
		if !policyName.MatchString(name) {
			return Policy{}, fault(join(path, "PolicyName"), "PT-56", "%q is not a name for a policy", name)
		}
		return Policy{Name: name}, nil
	}
	document, isText := p["PolicyDocument"].(string)
	if !isText {
		b, err := json.Marshal(p["PolicyDocument"])
		if err != nil {
			return Policy{}, err
		}
		document = string(b)
	}
	if !json.Valid([]byte(document)) {
		return Policy{}, fault(join(path, "PolicyDocument"), "PT-28", "is not JSON once its functions are run")
	}
	return Policy{Document: document}, nil
}

func textMap(v any) map[string]string {
	object, ok := v.(map[string]any)
	if !ok {
		return nil
	}
	out := make(map[string]string, len(object))
	for key, e := range object {
		out[key], _ = scalar(e)
	}
	return out
}
