package issuer

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/certmill/certmill/ca"
	"github.com/certmill/certmill/internal/ledger"
)

// P1: every use of a CA key is recorded first; for a certificate, exactly the bytes to be signed. The token itself looks into the ledger before it signs.
func TestP1RecordedBeforeSigned(t *testing.T) {
	p, o := readyPlant(t, 300)
	var asked, recorded atomic.Int64
	look := func(_ context.Context, tbs [][]byte) error {
		asked.Add(1)
		return p.ledger.View(func(v *ledger.View) error {
			for index := range v.Open() {
				if in, err := intentAt(v, index); err == nil && bytes.Equal(in.tbs, tbs[0]) {
					recorded.Add(1)
					return nil
				}
			}
			return nil
		})
	}
	p.tokens["issuing"].breakWith(look)
	p.tokens["plant"].breakWith(look)
	p.together(200, func(n int) error {
		_, err := p.Submit(p.Context(), p.item(o.ID, deviceID(n)))
		return err
	})
	p.station("line-2")
	_, err := p.Prove(p.Context(), "issuing", "111111111111", "eu-central-1", testCode, "test")
	p.must(err)
	_, err = p.ServiceCertificate(p.Context(), p.csr("service"), []string{"localhost"}, "test")
	p.must(err)
	if asked.Load() != 203 || recorded.Load() != asked.Load() {
		t.Errorf("%d of %d TBS stood in an open intent when the token was asked", recorded.Load(), asked.Load())
	}
	t.Logf("P1: %d of %d signatures of 4 kinds had their exact TBS on disk before the token was asked", recorded.Load(), asked.Load())
}

// P2: no certificate leaves before its signature is durable. Whenever the owner is about to commit signatures, nobody may have the answer yet;
// whoever has one finds its signature in what a new reader of the disk sees.
func TestP2StoredBeforeReleased(t *testing.T) {
	p, o := readyPlant(t, 300)
	p.stop()
	var commits, early atomic.Int64
	var released atomic.Int64
	var stored func() int64
	p.start(func(i *Issuer) {
		stored = func() (n int64) {
			p.must(i.ledger.View(func(v *ledger.View) error {
				n = int64(v.Counter(orderCounter(o.ID)))
				for range v.Open() {
					n--
				}
				return nil
			}))
			return n
		}
		i.at = func(point string) {
			if point == "signature "+pointRecorded {
				commits.Add(1)
				if released.Load() > stored() {
					early.Add(1)
				}
			}
		}
	})
	p.together(200, func(n int) error {
		c, err := p.Submit(p.Context(), p.item(o.ID, deviceID(n)))
		if err != nil {
			return err
		}
		released.Add(1)
		return p.ledger.View(func(v *ledger.View) error {
			e, err := v.Entry(c.Index)
			if err == nil && e.Kind != entrySignature {
				err = fmt.Errorf("entry %d is a %s", c.Index, e.Kind)
			}
			return err
		})
	})
	if early.Load() != 0 || commits.Load() == 0 {
		t.Errorf("%d of %d commits found answers that were not on disk", early.Load(), commits.Load())
	}
	t.Logf("P2: %d certificates in %d commits, 0 released before their signature was on disk", released.Load(), commits.Load())
}

// P3: the same order, device and key give the same bytes for ever; another key is refused.
func TestP3ExactlyOnce(t *testing.T) {
	const callers = 64
	p, o := readyPlant(t, 2)
	it := p.item(o.ID, "DEMO-000001")
	var mu sync.Mutex
	var fresh int
	var first Certificate
	p.together(callers, func(int) error {
		c, err := p.Submit(p.Context(), it)
		mu.Lock()
		defer mu.Unlock()
		if first.DER == nil {
			first = c
		}
		if !c.Replayed {
			fresh++
		}
		if err == nil && !bytes.Equal(c.DER, first.DER) {
			err = errors.New("other bytes")
		}
		return err
	})
	if n := p.tokens["issuing"].signed.Load(); fresh != 1 || n != 1 {
		t.Errorf("%d of %d equal requests were told that theirs was new, %d signatures", fresh, callers, n)
	}
	same := func(when string) {
		t.Helper()
		if c := p.submit(it); !bytes.Equal(c.DER, first.DER) || !c.Replayed || !bytes.Equal(mustParse(t, c.DER).Raw, first.DER) {
			t.Errorf("%s: another certificate", when)
		}
	}
	other := it
	other.CSR = p.csr("other key")
	p.refuse(other, ErrHasCertificate)

	p.submit(p.item(o.ID, "DEMO-000002"))
	p.refuse(p.item(o.ID, "DEMO-000003"), ErrOrderFull)
	same("order full")
	p.must(p.Freeze(p.Context(), Target{"order", o.ID}, "test", "test"))
	same("order frozen")
	p.must(p.Freeze(p.Context(), Target{Kind: "all"}, "test", "test"))
	same("all frozen")
	p.stop()
	p.start()
	same("after a restart")
	p.refuse(other, ErrHasCertificate)
	p.must(p.ledger.Check())
	t.Logf("P3: %d equal requests at once and 4 later: 1 signature, 1 new, the same %d octets; another key refused", callers, len(first.DER))
}

