package jitp

import (
	"maps"
	"slices"
)

// MaxBody is the size of the largest template body, in bytes (PT-40).
const MaxBody = 10240

// Template is a template for just-in-time provisioning that Parse found sound. It does not change and may be used concurrently.
type Template struct {
	Parameters map[string]Parameter // by name, as "AWS::IoT::Certificate::CommonName"

	thing, certificate *resource
	policies           []*resource // in the order of their keys
	calls              map[string]bool
}

// resource is an entry of the section Resources.
type resource struct {
	path       string // "Resources.thing"
	properties map[string]any
	override   map[string]any
}

// Parse reads a template body. The error is a *Fault: the first thing that AWS would refuse, or that it could not run.
func Parse(body []byte) (*Template, error) {
	if len(body) > MaxBody {
		return nil, fault("", "PT-40", "has %d bytes, more than %d", len(body), MaxBody)
	}
	v, err := decode(body)
	if err != nil {
		return nil, err
	}
	root, ok := v.(map[string]any)
	if !ok {
		return nil, fault("", "PT-20", "is not an object")
	}
	if err := onlyKeys("", "PT-20", root, "Parameters", "Resources"); err != nil {
		return nil, err
	}
	t := &Template{Parameters: map[string]Parameter{}}
	if err := t.parseParameters(root["Parameters"]); err != nil {
		return nil, err
	}
	return t, t.parseResources(root["Resources"])
}

func (t *Template) parseParameters(v any) error {
	if v == nil {
		return nil
	}
	section, ok := v.(map[string]any)
	if !ok {
		return fault("Parameters", "PT-21", "is not an object")
	}
	for _, name := range slices.Sorted(maps.Keys(section)) {
		path := join("Parameters", name)
		if !known(name) {
			return fault(path, "PT-50", "JITP has no such parameter")
		}
		p, err := parseParameter(section[name], path)
		if err != nil {
			return err
		}
		t.Parameters[name] = p
	}
	return nil
}

func parseParameter(v any, path string) (p Parameter, err error) {
	object, ok := v.(map[string]any)
	if !ok {
		return p, fault(path, "PT-21", "is not an object")
	}
	if err := onlyKeys(path, "PT-21", object, "Type", "Default"); err != nil {
		return p, err
	}
	if object["Type"] != "String" {
		return p, fault(join(path, "Type"), "PT-21", "the only type is String")
	}
	if v, given := object["Default"]; given {
		text, ok := v.(string)
		if !ok {
			return p, fault(join(path, "Default"), "PT-21", "is not a text")
		}
		p.Default = &text
	}
	return p, nil
}

func (t *Template) parseResources(v any) error {
	section, ok := v.(map[string]any)
	if !ok {
		return fault("Resources", "PT-20", "is missing or not an object")
	}
	check := &checker{declared: t.Parameters, refs: map[string]bool{}, calls: map[string]bool{}}
	t.calls = check.calls
	for _, key := range slices.Sorted(maps.Keys(section)) {
		if err := t.parseResource(section[key], join("Resources", key), check); err != nil {
			return err
		}
	}
	switch { // PT-39
	case t.thing == nil:
		return fault("Resources", "PT-39", "has no AWS::IoT::Thing")
	case t.certificate == nil:
		return fault("Resources", "PT-39", "has no AWS::IoT::Certificate")
	case len(t.policies) == 0:
		return fault("Resources", "PT-39", "has no AWS::IoT::Policy")
	}
	return nil
}

func (t *Template) parseResource(v any, path string, check *checker) error {
	object, ok := v.(map[string]any)
	if !ok {
		return fault(path, "PT-21", "is not an object")
	}
	if err := onlyKeys(path, "PT-21", object, "Type", "Properties", "OverrideSettings"); err != nil {
		return err
	}
	r := &resource{path: path, properties: map[string]any{}, override: map[string]any{}}
	for key, into := range map[string]*map[string]any{"Properties": &r.properties, "OverrideSettings": &r.override} {
		section, given := object[key]
		if !given {
			continue
		}
		if *into, ok = section.(map[string]any); !ok {
			return fault(join(path, key), "PT-21", "is not an object")
		}
	}
	if err := check.value(r.properties, join(path, "Properties")); err != nil {
		return err
	}
	return t.addResource(object["Type"], r)
}

func (t *Template) addResource(kind any, r *resource) error {
	switch kind {
	case "AWS::IoT::Thing":
		if t.thing != nil {
			return fault(r.path, "PT-39", "is a second thing")
		}
		t.thing = r
		return checkThing(r)
	case "AWS::IoT::Certificate":
		if t.certificate != nil {
			return fault(r.path, "PT-39", "is a second certificate")
		}
		t.certificate = r
		return checkCertificate(r)
	case "AWS::IoT::Policy":
		t.policies = append(t.policies, r)
		return checkPolicy(r)
	}
	return fault(join(r.path, "Type"), "PT-21", "%v is none of AWS::IoT::Thing, AWS::IoT::Certificate, AWS::IoT::Policy", kind)
}

func onlyKeys(path, rule string, object map[string]any, allowed ...string) error {
	for _, key := range slices.Sorted(maps.Keys(object)) {
		if !slices.Contains(allowed, key) {
			return fault(join(path, key), rule, "is not known here")
		}
	}
	return nil
}
