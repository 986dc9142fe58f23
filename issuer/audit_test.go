package issuer

import (
	"bytes"
	"crypto/sha256"
	"crypto/x509"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"time"

	"github.com/certmill/certmill/ca"
	"github.com/certmill/certmill/internal/ledger"
)

// audit recomputes what an order, a device and a confirmation may be from the entries alone, with maps, in the order in which they were recorded: no index, no
// claim and no counter is asked until the end. What it finds it returns.
func audit(l *ledger.Ledger) (faults []string) {
	a := &auditor{orders: map[string]*auditOrder{}, units: map[string]*auditUnit{}, keys: map[[32]byte]bool{}, intents: map[uint64]intent{},
		certificates: map[uint64][]byte{}, revoked: map[uint64]time.Time{}, confirmed: map[uint64]bool{}}
	err := l.View(func(v *ledger.View) error {
		for e, err := range v.Entries(0) {
			if err != nil {
				return err
			}
			a.entry(e)
		}
		a.counters(v)
		return nil
	})
	if err != nil {
		a.fault("%v", err)
	}
	return a.faults
}

type auditor struct {
	orders       map[string]*auditOrder
	units        map[string]*auditUnit
	keys         map[[32]byte]bool
	intents      map[uint64]intent
	certificates map[uint64][]byte    // by intent
	revoked      map[uint64]time.Time // by intent
	confirmed    map[uint64]bool      // by intent
	faults       []string
}

type auditOrder struct {
	product                    string
	may, made, back, confirmed uint64
	closed                     bool
	notBefore, until           time.Time
}

// auditUnit is a device's place for a certificate.
type auditUnit struct {
	newest uint64 // intent
	made   int
	next   string // the order on which the next may be drawn; "": none may
}

func (a *auditor) fault(format string, args ...any) {
	a.faults = append(a.faults, fmt.Sprintf(format, args...))
}

func (a *auditor) entry(e ledger.Entry) {
	switch e.Kind {
	case entryOrder:
		var o struct {
			ID, Product, Asked string
			Quantity, Scrap    uint64
			NotBefore          time.Time `json:"not_before"`
			Until              time.Time
		}
		a.read(e, &o)
		if a.orders[o.ID] != nil {
			a.fault("entry %d: order %s stands twice", e.Index, o.ID)
		}
		a.orders[o.ID] = &auditOrder{product: o.Product, may: o.Quantity + o.Scrap, notBefore: o.NotBefore, until: o.Until}
	case entryClosed:
		var c struct{ Order string }
		a.read(e, &c)
		if a.orders[c.Order].closed {
			a.fault("entry %d: order %s was closed before", e.Index, c.Order)
		}
		a.orders[c.Order].closed = true
	case entryIntent:
		a.intent(e)
	case entrySignature:
		a.signature(e)
	case entryRevoked:
		var r struct {
			Intent uint64
			At     time.Time
		}
		a.read(e, &r)
		if before, found := a.revoked[r.Intent]; found && !r.At.Before(before) {
			a.fault("entry %d: revoked before, and no later", e.Index)
		}
		a.revoked[r.Intent] = r.At
	case entryRekey:
		a.rekey(e)
	case entryConfirm:
		a.confirm(e)
	}
}

func (a *auditor) read(e ledger.Entry, into any) {
	if err := json.Unmarshal(e.Payload, into); err != nil {
		a.fault("entry %d, %s: %v", e.Index, e.Kind, err)
	}
}

