package issuer

import (
	"encoding/json"
	"fmt"
	"regexp"
	"strings"
)

// Attributes are what an order's list says of a device beside its id: the columns of the file it came from.
type Attributes map[string]string

// Limits of attributes: they are kept in memory with the list.
const (
	maxAttributes     = 16
	maxAttributeValue = 256      // octets
	maxListOctets     = 16 << 20 // of a whole list, as the ledger keeps it
)

var attributeName = regexp.MustCompile(`^[a-z][a-z0-9_]{0,31}$`)

// checkAttributes takes what a profile may put into a certificate later on: so no registration code, and nothing that does not print.
func checkAttributes(devices []string, attributes map[string]Attributes) error {
	total, with := 0, 0
	for _, id := range devices {
		a := attributes[id]
		if a != nil {
			with++
		}
		if err := a.check(); err != nil {
			return fmt.Errorf("device %q: %w", id, err)
		}
		if total += len(deviceLine(id, a)); total > maxListOctets {
			return fmt.Errorf("the list of devices has more than %d octets: %w", maxListOctets, ErrInvalid)
		}
	}
	if with != len(attributes) {
		return fmt.Errorf("attributes of a device that is not in the list: %w", ErrInvalid)
	}
	return nil
}

func (a Attributes) check() error {
	if len(a) > maxAttributes {
		return fmt.Errorf("%d attributes, at most %d: %w", len(a), maxAttributes, ErrInvalid)
	}
	for name, value := range a {
		switch {
		case !attributeName.MatchString(name) || name == "device_id":
			return fmt.Errorf("attribute %.40q: a name is 1 to 32 of a-z, 0-9 and _, and not device_id: %w", name, ErrInvalid)
		case len(value) > maxAttributeValue || !printable(value, maxAttributeValue):
			return fmt.Errorf("attribute %s is not 1 to %d octets of printable characters: %w", name, maxAttributeValue, ErrInvalid)
		case registrationCode.MatchString(value):
			return fmt.Errorf("attribute %s of 64 hex digits: %w", name, ErrInvalid)
		}
	}
	return nil
}

// deviceLine is a device as its order's entries keep it: the id and, behind a tab, which no id has, its attributes in JSON.
func deviceLine(id string, a Attributes) string {
	if len(a) == 0 {
		return id + "\n"
	}
	return id + "\t" + string(payload(a)) + "\n"
}

func parseDeviceLine(line string) (id string, a Attributes, err error) {
	id, text, more := strings.Cut(line, "\t")
	if more {
		err = json.Unmarshal([]byte(text), &a)
	}
	if err != nil {
		return "", nil, fmt.Errorf("attributes of a device: %w", errPayload)
	}
	return id, a, nil
}
