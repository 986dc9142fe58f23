package awsapi

import (
	"context"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/lambda"
)

// Permission lets AWS IoT call a Lambda function on behalf of one topic rule.
type Permission struct {
	Function    string // ARN
	StatementID string
	RuleARN     string
	Account     string
}

// FunctionExists reports whether a Lambda function is there.
func (t *Target) FunctionExists(ctx context.Context, arn string) (bool, error) {
	_, err := t.lambda.GetFunctionConfiguration(ctx, &lambda.GetFunctionConfigurationInput{FunctionName: &arn})
	err = classified("GetFunctionConfiguration", err)
	if err != nil && KindOf(err) == NotFound {
		return false, nil
	}
	return err == nil, err
}

// FunctionPolicy gives the resource policy of a Lambda function: JSON. NotFound means that there is no policy, or no function.
func (t *Target) FunctionPolicy(ctx context.Context, arn string) (string, error) {
	out, err := t.lambda.GetPolicy(ctx, &lambda.GetPolicyInput{FunctionName: &arn})
	if err != nil {
		return "", classified("GetPolicy", err)
	}
	return aws.ToString(out.Policy), nil
}

// Permit adds a permission to the resource policy of a function. Exists: the statement id is taken.
func (t *Target) Permit(ctx context.Context, p Permission) error {
	_, err := t.lambda.AddPermission(ctx, &lambda.AddPermissionInput{
		FunctionName: &p.Function, StatementId: &p.StatementID, Action: aws.String("lambda:InvokeFunction"),
		Principal: aws.String("iot.amazonaws.com"), SourceArn: &p.RuleARN, SourceAccount: &p.Account,
	}, func(o *lambda.Options) { o.Retryer = retryWrites() })
	return classified("AddPermission", err)
}
