package issuer

import (
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/certmill/certmill/ca"
)

func TestCreateOrderRefuses(t *testing.T) {
	p := newPlant(t)
	good := OrderSpec{Product: "demo", Profile: "device", Quantity: 1}
	for _, c := range []struct {
		name   string
		change func(*OrderSpec)
		want   error
	}{
		{"no product", func(s *OrderSpec) { s.Product = "" }, ErrInvalid},
		{"NUL in product", func(s *OrderSpec) { s.Product = "a\x00b" }, ErrInvalid},
		{"slash in id", func(s *OrderSpec) { s.ID = "a/b" }, ErrInvalid},
		{"id of 64 hex digits", func(s *OrderSpec) { s.ID = testCode }, ErrInvalid},
		{"no quantity", func(s *OrderSpec) { s.Quantity = 0 }, ErrInvalid},
		{"quantity without end", func(s *OrderSpec) { s.Quantity = 1 << 63 }, ErrInvalid},
		{"unknown profile", func(s *OrderSpec) { s.Profile = "nosuch" }, ErrNotFound},
		{"unknown CA", func(s *OrderSpec) { s.CA = "nosuch" }, ErrNotFound},
		{"plant CA", func(s *OrderSpec) { s.CA = "plant" }, ErrInvalid},
		{"root", func(s *OrderSpec) { s.CA = "root" }, ErrInvalid},
		{"bad glob", func(s *OrderSpec) { s.Stations = "line-[" }, ErrInvalid},
		{"bad pattern", func(s *OrderSpec) { s.IDPattern = "(" }, ErrInvalid},
		{"pattern that would leave its anchors", func(s *OrderSpec) { s.IDPattern = "a)|(b" }, ErrInvalid},
		{"pattern and list", func(s *OrderSpec) { s.IDPattern, s.Devices = "a", []string{"a"} }, ErrInvalid},
		{"empty list", func(s *OrderSpec) { s.Devices = []string{} }, ErrInvalid},
		{"device twice", func(s *OrderSpec) { s.Devices = []string{"a", "b", "a"} }, ErrInvalid},
		{"newline in a device", func(s *OrderSpec) { s.Devices = []string{"a\nb"} }, ErrInvalid},
		{"device of 64 hex digits", func(s *OrderSpec) { s.Devices = []string{testCode} }, ErrInvalid},
		{"too many devices", func(s *OrderSpec) { s.Devices = make([]string, maxDevices+1) }, ErrInvalid},
		{"over already", func(s *OrderSpec) { s.Until = epoch }, ErrInvalid},
		{"ends before it begins", func(s *OrderSpec) { s.NotBefore, s.Until = epoch.Add(2*time.Hour), epoch.Add(time.Hour) }, ErrInvalid},
		{"ends twice", func(s *OrderSpec) { s.EndsIn, s.Until = time.Hour, epoch.Add(time.Hour) }, ErrInvalid},
		{"ended for a while", func(s *OrderSpec) { s.EndsIn = -time.Hour }, ErrInvalid},
		{"more scrap than units", func(s *OrderSpec) { s.Scrap = 2 }, ErrInvalid},
		{"label with a newline", func(s *OrderSpec) { s.Plant = "a\nb" }, ErrInvalid},
		{"long label", func(s *OrderSpec) { s.Line = strings.Repeat("a", 65) }, ErrInvalid},
		{"attributes without a list", func(s *OrderSpec) { s.Attributes = map[string]Attributes{"a": {"b": "c"}} }, ErrInvalid},
		{"attributes of another device", attributes("b", Attributes{"b": "c"}), ErrInvalid},
		{"attribute called device_id", attributes("a", Attributes{"device_id": "c"}), ErrInvalid},
		{"attribute in capitals", attributes("a", Attributes{"MAC": "c"}), ErrInvalid},
		{"attribute of nothing", attributes("a", Attributes{"mac": ""}), ErrInvalid},
		{"attribute with a tab", attributes("a", Attributes{"mac": "a\tb"}), ErrInvalid},
		{"long attribute", attributes("a", Attributes{"mac": strings.Repeat("a", 257)}), ErrInvalid},
		{"registration code as attribute", attributes("a", Attributes{"mac": testCode}), ErrInvalid},
		{"17 attributes", attributes("a", manyAttributes(17)), ErrInvalid},
	} {
		s := good
		c.change(&s)
		if o, err := p.CreateOrder(p.Context(), s, "test"); !errors.Is(err, c.want) {
			t.Errorf("%s: made %q, error %v, want %v", c.name, o.ID, err, c.want)
		}
	}
	if _, err := p.CreateOrder(p.Context(), good, ""); !errors.Is(err, ErrInvalid) {
		t.Errorf("by nobody: %v", err)
	}
	if orders, err := p.Orders(); err != nil || len(orders) != 0 {
		t.Errorf("%d orders after refusals, %v", len(orders), err)
	}
}

