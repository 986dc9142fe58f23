package ca

import (
	"errors"
	"fmt"
	"strings"
	"testing"
)

func TestAttributes(t *testing.T) {
	p := mustProfile(t, with(t, "organization: Demo", `organizational_unit: "Line {attribute.line}"`)+`attributes: {line: "[A-Z][0-9]?", rev: "[a-z]{1,3}"}`+"\n")
	many := Attributes{}
	for n := range MaxAttributes + 1 {
		many[fmt.Sprintf("a%d", n)] = "x"
	}
	for _, c := range []struct {
		name string
		a    Attributes
		want string // "" taken
	}{
		{"all", Attributes{"line": "A1", "rev": "ab"}, ""},
		{"none", nil, "attribute line is missing"},
		{"one missing", Attributes{"line": "A1"}, "attribute rev is missing"},
		{"one too many", Attributes{"line": "A1", "rev": "ab", "colour": "red"}, "attribute colour is none of profile demo"},
		{"another value", Attributes{"line": "a1", "rev": "ab"}, `attribute line "a1" does not match [A-Z][0-9]? of profile demo`},
		{"with a line end", Attributes{"line": "A1\n", "rev": "ab"}, "control character"},
		{"a code", Attributes{"line": strings.Repeat("0a", 32), "rev": "ab"}, "64 hex digits"},
		{"long", Attributes{"line": strings.Repeat("A", MaxAttributeValue+1), "rev": "ab"}, "has 257 octets, at most 256"},
		{"invalid UTF-8", Attributes{"line": "\xff", "rev": "ab"}, "invalid UTF-8"},
		{"a name that is none", Attributes{"Line": "A"}, `attribute "Line"`},
		{"many", many, "17 attributes, at most 16"},
	} {
		err := p.CheckAttributes(c.a)
		if (err == nil) != (c.want == "") || err != nil && (!errors.Is(err, ErrRefused) || !strings.Contains(err.Error(), c.want)) {
			t.Errorf("%s: error %v, want %q", c.name, err, c.want)
		}
	}
	if err := mustProfile(t, base).CheckAttributes(Attributes{"line": "A1"}); !errors.Is(err, ErrRefused) {
		t.Errorf("attributes for a profile that names none: %v", err)
	}
	if got := strings.Join(p.Attributes(), " "); got != "line rev" {
		t.Errorf("names %q", got)
	}
}

// An attribute's value is put in as it is: what looks like a placeholder in it stays text, and Prepare refuses what the profile does not take.
func TestAttributesInACertificate(t *testing.T) {
	h := newHierarchy(t)
	a, _ := newAuthority(t, h.issuing, h.issuingKey)
	p := mustProfile(t, with(t, "organization: Demo", `organizational_unit: "{attribute.line}"`)+`attributes: {line: "[a-z{}_.]{1,20}"}`+"\n")
	in := issuanceOf(t, p)
	in.Attributes = Attributes{"line": "{device_id}"}
	made, err := a.Prepare(in)
	if err != nil {
		t.Fatal(err)
	}
	if got := made.parsed.subject[0].text; got != "{device_id}" {
		t.Fatalf("organizational unit %q", got)
	}
	in.Attributes = Attributes{"line": "A"}
	if _, err := a.Prepare(in); !errors.Is(err, ErrRefused) {
		t.Fatalf("error %v", err)
	}
	in.Attributes = nil
	if _, err := a.Prepare(in); !errors.Is(err, ErrRefused) || !strings.Contains(err.Error(), "attribute line is missing") {
		t.Fatalf("error %v", err)
	}
}

// What the analysis cannot see when a profile is loaded, Prepare sees: names that do not hold together.
func TestAltNamesThatBecomeNone(t *testing.T) {
	h := newHierarchy(t)
	a, _ := newAuthority(t, h.issuing, h.issuingKey)
	p := mustProfile(t, base+"attributes: {a: '[a-z0-9.-]{0,70}'}\nalt_names: [{dns: 'x{attribute.a}'}]\n")
	for value, want := range map[string]string{"..a": "is not good (RFC 5280 4.2.1.6", "-": "is not good", strings.Repeat("a", 63): "is not good"} {
		in := issuanceOf(t, p)
		in.Attributes = Attributes{"a": value}
		if _, err := a.Prepare(in); !errors.Is(err, ErrRefused) || !strings.Contains(err.Error(), want) {
			t.Errorf("%q: error %v", value, err)
		}
	}
}
