package ca

import (
	"errors"
	"fmt"
	"maps"
	"regexp"
	"slices"
	"strings"
	"unicode/utf8"
)

// Attributes are what an order's device list says of one device beside its id, by the names that the profile gives them. nil is none.
type Attributes map[string]string

// Limits of Attributes.
const (
	MaxAttributes     = 16  // of one device
	MaxAttributeValue = 256 // octets
)

// attributeName is how an attribute may be called: it is the head of a column in a device list.
var attributeName = regexp.MustCompile(`^[a-z][a-z0-9_]{0,31}$`)

// Check says whether the attributes are within their limits, whatever a profile makes of them: ErrRefused.
func (a Attributes) Check() error {
	if len(a) > MaxAttributes {
		return fmt.Errorf("%w: %d attributes, at most %d", ErrRefused, len(a), MaxAttributes)
	}
	for _, name := range slices.Sorted(maps.Keys(a)) {
		value := a[name]
		switch {
		case !attributeName.MatchString(name):
			return fmt.Errorf("%w: attribute %q: a name is a small letter and at most 31 more, digits or _", ErrRefused, clip(name))
		case len(value) > MaxAttributeValue:
			return fmt.Errorf("%w: attribute %s has %d octets, at most %d", ErrRefused, name, len(value), MaxAttributeValue)
		case !utf8.ValidString(value) || strings.ContainsFunc(value, isControl):
			return fmt.Errorf("%w: attribute %s holds a control character or invalid UTF-8", ErrRefused, name)
		case isRegistrationCode(value):
			return fmt.Errorf("%w: attribute %s is 64 hex digits, the form of an AWS registration code", ErrRefused, name)
		}
	}
	return nil
}

// CheckAttributes says whether the profile takes a device's attributes: each that it names is there and matches, and there are no others. ErrRefused.
// An order asks before it stands, Prepare asks again.
func (p *Profile) CheckAttributes(a Attributes) error {
	if len(a) == 0 && len(p.attributes) == 0 {
		return nil
	}
	if err := a.Check(); err != nil {
		return err
	}
	for _, name := range slices.Sorted(maps.Keys(p.attributes)) {
		value, there := a[name]
		if !there {
			return fmt.Errorf("%w: attribute %s is missing, which profile %s wants of every device", ErrRefused, name, p.Name())
		}
		if !p.attributes[name].MatchString(value) {
			return fmt.Errorf("%w: attribute %s %q does not match %s of profile %s", ErrRefused, name, clip(value), p.config.Attributes[name], p.Name())
		}
	}
	for _, name := range slices.Sorted(maps.Keys(a)) {
		if p.attributes[name] == nil {
			return fmt.Errorf("%w: attribute %s is none of profile %s", ErrRefused, name, p.Name())
		}
	}
	return nil
}

// Attributes are the names of what the profile wants to know of every device, sorted.
func (p *Profile) Attributes() []string { return slices.Sorted(maps.Keys(p.attributes)) }

// checkAttributes reads attributes, and says which placeholders the profile's texts may hold.
func (p *Profile) checkAttributes() error {
	p.placeholders = patterns{placeholder: p.config.DeviceID.Pattern}
	p.attributes = make(map[string]*regexp.Regexp)
	if len(p.config.Attributes) > MaxAttributes {
		return fmt.Errorf("attributes: %d of them, at most %d", len(p.config.Attributes), MaxAttributes)
	}
	for _, name := range slices.Sorted(maps.Keys(p.config.Attributes)) {
		if !attributeName.MatchString(name) {
			return fmt.Errorf("attributes: name %q: a small letter and at most 31 more, digits or _", clip(name))
		}
		re, err := compilePattern(p.config.Attributes[name])
		if err != nil {
			return fmt.Errorf("attributes.%s: %w", name, err)
		}
		p.attributes[name], p.placeholders[attributePrefix+name+"}"] = re, p.config.Attributes[name]
	}
	return nil
}

// compilePattern compiles a pattern of a profile so that the whole of a value must match.
func compilePattern(pattern string) (*regexp.Regexp, error) {
	if len(pattern) > 256 {
		return nil, errors.New("pattern is longer than 256 characters")
	}
	if _, err := regexp.Compile(pattern); err != nil { // by itself first: brackets must not pair with ours
		return nil, err
	}
	return regexp.Compile(`\A(?:` + pattern + `)\z`)
}
