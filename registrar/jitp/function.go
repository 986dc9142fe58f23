package jitp

import (
	"encoding/json"
	"maps"
	"slices"
	"strconv"
	"strings"
)

// Values in a template are JSON values in which an object with the one key Ref or Fn::… is a function (PT-36).
// checkValue proves them sound when the template is read; eval runs them and may still fail, as AWS may (PT-37).

// call is a function found in a template.
type call struct {
	name string
	arg  any
}

// asCall recognises a function.
func asCall(v any) (call, bool) {
	object, ok := v.(map[string]any)
	if !ok || len(object) != 1 {
		return call{}, false
	}
	for name, arg := range object {
		if name == "Ref" || strings.HasPrefix(name, "Fn::") {
			return call{name, arg}, true
		}
	}
	return call{}, false
}

// checker walks values and remembers which parameters and functions they use.
type checker struct {
	declared map[string]Parameter
	refs     map[string]bool
	calls    map[string]bool
}

func (c *checker) value(v any, path string) error {
	if f, ok := asCall(v); ok {
		return c.call(f, join(path, f.name))
	}
	switch v := v.(type) {
	case map[string]any:
		for _, key := range slices.Sorted(maps.Keys(v)) {
			if strings.HasPrefix(key, "Fn::") {
				return fault(join(path, key), "PT-36", "a function stands alone in its object")
			}
			if err := c.value(v[key], join(path, key)); err != nil {
				return err
			}
		}
	case []any:
		for _, e := range v {
			if err := c.value(e, path); err != nil {
				return err
			}
		}
	}
	return nil
}

func (c *checker) call(f call, path string) error {
	c.calls[f.name] = true
	switch f.name {
	case "Ref":
		name, ok := f.arg.(string)
		if !ok {
			return fault(path, "PT-36", "wants the name of a parameter")
		}
		return c.ref(name, path)
	case "Fn::Join", "Fn::Select", "Fn::Split":
		args, ok := f.arg.([]any)
		if !ok || len(args) != 2 {
			return fault(path, "PT-36", "wants a list of two")
		}
		if _, ok := scalar(args[0]); !ok {
			return fault(path, "PT-36", "wants a constant first")
		}
		return c.value(args[1], path)
	case "Fn::Sub":
		return c.sub(f.arg, path)
	case "Fn::FindInMap":
		return fault(path, "PT-20", "mappings exist only in fleet templates")
	}
	return fault(path, "PT-36", "is no function of provisioning templates")
}

func (c *checker) ref(name, path string) error {
	c.refs[name] = true
	if _, ok := c.declared[name]; !ok {
		return fault(path, "PT-51", "parameter %s is not declared in Parameters", name)
	}
	return nil
}

func (c *checker) sub(arg any, path string) error {
	text, local, ok := subArgs(arg)
	if !ok {
		return fault(path, "PT-36", "wants a text, or a text and an object of values")
	}
	if err := c.value(local, path); err != nil {
		return err
	}
	_, err := expand(text, path, func(name string) (string, error) {
		if _, ok := local[name]; ok {
			return "", nil
		}
		return "", c.ref(name, path)
	})
	return err
}

func subArgs(arg any) (text string, local map[string]any, ok bool) {
	switch arg := arg.(type) {
	case string:
		return arg, nil, true
	case []any:
		if len(arg) == 2 {
			text, isText := arg[0].(string)
			local, isObject := arg[1].(map[string]any)
			return text, local, isText && isObject
		}
	}
	return "", nil, false
}

// expand replaces ${name} in text; ${!name} stands for the text ${name}.
func expand(text, path string, value func(name string) (string, error)) (string, error) {
	var out strings.Builder
	for {
		before, rest, found := strings.Cut(text, "${")
		out.WriteString(before)
		if !found {
			return out.String(), nil
		}
		name, after, closed := strings.Cut(rest, "}")
		if !closed {
			return "", fault(path, "PT-36", "has ${ without }")
		}
		text = after
		if literal, ok := strings.CutPrefix(name, "!"); ok {
			out.WriteString("${" + literal + "}")
			continue
		}
		v, err := value(name)
		if err != nil {
			return "", err
		}
		out.WriteString(v)
	}
}

// scalar gives constants as AWS would print them.
func scalar(v any) (string, bool) {
	switch v := v.(type) {
	case string:
		return v, true
	case json.Number:
		return v.String(), true
	}
	return "", false
}

// eval replaces the functions in v by their values; what it returns is made of strings, lists and objects only.
func eval(v any, params map[string]string, path string) (any, error) {
	if f, ok := asCall(v); ok {
		return evalCall(f, params, join(path, f.name))
	}
	switch v := v.(type) {
	case map[string]any:
		out := make(map[string]any, len(v))
		for key, e := range v {
			w, err := eval(e, params, join(path, key))
			if err != nil {
				return nil, err
			}
			out[key] = w
		}
		return out, nil
	case []any:
		out := make([]any, len(v))
		for i, e := range v {
			w, err := eval(e, params, path)
			if err != nil {
				return nil, err
			}
			out[i] = w
		}
		return out, nil
	}
	return v, nil
}

func evalCall(f call, params map[string]string, path string) (any, error) {
	switch f.name {
	case "Ref":
		return params[f.arg.(string)], nil
	case "Fn::Sub":
		return evalSub(f.arg, params, path)
	}
	args := f.arg.([]any)
	first, _ := scalar(args[0])
	arg, err := eval(args[1], params, path)
	if err != nil {
		return nil, err
	}
	if f.name == "Fn::Split" {
		text, ok := arg.(string)
		if !ok || first == "" {
			return nil, fault(path, "PT-36", "splits a text at a delimiter")
		}
		return toAny(strings.Split(text, first)), nil
	}
	list, err := texts(arg, path)
	if err != nil {
		return nil, err
	}
	if f.name == "Fn::Join" {
		return strings.Join(list, first), nil
	}
	i, err := strconv.Atoi(first)
	if err != nil || i < 0 || i >= len(list) {
		return nil, fault(path, "PT-37", "index %s of a list of %d", first, len(list))
	}
	return list[i], nil
}

func evalSub(arg any, params map[string]string, path string) (any, error) {
	text, local, _ := subArgs(arg)
	return expand(text, path, func(name string) (string, error) {
		v, ok := local[name]
		if !ok {
			return params[name], nil
		}
		e, err := eval(v, params, path)
		if err != nil {
			return "", err
		}
		s, ok := scalar(e)
		if !ok {
			return "", fault(path, "PT-36", "${%s} is not a text", name)
		}
		return s, nil
	})
}

func texts(v any, path string) ([]string, error) {
	list, ok := v.([]any)
	if !ok {
		return nil, fault(path, "PT-36", "wants a list")
	}
	out := make([]string, len(list))
	for i, e := range list {
		if out[i], ok = scalar(e); !ok {
			return nil, fault(path, "PT-36", "wants a list of texts")
		}
	}
	return out, nil
}

func toAny(list []string) []any {
	out := make([]any, len(list))
	for i, s := range list {
		out[i] = s
	}
	return out
}