// P3 through faults of the token: a lost answer is signed again, and the first signature stored is the certificate's.
func TestP3OneIntentThroughFaults(t *testing.T) {
	p, o := readyPlant(t, 10)
	it := p.item(o.ID, "DEMO-000001")
	tok := p.tokens["issuing"]
	tok.breakWith(func(context.Context, [][]byte) error { return errAway })
	for range 3 {
		p.refuse(it, errAway)
	}
	if n, now := p.OpenIntents(), p.orderNow(o.ID); n != 1 || now.Issued != 1 {
		t.Fatalf("three tries at a token that is away left %d open intents and %d issued", n, now.Issued)
	}
	tok.mu.Lock()
	tok.fault, tok.loses = nil, 1
	tok.mu.Unlock()
	c, err := p.Submit(p.Context(), it)
	for errors.Is(err, errAway) { // the answer that was lost may have been the owner's own retry
		c, err = p.Submit(p.Context(), it)
	}
	p.must(err)
	if c.Replayed || p.OpenIntents() != 0 || p.orderNow(o.ID).Issued != 1 || tok.signed.Load() != 2 {
		t.Errorf("replayed %t, %d open, %d issued, %d signatures", c.Replayed, p.OpenIntents(), p.orderNow(o.ID).Issued, tok.signed.Load())
	}
	if again := p.submit(it); !bytes.Equal(again.DER, c.DER) {
		t.Error("another certificate")
	}
	p.must(p.ledger.Check())
}

// P4: no two certificates share a key, over orders, kinds and CAs.
func TestP4NoSharedKeys(t *testing.T) {
	p, o := readyPlant(t, 10)
	other, err := p.CreateOrder(p.Context(), OrderSpec{Product: "other", Profile: "device", Quantity: 10}, "test")
	p.must(err)
	p.submit(p.item(o.ID, "DEMO-000001"))
	_, err = p.ServiceCertificate(p.Context(), p.csr("service"), []string{"localhost"}, "test")
	p.must(err)

	tries := 0
	for _, key := range []string{"DEMO-000001", "station line-1", "service"} {
		for _, order := range []string{o.ID, other.ID} {
			p.refuse(Item{Order: order, Station: "line-1", DeviceID: "DEMO-000009", CSR: p.csr(key)}, ErrKeyInUse)
			tries++
		}
		if key != "service" {
			if _, err := p.ServiceCertificate(p.Context(), p.csr(key), []string{"localhost"}, "test"); !errors.Is(err, ErrKeyInUse) {
				t.Errorf("service certificate for the key of %s: %v", key, err)
			}
			tries++
		}
		if _, _, err := p.AddStation(p.Context(), "line-9", p.csr(key), "test"); !errors.Is(err, ErrKeyInUse) {
			t.Errorf("station for the key of %s: %v", key, err)
		}
		tries++
	}
	p.refuse(Item{Order: o.ID, Station: "line-1", DeviceID: "DEMO-000009", CSR: newCSR(t, p.tokens["issuing"].key, "")}, ErrKeyInUse)
	tries++

	// Two devices with one key at once.
	csr, won := p.csr("twin"), atomic.Int64{}
	p.together(32, func(n int) error {
		_, err := p.Submit(p.Context(), Item{Order: o.ID, Station: "line-1", DeviceID: fmt.Sprintf("TWIN-%02d", n), CSR: csr})
		if err == nil {
			won.Add(1)
		}
		if errors.Is(err, ErrKeyInUse) {
			err = nil
		}
		return err
	})
	if won.Load() != 1 {
		t.Errorf("%d of 32 devices got a certificate for one key", won.Load())
	}
	if now := p.orderNow(o.ID); now.Issued != 2 {
		t.Errorf("order debited %d times, want 2", now.Issued)
	}
	t.Logf("P4: %d tries to use a key again refused, over 2 orders, 4 kinds and 2 CAs; of 32 devices with one key at once 1 won", tries)
}

// P5: an order of 10, 64 stations asking for 50: exactly 10.
func TestP5NothingThatWasNotOrdered(t *testing.T) {
	p, o := readyPlant(t, 10)
	var issued, full atomic.Int64
	p.together(64, func(n int) error {
		for m := range 50 {
			_, err := p.Submit(p.Context(), p.item(o.ID, deviceID((n+m)%50)))
			switch {
			case err == nil:
				issued.Add(1)
			case errors.Is(err, ErrOrderFull):
				full.Add(1)
			default:
				return err
			}
		}
		return nil
	})
	made := 0
	serials := make(map[string]bool)
	for line, err := range p.Manifest(o.ID) {
		p.must(err)
		made++
		serials[line.Serial] = true
	}
	now := p.orderNow(o.ID)
	if made != 10 || len(serials) != 10 || now.Issued != 10 || now.State != OrderFull || p.tokens["issuing"].signed.Load() != 10 {
		t.Errorf("made %d (%d serials), counter %d, state %s, %d signatures", made, len(serials), now.Issued, now.State, p.tokens["issuing"].signed.Load())
	}
	p.must(p.ledger.Check())
	t.Logf("P5: order of 10, 64 stations x 50 requests for 50 devices: 10 certificates, %d answers with one, %d refused", issued.Load(), full.Load())
}

