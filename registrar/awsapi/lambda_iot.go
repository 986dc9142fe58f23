package awsapi

import (
	"context"
	"errors"
	"fmt"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/config"
	"github.com/aws/aws-sdk-go-v2/service/dynamodb"
	"github.com/aws/aws-sdk-go-v2/service/iot"
	"github.com/aws/aws-sdk-go-v2/service/iot/types"

	"github.com/certmill/certmill/registrar/jitr"
)

// Lambda is what the handler of just-in-time registration needs inside AWS: the registry of AWS IoT and the table of the
// allow-list. It is jitr.IoT and jitr.AllowList at once, and may be used concurrently. Every call is safe to repeat, so
// the SDK's own retries stay on.
type Lambda struct {
	iot   *iot.Client
	db    *dynamodb.Client
	table string
}

var (
	_ jitr.IoT       = (*Lambda)(nil)
	_ jitr.AllowList = (*Lambda)(nil)
)

// NewLambda takes region and credentials from the function's environment; nothing is called yet.
func NewLambda(ctx context.Context, table string) (*Lambda, error) {
	cfg, err := config.LoadDefaultConfig(ctx)
	if err != nil {
		return nil, fmt.Errorf("load the AWS configuration: %w", err)
	}
	return &Lambda{iot: iot.NewFromConfig(cfg), db: dynamodb.NewFromConfig(cfg), table: table}, nil
}

// DescribeCertificate implements jitr.IoT.
func (l *Lambda) DescribeCertificate(ctx context.Context, id string) (jitr.Certificate, error) {
	out, err := l.iot.DescribeCertificate(ctx, &iot.DescribeCertificateInput{CertificateId: &id})
	if err != nil {
		return jitr.Certificate{}, forHandler("DescribeCertificate", err)
	}
	c := out.CertificateDescription
	return jitr.Certificate{
		ARN: aws.ToString(c.CertificateArn), CA: aws.ToString(c.CaCertificateId), Status: string(c.Status), Created: aws.ToTime(c.CreationDate),
	}, nil
}

// CreateThing implements jitr.IoT.
func (l *Lambda) CreateThing(ctx context.Context, name string, attributes map[string]string) error {
	_, err := l.iot.CreateThing(ctx, &iot.CreateThingInput{ThingName: &name, AttributePayload: &types.AttributePayload{Attributes: attributes}})
	return forHandler("CreateThing", err)
}

// AttachThingPrincipal implements jitr.IoT.
func (l *Lambda) AttachThingPrincipal(ctx context.Context, thing, certificateARN string) error {
	_, err := l.iot.AttachThingPrincipal(ctx, &iot.AttachThingPrincipalInput{ThingName: &thing, Principal: &certificateARN})
	return forHandler("AttachThingPrincipal", err)
}

// AttachPolicy implements jitr.IoT.
func (l *Lambda) AttachPolicy(ctx context.Context, policy, certificateARN string) error {
	_, err := l.iot.AttachPolicy(ctx, &iot.AttachPolicyInput{PolicyName: &policy, Target: &certificateARN})
	return forHandler("AttachPolicy", err)
}

// UpdateCertificate implements jitr.IoT.
func (l *Lambda) UpdateCertificate(ctx context.Context, id, status string) error {
	_, err := l.iot.UpdateCertificate(ctx, &iot.UpdateCertificateInput{CertificateId: &id, NewStatus: types.CertificateStatus(status)})
	return forHandler("UpdateCertificate", err)
}

// forHandler gives AWS's errors the names that the handler branches on. A policy that is missing is no missing certificate, so
// NotFound is one of DescribeCertificate only.
func forHandler(operation string, err error) error {
	err = classified(operation, err)
	var known *Error
	if !errors.As(err, &known) {
		return err
	}
	switch {
	case known.Kind == NotFound && operation == "DescribeCertificate":
		return errors.Join(jitr.ErrNotFound, err)
	case known.Kind == Exists:
		return errors.Join(jitr.ErrConflict, err)
	case known.Code == "CertificateStateException":
		return errors.Join(jitr.ErrState, err)
	}
	return err
}
