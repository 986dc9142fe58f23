package jitp

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// sample are the parameters of a certificate with the subject C=DE, CN=DEMO-000001.
func sample() map[string]string {
	return map[string]string{
		parameterPrefix + "Country": "DE", parameterPrefix + "CommonName": "DEMO-000001",
		parameterID: strings.Repeat("ab", 32),
	}
}

func TestGoodTemplates(t *testing.T) {
	for _, file := range corpus(t, "good") {
		t.Run(filepath.Base(file), func(t *testing.T) {
			tmpl, err := Parse(read(t, file))
			if err != nil {
				t.Fatal(err)
			}
			if _, err := tmpl.Resolve(sample()); err != nil {
				t.Error(err)
			}
		})
	}
}

// The name of each file says the rule that it breaks: "pt26-…" must be refused for PT-26, "json-…" for its form.
func TestBadTemplates(t *testing.T) {
	files := corpus(t, "bad")
	if len(files) < 40 {
		t.Fatalf("only %d files", len(files))
	}
	for _, file := range files {
		name := filepath.Base(file)
		t.Run(name, func(t *testing.T) {
			_, err := Parse(read(t, file))
			var f *Fault
			if !errors.As(err, &f) {
				t.Fatalf("got %v, want a fault", err)
			}
			want := ""
			if number, ok := strings.CutPrefix(name, "pt"); ok {
				want = "PT-" + number[:2]
			}
			if name != "json-list.json" && f.Rule != want {
				t.Errorf("refused for %q, want %q: %v", f.Rule, want, err)
			}
		})
	}
}

func FuzzParse(f *testing.F) {
	for _, file := range append(corpus(f, "good"), corpus(f, "bad")...) {
		f.Add(read(f, file))
	}
	f.Fuzz(func(t *testing.T, body []byte) {
		tmpl, err := Parse(body)
		if err != nil {
			return
		}
		tmpl.Lint(sample())
		res, err := tmpl.Resolve(sample())
		if err == nil && !thingName.MatchString(res.Thing.Name) {
			t.Errorf("made a thing of the name %q", res.Thing.Name)
		}
	})
}

func corpus(t testing.TB, kind string) []string {
	t.Helper()
	files, err := filepath.Glob("testdata/" + kind + "/*.json")
	if err != nil || len(files) == 0 {
		t.Fatalf("no files in testdata/%s: %v", kind, err)
	}
	return files
}

func read(t testing.TB, file string) []byte {
	t.Helper()
	b, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	return b
}
