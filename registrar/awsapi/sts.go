package awsapi

import (
	"context"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/sts"
)

// Identity says whose credentials a target has.
type Identity struct{ Account, ARN string }

// Identity asks STS who we are. It needs no permission and cannot be forbidden, so it is the check that the credentials belong to the
// account they are meant for (S-07).
func (t *Target) Identity(ctx context.Context) (Identity, error) {
	out, err := t.sts.GetCallerIdentity(ctx, &sts.GetCallerIdentityInput{})
	if err != nil {
		return Identity{}, classified("GetCallerIdentity", err)
	}
	return Identity{Account: aws.ToString(out.Account), ARN: aws.ToString(out.Arn)}, nil
}
