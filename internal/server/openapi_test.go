package server

import (
	"bytes"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"io"
	"maps"
	"mime"
	"net/http"
	"os"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/goccy/go-yaml"
	"github.com/santhosh-tekuri/jsonschema/v6"

	"github.com/certmill/certmill/issuer/client"
)

// document is openapi.yaml, and what of it was seen in answers.
type document struct {
	root     map[string]any
	compiler *jsonschema.Compiler
	seen     map[string]bool // "issue 201", "issue order-full"
}

func loadDocument(t *testing.T) *document {
	t.Helper()
	text, err := os.ReadFile("openapi.yaml")
	if err != nil {
		t.Fatal(err)
	}
	j, err := yaml.YAMLToJSON(text)
	if err != nil {
		t.Fatal(err)
	}
	root, err := jsonschema.UnmarshalJSON(bytes.NewReader(j))
	if err != nil {
		t.Fatal(err)
	}
	c := jsonschema.NewCompiler()
	c.DefaultDraft(jsonschema.Draft2020)
	c.AssertFormat()
	if err := c.AddResource("openapi.json", root); err != nil {
		t.Fatal(err)
	}
	return &document{root: root.(map[string]any), compiler: c, seen: make(map[string]bool)}
}

// at follows a JSON pointer and the references on its way, and returns where it ended.
func (d *document) at(pointer string) (map[string]any, string, error) {
	node := any(d.root)
	path := ""
	for _, step := range strings.Split(strings.TrimPrefix(pointer, "/"), "/") {
		m, ok := node.(map[string]any)
		if !ok {
			return nil, "", fmt.Errorf("%s: not an object", path)
		}
		if node, ok = m[strings.NewReplacer("~1", "/", "~0", "~").Replace(step)]; !ok {
			return nil, "", fmt.Errorf("%s has no %s", path, step)
		}
		path += "/" + step
		if m, ok := node.(map[string]any); ok {
			if ref, ok := m["$ref"].(string); ok && len(m) == 1 {
				var err error
				if node, path, err = d.at(strings.TrimPrefix(ref, "#")); err != nil {
					return nil, "", err
				}
			}
		}
	}
	m, ok := node.(map[string]any)
	if !ok {
		return nil, "", fmt.Errorf("%s: not an object", pointer)
	}
	return m, path, nil
}

func escape(key string) string { return strings.NewReplacer("~", "~0", "/", "~1").Replace(key) }

var parameter = regexp.MustCompile(`\{[^}]*\}`)

// operation finds the operation of a path: a path has one, and a wrong method is an answer of it.
func (d *document) operation(path string) (op map[string]any, pointer string, err error) {
	for _, template := range slices.Sorted(maps.Keys(d.root["paths"].(map[string]any))) {
		if !regexp.MustCompile("^" + parameter.ReplaceAllString(template, "[^/]+") + "$").MatchString(path) {
			continue
		}
		item, _, err := d.at("/paths/" + escape(template))
		if err != nil {
			return nil, "", err
		}
		for _, method := range []string{"get", "post"} {
			if op, ok := item[method].(map[string]any); ok {
				return op, "/paths/" + escape(template) + "/" + method, nil
			}
		}
	}
	return nil, "", fmt.Errorf("%s is not in the document", path)
}

// check compares an answer with the document, and remembers what was seen.
func (d *document) check(path string, res *http.Response, body []byte) error {
	op, pointer, err := d.operation(path)
	if err != nil {
		return err
	}
	id := op["operationId"].(string)
	response, where, err := d.at(fmt.Sprintf("%s/responses/%d", pointer, res.StatusCode))
	if err != nil {
		return fmt.Errorf("%s answered %d: %w", id, res.StatusCode, err)
	}
	d.seen[fmt.Sprintf("%s %d", id, res.StatusCode)] = true
	if err := d.checkHeaders(response, where, res.Header); err != nil {
		return fmt.Errorf("%s %d: %w", id, res.StatusCode, err)
	}
	kind, _, err := mime.ParseMediaType(res.Header.Get("Content-Type"))
	if err != nil {
		return err
	}
	media, where, err := d.at(where + "/content/" + escape(kind))
	if err != nil {
		return fmt.Errorf("%s %d: %w", id, res.StatusCode, err)
	}
	d.seen[fmt.Sprintf("%s %d %s", id, res.StatusCode, kind)] = true
	if media["schema"] == nil {
		return nil
	}
	return d.checkBody(op, where+"/schema", kind, body)
}

// checkBody validates each JSON value of a body, or the text it is.
func (d *document) checkBody(op map[string]any, schema, kind string, body []byte) error {
	parts := [][]byte{body}
	if kind == client.TypeNDJSON {
		parts = bytes.SplitAfter(body, []byte("\n"))
		parts = parts[:len(parts)-1]
	}
	for _, part := range parts {
		value := any(string(part))
		if strings.HasSuffix(kind, "json") {
			var err error
			if value, err = jsonschema.UnmarshalJSON(bytes.NewReader(part)); err != nil {
				return err
			}
		}
		if err := d.validate(schema, value); err != nil {
			return fmt.Errorf("%s\n%w", part, err)
		}
		if m, ok := value.(map[string]any); ok && m["code"] != nil {
			if err := d.checkCode(op, m["code"].(string)); err != nil {
				return err
			}
		}
	}
	return nil
}

