package ca

import (
	"os"
	"reflect"
	"regexp"
	"slices"
	"strings"
	"testing"
)

// The page is the code's: every field has a row, and every example is a profile that is taken.
func TestProfilesPage(t *testing.T) {
	text, err := os.ReadFile("../docs/profiles.md")
	if err != nil {
		t.Fatal(err)
	}
	var fields []string
	for _, row := range regexp.MustCompile("(?m)^\\| `([a-zA-Z0-9_.]+)` \\|.*\\| (`.*`) \\|$").FindAllStringSubmatch(string(text), -1) {
		fields = append(fields, row[1])
		if _, err := ParseProfile([]byte(withExamples(row[2]))); err != nil {
			t.Errorf("%s: %s: %v", row[1], row[2], err)
		}
	}
	for _, want := range yamlFields(reflect.TypeFor[ProfileConfig](), "") {
		if !slices.Contains(fields, want) {
			t.Errorf("no row for %s", want)
		}
	}
	whole := regexp.MustCompile("(?s)```yaml\n(.*?)```").FindAllStringSubmatch(string(text), -1)
	if len(whole) == 0 {
		t.Error("no whole example")
	}
	for _, example := range whole {
		if _, err := ParseProfile([]byte(example[1])); err != nil {
			t.Errorf("%v in\n%s", err, example[1])
		}
	}
}

// withExamples puts the code spans of a cell, each a key of a profile with its value, into a small one.
func withExamples(cell string) string {
	lines := []string{"version: 1", "name: demo", "kind: device", `device_id: {pattern: "[A-Z0-9-]{1,40}"}`, `subject: {common_name: "{device_id}"}`, "validity: {duration: 20y}"}
	for _, span := range regexp.MustCompile("`([^`]*)`").FindAllStringSubmatch(cell, -1) {
		key, _, _ := strings.Cut(span[1], ":")
		lines = slices.DeleteFunc(lines, func(line string) bool { return strings.HasPrefix(line, key+":") })
		lines = append(lines, span[1])
	}
	return strings.Join(lines, "\n") + "\n"
}

// yamlFields are the leaves of a configuration as the page writes them.
func yamlFields(t reflect.Type, prefix string) (all []string) {
	for i := range t.NumField() {
		f := t.Field(i)
		name, inner := prefix+f.Tag.Get("yaml"), f.Type
		switch {
		case inner.Kind() == reflect.Map:
			all = append(all, name+".NAME")
			continue
		case inner.Kind() == reflect.Slice || inner.Kind() == reflect.Pointer:
			inner = inner.Elem()
		}
		if inner.Kind() == reflect.Struct && f.Type.Kind() != reflect.Pointer {
			all = append(all, yamlFields(inner, name+".")...)
		} else {
			all = append(all, name)
		}
	}
	return all
}