func attributes(id string, a Attributes) func(*OrderSpec) {
	return func(s *OrderSpec) { s.Devices, s.Attributes = []string{"a"}, map[string]Attributes{id: a} }
}

func manyAttributes(n int) Attributes {
	a := make(Attributes)
	for i := range n {
		a[fmt.Sprint("a", i)] = "x"
	}
	return a
}

// What the list says of a device is kept, over parts and restarts, and stands in the device's life.
func TestAttributesOfDevices(t *testing.T) {
	p := newPlant(t)
	p.station("line-1")
	s := OrderSpec{Product: "demo", Profile: "device", Quantity: 3, Attributes: map[string]Attributes{}}
	for n := range 30_000 { // more than one entry holds
		id := fmt.Sprintf("LIST-%06d", n)
		s.Devices = append(s.Devices, id)
		if n%2 == 0 {
			s.Attributes[id] = Attributes{"mac": fmt.Sprintf("02:00:00:00:00:%06d", n), "color": "grün, \"hell\""}
		}
	}
	o, err := p.CreateOrder(p.Context(), s, "test")
	p.must(err)
	for _, id := range []string{"LIST-000000", "LIST-029998", "LIST-029999"} {
		p.submit(p.item(o.ID, id))
		d, err := p.device(p.item(o.ID, id))
		p.must(err)
		if !maps.Equal(d.attributes, s.Attributes[id]) {
			t.Errorf("%s is made with %v, want %v", id, d.attributes, s.Attributes[id])
		}
		p.stop()
		p.start() // the third time the order is full and its list put away
		life, err := p.Device("", id, "")
		p.must(err)
		if !maps.Equal(life.Attributes, s.Attributes[id]) {
			t.Errorf("%s has %v, want %v", id, life.Attributes, s.Attributes[id])
		}
	}
	if now := p.orderNow(o.ID); now.Listed != 30_000 || now.Devices != nil || now.Attributes != nil {
		t.Errorf("%d listed, %d shown", now.Listed, len(now.Devices)+len(now.Attributes))
	}
	p.audited()
}

// A retry after a kill must not make two orders: the same id and words give the first order, whatever has become of it.
func TestCreateOrderTwice(t *testing.T) {
	p := newPlant(t)
	s := OrderSpec{ID: "spring", Product: "demo", Profile: "device", Quantity: 5, EndsIn: time.Hour, Plant: "Brno", Line: "3",
		Devices: []string{"a", "b"}, Attributes: map[string]Attributes{"a": {"x": "1", "y": "2"}}}
	first, err := p.CreateOrder(p.Context(), s, "test")
	p.must(err)
	size := p.ledger.Checkpoint().Size
	for range 3 {
		p.clock.advance(40 * time.Minute) // a duration means the same when it is said again, also when the order has ended
		again, err := p.CreateOrder(p.Context(), s, "somebody else")
		p.must(err)
		if again.Until != first.Until || again.By != "test" || again.Plant != "Brno" || again.Line != "3" {
			t.Errorf("got %+v, want %+v", again, first)
		}
	}
	if p.ledger.Checkpoint().Size != size {
		t.Error("a repetition left an entry")
	}
	for name, change := range map[string]func(*OrderSpec){
		"quantity":   func(s *OrderSpec) { s.Quantity++ },
		"end":        func(s *OrderSpec) { s.EndsIn++ },
		"devices":    func(s *OrderSpec) { s.Devices = []string{"b", "a"} },
		"attributes": func(s *OrderSpec) { s.Attributes = map[string]Attributes{"a": {"x": "1", "y": "3"}} },
	} {
		other := s
		change(&other)
		if _, err := p.CreateOrder(p.Context(), other, "test"); !errors.Is(err, ErrExists) {
			t.Errorf("another %s: %v", name, err)
		}
	}
	fresh := s
	fresh.ID = "autumn"
	p.together(16, func(int) error { // all at once
		_, err := p.CreateOrder(p.Context(), fresh, "test")
		return err
	})
	if orders, err := p.Orders(); err != nil || len(orders) != 2 {
		t.Errorf("%d orders, %v", len(orders), err)
	}
	p.audited()
}

