package issuer

import (
	"bytes"
	"cmp"
	"errors"
	"testing"
	"time"
)

// another is the same device with another key.
func (p *plant) another(it Item, key string) Item {
	p.Helper()
	it.CSR = p.csr(key)
	return it
}

// rekey expects one to be decided.
func (p *plant) rekey(s RekeySpec) Rekey {
	p.Helper()
	if s.Reason == "" {
		s.Reason = "key chip replaced"
	}
	r, err := p.Rekey(p.Context(), s, "test")
	p.must(err)
	return r
}

// P3: an explicit rekey revokes the old certificate, and the device gets one more, for another key.
func TestRekey(t *testing.T) {
	p, o := readyPlant(t, 3)
	first := p.item(o.ID, "DEMO-000001")
	old := p.submit(first)
	next := p.another(first, "second key")
	p.refuse(next, ErrHasCertificate)

	r := p.rekey(RekeySpec{DeviceID: "DEMO-000001"})
	if r.Serial != old.Serial.String() || r.Order != o.ID || r.Paid != o.ID || r.Product != "demo" || r.Generation != 0 || !r.RevokedAt.Equal(r.At) {
		t.Errorf("decided %+v", r)
	}
	for range 2 { // and after a restart
		p.refuse(first, ErrRevoked)
		p.refuse(p.another(Item{Order: o.ID, Station: "line-1", DeviceID: "DEMO-000002"}, "DEMO-000001"), ErrKeyInUse)
		p.stop()
		p.start()
	}
	size := p.ledger.Checkpoint().Size
	if again := p.rekey(RekeySpec{DeviceID: "DEMO-000001"}); again != r || p.ledger.Checkpoint().Size != size {
		t.Errorf("asked again: %+v, %d entries", again, p.ledger.Checkpoint().Size-size)
	}
	for _, s := range []RekeySpec{{Overlap: time.Hour}, {Return: true}, {Reason: "another"}} {
		s.DeviceID, s.Reason = "DEMO-000001", cmp.Or(s.Reason, "key chip replaced")
		if _, err := p.Rekey(p.Context(), s, "test"); !errors.Is(err, ErrExists) {
			t.Errorf("%+v: %v", s, err)
		}
	}
	c := p.submit(next)
	if again := p.submit(next); !bytes.Equal(again.DER, c.DER) || !again.Replayed || bytes.Equal(c.DER, old.DER) {
		t.Error("the new generation is not exactly once")
	}
	p.refuse(first, ErrRevoked)
	p.refuse(p.another(first, "third key"), ErrHasCertificate)
	if now := p.orderNow(o.ID); now.Issued != 2 || now.Returned != 0 {
		t.Errorf("a rekey gives nothing back unless it says so: %d issued, %d returned", now.Issued, now.Returned)
	}
	// The operator's terminal was killed, and the device was quicker than the repetition: naming the certificate keeps the new one safe.
	if again := p.rekey(RekeySpec{DeviceID: "DEMO-000001", Serial: old.Serial.String()}); again != r {
		t.Errorf("by serial: %+v", again)
	}
	p.submit(next)

	life, err := p.Device("", "DEMO-000001", "")
	p.must(err)
	if len(life.Certificates) != 2 || life.Product != "demo" || life.Slot != "main" || *life.Certificates[0].Rekey != r || life.Certificates[0].Revoked == nil ||
		life.Certificates[1].Serial != c.Serial.String() || life.Certificates[1].Rekey != nil || life.Certificates[1].Revoked != nil || life.Certificates[1].Station != "line-1" {
		t.Errorf("its life: %+v", life)
	}
	denied := map[string]bool{}
	for line, err := range p.Manifest(o.ID) {
		p.must(err)
		denied[line.Serial] = line.Denied
	}
	if len(denied) != 2 || !denied[old.Serial.String()] || denied[c.Serial.String()] {
		t.Errorf("manifest: denied %v", denied)
	}
	p.audited()
}

// With an overlap the old certificate is good until its end: same bytes until then, refused from then on.
func TestRekeyOverlap(t *testing.T) {
	p, o := readyPlant(t, 5)
	first := p.item(o.ID, "DEMO-000001")
	old := p.submit(first)
	r := p.rekey(RekeySpec{DeviceID: "DEMO-000001", Overlap: time.Hour})
	p.submit(p.another(first, "second key"))
	for _, wait := range []time.Duration{0, time.Hour - time.Millisecond} {
		p.clock.advance(wait)
		if c := p.submit(first); !bytes.Equal(c.DER, old.DER) {
			t.Error("another certificate during the overlap")
		}
	}
	p.clock.advance(time.Millisecond)
	p.refuse(first, ErrRevoked)
	if now := p.clock.now(); !now.Equal(r.RevokedAt) {
		t.Errorf("revoked at %s, now %s", r.RevokedAt, now)
	}
	p.audited()
}

