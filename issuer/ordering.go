package issuer

import (
	"context"
	"fmt"
	"path"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/certmill/certmill/ca"
	"github.com/certmill/certmill/internal/ledger"
)

// CreateOrder opens an order and makes its product. The profile's version is recorded with it, once: the order keeps it though the file
// may change. Errors: ErrInvalid, ErrExists, ErrNotFound for profile or CA, ca.ErrRefused where
// that CA may not sign by that profile.
func (i *Issuer) CreateOrder(ctx context.Context, s OrderSpec, by string) (Order, error) {
	e, profile, err := i.checkOrder(s, by)
	if err != nil {
		return Order{}, fmt.Errorf("create order: %w", err)
	}
	err = i.act(ctx, func(o *owner, tx *ledger.Tx) (index uint64, err error) {
		if e.ID == "" {
			e.ID = nextOrder(tx, len(o.books.orders))
		}
		claim := ledger.Claim{Space: claimOrder, Key: e.ID}
		if _, held := tx.Claimed(claim); held {
			return 0, fmt.Errorf("order %s: %w", e.ID, ErrExists)
		}
		if err := recordProfile(tx, profile); err != nil {
			return 0, err
		}
		if e.DeviceParts, err = putDevices(tx, s.Devices); err != nil {
			return 0, err
		}
		return put(tx, ledger.Draft{Kind: entryOrder, Payload: payload(e), Heads: []string{"order/" + e.ID}, Claims: []ledger.Claim{claim}})
	})
	if err != nil {
		return Order{}, fmt.Errorf("create order: %w", err)
	}
	return i.Order(e.ID)
}

// nextOrder finds the next free number. No order is ever removed, so the number of orders is a good place to begin.
func nextOrder(tx *ledger.Tx, orders int) string {
	for n := orders + 1; ; n++ {
		id := "O-" + strconv.Itoa(n)
		if _, held := tx.Claimed(ledger.Claim{Space: claimOrder, Key: id}); !held {
			return id
		}
	}
}

// maxQuantity keeps counters far from their end.
const maxQuantity = 1 << 40

// checkOrder checks a spec and fills in its defaults.
func (i *Issuer) checkOrder(s OrderSpec, by string) (orderEntry, *ca.Profile, error) {
	e := orderEntry{ID: s.ID, Product: s.Product, Profile: s.Profile, Quantity: s.Quantity, CA: s.CA, Stations: s.Stations,
		IDPattern: s.IDPattern, By: by}
	if e.Stations == "" {
		e.Stations = "*"
	}
	if !s.Until.IsZero() {
		e.Until = entryTime(s.Until)
	}
	if err := checkOrderFields(&e, s.Devices, i.now()); err != nil {
		return e, nil, err
	}
	p := i.profiles[s.Profile]
	if p == nil {
		return e, nil, fmt.Errorf("profile %q: %w", s.Profile, ErrNotFound)
	}
	if p.Kind() != ca.KindDevice {
		return e, nil, fmt.Errorf("profile %s is for kind %s, an order makes devices: %w", s.Profile, p.Kind(), ErrInvalid)
	}
	if names := p.Attributes(); len(names) > 0 { // until device lists carry them (device.prepare, ca.Issuance.Attributes)
		return e, nil, fmt.Errorf("profile %s wants %s of every device, which device lists do not carry yet: %w", p.Name(), strings.Join(names, ", "), ErrInvalid)
	}
	e.ProfileHash = p.Hash()
	var err error
	if e.CA, err = i.orderCA(s.CA, p); err != nil {
		return e, nil, err
	}
	if a := i.authorities[e.CA]; a != nil {
		err = a.Admits(p, i.now()) // an officer hears it now, not a line later
	}
	return e, p, err
}

func checkOrderFields(e *orderEntry, devices []string, now time.Time) error {
	if e.ID != "" {
		if err := checkName("order", e.ID); err != nil {
			return err
		}
	}
	if err := checkName("product", e.Product); err != nil {
		return err
	}
	if _, err := path.Match(e.Stations, ""); err != nil || !printable(e.Stations, maxText) {
		return fmt.Errorf("stations %q is no glob: %w", e.Stations, ErrInvalid)
	}
	if _, err := compileIDs(e.IDPattern); err != nil {
		return err
	}
	switch {
	case e.Quantity == 0 || e.Quantity > maxQuantity:
		return fmt.Errorf("quantity must be 1 to %d: %w", uint64(maxQuantity), ErrInvalid)
	case !e.Until.IsZero() && !now.Before(e.Until):
		return fmt.Errorf("until is over already: %w", ErrInvalid)
	case !printable(e.By, maxText):
		return fmt.Errorf("nobody says who orders: %w", ErrInvalid)
	case e.IDPattern != "" && devices != nil:
		return fmt.Errorf("give a list of devices or a pattern, not both: %w", ErrInvalid)
	}
	return checkDevices(devices)
}

// compileIDs compiles a pattern so that it must match a whole id; "" gives nil.
func compileIDs(pattern string) (*regexp.Regexp, error) {
	if pattern == "" {
		return nil, nil
	}
	if _, err := regexp.Compile(pattern); err != nil || len(pattern) > 1024 { // alone first: a pattern like a)|(b must not get past the anchors
		return nil, fmt.Errorf("id_pattern is no regular expression of at most 1024 octets: %w", ErrInvalid)
	}
	return regexp.Compile(`\A(?:` + pattern + `)\z`)
}

// orderCA finds the CA that an order draws on: the one it names, the profile's, or the only one that issues.
func (i *Issuer) orderCA(asked string, p *ca.Profile) (string, error) {
	i.books.mu.RLock()
	defer i.books.mu.RUnlock()
	if p.CA() != "" && asked != "" && asked != p.CA() {
		return "", fmt.Errorf("profile %s wants CA %s: %w", p.Name(), p.CA(), ErrInvalid)
	}
	if asked == "" {
		asked = p.CA()
	}
	if asked != "" {
		r, found := i.books.cas[asked]
		switch {
		case !found:
			return "", fmt.Errorf("CA %q: %w", asked, ErrNotFound)
		case r.Role != ca.RoleIssuing || r.State != stateIssuing:
			return "", fmt.Errorf("CA %s (%s, %s) does not sign devices: %w", asked, r.Role, r.State, ErrInvalid)
		}
		return asked, nil
	}
	var issuing []string
	for name, r := range i.books.cas {
		if r.Role == ca.RoleIssuing && r.State == stateIssuing {
			issuing = append(issuing, name)
		}
	}
	if len(issuing) != 1 {
		slices.Sort(issuing)
		return "", fmt.Errorf("which CA? There are %d that issue: %s: %w", len(issuing), strings.Join(issuing, ", "), ErrInvalid)
	}
	return issuing[0], nil
}
