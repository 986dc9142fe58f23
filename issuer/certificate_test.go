package issuer

import (
	"context"
	"errors"
	"testing"

	"github.com/certmill/certmill/ca"
	"github.com/certmill/certmill/internal/ledger"
)

// A serial finds its own certificate and nothing else: any block decrypts to some number.
func TestCertificateBySerial(t *testing.T) {
	p, o := readyPlant(t, 10)
	c := p.submit(p.item(o.ID, "DEMO-000001"))
	p.tokens["issuing"].breakWith(func(context.Context, [][]byte) error { return errAway })
	p.refuse(p.item(o.ID, "DEMO-000002"), errAway)
	open := p.ledger.Checkpoint().Size - 1
	sequence := c.Serial.Sequence(p.ledger.Cipher())
	make := func(prefix, epoch uint16, sequence uint64) ca.Serial {
		return ca.NewSerial(prefix, epoch, p.ledger.Cipher(), sequence, [8]byte{1, 2, 3})
	}
	flipped := c.Serial
	flipped[19] ^= 1
	for name, s := range map[string]ca.Serial{
		"another random part":         make(c.Serial.Prefix(), 0, sequence),
		"another block":               flipped,
		"an entry that is no intent":  make(c.Serial.Prefix(), 0, sequence+1),
		"an intent without signature": make(c.Serial.Prefix(), 0, open),
		"past the end":                make(c.Serial.Prefix(), 0, open+1),
		"the ledger's first entry":    make(c.Serial.Prefix(), 0, 0),
	} {
		if found, err := p.Certificate(s); !errors.Is(err, ErrNotFound) {
			t.Errorf("%s: found %s, %v", name, found.Serial, err)
		}
	}
	if found, err := p.Certificate(c.Serial); err != nil || string(found.DER) != string(c.DER) || found.Index != c.Index {
		t.Errorf("its own serial: %v", err)
	}
}

// Nothing of before a rollback is signed after it: an intent that was open then stays open, and is seen.
func TestOpenIntentOfAnotherEpoch(t *testing.T) {
	p, o := readyPlant(t, 10)
	p.tokens["issuing"].breakWith(func(context.Context, [][]byte) error { return errAway })
	it := p.item(o.ID, "DEMO-000001")
	p.refuse(it, errAway)
	p.stop()
	l, err := ledger.Open(p.cfg)
	p.must(err)
	_, err = l.Update(func(tx *ledger.Tx) error {
		_, err := tx.Append(ledger.Draft{Kind: "rollback", Debits: []ledger.Debit{{Counter: "ledger.epoch", Amount: 1, Limit: 1}}})
		return err
	})
	p.must(err)
	p.must(l.Close())
	p.tokens["issuing"].breakWith(nil)
	p.start()
	if _, err := p.Submit(p.Context(), it); !errors.Is(err, errNotTakenUp) {
		t.Errorf("the request again: %v", err)
	}
	c := p.submit(p.item(o.ID, "DEMO-000002"))
	if c.Serial[3] != 1 || p.OpenIntents() != 1 || p.tokens["issuing"].signed.Load() != 1 {
		t.Errorf("serial %s, %d open, %d signatures", c.Serial, p.OpenIntents(), p.tokens["issuing"].signed.Load())
	}
}
