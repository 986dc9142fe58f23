package issuer

import (
	"encoding/json"
	"fmt"
	"strings"

	"github.com/certmill/certmill/ca"
)

// Attributes are what an order's list says of a device beside its id: the columns of the file it came from.
type Attributes = ca.Attributes

// maxListOctets bounds a whole list, as the ledger keeps it: it stands in memory.
const maxListOctets = 16 << 20

// checkAttributes takes what a list may say, whatever the profile makes of it.
func checkAttributes(devices []string, attributes map[string]Attributes) error {
	total, with := 0, 0
	for _, id := range devices {
		a := attributes[id]
		if a != nil {
			with++
		}
		if err := checkAttributesOf(a); err != nil {
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

func checkAttributesOf(a Attributes) error {
	if err := a.Check(); err != nil {
		return fmt.Errorf("%v: %w", err, ErrInvalid)
	}
	for name, value := range a {
		if name == "device_id" || !printable(value, ca.MaxAttributeValue) {
			return fmt.Errorf("attribute %s: it must be printable characters, and not called device_id: %w", name, ErrInvalid)
		}
	}
	return nil
}

// checkWanted finds out when the order is made, and not at the line, whether the profile can make a certificate of each listed device.
func checkWanted(p *ca.Profile, devices []string, attributes map[string]Attributes) error {
	names := p.Attributes()
	if len(names) == 0 {
		return nil
	}
	if devices == nil {
		return fmt.Errorf("profile %s wants %s of every device: give a list that says it: %w", p.Name(), strings.Join(names, ", "), ErrInvalid)
	}
	for _, id := range devices {
		if err := p.CheckAttributes(wanted(p, attributes[id])); err != nil {
			return fmt.Errorf("device %q: %w", id, err)
		}
	}
	return nil
}

// wanted are those attributes that the profile names. A list may say more: it is kept, and shown.
func wanted(p *ca.Profile, a Attributes) Attributes {
	var some Attributes
	for _, name := range p.Attributes() {
		if value, there := a[name]; there {
			if some == nil {
				some = make(Attributes)
			}
			some[name] = value
		}
	}
	return some
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
