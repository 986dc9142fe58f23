package strictyaml

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"reflect"
	"strings"

	"github.com/goccy/go-yaml"
)

// MaxBytes is the largest file that Decode reads.
const MaxBytes = 1 << 20

// Decode reads exactly one YAML document into v, a pointer to a struct with yaml tags. Unknown and repeated keys, a second
// document and files over MaxBytes are errors; their text stands on one line and says where.
func Decode(data []byte, v any) (err error) {
	defer func() { // goccy/go-yaml v1.19 panics on some documents, such as "a: !00\n0000" (found by fuzzing)
		if r := recover(); r != nil {
			err = fmt.Errorf("not valid YAML: the parser gave up: %v", r)
		}
	}()
	if len(data) > MaxBytes {
		return fmt.Errorf("file has %d bytes, more than %d", len(data), MaxBytes)
	}
	d := yaml.NewDecoder(bytes.NewReader(data), yaml.Strict())
	if err := d.Decode(v); err != nil {
		if errors.Is(err, io.EOF) {
			return errors.New("file is empty")
		}
		return explain(err, v)
	}
	var more any
	if err := d.Decode(&more); !errors.Is(err, io.EOF) {
		return errors.New("file holds more than one YAML document")
	}
	return nil
}

// explain turns the library's many-line error into one line.
func explain(err error, v any) error {
	var unknown *yaml.UnknownFieldError
	if errors.As(err, &unknown) {
		tok := unknown.GetToken()
		text := fmt.Sprintf("line %d: unknown key %q", tok.Position.Line, tok.Value)
		if near := nearest(tok.Value, keys(reflect.TypeOf(v), nil)); near != "" {
			text += fmt.Sprintf("; did you mean %q?", near)
		}
		return errors.New(text)
	}
	var located yaml.Error
	if errors.As(err, &located) && located.GetToken() != nil {
		return fmt.Errorf("line %d: %s", located.GetToken().Position.Line, located.GetMessage())
	}
	return fmt.Errorf("not valid YAML: %s", strings.SplitN(err.Error(), "\n", 2)[0])
}

// keys collects the yaml keys of t and of all it contains.
func keys(t reflect.Type, seen map[reflect.Type]bool) []string {
	if seen == nil {
		seen = make(map[reflect.Type]bool)
	}
	if t == nil || seen[t] {
		return nil
	}
	seen[t] = true
	switch t.Kind() {
	case reflect.Pointer, reflect.Slice, reflect.Array, reflect.Map:
		return keys(t.Elem(), seen)
	case reflect.Struct:
	default:
		return nil
	}
	var all []string
	for f := range t.Fields() {
		name, _, _ := strings.Cut(f.Tag.Get("yaml"), ",")
		if name != "" && name != "-" {
			all = append(all, name)
		}
		all = append(all, keys(f.Type, seen)...)
	}
	return all
}

// nearest returns the known key with the smallest edit distance, or "" where none is near.
func nearest(key string, known []string) string {
	best, limit := "", len(key)/3+1
	for _, k := range known {
		if d := distance(strings.ToLower(key), k); d <= limit {
			best, limit = k, d-1
		}
	}
	return best
}

// distance is the Levenshtein distance.
func distance(a, b string) int {
	row := make([]int, len(b)+1)
	for j := range row {
		row[j] = j
	}
	for i := range len(a) {
		diagonal := row[0]
		row[0] = i + 1
		for j := range len(b) {
			cost := diagonal
			if a[i] != b[j] {
				cost++
			}
			diagonal = row[j+1]
			row[j+1] = min(cost, row[j]+1, diagonal+1)
		}
	}
	return row[len(b)]
}
