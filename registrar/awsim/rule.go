package awsim

import (
	"net/http"
	"regexp"
	"strings"
	"time"
)

// rule is a topic rule.
type rule struct {
	Name    string      `json:"name"`
	Payload rulePayload `json:"payload"`
	Created time.Time   `json:"created"`
}

// rulePayload is the rule as AWS's JSON has it.
type rulePayload struct {
	SQL         string   `json:"sql"`
	Description string   `json:"description,omitempty"`
	Actions     []object `json:"actions"`
	Disabled    bool     `json:"ruleDisabled"`
	Version     string   `json:"awsIotSqlVersion,omitempty"`
	ErrorAction object   `json:"errorAction,omitempty"`
}

const rules table[rule] = "topic-rules"

// Quotas of rules.
const (
	maxRules   = 1000
	maxActions = 10
)

// ruleSQL is as much SQL as awsim understands: rule R-01.
var ruleSQL = regexp.MustCompile(`(?is)^\s*SELECT\s+.+?\s+FROM\s+'([^']+)'(?:\s+WHERE\s+(.+?))?\s*$`)

// from gives the topic filter of the rule's FROM, and its WHERE.
func (p *rulePayload) from() (filter, where string, ok bool) {
	m := ruleSQL.FindStringSubmatch(p.SQL)
	if m == nil {
		return "", "", false
	}
	return m[1], m[2], true
}

func (p *rulePayload) check() error {
	if _, _, ok := p.from(); !ok {
		return refuse(http.StatusBadRequest, "SqlParseException", "Expected SELECT … FROM '…'")
	}
	if len(p.Actions) > maxActions {
		return invalidRequest("a rule has at most %d actions", maxActions)
	}
	return nil
}

func (c *call) readRule() (name string, p rulePayload, err error) {
	if name, err = c.pathName("ruleName", limitRuleName); err != nil {
		return name, p, err
	}
	// The payload is the body of the request, not a member of it.
	if err := c.decode(&p); err != nil {
		return name, p, err
	}
	return name, p, p.check()
}

func createTopicRule(c *call) (any, error) {
	name, p, err := c.readRule()
	if err != nil {
		return nil, err
	}
	all, err := rules.all(c.tx, c.key(""))
	if err != nil {
		return nil, err
	}
	for _, r := range all {
		if r.Name == name {
			return nil, alreadyExists(name, c.arn("rule/"+name), "Rule with the specified name already exists")
		}
	}
	if len(all) >= maxRules {
		return nil, limitExceeded("an account has at most %d rules", maxRules)
	}
	labels, err := headerTags(c.r.Header.Get("X-Amz-Tagging"))
	if err != nil {
		return nil, err
	}
	if err := setTags(c.tx, c.place, c.arn("rule/"+name), labels); err != nil {
		return nil, err
	}
	return nil, rules.put(c.tx, c.key(name), &rule{name, p, c.tx.now})
}

// existingRule answers UnauthorizedException for a rule that is not there: the operations on rules model no
// ResourceNotFoundException, and this is what people see.
func (c *call) existingRule() (*rule, error) {
	name, err := c.pathName("ruleName", limitRuleName)
	if err != nil {
		return nil, err
	}
	r, err := rules.get(c.tx, c.key(name))
	if err == nil && r == nil {
		err = refuse(http.StatusUnauthorized, "UnauthorizedException", "Access to topic rule '%s' was denied", name)
	}
	return r, err
}

func getTopicRule(c *call) (any, error) {
	r, err := c.existingRule()
	if err != nil {
		return nil, err
	}
	p := &r.Payload
	body := object{
		"ruleName": r.Name, "sql": p.SQL, "description": p.Description, "createdAt": epoch(r.Created), "actions": p.Actions,
		"ruleDisabled": p.Disabled, "awsIotSqlVersion": p.Version,
	}
	if p.ErrorAction != nil {
		body["errorAction"] = p.ErrorAction
	}
	return object{"ruleArn": c.arn("rule/" + r.Name), "rule": body}, nil
}

func replaceTopicRule(c *call) (any, error) {
	r, err := c.existingRule()
	if err != nil {
		return nil, err
	}
	if _, r.Payload, err = c.readRule(); err != nil {
		return nil, err
	}
	return nil, rules.put(c.tx, c.key(r.Name), r)
}

func deleteTopicRule(c *call) (any, error) {
	r, err := c.existingRule()
	if err != nil {
		return nil, err
	}
	return nil, rules.delete(c.tx, c.key(r.Name))
}

func listTopicRules(c *call) (any, error) {
	s, err := c.paging("maxResults", "nextToken")
	if err != nil {
		return nil, err
	}
	s.prefix = c.key("")
	items, answer, err := page(c.tx, rules, s, "nextToken", func(r *rule) (any, error) {
		filter, _, _ := r.Payload.from()
		return object{
			"ruleArn": c.arn("rule/" + r.Name), "ruleName": r.Name, "topicPattern": filter,
			"createdAt": epoch(r.Created), "ruleDisabled": r.Payload.Disabled,
		}, nil
	})
	if err != nil {
		return nil, err
	}
	answer["rules"] = items
	return answer, nil
}

// topicMatches reports whether a topic filter of MQTT 3.1.1 (section 4.7) takes a topic.
func topicMatches(filter, topic string) bool {
	if strings.HasPrefix(topic, "$") != strings.HasPrefix(filter, "$") {
		return false // section 4.7.2
	}
	want, have := strings.Split(filter, "/"), strings.Split(topic, "/")
	for i, level := range want {
		switch {
		case level == "#":
			return true
		case i >= len(have), level != "+" && level != have[i]:
			return false
		}
	}
	return len(want) == len(have)
}
