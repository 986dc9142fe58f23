package issuer

import (
	"fmt"

	"github.com/certmill/certmill/ca"
	"github.com/certmill/certmill/internal/ledger"
)

// RecordedProfiles returns every version of a profile that an order keeps, each once: what signers must let through beside what is configured.
func RecordedProfiles(l *ledger.Ledger) (all []*ca.Profile, err error) {
	i := &Issuer{versions: make(map[string]*ca.Profile)}
	err = l.View(func(v *ledger.View) error {
		for _, index := range v.Heads("order/") {
			e, err := get(v, index)
			if err != nil {
				return err
			}
			var o orderEntry
			if err := decodePayload(e, &o); err != nil {
				return fmt.Errorf("entry %d: %w", index, err)
			}
			if i.versions[o.ProfileHash] != nil {
				continue
			}
			p, err := i.profileVersion(v, o.ProfileHash)
			if err != nil {
				return err
			}
			all = append(all, p)
		}
		return nil
	})
	if err != nil {
		return nil, fmt.Errorf("read the profiles of orders: %w", err)
	}
	return all, nil
}
