package awsapi

import (
	"context"
	"net/url"
	"strings"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/iam"
	"github.com/aws/aws-sdk-go-v2/service/iam/types"
)

// Role is an IAM role and who may assume it.
type Role struct {
	Name, ARN string
	Trust     string // JSON document
}

// Role looks a role up by its name.
func (t *Target) Role(ctx context.Context, name string) (Role, error) {
	out, err := t.iam.GetRole(ctx, &iam.GetRoleInput{RoleName: &name})
	if err != nil {
		return Role{}, classified("GetRole", err)
	}
	return Role{Name: name, ARN: aws.ToString(out.Role.Arn), Trust: document(out.Role.AssumeRolePolicyDocument)}, nil
}

// CreateRole makes a role; path begins and ends with a slash.
func (t *Target) CreateRole(ctx context.Context, name, path, trust string) error {
	_, err := t.iam.CreateRole(ctx, &iam.CreateRoleInput{
		RoleName: &name, Path: &path, AssumeRolePolicyDocument: &trust,
		Description: aws.String("made by certmill: AWS IoT provisions devices with it at their first connect"),
		Tags:        []types.Tag{{Key: aws.String("certmill"), Value: aws.String("jitp")}},
	}, iamWrite)
	return classified("CreateRole", err)
}

// SetRoleTrust replaces who may assume a role.
func (t *Target) SetRoleTrust(ctx context.Context, name, trust string) error {
	_, err := t.iam.UpdateAssumeRolePolicy(ctx, &iam.UpdateAssumeRolePolicyInput{RoleName: &name, PolicyDocument: &trust}, iamWrite)
	return classified("UpdateAssumeRolePolicy", err)
}

// RolePolicy gives a policy that stands inside a role.
func (t *Target) RolePolicy(ctx context.Context, role, policy string) (string, error) {
	out, err := t.iam.GetRolePolicy(ctx, &iam.GetRolePolicyInput{RoleName: &role, PolicyName: &policy})
	if err != nil {
		return "", classified("GetRolePolicy", err)
	}
	return document(out.PolicyDocument), nil
}

// SetRolePolicy writes a policy into a role.
func (t *Target) SetRolePolicy(ctx context.Context, role, policy, doc string) error {
	_, err := t.iam.PutRolePolicy(ctx, &iam.PutRolePolicyInput{RoleName: &role, PolicyName: &policy, PolicyDocument: &doc}, iamWrite)
	return classified("PutRolePolicy", err)
}

func iamWrite(o *iam.Options) { o.Retryer = retryWrites() }

// document undoes the URL encoding (RFC 3986) in which IAM answers JSON.
func document(s *string) string {
	text := aws.ToString(s)
	if strings.HasPrefix(text, "{") {
		return text
	}
	plain, err := url.PathUnescape(text)
	if err != nil {
		return text
	}
	return plain
}