// Scrap is drawn like the rest, and not one more.
func TestScrap(t *testing.T) {
	p := newPlant(t)
	p.station("line-1")
	o, err := p.CreateOrder(p.Context(), OrderSpec{Product: "demo", Profile: "device", Quantity: 4, Scrap: 2}, "test")
	p.must(err)
	var made, full atomic.Int64
	p.together(20, func(n int) error {
		_, err := p.Submit(p.Context(), p.item(o.ID, deviceID(n)))
		switch {
		case err == nil:
			made.Add(1)
		case errors.Is(err, ErrOrderFull):
			full.Add(1)
		default:
			return err
		}
		return nil
	})
	if now := p.orderNow(o.ID); made.Load() != 6 || full.Load() != 14 || now.Issued != 6 || now.State != OrderFull || now.Scrap != 2 {
		t.Errorf("%d made, %d refused, order %+v", made.Load(), full.Load(), now)
	}
	p.audited()
}

// The window has two ends.
func TestOrderBegins(t *testing.T) {
	p := newPlant(t)
	p.station("line-1")
	o, err := p.CreateOrder(p.Context(), OrderSpec{Product: "demo", Profile: "device", Quantity: 5, StartsIn: time.Hour, EndsIn: 2 * time.Hour}, "test")
	p.must(err)
	if !o.NotBefore.Equal(epoch.Add(time.Hour)) || !o.Until.Equal(epoch.Add(2*time.Hour)) || o.State != OrderOpen {
		t.Errorf("order %+v", o)
	}
	it := p.item(o.ID, "DEMO-000001")
	p.clock.advance(time.Hour - time.Millisecond)
	p.refuse(it, ErrOrderClosed)
	p.clock.advance(time.Millisecond)
	p.submit(it)
	p.clock.advance(time.Hour)
	p.refuse(p.item(o.ID, "DEMO-000002"), ErrOrderClosed)
	p.audited()
}

func TestPace(t *testing.T) {
	var p pace
	at := epoch
	if got := p.perHour(at); got != 0 || !forecast(10, 0, 0, at).IsZero() {
		t.Errorf("nothing made: %g an hour", got)
	}
	for range 5 * 60 { // one a second for five minutes
		p.count(at)
		at = at.Add(time.Second)
	}
	at = at.Add(-time.Second)
	if got := p.perHour(at); got != 3600 {
		t.Errorf("got %g an hour, want 3600", got)
	}
	if got, want := forecast(7200+300, 300, 3600, at), at.Add(2*time.Hour).Truncate(time.Minute); !got.Equal(want) {
		t.Errorf("forecast %s, want %s", got, want)
	}
	if got := p.perHour(at.Add(10 * time.Minute)); got != 1200 {
		t.Errorf("after ten minutes of nothing: %g, want 1200", got)
	}
	if got := p.perHour(at.Add(16 * time.Minute)); got != 0 {
		t.Errorf("after a quarter of an hour of nothing: %g", got)
	}
	if !forecast(5, 5, 10, at).IsZero() || !forecast(maxQuantity, 0, 1, at).IsZero() {
		t.Error("a forecast of what is made, or of what nobody lives to see")
	}
}

