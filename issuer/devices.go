package issuer

import (
	"fmt"
	"iter"
	"strings"

	"github.com/certmill/certmill/internal/ledger"
)

// Limits of a device list: it is kept in memory. Past them a pattern is the way.
const (
	maxDevices    = 100_000
	maxDevicePart = 512 << 10 // octets in one entry
)

func checkDevices(devices []string) error {
	if len(devices) > maxDevices {
		return fmt.Errorf("%d devices: at most %d in a list, use an id pattern: %w", len(devices), maxDevices, ErrInvalid)
	}
	if devices != nil && len(devices) == 0 {
		return fmt.Errorf("the list of devices is empty: %w", ErrInvalid)
	}
	seen := make(map[string]struct{}, len(devices))
	for n, id := range devices {
		if err := checkDevice(id, mainSlot); err != nil {
			return fmt.Errorf("device %d of the list: %v: %w", n+1, err, ErrInvalid)
		}
		if _, twice := seen[id]; twice {
			return fmt.Errorf("device %q stands twice in the list: %w", id, ErrInvalid)
		}
		seen[id] = struct{}{}
	}
	return nil
}

// putDevices appends a list in parts, one device a line, and returns how many.
func putDevices(tx *ledger.Tx, devices []string, attributes map[string]Attributes) (parts uint64, err error) {
	var part []byte
	flush := func() error {
		if len(part) == 0 {
			return nil
		}
		_, err := put(tx, ledger.Draft{Kind: entryDevices, Payload: part})
		part, parts = nil, parts+1
		return err
	}
	for _, id := range devices {
		line := deviceLine(id, attributes[id])
		if len(part)+len(line) > maxDevicePart {
			if err := flush(); err != nil {
				return 0, err
			}
		}
		part = append(part, line...)
	}
	return parts, flush()
}

// readDevices reads the parts that stand right before an order's entry; nil where there are none.
func readDevices(v *ledger.View, order, parts uint64) (map[string]Attributes, error) {
	if parts == 0 {
		return nil, nil
	}
	devices := make(map[string]Attributes)
	for index := order - parts; index < order; index++ {
		e, err := get(v, index)
		if err != nil {
			return nil, err
		}
		if e.Kind != entryDevices {
			return nil, fmt.Errorf("entry %d is a %s, no part of a device list: %w", index, e.Kind, errPayload)
		}
		for line := range lines(e.Payload) {
			id, a, err := parseDeviceLine(line)
			if err != nil {
				return nil, fmt.Errorf("entry %d: %w", index, err)
			}
			devices[id] = a
		}
	}
	return devices, nil
}

func lines(b []byte) iter.Seq[string] {
	return strings.SplitSeq(strings.TrimSuffix(string(b), "\n"), "\n")
}
