package strictyaml

import (
	"strings"
	"testing"
)

type inner struct {
	Deadline string `yaml:"deadline"`
}

type document struct {
	Version int              `yaml:"version"`
	Tokens  map[string]inner `yaml:"tokens"`
	List    []string         `yaml:"list"`
}

func TestDecode(t *testing.T) {
	for _, c := range []struct{ name, in, want string }{
		{"good", "version: 1\ntokens: {main: {deadline: 2s}}\n", ""},
		{"typing error", "version: 1\ntokens:\n  main:\n    dedline: 2s\n", `line 4: unknown key "dedline"; did you mean "deadline"?`},
		{"nothing near", "version: 1\ncolour: red\n", `line 2: unknown key "colour"`},
		{"repeated key", "version: 1\nversion: 2\n", "line 2: "},
		{"wrong type", "version: [1]\n", "line 1: "},
		{"empty", "", "file is empty"},
		{"two documents", "version: 1\n---\nversion: 2\n", "more than one YAML document"},
		{"not YAML", "version: \"1\n", "line 1: "},
		{"a document on which the library panics", "list: !00\n0000", "not valid YAML"},
		{"too large", strings.Repeat("#", MaxBytes+1), "more than"},
	} {
		t.Run(c.name, func(t *testing.T) {
			var d document
			err := Decode([]byte(c.in), &d)
			switch {
			case c.want == "" && err != nil:
				t.Fatalf("error %v, want none", err)
			case c.want == "" && (d.Version != 1 || d.Tokens["main"].Deadline != "2s"):
				t.Fatalf("read %+v", d)
			case c.want != "" && (err == nil || !strings.Contains(err.Error(), c.want)):
				t.Fatalf("error %v, want one with %q", err, c.want)
			case err != nil && strings.Contains(err.Error(), "\n"):
				t.Fatalf("error has more than one line: %q", err)
			}
		})
	}
}
