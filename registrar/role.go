package registrar

import (
	"context"
	"fmt"
	"path"
	"slices"
	"strings"

	"github.com/certmill/certmill/registrar/awsapi"
	"github.com/certmill/certmill/registrar/jitp"
)

// wantedRole is the role that AWS IoT assumes to run templates. An account has it once.
type wantedRole struct {
	arn, name, path string
	account         string
	create          bool     // certmill makes it and keeps it so; else it has to be there
	sources         []string // ARNs of the templates that may use it
	actions         []string
}

// rolePolicyName is the policy inside the role that certmill writes.
const rolePolicyName = "certmill-jitp"

// newRole takes a role's ARN apart; LoadFleet has checked it.
func newRole(arn, account string) *wantedRole {
	full := "/" + roleARNPattern.FindStringSubmatch(arn)[3]
	dir, name := path.Split(full)
	return &wantedRole{arn: arn, name: name, path: dir, account: account}
}

func (w wantedRole) object() string { return "role " + w.name }

// policyDocument is a policy of IAM.
type policyDocument struct {
	Version   string
	Statement []statement
}

type statement struct {
	Effect    string
	Principal map[string]string         `json:",omitempty"`
	Action    any                       // a text or a list
	Resource  any                       `json:",omitempty"`
	Condition map[string]map[string]any `json:",omitempty"`
}

// trust lets AWS IoT assume the role, only for this account's own templates: without the conditions, anybody's template could name
// the role (CA-60).
func (w wantedRole) trust() string {
	return asJSON(policyDocument{Version: "2012-10-17", Statement: []statement{{
		Effect: "Allow", Principal: map[string]string{"Service": "iot.amazonaws.com"}, Action: "sts:AssumeRole",
		Condition: map[string]map[string]any{
			"StringEquals": {"aws:SourceAccount": w.account},
			"ArnLike":      {"aws:SourceArn": w.sources},
		},
	}}})
}

// rights are what the templates need and no more.
func (w wantedRole) rights() string {
	return asJSON(policyDocument{Version: "2012-10-17", Statement: []statement{{Effect: "Allow", Action: w.actions, Resource: "*"}}})
}

// roleActions are the rights that a run of a template needs (P-01), out of those of AWS's managed policy AWSIoTThingsRegistration.
// That AWS calls RegisterCertificate and RegisterThing in the role's name is not written anywhere; without them, if it does,
// every first connect would fail.
func roleActions(res *jitp.Resources) []string {
	actions := []string{
		"iot:DescribeCertificate", "iot:UpdateCertificate", "iot:RegisterCertificate", "iot:RegisterThing",
		"iot:DescribeThing", "iot:CreateThing", "iot:UpdateThing", "iot:AttachThingPrincipal", "iot:ListThingPrincipals", "iot:ListPrincipalThings",
		"iot:GetPolicy", "iot:AttachPolicy", "iot:AttachPrincipalPolicy", "iot:ListPrincipalPolicies", "iot:ListAttachedPolicies",
	}
	if slices.ContainsFunc(res.Policies, func(p jitp.Policy) bool { return p.Document != "" }) {
		actions = append(actions, "iot:CreatePolicy")
	}
	if res.Thing.Type != "" {
		actions = append(actions, "iot:DescribeThingType")
	}
	if len(res.Thing.Groups) > 0 {
		actions = append(actions, "iot:DescribeThingGroup", "iot:AddThingToThingGroup", "iot:RemoveThingFromThingGroup", "iot:UpdateThingGroupsForThing",
			"iot:ListThingGroupsForThing")
	}
	if res.Thing.BillingGroup != "" {
		actions = append(actions, "iot:DescribeBillingGroup", "iot:AddThingToBillingGroup", "iot:RemoveThingFromBillingGroup")
	}
	slices.Sort(actions)
	return actions
}

// plan compares a role with what is there. A role that certmill does not make is only looked for: registration would not miss it, the
// first connect would (CA-58).
func (w wantedRole) plan(p *planner, s seen[roleState]) {
	switch {
	case s.unread != "":
		p.notMade(w.object(), s.unread)
	case s.is == nil && !w.create:
		p.broken(w.object(), "CA-58", "is not there, so every first connect would fail: make it, or set role_create: true")
	case s.is == nil:
		p.act(Action{Verb: "create", Object: w.object(), Why: "it is not there; AWS IoT may use it for " + w.templates(), Content: w.trust()}, &makeRole{w})
		p.act(Action{Verb: "set rights", Object: w.object(), Why: fmt.Sprintf("the %d actions that its templates need", len(w.actions)), Content: w.rights()}, &setRights{w})
	case w.create:
		if !sameJSON(s.is.trust, w.trust()) {
			p.act(Action{Verb: "set trust", Object: w.object(), Why: "who may use it differs (CA-60); wanted: " + w.templates(), Content: w.trust()}, &setTrust{w})
		}
		if !sameJSON(s.is.policy, w.rights()) {
			p.act(Action{Verb: "set rights", Object: w.object(), Why: "its actions differ from those that its templates need", Content: w.rights()}, &setRights{w})
		}
	}
}

// templates names the templates that may use the role, by region.
func (w wantedRole) templates() string {
	var names []string
	for _, arn := range w.sources {
		parts := strings.SplitN(arn, ":", 6)
		names = append(names, strings.TrimPrefix(parts[5], "provisioningtemplate/")+" in "+parts[3])
	}
	return strings.Join(names, ", ")
}

type makeRole struct{ wantedRole }

func (s *makeRole) done(ctx context.Context, t *awsapi.Target) (answer, error) {
	return (&setTrust{s.wantedRole}).done(ctx, t)
}

func (s *makeRole) do(ctx context.Context, t *awsapi.Target, _ *tools) error {
	return t.CreateRole(ctx, s.name, s.path, s.trust())
}

type setTrust struct{ wantedRole }

func (s *setTrust) done(ctx context.Context, t *awsapi.Target) (answer, error) {
	is, err := t.Role(ctx, s.name)
	if err != nil {
		return absent(err)
	}
	return whether(sameJSON(is.Trust, s.trust())), nil
}

func (s *setTrust) do(ctx context.Context, t *awsapi.Target, _ *tools) error {
	return t.SetRoleTrust(ctx, s.name, s.trust())
}

type setRights struct{ wantedRole }

func (s *setRights) done(ctx context.Context, t *awsapi.Target) (answer, error) {
	is, err := t.RolePolicy(ctx, s.name, rolePolicyName)
	if err != nil {
		return absent(err)
	}
	return whether(sameJSON(is, s.rights())), nil
}

func (s *setRights) do(ctx context.Context, t *awsapi.Target, _ *tools) error {
	return t.SetRolePolicy(ctx, s.name, rolePolicyName, s.rights())
}