// checkCode says whether an operation may end with a code.
func (d *document) checkCode(op map[string]any, code string) error {
	if !slices.Contains(op["x-codes"].([]any), any(code)) {
		return fmt.Errorf("%s ended with %s, which is not among its codes", op["operationId"], code)
	}
	d.seen[op["operationId"].(string)+" "+code] = true
	return nil
}

func (d *document) validate(pointer string, value any) error {
	schema, err := d.compiler.Compile("openapi.json#" + pointer)
	if err != nil {
		return err
	}
	return schema.Validate(value)
}

// checkHeaders validates the headers that a response names.
func (d *document) checkHeaders(response map[string]any, where string, got http.Header) error {
	headers, ok := response["headers"].(map[string]any)
	if !ok {
		return fmt.Errorf("no headers stand in the document")
	}
	for name := range headers {
		h, at, err := d.at(where + "/headers/" + name)
		if err != nil {
			return err
		}
		if got.Get(name) == "" {
			if h["required"] == true {
				return fmt.Errorf("header %s is missing", name)
			}
			continue
		}
		if err := d.validate(at+"/schema", got.Get(name)); err != nil {
			return fmt.Errorf("header %s: %w", name, err)
		}
	}
	if _, err := base64.StdEncoding.DecodeString(got.Get(client.HeaderCheckpoint)); err != nil {
		return fmt.Errorf("checkpoint: %w", err)
	}
	return nil
}

// missing lists what stands in the document and was not seen.
func (d *document) missing() (out []string) {
	for _, item := range d.root["paths"].(map[string]any) {
		for _, method := range []string{"get", "post"} {
			op, ok := item.(map[string]any)[method].(map[string]any)
			if !ok {
				continue
			}
			out = append(out, d.unseen(op)...)
		}
	}
	slices.Sort(out)
	return out
}

func (d *document) unseen(op map[string]any) (out []string) {
	id := op["operationId"].(string)
	want := []string{}
	for status, r := range op["responses"].(map[string]any) {
		want = append(want, id+" "+status)
		content, _ := r.(map[string]any)["content"].(map[string]any)
		for kind := range content {
			want = append(want, id+" "+status+" "+kind)
		}
	}
	for _, code := range op["x-codes"].([]any) {
		want = append(want, id+" "+code.(string))
	}
	for _, w := range want {
		if !d.seen[w] {
			out = append(out, w)
		}
	}
	return out
}

// ask sends a request and checks its answer against the document.
func (d *document) ask(t *testing.T, c *http.Client, req *http.Request) (*http.Response, []byte) {
	t.Helper()
	res, err := c.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer res.Body.Close()
	body, err := io.ReadAll(res.Body)
	if err != nil {
		t.Fatal(err)
	}
	if err := d.check(req.URL.Path, res, body); err != nil {
		t.Errorf("%s %s: %v", req.Method, req.URL.Path, err)
	}
	return res, body
}

// TestDocumentFindsWhatIsWrong: the comparison itself can fail.
func TestDocumentFindsWhatIsWrong(t *testing.T) {
	d := loadDocument(t)
	good := client.Problem{Type: "urn:certmill:problem:method", Title: "t", Status: 405, Detail: "d", Code: client.CodeMethod, RequestID: "r"}
	header := http.Header{"Content-Type": {client.TypeProblem}, client.HeaderCheckpoint: {"YQ=="}, client.HeaderRequest: {"r"}}
	for _, tt := range []struct {
		name   string
		path   string
		status int
		change func(p *client.Problem, h http.Header)
		err    string
	}{
		{"right", "/livez", 405, func(*client.Problem, http.Header) {}, ""},
		{"path", "/nowhere", 405, func(*client.Problem, http.Header) {}, "not in the document"},
		{"status", "/livez", 418, func(*client.Problem, http.Header) {}, "no 418"},
		{"type", "/livez", 405, func(_ *client.Problem, h http.Header) { h.Set("Content-Type", "text/html") }, "no text~1html"},
		{"header", "/livez", 405, func(_ *client.Problem, h http.Header) { h.Del(client.HeaderCheckpoint) }, "is missing"},
		{"schema", "/livez", 405, func(p *client.Problem, _ http.Header) { p.Retryable = true }, "retryable"},
		{"code", "/livez", 405, func(p *client.Problem, _ http.Header) { p.Code = client.CodeOrderFull }, "not among its codes"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			p, h := good, header.Clone()
			tt.change(&p, h)
			body, err := json.Marshal(p)
			if err != nil {
				t.Fatal(err)
			}
			err = d.check(tt.path, &http.Response{StatusCode: tt.status, Header: h}, body)
			if (err == nil) != (tt.err == "") || err != nil && !strings.Contains(err.Error(), tt.err) {
				t.Errorf("got %v, want %q", err, tt.err)
			}
		})
	}
	if !slices.Contains(d.missing(), "issue 201") {
		t.Error("nothing was asked, and issue 201 is not missing")
	}
}