func TestOrderNumbers(t *testing.T) {
	p := newPlant(t)
	var ids []string
	for _, id := range []string{"", "O-2", "", "spring-batch", ""} {
		o, err := p.CreateOrder(p.Context(), OrderSpec{ID: id, Product: "demo", Profile: "device", Quantity: 1}, "test")
		p.must(err)
		ids = append(ids, o.ID)
	}
	if want := []string{"O-1", "O-2", "O-3", "spring-batch", "O-5"}; !slices.Equal(ids, want) {
		t.Errorf("got %q, want %q", ids, want)
	}
	if _, err := p.CreateOrder(p.Context(), OrderSpec{ID: "O-3", Product: "demo", Profile: "device", Quantity: 1}, "test"); !errors.Is(err, ErrExists) {
		t.Errorf("O-3 again: %v", err)
	}
	p.stop()
	p.start()
	orders, err := p.Orders()
	p.must(err)
	for n, o := range orders {
		if o.ID != ids[n] {
			t.Errorf("order %d is %s, want %s", n, o.ID, ids[n])
		}
	}
}

// An order says which devices it is for, and what it says survives a restart.
func TestDevicesOfAnOrder(t *testing.T) {
	p := newPlant(t)
	p.station("line-1")
	var list []string
	for n := range 60_000 { // more than one entry holds
		list = append(list, fmt.Sprintf("LIST-%012d", n))
	}
	listed, err := p.CreateOrder(p.Context(), OrderSpec{Product: "a", Profile: "device", Quantity: 10, Devices: list}, "test")
	p.must(err)
	pattern, err := p.CreateOrder(p.Context(), OrderSpec{Product: "b", Profile: "device", Quantity: 10, IDPattern: "AB|ABC-[0-9]+"}, "test")
	p.must(err)
	for range 2 {
		p.refuse(p.item(listed.ID, "LIST-000000060000"), ErrDevice)
		p.refuse(p.item(pattern.ID, "xABC-1"), ErrDevice)
		p.refuse(p.item(pattern.ID, "ABC-1x"), ErrDevice)
		p.submit(p.item(listed.ID, list[0]))
		p.submit(p.item(listed.ID, list[len(list)-1]))
		p.submit(p.item(pattern.ID, "ABC-1"))
		p.stop()
		p.start()
	}
	one, err := p.CreateOrder(p.Context(), OrderSpec{Product: "c", Profile: "device", Quantity: 1, Devices: []string{"ONLY-1"}}, "test")
	p.must(err)
	p.refuse(p.item(one.ID, "OTHER-1"), ErrDevice)
	c := p.submit(p.item(one.ID, "ONLY-1"))
	p.stop()
	p.start()
	p.refuse(p.item(one.ID, "OTHER-1"), ErrOrderFull) // its list is not read any more
	if again := p.submit(p.item(one.ID, "ONLY-1")); string(again.DER) != string(c.DER) {
		t.Error("another certificate")
	}
	p.must(p.ledger.Check())
}

// A profile that goes past its CA's end is refused when the order is made, not when the line stands.
func TestOrderPastTheEndOfItsCA(t *testing.T) {
	p := newPlant(t)
	p.stop()
	long := strings.NewReplacer("name: device", "name: long", "duration: 20y", "duration: 31y").Replace(string(ca.DefaultProfile(ca.KindDevice)))
	p.profiles = append(p.profiles, p.profile(long))
	p.start()
	if _, err := p.CreateOrder(p.Context(), OrderSpec{Product: "demo", Profile: "long", Quantity: 1}, "test"); !errors.Is(err, ca.ErrRefused) {
		t.Errorf("31 years under a CA of 30: %v", err)
	}
}

