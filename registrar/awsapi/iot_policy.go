package awsapi

import (
	"context"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/iot"
)

// DevicePolicy gives the document of an AWS IoT policy's default version.
func (t *Target) DevicePolicy(ctx context.Context, name string) (document string, err error) {
	out, err := t.iot.GetPolicy(ctx, &iot.GetPolicyInput{PolicyName: &name})
	if err != nil {
		return "", classified("GetPolicy", err)
	}
	return aws.ToString(out.PolicyDocument), nil
}

// CreateDevicePolicy makes an AWS IoT policy.
func (t *Target) CreateDevicePolicy(ctx context.Context, name, document string, tags map[string]string) error {
	_, err := t.iot.CreatePolicy(ctx, &iot.CreatePolicyInput{PolicyName: &name, PolicyDocument: &document, Tags: iotTags(tags)}, iotWrite)
	return classified("CreatePolicy", err)
}