// P5 for every kind: what has no recorded authority does not get into the ledger, whoever asks.
func TestP5TableOfAuthorities(t *testing.T) {
	debit := []ledger.Debit{{Counter: "order/O-1", Amount: 1, Limit: 10}}
	claims := []ledger.Claim{{Space: "device", Key: "x"}, {Space: "key", Key: "y"}}
	proof := right{By: "uid", Account: "111111111111", Region: "r", Code: "hash"}
	for _, c := range []struct {
		name  string
		in    intent
		role  string
		draft ledger.Draft
		ok    bool
	}{
		{"device by order", intent{kind: ca.KindDevice, order: "O-1"}, ca.RoleIssuing, ledger.Draft{Debits: debit, Claims: claims}, true},
		{"device without debit", intent{kind: ca.KindDevice, order: "O-1"}, ca.RoleIssuing, ledger.Draft{Claims: claims}, false},
		{"device by another order", intent{kind: ca.KindDevice, order: "O-2"}, ca.RoleIssuing, ledger.Draft{Debits: debit, Claims: claims}, false},
		{"device without claims", intent{kind: ca.KindDevice, order: "O-1"}, ca.RoleIssuing, ledger.Draft{Debits: debit}, false},
		{"device by the plant CA", intent{kind: ca.KindDevice, order: "O-1"}, ca.RolePlant, ledger.Draft{Debits: debit, Claims: claims}, false},
		{"device by somebody's word", intent{kind: ca.KindDevice, right: proof.encode()}, ca.RoleIssuing, ledger.Draft{Claims: claims}, false},
		{"proof", intent{kind: ca.KindProof, right: proof.encode()}, ca.RoleIssuing, ledger.Draft{}, true},
		{"proof for no account", intent{kind: ca.KindProof, right: right{By: "uid", Region: "r", Code: "hash"}.encode()}, ca.RoleIssuing, ledger.Draft{}, false},
		{"proof by nobody", intent{kind: ca.KindProof, right: right{Account: "1", Region: "r", Code: "hash"}.encode()}, ca.RoleIssuing, ledger.Draft{}, false},
		{"proof by the plant CA", intent{kind: ca.KindProof, right: proof.encode()}, ca.RolePlant, ledger.Draft{}, false},
		{"station", intent{kind: ca.KindStation, right: right{By: "uid"}.encode()}, ca.RolePlant, ledger.Draft{}, true},
		{"station by an issuing CA", intent{kind: ca.KindStation, right: right{By: "uid"}.encode()}, ca.RoleIssuing, ledger.Draft{}, false},
		{"station by nobody", intent{kind: ca.KindStation}, ca.RolePlant, ledger.Draft{}, false},
		{"service", intent{kind: ca.KindService, right: right{By: "service", Names: []string{"localhost"}}.encode()}, ca.RolePlant, ledger.Draft{}, true},
		{"service without names", intent{kind: ca.KindService, right: right{By: "service"}.encode()}, ca.RolePlant, ledger.Draft{}, false},
		{"CA certificate", intent{kind: ca.KindCA, right: proof.encode()}, ca.RoleRoot, ledger.Draft{}, false},
		{"unknown kind", intent{kind: "crl", right: proof.encode()}, ca.RoleIssuing, ledger.Draft{}, false},
	} {
		if err := authorise(&c.in, c.role, &c.draft); (err == nil) != c.ok {
			t.Errorf("%s: %v", c.name, err)
		}
	}
	t.Logf("P5: %d kinds of signature have a recorded authority, all others are refused", len(kindRules))
}

// together runs f n times at once and reports its errors.
func (p *plant) together(n int, f func(n int) error) {
	p.Helper()
	for m := range n { // keys are made one after the other: the map of them has no lock
		p.csr(deviceID(m))
	}
	var wg sync.WaitGroup
	start := make(chan struct{})
	for m := range n {
		wg.Go(func() {
			<-start
			if err := f(m); err != nil {
				p.Errorf("%d: %v", m, err)
			}
		})
	}
	close(start)
	wg.Wait()
}

func (p *plant) orderNow(id string) Order {
	p.Helper()
	o, err := p.Order(id)
	p.must(err)
	return o
}

const testCode = "0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef"

// eventually polls until ok or a deadline far past what is normal.
func (p *plant) eventually(what string, ok func() bool) {
	p.Helper()
	tick := time.NewTicker(time.Millisecond)
	defer tick.Stop()
	deadline := time.After(20 * time.Second)
	for !ok() {
		select {
		case <-tick.C:
		case <-deadline:
			p.Fatal("not in time: " + what)
		}
	}
}