// The order of the checks, as design.md section 7 says it: what comes first wins.
func TestOrderOfChecks(t *testing.T) {
	p, o := readyPlant(t, 3)
	other, err := p.CreateOrder(p.Context(), OrderSpec{Product: "demo", Profile: "device", Quantity: 3, Stations: "line-2"}, "test")
	p.must(err)
	it := p.item(o.ID, "DEMO-000001")
	p.submit(it)
	with := func(change func(*Item)) Item { i := it; change(&i); return i }
	for _, c := range []struct {
		name string
		it   Item
		want error
	}{
		{"unknown station and order", with(func(i *Item) { i.Station, i.Order = "nosuch", "nosuch" }), ErrStation},
		{"no station", with(func(i *Item) { i.Station = "" }), ErrStation},
		{"unknown order", with(func(i *Item) { i.Order, i.CSR = "nosuch", nil }), ErrOrderUnknown},
		{"order for another station", with(func(i *Item) { i.Order = other.ID }), ErrStation},
		{"no CSR", with(func(i *Item) { i.CSR = nil }), ca.ErrMalformed},
		{"CN differs, though the key is in use", with(func(i *Item) { i.DeviceID, i.CSR = "DEMO-000002", p.csr("cn", "DEMO-000001") }), ca.ErrMismatch},
		{"no id at all", with(func(i *Item) { i.DeviceID = "" }), ca.ErrNoDevice},
		{"id of 64 hex digits", with(func(i *Item) { i.DeviceID = testCode }), ca.ErrRefused},
		{"CSR with 64 hex digits", with(func(i *Item) { i.CSR = p.csr("code", testCode) }), ca.ErrRefused},
		{"CSR with 0x and 64 hex digits", with(func(i *Item) { i.CSR = p.csr("0xcode", "0x"+testCode) }), ca.ErrRefused},
		{"id past the profile's pattern", with(func(i *Item) { i.DeviceID = "a b" }), ca.ErrRefused},
		{"slot with NUL", with(func(i *Item) { i.Slot = "a\x00b" }), ca.ErrRefused},
		{"another key", with(func(i *Item) { i.CSR = p.csr("another") }), ErrHasCertificate},
		{"another device", with(func(i *Item) { i.DeviceID = "DEMO-000002" }), ErrKeyInUse},
		{"another slot", with(func(i *Item) { i.Slot = "second" }), ErrKeyInUse},
		{"another order", Item{Order: p.order(1).ID, Station: "line-1", DeviceID: "DEMO-000001", CSR: it.CSR}, ErrHasCertificate},
	} {
		if _, err := p.Submit(p.Context(), c.it); !errors.Is(err, c.want) {
			t.Errorf("%s: %v, want %v", c.name, err, c.want)
		}
	}
	if now := p.orderNow(o.ID); now.Issued != 1 || p.OpenIntents() != 0 {
		t.Errorf("refusals debited: %d issued, %d open", now.Issued, p.OpenIntents())
	}
	second := p.submit(with(func(i *Item) { i.Slot, i.CSR = "second", p.csr("second") }))
	if second.Slot != "second" {
		t.Errorf("slot %q", second.Slot)
	}
}

func TestOrderExpires(t *testing.T) {
	p := newPlant(t)
	p.station("line-1")
	o, err := p.CreateOrder(p.Context(), OrderSpec{Product: "demo", Profile: "device", Quantity: 5, Until: epoch.Add(time.Hour)}, "test")
	p.must(err)
	c := p.submit(p.item(o.ID, "DEMO-000001"))
	p.clock.advance(time.Hour)
	p.refuse(p.item(o.ID, "DEMO-000002"), ErrOrderClosed)
	if now := p.orderNow(o.ID); now.State != OrderExpired {
		t.Errorf("state %s", now.State)
	}
	if again := p.submit(p.item(o.ID, "DEMO-000001")); string(again.DER) != string(c.DER) {
		t.Error("another certificate after the order's end")
	}
}

// An order keeps the version of its profile though the file has changed, also over a restart with the new file alone.
func TestOrderKeepsItsProfile(t *testing.T) {
	p, o := readyPlant(t, 10)
	organization := func(c Certificate) string { return strings.Join(mustParse(t, c.DER).Subject.Organization, ",") }
	if got := organization(p.submit(p.item(o.ID, "DEMO-000001"))); got != "Demo" {
		t.Fatalf("organization %q", got)
	}
	p.stop()
	p.profiles[0] = p.profile(strings.ReplaceAll(string(ca.DefaultProfile(ca.KindDevice)), "organization: Demo", "organization: Changed"))
	p.start()
	next := p.order(1)
	if got := organization(p.submit(p.item(o.ID, "DEMO-000002"))); got != "Demo" {
		t.Errorf("the old order has the new profile: %q", got)
	}
	if got := organization(p.submit(p.item(next.ID, "DEMO-000003"))); got != "Changed" {
		t.Errorf("the new order has the old profile: %q", got)
	}
	if o.ProfileHash == next.ProfileHash || p.orderNow(o.ID).ProfileHash != o.ProfileHash {
		t.Errorf("versions: %s, then %s, new order %s", o.ProfileHash, p.orderNow(o.ID).ProfileHash, next.ProfileHash)
	}
	kept, err := RecordedProfiles(p.ledger)
	if err != nil || len(kept) != 2 || kept[0].Hash() == kept[1].Hash() {
		t.Fatalf("%d versions are kept, %v", len(kept), err)
	}
	for _, v := range kept {
		if v.Hash() != o.ProfileHash && v.Hash() != next.ProfileHash {
			t.Errorf("version %s is of no order", v.Hash())
		}
	}
}