func (a *auditor) intent(e ledger.Entry) {
	in, err := decodeIntent(e.Payload)
	if err != nil {
		a.fault("entry %d: %v", e.Index, err)
		return
	}
	if a.keys[in.key] {
		a.fault("entry %d: a key stands twice", e.Index)
	}
	a.keys[in.key], a.intents[e.Index] = true, in
	if in.kind != ca.KindDevice {
		return
	}
	o := a.orders[in.order]
	switch {
	case o == nil:
		a.fault("entry %d: no order %s", e.Index, in.order)
		return
	case o.closed:
		a.fault("entry %d: order %s was closed", e.Index, in.order)
	case o.made >= o.may+o.back:
		a.fault("entry %d: order %s was full", e.Index, in.order)
	case e.Time.Before(o.notBefore) || !o.until.IsZero() && !e.Time.Before(o.until):
		a.fault("entry %d: order %s was not open at %s", e.Index, in.order, e.Time)
	}
	o.made++
	name := o.product + "\x00" + in.device + "\x00" + in.slot
	u := a.units[name]
	if u == nil {
		u = &auditUnit{next: in.order}
		a.units[name] = u
	}
	if u.next != in.order {
		a.fault("entry %d: certificate %d of %q on order %s, which may have one on %q", e.Index, u.made, name, in.order, u.next)
	}
	u.newest, u.made, u.next = e.Index, u.made+1, ""
}

func (a *auditor) signature(e ledger.Entry) {
	of, sig, err := decodeSignature(e.Payload)
	in, found := a.intents[of]
	if err != nil || !found || a.certificates[of] != nil {
		a.fault("entry %d: signature of entry %d: %v", e.Index, of, err)
		return
	}
	if a.certificates[of], err = ca.Assemble(in.tbs, sig); err != nil {
		a.fault("entry %d: %v", e.Index, err)
	}
}

func (a *auditor) rekey(e ledger.Entry) {
	var r rekeyEntry
	a.read(e, &r)
	u := a.units[r.Product+"\x00"+r.DeviceID+"\x00"+r.Slot]
	if u == nil || u.made != r.Generation+1 || u.next != "" {
		a.fault("entry %d: a rekey of what is not there", e.Index)
		return
	}
	in := a.intents[u.newest]
	cert, err := x509.ParseCertificate(a.certificates[u.newest])
	if err != nil || serialOf(cert).String() != r.Serial || in.order != r.Paid || a.orders[r.Order].product != r.Product {
		a.fault("entry %d: a rekey of another certificate, %v", e.Index, err)
	}
	if at, revoked := a.revoked[u.newest]; !revoked || at.After(r.RevokedAt) || !r.RevokedAt.Equal(r.At.Add(r.Overlap)) {
		a.fault("entry %d: a rekey without its revocation", e.Index)
	}
	if r.Returned {
		a.orders[r.Paid].back++
	}
	u.next = r.Order
}

func (a *auditor) confirm(e ledger.Entry) {
	var c confirmEntry
	a.read(e, &c)
	der := a.certificates[c.Intent]
	cert, err := x509.ParseCertificate(der)
	if err != nil || a.confirmed[c.Intent] || a.intents[c.Intent].order != c.Order {
		a.fault("entry %d: confirms what is none of the order's, or twice: %v", e.Index, err)
		return
	}
	a.confirmed[c.Intent] = true
	id := sha256.Sum256(der)
	signed := bytes.Join([][]byte{[]byte("certmill-confirm-v1\x00"), []byte(c.Challenge), []byte(hex.EncodeToString(id[:]))}, nil)
	if err := cert.CheckSignature(x509.ECDSAWithSHA256, signed, c.Signature); err != nil {
		a.fault("entry %d: %v", e.Index, err)
	}
	a.orders[c.Order].confirmed++
}

// counters holds the ledger's own against what was counted.
func (a *auditor) counters(v *ledger.View) {
	for id, o := range a.orders {
		if m, b, c := v.Counter("order/"+id), v.Counter("order/"+id+"/returned"), v.Counter("order/"+id+"/confirmed"); m != o.made || b != o.back || c != o.confirmed {
			a.fault("order %s: counters %d %d %d, entries %d %d %d", id, m, b, c, o.made, o.back, o.confirmed)
		}
	}
}

// audited fails the test where the record is not in order.
func (p *plant) audited() {
	p.Helper()
	for _, f := range audit(p.ledger) {
		p.Error(f)
	}
	p.must(p.ledger.Check())
}
