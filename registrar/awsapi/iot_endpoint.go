package awsapi

import (
	"context"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/iot"
)

// Endpoint gives the name at which devices of this account and region connect (type iot:Data-ATS). It never changes.
func (t *Target) Endpoint(ctx context.Context) (string, error) {
	out, err := t.iot.DescribeEndpoint(ctx, &iot.DescribeEndpointInput{EndpointType: aws.String("iot:Data-ATS")})
	if err != nil {
		return "", classified("DescribeEndpoint", err)
	}
	return aws.ToString(out.EndpointAddress), nil
}
