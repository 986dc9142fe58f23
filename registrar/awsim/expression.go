package awsim

import (
	"net/http"
	"regexp"
	"slices"
	"strings"
)

// As much of DynamoDB's expressions as an allow-list needs: SET of values; conditions of attribute_exists, attribute_not_exists
// and equality, joined by AND, OR and brackets.

// maxExpression is DynamoDB's own limit, in bytes.
const maxExpression = 4096

var token = regexp.MustCompile(`\s*([(),=]|[#:]?[A-Za-z_][A-Za-z0-9_.]*)`)

// tokens cuts an expression up; what is no token ends it, and the parser complains.
func tokens(text string) (list []string) {
	for text != "" {
		m := token.FindStringSubmatchIndex(text)
		if m == nil || m[0] != 0 {
			return append(list, text)
		}
		list = append(list, text[m[2]:m[3]])
		text = strings.TrimRight(text[m[1]:], " \t\n")
	}
	return list
}

// dynamoCondition is a ConditionExpression being read, by descent: or, and, term.
type dynamoCondition struct {
	in   *itemInput
	have item
	rest []string
	err  error
}

// check evaluates the condition of a request against the item that is there.
func (in *itemInput) check(there *item) error {
	if in.ConditionExpression == "" {
		return nil
	}
	if len(in.ConditionExpression)+len(in.UpdateExpression) > maxExpression {
		return badItem("Expression size has exceeded the maximum allowed size")
	}
	c := &dynamoCondition{in: in, have: item{}, rest: tokens(in.ConditionExpression)}
	if there != nil {
		c.have = *there
	}
	holds := c.or()
	if c.err == nil && len(c.rest) > 0 {
		c.fail()
	}
	if c.err != nil {
		return c.err
	}
	if !holds {
		return refuse(http.StatusBadRequest, "ConditionalCheckFailedException", "The conditional request failed")
	}
	return nil
}

func (c *dynamoCondition) fail() bool {
	if c.err == nil {
		c.err = badItem("awsim does not understand the condition %q at %q", c.in.ConditionExpression, strings.Join(c.rest, " "))
	}
	return false
}

// take reads one token if it is one of these.
func (c *dynamoCondition) take(words ...string) (string, bool) {
	if len(c.rest) == 0 || !slices.ContainsFunc(words, func(w string) bool { return strings.EqualFold(w, c.rest[0]) }) {
		return "", false
	}
	word := strings.ToLower(c.rest[0])
	c.rest = c.rest[1:]
	return word, true
}

func (c *dynamoCondition) or() bool {
	holds := c.and()
	for {
		if _, ok := c.take("OR"); !ok {
			return holds
		}
		next := c.and() // read in any case
		holds = holds || next
	}
}

func (c *dynamoCondition) and() bool {
	holds := c.term()
	for {
		if _, ok := c.take("AND"); !ok {
			return holds
		}
		next := c.term()
		holds = holds && next
	}
}

func (c *dynamoCondition) term() bool {
	if _, ok := c.take("("); ok {
		holds := c.or()
		if _, closed := c.take(")"); !closed {
			return c.fail()
		}
		return holds
	}
	if function, ok := c.take("attribute_exists", "attribute_not_exists"); ok {
		if len(c.rest) < 3 || c.rest[0] != "(" || c.rest[2] != ")" {
			return c.fail()
		}
		_, there := c.have[c.in.name(c.rest[1])]
		c.rest = c.rest[3:]
		return there == (function == "attribute_exists")
	}
	if len(c.rest) < 3 || c.rest[1] != "=" {
		return c.fail()
	}
	value, there := c.have[c.in.name(c.rest[0])]
	want, given := c.in.ExpressionAttributeValues[c.rest[2]]
	c.rest = c.rest[3:]
	return there && given && value.equal(want)
}

// apply runs an UpdateExpression: SET name = :value, …
func (in *itemInput) apply(it item) error {
	list := tokens(in.UpdateExpression)
	if len(list) == 0 || !strings.EqualFold(list[0], "SET") {
		return badItem("awsim does not understand the update %q", in.UpdateExpression)
	}
	for list[0] = ","; len(list) > 0; list = list[4:] {
		if len(list) < 4 || list[0] != "," || list[2] != "=" || in.ExpressionAttributeValues[list[3]] == nil {
			return badItem("awsim does not understand the update %q", in.UpdateExpression)
		}
		it[in.name(list[1])] = in.ExpressionAttributeValues[list[3]]
	}
	return nil
}
