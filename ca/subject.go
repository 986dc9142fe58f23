package ca

import (
	"fmt"
	"slices"
)

// subjectValue is what a profile puts into one attribute.
type subjectValue struct {
	field    field
	text     text
	optional bool // left out where the device id does not fit
}

// newSubject checks what a profile says of the subject, for everything that its patterns let through.
func newSubject(c SubjectConfig, known patterns) (all []subjectValue, err error) {
	for _, f := range subjectFields() {
		source, optional := c.value(f.name), slices.Contains(c.Optional, f.name)
		if source == "" {
			if optional {
				return nil, fmt.Errorf("subject.optional names %s, which subject does not set", f.name)
			}
			continue
		}
		v := subjectValue{field: f, optional: optional}
		if v.text, err = parseText(source, known); err != nil {
			return nil, fmt.Errorf("subject: %s: %w", f.name, err)
		}
		if err := v.validate(); err != nil {
			return nil, fmt.Errorf("subject: %w", err)
		}
		all = append(all, v)
	}
	if !slices.ContainsFunc(all, func(v subjectValue) bool { return !v.optional }) {
		return nil, fmt.Errorf("subject is empty: set common_name at least")
	}
	for _, name := range c.Optional {
		if !slices.ContainsFunc(all, func(v subjectValue) bool { return v.field.name == name }) {
			return nil, fmt.Errorf("subject.optional names %q, which is no field of subject", name)
		}
	}
	return all, nil
}

func (v subjectValue) validate() error {
	if v.text.fixed() {
		return v.field.check(v.text.parts[0])
	}
	l, err := newLanguage(v.text.pattern())
	if err != nil {
		return fmt.Errorf("%s: %w", v.text.sources(), err)
	}
	if v.optional && !l.holdsCode() {
		return nil
	}
	return v.field.checkLanguage(l, v.text.sources())
}

// render returns the attributes of one subject. What does not fit is an error, but for optional values.
func render(subject []subjectValue, with values) ([]subjectAttribute, error) {
	all := make([]subjectAttribute, 0, len(subject))
	for _, v := range subject {
		text := v.text.render(with)
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
