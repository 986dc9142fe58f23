package ca

import (
	"fmt"
	"regexp"
	"slices"
	"strings"
)

// placeholder stands for the device id (the station's name, for the station kind) in a profile's subject.
const placeholder = "{device_id}"

// subjectValue is what a profile puts into one attribute.
type subjectValue struct {
	field    field
	text     string // with placeholders
	optional bool   // left out where the device id does not fit
}

// newSubject checks what a profile says of the subject, for every device id that its pattern lets through.
func newSubject(c SubjectConfig, pattern string) (values []subjectValue, err error) {
	for _, f := range subjectFields() {
		v := subjectValue{field: f, text: c.value(f.name), optional: slices.Contains(c.Optional, f.name)}
		if v.text == "" {
			if v.optional {
				return nil, fmt.Errorf("subject.optional names %s, which subject does not set", f.name)
			}
			continue
		}
		if err := v.validate(pattern); err != nil {
			return nil, fmt.Errorf("subject: %w", err)
		}
		values = append(values, v)
	}
	if !slices.ContainsFunc(values, func(v subjectValue) bool { return !v.optional }) {
		return nil, fmt.Errorf("subject is empty: set common_name at least")
	}
	for _, name := range c.Optional {
		if !slices.ContainsFunc(values, func(v subjectValue) bool { return v.field.name == name }) {
			return nil, fmt.Errorf("subject.optional names %q, which is no field of subject", name)
		}
	}
	return values, nil
}

func (v subjectValue) validate(pattern string) error {
	parts := strings.Split(v.text, placeholder)
	for i, p := range parts {
		if strings.ContainsAny(p, "{}") {
			return fmt.Errorf("%s: the only placeholder is %s", v.field.name, placeholder)
		}
		parts[i] = regexp.QuoteMeta(p)
	}
	if len(parts) == 1 {
		return v.field.check(v.text)
	}
	l, err := newLanguage(strings.Join(parts, "(?:"+pattern+")"))
	if err != nil {
		return fmt.Errorf("device_id.pattern: %w", err)
	}
	if v.optional && !l.holdsCode() {
		return nil
	}
	return v.field.checkLanguage(l)
}

// render returns the attributes of one subject. An id that does not fit is an error, but for optional values.
func render(values []subjectValue, id string) ([]subjectAttribute, error) {
	all := make([]subjectAttribute, 0, len(values))
	for _, v := range values {
		text := strings.ReplaceAll(v.text, placeholder, id)
		if isRegistrationCode(text) {
			return nil, fmt.Errorf("%w: %s is 64 hex digits, the form of an AWS registration code", ErrRefused, v.field.name)
		}
		if err := v.field.check(text); err != nil {
			if v.optional {
				continue
			}
			return nil, fmt.Errorf("%w: subject: %w", ErrRefused, err)
		}
		all = append(all, subjectAttribute{v.field.oid, text, v.field.printable || allPrintable(text)})
	}
	return all, nil
}

// subjectAttribute is one attribute as it is encoded: PrintableString, or UTF8String (RFC 5280 4.1.2.4).
type subjectAttribute struct {
	oid       oid
	text      string
	printable bool
}
