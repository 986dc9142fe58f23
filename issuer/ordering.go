package issuer

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
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
// that CA may not sign by that profile. Asked again with the same id and the same words, whoever asks, it returns the order of the first time; the
// same id with other words is ErrExists.
func (i *Issuer) CreateOrder(ctx context.Context, s OrderSpec, by string) (Order, error) {
	if made, err := i.madeBefore(s); made || err != nil { // asked first: what is wrong with it now was right then
		return i.orderOr(s.ID, err)
	}
	e, profile, err := i.checkOrder(s, by)
	if err != nil {
		return Order{}, fmt.Errorf("create order: %w", err)
	}
	err = i.act(ctx, func(o *owner, tx *ledger.Tx) (index uint64, err error) {
		if e.ID == "" {
			e.ID = nextOrder(tx, len(o.books.orders))
		}
		claim := ledger.Claim{Space: claimOrder, Key: e.ID}
		if index, held := tx.Claimed(claim); held {
			return 0, sameOrder(&tx.View, index, e)
		}
		if err := recordProfile(tx, profile); err != nil {
			return 0, err
		}
		if e.DeviceParts, err = putDevices(tx, s.Devices, s.Attributes); err != nil {
			return 0, err
		}
		return put(tx, ledger.Draft{Kind: entryOrder, Payload: payload(e), Heads: []string{"order/" + e.ID}, Claims: []ledger.Claim{claim}})
	})
	return i.orderOr(e.ID, err)
}

func (i *Issuer) orderOr(id string, err error) (Order, error) {
	if err != nil {
		return Order{}, fmt.Errorf("create order: %w", err)
	}
	return i.Order(id)
}

// asked is what identifies a spec whose id the caller chose; "" where the service chose it.
func (s *OrderSpec) asked() string {
	if s.ID == "" {
		return ""
	}
	b, err := json.Marshal(s) // maps in the order of their keys
	if err != nil {
		panic("issuer: encode order spec: " + err.Error()) // our own type always encodes
	}
	sum := sha256.Sum256(b)
	return hex.EncodeToString(sum[:])
}

// madeBefore finds the order of an equal request.
func (i *Issuer) madeBefore(s OrderSpec) (bool, error) {
	i.books.mu.RLock()
	defer i.books.mu.RUnlock()
	o := i.books.orders[s.ID]
	if o == nil {
		return false, nil
	}
	return true, equalAsked(o.orderEntry, s.asked())
}

// sameOrder is madeBefore where the other request came at the same time.
func sameOrder(v *ledger.View, index uint64, e orderEntry) error {
	at, err := get(v, index)
	if err != nil {
		return err
	}
	var stored orderEntry
	if err := decodePayload(at, &stored); err != nil {
		return fmt.Errorf("%w: entry %d: %w", errStore, index, err)
	}
	return equalAsked(stored, e.Asked)
}

func equalAsked(o orderEntry, asked string) error {
	if asked == "" || o.Asked != asked {
		return fmt.Errorf("order %s, asked for in other words by %s: %w", o.ID, o.By, ErrExists)
	}
	return nil
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

const (
	maxQuantity = 1 << 40 // keeps counters far from their end
	maxLabel    = 64
)

// checkOrder checks a spec and fills in its defaults.
func (i *Issuer) checkOrder(s OrderSpec, by string) (orderEntry, *ca.Profile, error) {
	e := orderEntry{ID: s.ID, Product: s.Product, Profile: s.Profile, Quantity: s.Quantity, Scrap: s.Scrap, CA: s.CA, Stations: s.Stations,
		Plant: s.Plant, Line: s.Line, IDPattern: s.IDPattern, Listed: len(s.Devices), Asked: s.asked(), By: by}
	if e.Stations == "" {
		e.Stations = "*"
	}
	if err := e.setWindow(s, i.now()); err != nil {
		return e, nil, err
	}
	if err := checkOrderFields(&e, s.Devices, i.now()); err != nil {
		return e, nil, err
	}
	if err := checkAttributes(s.Devices, s.Attributes); err != nil {
		return e, nil, err
	}
	p := i.profiles[s.Profile]
	if p == nil {
		return e, nil, fmt.Errorf("profile %q: %w", s.Profile, ErrNotFound)
	}
	if p.Kind() != ca.KindDevice {
		return e, nil, fmt.Errorf("profile %s is for kind %s, an order makes devices: %w", s.Profile, p.Kind(), ErrInvalid)
	}
	if err := checkWanted(p, s.Devices, s.Attributes); err != nil {
		return e, nil, err
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

// setWindow takes a time or a duration from now for each end.
func (e *orderEntry) setWindow(s OrderSpec, now time.Time) error {
	for _, end := range []struct {
		into *time.Time
		at   time.Time
		in   time.Duration
	}{{&e.NotBefore, s.NotBefore, s.StartsIn}, {&e.Until, s.Until, s.EndsIn}} {
		switch {
		case end.in < 0 || end.in > 0 && !end.at.IsZero():
			return fmt.Errorf("an order begins and ends at a time or after a while, not both: %w", ErrInvalid)
		case end.in > 0:
			*end.into = entryTime(now.Add(end.in))
		case !end.at.IsZero():
			*end.into = entryTime(end.at)
		}
	}
	return nil
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
	case e.Scrap > e.Quantity:
		return fmt.Errorf("scrap of more than the quantity is another order: %w", ErrInvalid)
	case e.Plant != "" && !printable(e.Plant, maxLabel), e.Line != "" && !printable(e.Line, maxLabel):
		return fmt.Errorf("plant and line are at most %d printable characters: %w", maxLabel, ErrInvalid)
	case !e.Until.IsZero() && !e.NotBefore.Before(e.Until):
		return fmt.Errorf("it would end before it begins: %w", ErrInvalid)
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
