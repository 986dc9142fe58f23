package awsim

import "time"

// eventConfigurations says which kinds of events an account wants in a region (J-09, J-11).
type eventConfigurations struct {
	Enabled  map[string]bool `json:"enabled"`
	Created  time.Time       `json:"created"`
	Modified time.Time       `json:"modified"`
}

const eventSettings table[eventConfigurations] = "event-configurations"

func eventTypes() []string {
	return []string{
		"THING", "THING_GROUP", "THING_TYPE", "THING_GROUP_MEMBERSHIP", "THING_GROUP_HIERARCHY", "THING_TYPE_ASSOCIATION",
		"JOB", "JOB_EXECUTION", "POLICY", "CERTIFICATE", "CA_CERTIFICATE",
	}
}

func describeEventConfigurations(c *call) (any, error) {
	have, err := eventSettings.get(c.tx, c.key("events"))
	if err != nil {
		return nil, err
	}
	if have == nil {
		have = &eventConfigurations{}
	}
	settings := object{}
	for _, kind := range eventTypes() {
		settings[kind] = object{"Enabled": have.Enabled[kind]}
	}
	answer := object{"eventConfigurations": settings}
	if !have.Created.IsZero() {
		answer["creationDate"], answer["lastModifiedDate"] = epoch(have.Created), epoch(have.Modified)
	}
	return answer, nil
}

func updateEventConfigurations(c *call) (any, error) {
	var in struct {
		EventConfigurations map[string]struct{ Enabled bool } `json:"eventConfigurations"`
	}
	if err := c.decode(&in); err != nil {
		return nil, err
	}
	have, err := eventSettings.get(c.tx, c.key("events"))
	if err != nil {
		return nil, err
	}
	if have == nil {
		have = &eventConfigurations{Enabled: map[string]bool{}, Created: c.tx.now}
	}
	for kind, setting := range in.EventConfigurations {
		if err := oneOf("eventConfigurations", kind, eventTypes()...); err != nil {
			return nil, err
		}
		have.Enabled[kind] = setting.Enabled
	}
	have.Modified = c.tx.now
	return object{}, eventSettings.put(c.tx, c.key("events"), have)
}
