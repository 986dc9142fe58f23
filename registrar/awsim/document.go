package awsim

import (
	"encoding/json"
	"errors"
	"fmt"
	"regexp"
	"slices"
	"strings"
)

// document is a policy document: of AWS IoT, of IAM, a trust policy, or that of a function.
type document struct {
	statements []statement
}

type statement struct {
	Effect      string
	Principal   principals
	Action      texts
	NotAction   texts
	Resource    texts
	NotResource texts
	Condition   map[string]map[string]texts // operator → key → values
}

// texts is a text or a list of them; JSON has both. Booleans and numbers count as their text.
type texts []string

func (t *texts) UnmarshalJSON(data []byte) error {
	var v any
	if err := json.Unmarshal(data, &v); err != nil {
		return err
	}
	list, ok := v.([]any)
	if !ok {
		list = []any{v}
	}
	for _, e := range list {
		switch e.(type) {
		case string, bool, float64:
			*t = append(*t, fmt.Sprint(e))
		default:
			return errors.New("is neither a text nor a list of texts")
		}
	}
	return nil
}

// principals is who a statement speaks of: "*", or lists by kind ("AWS", "Service").
type principals map[string]texts

func (p *principals) UnmarshalJSON(data []byte) error {
	if string(data) == `"*"` {
		*p = principals{"AWS": {"*"}}
		return nil
	}
	return json.Unmarshal(data, (*map[string]texts)(p))
}

func parseDocument(text string) (*document, error) {
	var wire struct {
		Statement json.RawMessage
	}
	if err := json.Unmarshal([]byte(text), &wire); err != nil {
		return nil, err
	}
	d := &document{}
	list := wire.Statement
	if len(list) > 0 && list[0] == '{' {
		list = slices.Concat([]byte("["), list, []byte("]"))
	}
	if err := json.Unmarshal(list, &d.statements); err != nil {
		return nil, fmt.Errorf("element Statement: %w", err)
	}
	if len(d.statements) == 0 {
		return nil, errors.New("no Statement")
	}
	for i, s := range d.statements {
		if s.Effect != "Allow" && s.Effect != "Deny" {
			return nil, fmt.Errorf("statement %d has the Effect %q", i, s.Effect)
		}
		if len(s.Action)+len(s.NotAction) == 0 {
			return nil, fmt.Errorf("statement %d has no Action", i)
		}
	}
	return d, nil
}

// access is something that somebody wants to do.
type access struct {
	action   string
	resource string            // "" for documents that belong to a resource and name none
	by       *actor            // nil: the document belongs to the actor
	vars     map[string]string // condition keys and policy variables, by their name in lower case
}

// actor is who acts.
type actor struct {
	service      string // as "iot.amazonaws.com"
	account, arn string
}

// allowed reports whether the documents together let it be: one must allow, none may deny.
func allowed(documents []*document, a access) bool {
	allow := false
	for _, d := range documents {
		for _, s := range d.statements {
			if !s.speaksOf(a) {
				continue
			}
			if s.Effect == "Deny" {
				return false
			}
			allow = true
		}
	}
	return allow
}

// speaksOf reports whether a statement applies. A condition that awsim does not know holds for a Deny and not for an Allow.
func (s *statement) speaksOf(a access) bool {
	if a.by != nil && !s.Principal.include(a.by) {
		return false
	}
	if len(s.Action) > 0 && !anyLike(s.Action, a.action, a.vars) || len(s.NotAction) > 0 && anyLike(s.NotAction, a.action, a.vars) {
		return false
	}
	if a.resource != "" {
		if len(s.NotResource) > 0 && anyLike(s.NotResource, a.resource, a.vars) {
			return false
		}
		if len(s.NotResource) == 0 && !anyLike(s.Resource, a.resource, a.vars) {
			return false
		}
	}
	for operator, keys := range s.Condition {
		for key, values := range keys {
			holds, known := condition(operator, key, values, a.vars)
			if !known {
				holds = s.Effect == "Deny"
			}
			if !holds {
				return false
			}
		}
	}
	return true
}

func (p principals) include(by *actor) bool {
	if by.service != "" {
		return slices.Contains(p["Service"], by.service)
	}
	for _, who := range p["AWS"] {
		switch who {
		case "*", by.account, "arn:aws:iam::" + by.account + ":root", by.arn, roleOf(by.arn):
			return true
		}
	}
	return false
}

// roleOf gives the role of an assumed-role session, as trust policies name it.
func roleOf(arn string) string {
	parts := strings.Split(arn, ":")
	if len(parts) != 6 || parts[2] != "sts" {
		return arn
	}
	path := strings.Split(parts[5], "/")
	if len(path) != 3 || path[0] != "assumed-role" {
		return arn
	}
	return "arn:aws:iam::" + parts[4] + ":role/" + path[1]
}

// condition evaluates one operator; a key that the access does not have fails it.
func condition(operator, key string, values texts, vars map[string]string) (holds, known bool) {
	base, ifExists := strings.CutSuffix(operator, "IfExists")
	have, there := vars[strings.ToLower(key)]
	if !there && ifExists {
		return true, true
	}
	equal := func(v string) bool {
		want, ok := expand(v, vars)
		return ok && want == have
	}
	switch base {
	case "StringEquals":
		return there && slices.ContainsFunc(values, equal), true
	case "StringNotEquals":
		return !there || !slices.ContainsFunc(values, equal), true
	case "Bool":
		return there && slices.ContainsFunc(values, func(v string) bool { return strings.EqualFold(v, have) }), true
	case "StringLike", "ArnLike", "ArnEquals":
		return there && anyLike(values, have, vars), true
	case "StringNotLike", "ArnNotLike", "ArnNotEquals":
		return !there || !anyLike(values, have, vars), true
	}
	return false, false
}

func anyLike(patterns []string, have string, vars map[string]string) bool {
	return slices.ContainsFunc(patterns, func(p string) bool { return like(p, have, vars) })
}

// variable is a policy variable in a pattern, or an escaped character: ${*}, ${?}, ${$}.
var variable = regexp.MustCompile(`\$\{([^}]*)\}`)

// like matches a pattern with * and ?. What a variable stands for matches itself only, whatever characters it has; a pattern
// with a variable that has no value matches nothing.
func like(pattern, have string, vars map[string]string) bool {
	var re strings.Builder
	re.WriteString(`(?s)^`)
	last := 0
	for _, m := range variable.FindAllStringSubmatchIndex(pattern, -1) {
		re.WriteString(wildcards(pattern[last:m[0]]))
		v, ok := value(pattern[m[2]:m[3]], vars)
		if !ok {
			return false
		}
		re.WriteString(regexp.QuoteMeta(v))
		last = m[1]
	}
	re.WriteString(wildcards(pattern[last:]) + `$`)
	compiled, err := regexp.Compile(re.String())
	return err == nil && compiled.MatchString(have)
}

func wildcards(s string) string {
	quoted := regexp.QuoteMeta(s)
	return strings.ReplaceAll(strings.ReplaceAll(quoted, `\*`, `.*`), `\?`, `.`)
}

// expand replaces the variables in a text.
func expand(text string, vars map[string]string) (string, bool) {
	complete := true
	out := variable.ReplaceAllStringFunc(text, func(m string) string {
		v, ok := value(m[2:len(m)-1], vars)
		complete = complete && ok
		return v
	})
	return out, complete
}

func value(name string, vars map[string]string) (string, bool) {
	switch name {
	case "*", "?", "$":
		return name, true
	}
	v, ok := vars[strings.ToLower(name)]
	return v, ok
}
