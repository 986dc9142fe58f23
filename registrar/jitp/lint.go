package jitp

import (
	"maps"
	"regexp"
	"slices"
)

// parameterValue is what certmill lets into a template: no character that means anything in a policy, a topic or an ARN.
var parameterValue = regexp.MustCompile(`^[A-Za-z0-9_:-]+$`)

// Lint gives what certmill refuses although AWS would take it; none is nil. A device must not choose its rights:
//
//   - no policy, by name or by document, depends on a parameter;
//   - the thing's name is bound to the device by its CommonName or SerialNumber, which certmill gives once per device;
//   - parameters draw on [A-Za-z0-9_:-]+ only: params are those of a sample certificate; defaults are looked at always;
//   - no functions but Ref and Fn::Join: AWS describes the others for fleet templates only (PT-37).
//
// With params nil, only what the template alone shows is looked at.
func (t *Template) Lint(params map[string]string) []Fault {
	var faults []Fault
	add := func(path, rule, reason string) {
		faults = append(faults, Fault{Path: path, Rule: rule, Reason: reason})
	}
	for _, r := range t.policies {
		for _, key := range slices.Sorted(maps.Keys(r.properties)) {
			if len(t.refsIn(r.properties[key])) > 0 {
				add(join(join(r.path, "Properties"), key), "", "depends on a parameter: a device must not choose its rights")
			}
		}
	}
	name := t.refsIn(t.thing.properties["ThingName"])
	if !name[parameterPrefix+"CommonName"] && !name[parameterPrefix+"SerialNumber"] {
		add(join(t.thing.path, "Properties.ThingName"), "", "is not bound to the device: use its CommonName or SerialNumber")
	}
	for _, f := range slices.Sorted(maps.Keys(t.calls)) {
		if f != "Ref" && f != "Fn::Join" {
			add("Resources", "PT-37", f+" is described for fleet templates only")
		}
	}
	return append(faults, t.lintValues(params)...)
}

func (t *Template) lintValues(params map[string]string) (faults []Fault) {
	for _, name := range slices.Sorted(maps.Keys(t.Parameters)) {
		p := t.Parameters[name]
		if p.Default != nil && !parameterValue.MatchString(*p.Default) {
			faults = append(faults, Fault{Path: join(join("Parameters", name), "Default"), Reason: "has characters beyond A-Z a-z 0-9 _ : -"})
		}
		v, given := params[name]
		switch {
		case given && !parameterValue.MatchString(v):
			faults = append(faults, Fault{Path: join("Parameters", name), Rule: "PT-56", Reason: "the certificate fills it with characters beyond A-Z a-z 0-9 _ : -"})
		case !given && params != nil && p.Default == nil:
			faults = append(faults, Fault{Path: join("Parameters", name), Rule: "PT-53", Reason: "the certificate has no such attribute, and there is no default"})
		}
	}
	return faults
}

// refsIn gives the parameters that a value depends on.
func (t *Template) refsIn(v any) map[string]bool {
	c := &checker{declared: t.Parameters, refs: map[string]bool{}, calls: map[string]bool{}}
	if err := c.value(v, ""); err != nil {
		panic("jitp: " + err.Error()) // Parse let it through
	}
	return c.refs
}