// A profile that wants attributes gets them from the order's list; what it would refuse at the line is refused when the order is made.
func TestProfileGetsAttributes(t *testing.T) {
	p, _ := readyPlant(t, 10)
	p.stop()
	text := strings.Replace(string(ca.DefaultProfile(ca.KindDevice)), "organization: Demo", "organization: 'Demo {attribute.hardware}'", 1)
	p.profiles[0] = p.profile(text + "\nattributes: {hardware: '[A-Z]{1,8}'}\n")
	p.start()
	spec := OrderSpec{Product: "demo", Profile: "device", Quantity: 5}
	if _, err := p.CreateOrder(p.Context(), spec, "test"); !errors.Is(err, ErrInvalid) || !strings.Contains(err.Error(), "wants hardware of every device") {
		t.Errorf("without a list: %v", err)
	}
	spec.Devices = []string{"DEV-1", "DEV-2"}
	for name, a := range map[string]map[string]Attributes{
		"nothing":     nil,
		"half of it":  {"DEV-1": {"hardware": "A"}},
		"other text":  {"DEV-1": {"hardware": "A"}, "DEV-2": {"hardware": "a"}},
		"other names": {"DEV-1": {"hardware": "A"}, "DEV-2": {"color": "red"}},
	} {
		spec.Attributes = a
		if _, err := p.CreateOrder(p.Context(), spec, "test"); !errors.Is(err, ca.ErrRefused) {
			t.Errorf("%s: %v", name, err)
		}
	}
	spec.Attributes = map[string]Attributes{"DEV-1": {"hardware": "REVA", "color": "red"}, "DEV-2": {"hardware": "REVB"}}
	o, err := p.CreateOrder(p.Context(), spec, "test")
	p.must(err)
	for id, want := range map[string]string{"DEV-1": "Demo REVA", "DEV-2": "Demo REVB"} {
		if got := mustParse(t, p.submit(p.item(o.ID, id)).DER).Subject.Organization; !slices.Equal(got, []string{want}) {
			t.Errorf("%s: organization %q, want %q", id, got, want)
		}
		p.stop()
		p.start()
	}
	p.audited()
}

// The manifest of each of two orders that run side by side, over several stretches, in the order of signing.
func TestManifest(t *testing.T) {
	p, o := readyPlant(t, 3000)
	other, err := p.CreateOrder(p.Context(), OrderSpec{Product: "other", Profile: "device", Quantity: 3000}, "test")
	p.must(err)
	const devices = 1500
	p.together(2*devices, func(n int) error {
		order := []string{o.ID, other.ID}[n%2]
		_, err := p.Submit(p.Context(), p.item(order, deviceID(n)))
		return err
	})
	for n, id := range []string{o.ID, other.ID} {
		seen := make(map[string]bool)
		var last uint64
		for line, err := range p.Manifest(id) {
			p.must(err)
			s, err := ca.ParseSerial(line.Serial)
			p.must(err)
			c, err := p.Certificate(s)
			p.must(err)
			if line.Order != id || c.DeviceID != line.DeviceID || c.Index <= last || line.Product != []string{"demo", "other"}[n] || line.CA != "issuing" {
				t.Fatalf("line %+v after entry %d, certificate of %s at entry %d", line, last, c.DeviceID, c.Index)
			}
			last, seen[line.DeviceID] = c.Index, true
		}
		if len(seen) != devices {
			t.Errorf("order %s: %d devices, want %d", id, len(seen), devices)
		}
	}
	for _, err := range p.Manifest("nosuch") {
		if !errors.Is(err, ErrOrderUnknown) {
			t.Error(err)
		}
	}
	for range p.Manifest(o.ID) {
		break // whoever has seen enough may leave
	}
}
