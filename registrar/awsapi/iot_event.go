package awsapi

import (
	"context"

	"github.com/aws/aws-sdk-go-v2/service/iot"
	"github.com/aws/aws-sdk-go-v2/service/iot/types"
)

// caEvents is the event configuration that the registered event wants, or so AWS's table of events says (J-09).
const caEvents = string(types.EventTypeCaCertificate)

// CAEvents reports whether events of CA certificates are on.
func (t *Target) CAEvents(ctx context.Context) (bool, error) {
	out, err := t.iot.DescribeEventConfigurations(ctx, &iot.DescribeEventConfigurationsInput{})
	if err != nil {
		return false, classified("DescribeEventConfigurations", err)
	}
	return out.EventConfigurations[caEvents].Enabled, nil
}

// EnableCAEvents turns them on and leaves other events alone.
func (t *Target) EnableCAEvents(ctx context.Context) error {
	_, err := t.iot.UpdateEventConfigurations(ctx, &iot.UpdateEventConfigurationsInput{
		EventConfigurations: map[string]types.Configuration{caEvents: {Enabled: true}},
	}, iotWrite)
	return classified("UpdateEventConfigurations", err)
}
