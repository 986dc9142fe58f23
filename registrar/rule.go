package registrar

import (
	"context"
	"encoding/json"
	"fmt"
	"slices"
	"strings"

	"github.com/certmill/certmill/registrar/awsapi"
)

// wantedRule is the topic rule that hands the registered event to the JITR function, and the function's permission for it.
type wantedRule struct {
	name, function string
	at             Place
	cas            []string // ids, in the order of their CAs' names
}

// registered is where AWS announces a certificate that it saw for the first time (J-01).
const registered = "$aws/events/certificates/registered/"

// addRule adds a CA to the rule of its entry under jitr:.
func (f *Fleet) addRule(rules []wantedRule, r Registration, id string) []wantedRule {
	j := f.jitr[r.JITR]
	i := slices.IndexFunc(rules, func(w wantedRule) bool { return w.name == j.Rule })
	if i < 0 {
		return append(rules, wantedRule{name: j.Rule, function: r.fill(j.Function), at: r.Place, cas: []string{id}})
	}
	rules[i].cas = append(rules[i].cas, id)
	return rules
}

func (w wantedRule) object() string { return "rule " + w.name }
func (w wantedRule) arn() string    { return w.at.arn("rule/" + w.name) }

// rule listens to our CAs only: the function deactivates what it does not know, which must not hit other people's devices.
func (w wantedRule) rule() awsapi.Rule {
	from, where := w.cas[0], "certificateStatus = 'PENDING_ACTIVATION'"
	if len(w.cas) > 1 {
		from = "+"
		where += " AND (caCertificateId = '" + strings.Join(w.cas, "' OR caCertificateId = '") + "')"
	}
	return awsapi.Rule{
		Name: w.name, SQLVersion: "2016-03-23", Functions: []string{w.function},
		SQL: fmt.Sprintf("SELECT *, clientid() as clientid FROM '%s%s' WHERE %s", registered, from, where),
	}
}

func (w wantedRule) matches(is awsapi.Rule) bool {
	r := w.rule()
	return is.SQL == r.SQL && is.SQLVersion == r.SQLVersion && slices.Equal(is.Functions, r.Functions) && !is.Disabled && is.OtherActions == 0
}

func (w wantedRule) plan(p *planner, s seen[awsapi.Rule]) {
	switch {
	case s.unread != "":
		p.notMade(w.object(), s.unread)
	case s.is == nil:
		p.act(Action{Verb: "create", Object: w.object(), Why: "it is not there; calls " + w.function, Content: w.rule().SQL}, &setRule{w, true})
	case !w.matches(*s.is):
		p.act(Action{Verb: "replace", Object: w.object(), Why: "its SQL, its function or its state differs", Content: w.rule().SQL}, &setRule{w, false})
	}
}

// permission is the statement that lets this rule, and no other, call the function.
func (w wantedRule) permission() awsapi.Permission {
	return awsapi.Permission{Function: w.function, StatementID: "certmill-" + w.name, RuleARN: w.arn(), Account: w.at.Account}
}

func (w wantedRule) planPermission(p *planner, s seen[bool]) {
	object := "permission for " + w.object()
	switch {
	case s.unread != "":
		p.notMade(object, s.unread)
	case s.is == nil || !*s.is:
		p.act(Action{Verb: "allow", Object: object, Why: "without it the rule fails silently (R-03)", Content: w.function, optional: true}, &permit{w})
	}
}

// permits reports whether a function's resource policy holds the permission. AWS writes the conditions in its own way, so they are looked
// for, not compared.
func (w wantedRule) permits(policy string) bool {
	var doc struct {
		Statement []struct {
			Sid       string
			Condition map[string]map[string]json.RawMessage
		}
	}
	if json.Unmarshal([]byte(policy), &doc) != nil {
		return false
	}
	want := w.permission()
	for _, s := range doc.Statement {
		for _, conditions := range s.Condition {
			for key, value := range conditions {
				if strings.EqualFold(key, "aws:SourceArn") && strings.Contains(string(value), `"`+want.RuleARN+`"`) {
					return true
				}
			}
		}
	}
	return false
}

type setRule struct {
	wantedRule
	create bool
}

func (s *setRule) done(ctx context.Context, t *awsapi.Target) (answer, error) {
	is, err := t.Rule(ctx, s.name)
	if err != nil {
		return absent(err)
	}
	return whether(s.matches(is)), nil
}

func (s *setRule) do(ctx context.Context, t *awsapi.Target, _ *tools) error {
	if s.create {
		return t.CreateRule(ctx, s.rule())
	}
	return t.ReplaceRule(ctx, s.rule())
}

type permit struct{ wantedRule }

func (s *permit) done(ctx context.Context, t *awsapi.Target) (answer, error) {
	policy, err := t.FunctionPolicy(ctx, s.function)
	if err != nil {
		return absent(err)
	}
	return whether(s.permits(policy)), nil
}

func (s *permit) do(ctx context.Context, t *awsapi.Target, _ *tools) error {
	return t.Permit(ctx, s.permission())
}
