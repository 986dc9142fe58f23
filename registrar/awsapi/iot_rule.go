package awsapi

import (
	"context"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/iot"
	"github.com/aws/aws-sdk-go-v2/service/iot/types"
)

// Rule is a topic rule that hands what its SQL selects to Lambda functions.
type Rule struct {
	Name, SQL, SQLVersion string
	Functions             []string // ARNs
	Disabled              bool
	OtherActions          int // actions that are no Lambda function, which certmill does not make
}

// Rule looks a topic rule up by its name. AWS answers UnauthorizedException for one that is not there, whoever asks; missing rights
// are AccessDeniedException (W-04).
func (t *Target) Rule(ctx context.Context, name string) (Rule, error) {
	out, err := t.iot.GetTopicRule(ctx, &iot.GetTopicRuleInput{RuleName: &name})
	if err != nil {
		e := classified("GetTopicRule", err).(*Error)
		if e.Code == "UnauthorizedException" {
			e.Kind = NotFound
		}
		return Rule{}, e
	}
	w := Rule{Name: name}
	if out.Rule == nil {
		return w, nil
	}
	w.SQL, w.SQLVersion = aws.ToString(out.Rule.Sql), aws.ToString(out.Rule.AwsIotSqlVersion)
	w.Disabled = aws.ToBool(out.Rule.RuleDisabled)
	for _, a := range out.Rule.Actions {
		if a.Lambda == nil {
			w.OtherActions++
			continue
		}
		w.Functions = append(w.Functions, aws.ToString(a.Lambda.FunctionArn))
	}
	return w, nil
}

// CreateRule makes a topic rule.
func (t *Target) CreateRule(ctx context.Context, w Rule) error {
	_, err := t.iot.CreateTopicRule(ctx, &iot.CreateTopicRuleInput{RuleName: &w.Name, TopicRulePayload: rulePayload(w)}, iotWrite)
	return classified("CreateTopicRule", err)
}

// ReplaceRule gives a topic rule another content.
func (t *Target) ReplaceRule(ctx context.Context, w Rule) error {
	_, err := t.iot.ReplaceTopicRule(ctx, &iot.ReplaceTopicRuleInput{RuleName: &w.Name, TopicRulePayload: rulePayload(w)}, iotWrite)
	return classified("ReplaceTopicRule", err)
}

func rulePayload(w Rule) *types.TopicRulePayload {
	p := &types.TopicRulePayload{Sql: &w.SQL, AwsIotSqlVersion: &w.SQLVersion, RuleDisabled: &w.Disabled}
	for _, f := range w.Functions {
		p.Actions = append(p.Actions, types.Action{Lambda: &types.LambdaAction{FunctionArn: &f}})
	}
	return p
}
