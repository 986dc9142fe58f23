package ca

import (
	"regexp"
	"strings"
	"testing"
)

func TestLanguage(t *testing.T) {
	upper := func(r rune) bool { return 'A' <= r && r <= 'Z' }
	for _, c := range []struct {
		pattern string
		max     int // -1: none
		upper   bool
		code    bool
		sample  string
	}{
		{"ABC", 3, true, false, "ABC"},
		{"[A-Z]{2,5}", 5, true, false, "AA"},
		{"(?:A|BCD)E?", 4, true, false, "A"},
		{"[A-Z]*", -1, true, true, ""},
		{"[G-Z]*", -1, true, false, ""},
		{"A+", -1, true, true, "A"},
		{"(?:){3,}", 0, true, false, ""},
		{"[A-Za-z]", 1, false, false, "A"},
		{"(?i)k", 1, false, false, "K"}, // folds to the Kelvin sign
		{".", 1, false, false, "A"},
		{`\d{64}`, 64, false, true, strings.Repeat("0", 64)},
		{"[0-9a-f]{63}", 63, false, false, strings.Repeat("0", 63)},
		{"[0-9a-f]{65}", 65, false, false, strings.Repeat("0", 65)},
		{"0x[0-9a-f]{64}", 66, false, true, "0x" + strings.Repeat("0", 64)},
		{"(?:[0-9]{4}){16}|Z", 64, false, true, strings.Repeat("0", 64)},
		{"(?:[0-9]{4}-){15}[0-9]{4}", 79, false, false, strings.Repeat("0000-", 15) + "0000"},
		{"[A-Za-z0-9][A-Za-z0-9:_-]{2,62}", 63, false, false, "AAA"},
		{"[A-Za-z0-9:_-]{1,128}", 128, false, true, "A"},
	} {
		l, err := newLanguage(c.pattern)
		if err != nil {
			t.Fatal(err)
		}
		n, bounded := l.maxLength()
		if !bounded {
			n = -1
		}
		if n != c.max || l.allows(upper) != c.upper || l.holdsCode() != c.code {
			t.Errorf("%s: length %d, upper case only %t, code %t; want %d, %t, %t", c.pattern, n, l.allows(upper), l.holdsCode(), c.max, c.upper, c.code)
		}
		if got := l.sample(); got != c.sample || !regexp.MustCompile(`\A(?:`+c.pattern+`)\z`).MatchString(got) {
			t.Errorf("%s: sample %q, want %q", c.pattern, got, c.sample)
		}
	}
}

// What the analysis says of a pattern holds for every string that matches it.
func FuzzLanguage(f *testing.F) {
	f.Add("[A-Za-z0-9:_-]{2,62}", "DEMO-1")
	f.Add("(?i)k?|[^a]+", "\u212a")
	f.Add(`(?:0x)?[0-9a-f]{60}[a-f]+`, strings.Repeat("a", 64))
	f.Fuzz(func(t *testing.T, pattern, s string) {
		if len(pattern) > 256 || len(s) > 256 {
			t.Skip("longer than profiles take")
		}
		if _, err := regexp.Compile(pattern); err != nil { // ")|(" is none by itself, and profiles refuse it
			t.Skip("no pattern")
		}
		re, err := regexp.Compile(`\A(?:` + pattern + `)\z`)
		if err != nil || !re.MatchString(s) {
			t.Skip("no match")
		}
		l, err := newLanguage("(?:" + pattern + ")")
		if err != nil {
			t.Fatal(err)
		}
		if n, bounded := l.maxLength(); bounded && len([]rune(s)) > n {
			t.Errorf("%q matches %q, which has no more than %d characters", s, pattern, n)
		}
		if l.allows(isPrintable) && !allPrintable(s) {
			t.Errorf("%q matches %q, which is printable", s, pattern)
		}
		if isRegistrationCode(s) && strings.TrimSpace(s) == s && !l.holdsCode() {
			t.Errorf("%q matches %q, which holds no code", s, pattern)
		}
	})
}
