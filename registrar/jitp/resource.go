package jitp

import (
	"encoding/json"
	"maps"
	"slices"
	"strings"
)

// The shape of each resource, as far as it can be told before the parameters have values.

func checkThing(r *resource) error {
	path := join(r.path, "Properties")
	if err := onlyKeys(path, "PT-23", r.properties,
		"ThingName", "AttributePayload", "ThingTypeName", "ThingGroups", "BillingGroup", "PackageVersions"); err != nil {
		return err
	}
	if _, ok := r.properties["ThingName"]; !ok {
		return fault(join(path, "ThingName"), "PT-23", "is missing")
	}
	for _, name := range []string{"ThingName", "ThingTypeName", "BillingGroup"} {
		if v, given := r.properties[name]; given && !givesText(v) {
			return fault(join(path, name), "PT-23", "is not a text")
		}
	}
	for _, name := range []string{"AttributePayload", "PackageVersions"} {
		if err := checkTexts(r.properties[name], join(path, name)); err != nil {
			return err
		}
	}
	if v, given := r.properties["ThingGroups"]; given {
		if _, isList := v.([]any); !isList && !isFunction(v) {
			return fault(join(path, "ThingGroups"), "PT-23", "is not a list")
		}
	}
	return checkThingOverride(r)
}

// checkTexts wants an object of texts; nil is one too.
func checkTexts(v any, path string) error {
	if v == nil {
		return nil
	}
	object, ok := v.(map[string]any)
	if !ok || isFunction(v) {
		return fault(path, "PT-23", "is not an object of texts")
	}
	for _, key := range slices.Sorted(maps.Keys(object)) {
		if !givesText(object[key]) {
			return fault(join(path, key), "PT-23", "is not a text")
		}
	}
	return nil
}

func checkThingOverride(r *resource) error {
	for _, key := range slices.Sorted(maps.Keys(r.override)) {
		path := join(join(r.path, "OverrideSettings"), key)
		name := overrideKey(key)
		allowed := []string{"DO_NOTHING", "REPLACE", "FAIL"}
		switch name {
		case "AttributePayload", "ThingGroups":
			allowed = append(allowed, "MERGE")
		case "ThingTypeName":
		default:
			return fault(path, "PT-31", "is not known here")
		}
		if s, ok := r.override[key].(string); !ok || !slices.Contains(allowed, s) {
			return fault(path, "PT-31", "is none of %s", strings.Join(allowed, ", "))
		}
	}
	return nil
}

// overrideKey gives both spellings of AWS's pages one form (PT-32).
func overrideKey(key string) string {
	switch key {
	case "ATTRIBUTE_PAYLOAD":
		return "AttributePayload"
	case "THING_TYPE_NAME":
		return "ThingTypeName"
	case "THING_GROUPS":
		return "ThingGroups"
	}
	return key
}

func checkCertificate(r *resource) error {
	path := join(r.path, "Properties")
	if err := onlyKeys(path, "PT-25", r.properties,
		"CertificateSigningRequest", "CertificateId", "CertificatePem", "CACertificatePem", "Status", "ThingPrincipalType"); err != nil {
		return err
	}
	ways := 0
	for _, way := range []string{"CertificateSigningRequest", "CertificateId", "CertificatePem"} {
		if _, given := r.properties[way]; given {
			ways++
		}
	}
	if ways != 1 {
		return fault(path, "PT-25", "names the certificate in %d ways: exactly one is wanted", ways)
	}
	f, ok := asCall(r.properties["CertificateId"])
	if !ok || f.name != "Ref" || f.arg != parameterID {
		return fault(join(path, "CertificateId"), "PT-26", `JITP knows the certificate only as {"Ref":"%s"}`, parameterID)
	}
	for name, allowed := range map[string][]string{
		"Status":             {StatusActive, StatusInactive},
		"ThingPrincipalType": {ExclusiveThing, NonExclusiveThing},
	} {
		if v, given := r.properties[name]; given && !oneOf(v, allowed) {
			return fault(join(path, name), "PT-25", "is none of %s", strings.Join(allowed, ", "))
		}
	}
	return checkCertificateOverride(r)
}

func checkCertificateOverride(r *resource) error {
	path := join(r.path, "OverrideSettings")
	if err := onlyKeys(path, "PT-31", r.override, "Status"); err != nil {
		return err
	}
	if v, given := r.override["Status"]; given && !oneOf(v, []string{"DO_NOTHING", "REPLACE", "FAIL"}) {
		return fault(join(path, "Status"), "PT-31", "is none of DO_NOTHING, REPLACE, FAIL")
	}
	return nil
}

// oneOf compares without regard to case: AWS's examples write "Active" (PT-27).
func oneOf(v any, allowed []string) bool {
	s, ok := v.(string)
	return ok && slices.Contains(allowed, strings.ToUpper(s))
}

func checkPolicy(r *resource) error {
	path := join(r.path, "Properties")
	if err := onlyKeys(path, "PT-28", r.properties, "PolicyName", "PolicyDocument"); err != nil {
		return err
	}
	if len(r.override) != 0 {
		return fault(join(r.path, "OverrideSettings"), "PT-31", "policies have none")
	}
	name, named := r.properties["PolicyName"]
	document, inline := r.properties["PolicyDocument"]
	switch {
	case named == inline:
		return fault(path, "PT-28", "wants exactly one of PolicyName and PolicyDocument")
	case named && !givesText(name):
		return fault(join(path, "PolicyName"), "PT-28", "is not a text")
	case inline:
		return checkDocument(document, join(path, "PolicyDocument"))
	}
	return nil
}

// checkDocument takes a policy as text or as object (PT-28); a text that a function makes is looked at when it is made.
func checkDocument(v any, path string) error {
	switch v := v.(type) {
	case string:
		if !json.Valid([]byte(v)) {
			return fault(path, "PT-28", "is a text that is not JSON")
		}
		return nil
	case map[string]any:
		return nil
	}
	return fault(path, "PT-28", "is neither text nor object")
}

func isFunction(v any) bool {
	_, ok := asCall(v)
	return ok
}

// givesText reports whether v is a text or a function that gives one.
func givesText(v any) bool {
	if f, ok := asCall(v); ok {
		return f.name != "Fn::Split"
	}
	_, ok := v.(string)
	return ok
}
