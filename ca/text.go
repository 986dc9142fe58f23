package ca

import (
	"errors"
	"fmt"
	"maps"
	"regexp"
	"slices"
	"strings"
)

// placeholder stands for the device id (the station's name, for the station kind) in a profile's texts; {attribute.NAME} stands for an
// attribute of the device.
const placeholder = "{device_id}"

const attributePrefix = "{attribute."

// patterns says what each placeholder may become, as a regular expression that the whole of it matches.
type patterns map[string]string

// values is what the placeholders stand for in one certificate.
type values struct {
	id         string
	attributes Attributes
}

// text is what a profile says in one place, with its placeholders.
type text struct {
	parts []string // fixed text and placeholders, by turns; a placeholder stands in braces
	known patterns
}

// findPlaceholder matches what stands in braces.
var findPlaceholder = regexp.MustCompile(`\{[^{}]*\}`)

// parseText reads a text whose placeholders are all known.
func parseText(s string, known patterns) (text, error) {
	t := text{known: known}
	for _, at := range findPlaceholder.FindAllStringIndex(s, -1) {
		name := s[at[0]:at[1]]
		if _, ok := known[name]; !ok {
			return text{}, fmt.Errorf("%s stands for nothing: the placeholders are %s", clip(name), strings.Join(slices.Sorted(maps.Keys(known)), ", "))
		}
	}
	rest := s
	for at := findPlaceholder.FindStringIndex(rest); at != nil; at = findPlaceholder.FindStringIndex(rest) {
		t.parts = append(t.parts, rest[:at[0]], rest[at[0]:at[1]])
		rest = rest[at[1]:]
	}
	t.parts = append(t.parts, rest)
	for _, p := range t.parts {
		if !t.isPlaceholder(p) && strings.ContainsAny(p, "{}") {
			return text{}, errors.New("a brace stands alone")
		}
	}
	return t, nil
}

func (t text) isPlaceholder(part string) bool {
	_, ok := t.known[part]
	return ok
}

// fixed reports whether there is no placeholder in it.
func (t text) fixed() bool { return len(t.parts) == 1 }

// has reports whether a placeholder is in it.
func (t text) has(name string) bool { return slices.Contains(t.parts, name) }

// sources names, for an error, the patterns that its placeholders come under.
func (t text) sources() string {
	var names []string
	for _, p := range t.parts {
		source := "attributes." + strings.TrimSuffix(strings.TrimPrefix(p, attributePrefix), "}")
		if p == placeholder {
			source = "device_id.pattern"
		}
		if t.isPlaceholder(p) && !slices.Contains(names, source) {
			names = append(names, source)
		}
	}
	return strings.Join(names, " with ")
}

// pattern is a regular expression of everything that it may become.
func (t text) pattern() string {
	var b strings.Builder
	for _, p := range t.parts {
		if re, ok := t.known[p]; ok {
			b.WriteString("(?:" + re + ")")
		} else {
			b.WriteString(regexp.QuoteMeta(p))
		}
	}
	return b.String()
}

// render puts the values in. They were checked against their patterns before.
func (t text) render(v values) string {
	if t.fixed() {
		return t.parts[0]
	}
	var b strings.Builder
	for _, p := range t.parts {
		switch {
		case p == placeholder:
			b.WriteString(v.id)
		case t.isPlaceholder(p):
			b.WriteString(v.attributes[strings.TrimSuffix(strings.TrimPrefix(p, attributePrefix), "}")])
		default:
			b.WriteString(p)
		}
	}
	return b.String()
}
