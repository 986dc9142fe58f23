package archtest

import (
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
)

// A claim names its test: every test that README.md or docs/ speaks of exists, and every test that is named after a promise stands in
// the scorecard.
func TestDocumentsNameTheirTests(t *testing.T) {
	tests := make(map[string]bool)
	defined := regexp.MustCompile(`(?m)^func ((?:Test|Benchmark|Fuzz)[A-Z]\w*)\(`)
	eachFile(t, "_test.go", func(_, text string) {
		for _, m := range defined.FindAllStringSubmatch(text, -1) {
			tests[m[1]] = true
		}
	})
	named := make(map[string]bool)
	mentioned := regexp.MustCompile(`\b(?:Test|Benchmark|Fuzz)[A-Z]\w*`)
	eachFile(t, ".md", func(path, text string) {
		for _, name := range mentioned.FindAllString(text, -1) {
			if !tests[name] {
				t.Errorf("%s speaks of %s, which is not there", path, name)
			}
			named[name] = named[name] || path == "README.md"
		}
	})
	promise := regexp.MustCompile(`^TestP[0-9]`)
	for name := range tests {
		if promise.MatchString(name) && !named[name] {
			t.Errorf("%s is named after a promise and does not stand in README.md's scorecard", name)
		}
	}
}

// eachFile calls f with the path, from the root, and the text of every file with a suffix.
func eachFile(t *testing.T, suffix string, f func(path, text string)) {
	t.Helper()
	err := filepath.WalkDir(root, func(path string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() || !strings.HasSuffix(path, suffix) {
			return err
		}
		text, err := os.ReadFile(path)
		if err != nil {
			return err
		}
		rel, err := filepath.Rel(root, path)
		f(rel, string(text))
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
}