// A unit that is given back is drawn once more, also on an order whose list was put away when it was full.
func TestRekeyReturnsToOrder(t *testing.T) {
	p := newPlant(t)
	p.station("line-1")
	o, err := p.CreateOrder(p.Context(), OrderSpec{Product: "demo", Profile: "device", Quantity: 2, Devices: []string{"DEV-1", "DEV-2"}}, "test")
	p.must(err)
	p.submit(p.item(o.ID, "DEV-1"))
	p.submit(p.item(o.ID, "DEV-2"))
	if _, err := p.Rekey(p.Context(), RekeySpec{DeviceID: "DEV-1", Reason: "x"}, "test"); !errors.Is(err, ErrOrderFull) {
		t.Errorf("rekey on a full order: %v", err)
	}
	p.stop()
	p.start() // the list is not in memory now
	p.rekey(RekeySpec{DeviceID: "DEV-1", Return: true})
	for range 2 {
		if now := p.orderNow(o.ID); now.State != OrderOpen || now.Returned != 1 || now.Issued != 2 {
			t.Errorf("after the return: %+v", now)
		}
		p.refuse(p.item(o.ID, "DEV-3"), ErrDevice)
		p.stop()
		p.start()
	}
	p.submit(p.another(p.item(o.ID, "DEV-1"), "second key"))
	p.refuse(p.another(p.item(o.ID, "DEV-2"), "third key"), ErrHasCertificate)
	if now := p.orderNow(o.ID); now.State != OrderFull || now.Issued != 3 {
		t.Errorf("after the second certificate: %+v", now)
	}
	p.audited()
}

// The rekey says on which order the next certificate is drawn.
func TestRekeyOnAnotherOrder(t *testing.T) {
	p, o := readyPlant(t, 1)
	first := p.item(o.ID, "DEMO-000001")
	p.submit(first)
	repair, err := p.CreateOrder(p.Context(), OrderSpec{ID: "repair", Product: "demo", Profile: "device", Quantity: 5}, "test")
	p.must(err)
	other, err := p.CreateOrder(p.Context(), OrderSpec{ID: "other", Product: "other", Profile: "device", Quantity: 5}, "test")
	p.must(err)
	closed, err := p.CreateOrder(p.Context(), OrderSpec{ID: "closed", Product: "demo", Profile: "device", Quantity: 5}, "test")
	p.must(err)
	_, err = p.CloseOrder(p.Context(), closed.ID, "test", "test")
	p.must(err)
	listed, err := p.CreateOrder(p.Context(), OrderSpec{ID: "listed", Product: "demo", Profile: "device", Quantity: 1, Devices: []string{"DEV-9"}}, "test")
	p.must(err)
	for _, c := range []struct {
		spec RekeySpec
		want error
	}{
		{RekeySpec{Order: "nosuch"}, ErrOrderUnknown},
		{RekeySpec{Order: other.ID}, ErrInvalid},
		{RekeySpec{Order: closed.ID}, ErrOrderClosed},
		{RekeySpec{Order: listed.ID}, ErrDevice},
		{RekeySpec{}, ErrOrderFull},
		{RekeySpec{Order: repair.ID, DeviceID: "DEMO-000009"}, ErrNotFound},
		{RekeySpec{Order: repair.ID, Product: "other"}, ErrNotFound},
		{RekeySpec{Order: repair.ID, Slot: "second"}, ErrNotFound},
		{RekeySpec{Order: repair.ID, Serial: "00"}, ErrNotFound},
		{RekeySpec{Order: repair.ID, Overlap: -1}, ErrInvalid},
		{RekeySpec{Order: repair.ID, DeviceID: "a\nb"}, ErrInvalid},
	} {
		if c.spec.DeviceID == "" {
			c.spec.DeviceID = "DEMO-000001"
		}
		c.spec.Reason = "x"
		if _, err := p.Rekey(p.Context(), c.spec, "test"); !errors.Is(err, c.want) {
			t.Errorf("%+v: %v, want %v", c.spec, err, c.want)
		}
	}
	if _, err := p.Rekey(p.Context(), RekeySpec{DeviceID: "DEMO-000001", Order: repair.ID}, "test"); !errors.Is(err, ErrInvalid) {
		t.Errorf("without a reason: %v", err)
	}
	p.submit(first) // nothing of that has revoked it
	p.rekey(RekeySpec{DeviceID: "DEMO-000001", Order: repair.ID})
	second := p.another(first, "second key")
	p.refuse(second, ErrHasCertificate)
	second.Order = repair.ID
	p.submit(second)
	p.audited()
}

// A certificate that is still being made cannot be replaced: its device may be about to get it.
func TestRekeyOfAnOpenIntent(t *testing.T) {
	p, o := readyPlant(t, 5)
	p.tokens["issuing"].breakWith(awayFault)
	it := p.item(o.ID, "DEMO-000001")
	p.refuse(it, errAway)
	if _, err := p.Rekey(p.Context(), RekeySpec{DeviceID: "DEMO-000001", Reason: "x"}, "test"); !errors.Is(err, ErrSlowDown) {
		t.Errorf("rekey of an open intent: %v", err)
	}
	p.tokens["issuing"].breakWith(nil)
	p.submit(it)
	p.rekey(RekeySpec{DeviceID: "DEMO-000001"})
	p.refuse(it, ErrRevoked)
	p.audited()
}

// A request that came while the order was full, its list put away, and is recorded after a unit was given back, is held against the list all the same.
func TestListComesBackUnderARequest(t *testing.T) {
	p := newPlant(t)
	p.station("line-1")
	o, err := p.CreateOrder(p.Context(), OrderSpec{Product: "demo", Profile: "device", Quantity: 1, Devices: []string{"DEV-1"}}, "test")
	p.must(err)
	p.submit(p.item(o.ID, "DEV-1"))
	p.stop()
	p.start()
	stranger := must(p.device(p.item(o.ID, "DEV-2"))) // past the caller's checks: there is no list to hold it against
	p.rekey(RekeySpec{DeviceID: "DEV-1", Return: true})
	if _, err := p.ask(p.Context(), newRequest(stranger, p.authorities["issuing"])); !errors.Is(err, ErrDevice) {
		t.Errorf("a device that is not listed: %v", err)
	}
	p.submit(p.another(p.item(o.ID, "DEV-1"), "second key"))
	p.audited()
}
