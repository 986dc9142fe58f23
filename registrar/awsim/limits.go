package awsim

import (
	"regexp"
	"slices"
	"strings"
	"unicode/utf8"
)

// limit is what a text member of a request may be (rules section 1.4). Clients do not check, so the server must (W-07).
type limit struct {
	member   string
	min, max int // characters
	pattern  *regexp.Regexp
}

var (
	limitPEM          = limit{"certificate", 1, 65536, nil}
	limitTemplateName = limit{"templateName", 1, 36, regexp.MustCompile(`^[0-9A-Za-z_-]+$`)}
	limitTemplateBody = limit{"templateBody", 0, 10240, nil}
	limitDescription  = limit{"description", 0, 500, nil}
	limitRoleARN      = limit{"roleArn", 20, 2048, nil}
	limitThingName    = limit{"thingName", 1, 128, regexp.MustCompile(`^[a-zA-Z0-9:_-]+$`)}
	limitAttributeKey = limit{"attribute name", 1, 128, regexp.MustCompile(`^[a-zA-Z0-9_.,@/:#-]+$`)}
	limitAttribute    = limit{"attribute value", 0, 800, regexp.MustCompile(`^[a-zA-Z0-9_.,@/:#=\[\]-]*$`)}
	limitPolicyName   = limit{"policyName", 1, 128, regexp.MustCompile(`^[\w+=,.@-]+$`)}
	limitPolicy       = limit{"policyDocument", 1, 404600, nil}
	limitRuleName     = limit{"ruleName", 1, 128, regexp.MustCompile(`^[a-zA-Z0-9_]+$`)}
	limitTagKey       = limit{"tag key", 1, 128, regexp.MustCompile(`^[\p{L}\p{Z}\p{N}_.:/=+\-@]*$`)}
	limitTagValue     = limit{"tag value", 0, 256, nil}
	limitID           = limit{"certificateId", 64, 64, regexp.MustCompile(`^[a-fA-F0-9]+$`)}
)

func (l limit) check(v string) error {
	if n := utf8.RuneCountInString(v); n < l.min || n > l.max {
		return invalidRequest("Value at '%s' failed to satisfy constraint: length %d is not between %d and %d", l.member, n, l.min, l.max)
	}
	if l.pattern != nil && !l.pattern.MatchString(v) {
		return invalidRequest("Value at '%s' failed to satisfy constraint: %q does not match %s", l.member, v, l.pattern)
	}
	return nil
}

// oneOf checks an enumeration.
func oneOf(member, v string, allowed ...string) error {
	if slices.Contains(allowed, v) {
		return nil
	}
	return invalidRequest("Value at '%s' failed to satisfy constraint: %q is none of %s", member, v, strings.Join(allowed, ", "))
}

// pathID reads a certificate's id from the path, with or without 0x.
func (c *call) pathID(name string) (string, error) {
	id := strings.TrimPrefix(c.r.PathValue(name), "0x")
	return strings.ToLower(id), limitID.check(id)
}

// pathName reads a name from the path.
func (c *call) pathName(name string, l limit) (string, error) {
	v := c.r.PathValue(name)
	return v, l.check(v)
}
