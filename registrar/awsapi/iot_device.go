package awsapi

import (
	"context"

	"github.com/aws/aws-sdk-go-v2/service/iot"
)

// Device is a device certificate as AWS has it.
type Device struct {
	Status string   // ACTIVE, PENDING_ACTIVATION, …
	Things []string // names of the things it is attached to
}

// Device describes a device certificate by its id.
func (t *Target) Device(ctx context.Context, id string) (Device, error) {
	out, err := t.iot.DescribeCertificate(ctx, &iot.DescribeCertificateInput{CertificateId: &id})
	if err != nil {
		return Device{}, classified("DescribeCertificate", err)
	}
	d := Device{Status: string(out.CertificateDescription.Status)}
	things, err := t.iot.ListPrincipalThings(ctx, &iot.ListPrincipalThingsInput{Principal: out.CertificateDescription.CertificateArn})
	if err != nil {
		return d, classified("ListPrincipalThings", err)
	}
	d.Things = things.Things
	return d, nil
}
