package awsapi

import (
	"context"
	"errors"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/iot"
	"github.com/aws/aws-sdk-go-v2/service/iot/types"
)

// CA is a registered CA certificate as AWS describes it. An empty field was not in the answer: it is unknown, not wrong.
type CA struct {
	ID, ARN          string
	Status           string // ACTIVE or INACTIVE
	Mode             string // DEFAULT or SNI_ONLY
	AutoRegistration string // ENABLE or DISABLE
	Config           RegistrationConfig
}

// RegistrationConfig says what JITP does; the zero value is JITR (CA-52). Either TemplateName, or Body and Role (CA-54).
type RegistrationConfig struct {
	TemplateName string
	Body, Role   string
}

// CARegistration is a CA certificate to be registered: inactive, auto-registration off.
type CARegistration struct {
	PEM    string // exactly one certificate (CA-42)
	Mode   string // DEFAULT or SNI_ONLY
	Proof  string // PEM of the verification certificate with DEFAULT; empty with SNI_ONLY (CA-11, CA-12)
	Config RegistrationConfig
	Tags   map[string]string
}

// CAUpdate changes what it names and leaves the rest (CA-61).
type CAUpdate struct {
	Status           string // ACTIVE, INACTIVE, or "" to leave it
	AutoRegistration string // ENABLE, DISABLE, or ""
	Config           RegistrationConfig
	RemoveConfig     bool // never together with Config (CA-62)
}

// RegistrationCode gives the code of this account and region; the first call makes it (CA-01, CA-03).
func (t *Target) RegistrationCode(ctx context.Context) (string, error) {
	out, err := t.iot.GetRegistrationCode(ctx, &iot.GetRegistrationCodeInput{})
	if err != nil {
		return "", classified("GetRegistrationCode", err)
	}
	return aws.ToString(out.RegistrationCode), nil
}

// RegisterCA registers a CA certificate and returns AWS's id for it. Exists: it, or another owner in DEFAULT mode, is there.
func (t *Target) RegisterCA(ctx context.Context, r CARegistration) (id string, err error) {
	in := &iot.RegisterCACertificateInput{
		CaCertificate:      &r.PEM,
		CertificateMode:    types.CertificateMode(r.Mode),
		RegistrationConfig: registrationConfig(r.Config),
		Tags:               iotTags(r.Tags),
	}
	if r.Proof != "" {
		in.VerificationCertificate = &r.Proof
	}
	out, err := t.iot.RegisterCACertificate(ctx, in, iotWrite)
	if err != nil {
		return "", classified("RegisterCACertificate", err)
	}
	return aws.ToString(out.CertificateId), nil
}

// DescribeCA looks a CA certificate up by its id.
func (t *Target) DescribeCA(ctx context.Context, id string) (CA, error) {
	out, err := t.iot.DescribeCACertificate(ctx, &iot.DescribeCACertificateInput{CertificateId: &id})
	if err != nil {
		return CA{}, classified("DescribeCACertificate", err)
	}
	d := out.CertificateDescription
	if d == nil {
		d = &types.CACertificateDescription{}
	}
	ca := CA{
		ID: aws.ToString(d.CertificateId), ARN: aws.ToString(d.CertificateArn),
		Status: string(d.Status), Mode: string(d.CertificateMode), AutoRegistration: string(d.AutoRegistrationStatus),
	}
	if c := out.RegistrationConfig; c != nil {
		ca.Config = RegistrationConfig{TemplateName: aws.ToString(c.TemplateName), Body: aws.ToString(c.TemplateBody), Role: aws.ToString(c.RoleArn)}
	}
	return ca, nil
}

// UpdateCA changes a registered CA certificate; repeating it changes nothing.
func (t *Target) UpdateCA(ctx context.Context, id string, u CAUpdate) error {
	_, err := t.iot.UpdateCACertificate(ctx, &iot.UpdateCACertificateInput{
		CertificateId:             &id,
		NewStatus:                 types.CACertificateStatus(u.Status),
		NewAutoRegistrationStatus: types.AutoRegistrationStatus(u.AutoRegistration),
		RegistrationConfig:        registrationConfig(u.Config),
		RemoveAutoRegistration:    u.RemoveConfig,
	}, iotWrite)
	return classified("UpdateCACertificate", err)
}

func registrationConfig(c RegistrationConfig) *types.RegistrationConfig {
	switch {
	case c.TemplateName != "":
		return &types.RegistrationConfig{TemplateName: &c.TemplateName}
	case c.Body != "":
		return &types.RegistrationConfig{TemplateBody: &c.Body, RoleArn: &c.Role}
	}
	return nil
}

func iotWrite(o *iot.Options) { o.Retryer = retryWrites() }

// resourceID is that of the resource which was there first (W-03).
func resourceID(err error) string {
	var e *types.ResourceAlreadyExistsException
	if errors.As(err, &e) {
		return aws.ToString(e.ResourceId)
	}
	return ""
}
