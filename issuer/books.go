package issuer

import (
	"encoding/json"
	"fmt"
	"sync"
	"time"

	"github.com/certmill/certmill/internal/ledger"
)

// books are the ledger's documents as they stand now, so that no request reads the disk to learn what is allowed.
// Everybody reads them under mu. The owner alone writes, under mu too, and only what its last commit made true; so the owner
// itself may read without.
type books struct {
	mu        sync.RWMutex
	orders    map[string]*order
	stations  map[string]*station
	certified map[[32]byte]*station // by SHA-256 of the station's certificate
	cas       map[string]CARecord
	frozen    map[Target]bool

	clock *clock // has its own lock
}

func newBooks(c *clock) *books {
	return &books{
		clock:     c,
		orders:    make(map[string]*order),
		stations:  make(map[string]*station),
		certified: make(map[[32]byte]*station),
		cas:       make(map[string]CARecord),
		frozen:    make(map[Target]bool),
	}
}

// stops says whether a freeze stands in the way of a new certificate by a CA; order is "" where none pays for it.
func (b *books) stops(caName, order string) error {
	if len(b.frozen) == 0 {
		return nil
	}
	for _, t := range []Target{{Kind: targetAll}, {targetCA, caName}, {targetOrder, order}} {
		if b.frozen[t] {
			return fmt.Errorf("%s: %w", t, ErrFrozen)
		}
	}
	return nil
}

// entryTime is the form of times in payloads: what the ledger itself keeps.
func entryTime(t time.Time) time.Time { return t.UTC().Truncate(time.Millisecond) }

// document is a ledger entry on its way into the books. read makes it of the entry; enter is called by the owner, under mu.
type document interface {
	read(i *Issuer, v *ledger.View, e ledger.Entry) error
	enter(b *books)
}

// documents are the kinds of entries that the books hold, and the heads under which the newest of each stands. Those without a head concern
// the live path alone.
var documents = []struct {
	kind, head string
	new        func() document
}{
	{entryCA, "ca/", func() document { return new(caDocument) }},
	{entryOrder, "order/", func() document { return new(order) }},
	{entryStation, "station/", func() document { return new(station) }},
	{entryFreeze, "freeze/", func() document { return new(freeze) }},
	{entryClosed, "closed/", func() document { return new(closing) }},
	{entryClock, "clock", func() document { return new(clockAccepted) }},
	{entryRekey, "", func() document { return new(rekey) }},     // what they change is counted, and the counters are read with the orders
	{entryConfirm, "", func() document { return new(confirm) }}, // the same
}

// load reads the document at an index. Start-up and the live path both come through here.
func (i *Issuer) load(v *ledger.View, index uint64) (document, error) {
	e, err := get(v, index)
	if err != nil {
		return nil, err
	}
	for _, d := range documents {
		if d.kind != e.Kind {
			continue
		}
		doc := d.new()
		if err := doc.read(i, v, e); err != nil {
			return nil, fmt.Errorf("entry %d, %s: %w", index, e.Kind, err)
		}
		return doc, nil
	}
	return nil, fmt.Errorf("entry %d: a %s is no document", index, e.Kind)
}

// fold brings every document of the ledger into the books.
func (i *Issuer) fold(v *ledger.View) error {
	for _, d := range documents {
		if d.head == "" {
			continue
		}
		for _, index := range v.Heads(d.head) {
			doc, err := i.load(v, index)
			if err != nil {
				return err
			}
			doc.enter(i.books)
		}
	}
	return nil
}

// decodePayload reads the JSON of one of our own entries. Unknown fields are those of a later version: they are kept out of sight, not refused.
func decodePayload(e ledger.Entry, into any) error {
	if err := json.Unmarshal(e.Payload, into); err != nil {
		return fmt.Errorf("%w: %w", errPayload, err)
	}
	return nil
}

// payload writes the JSON of an entry.
func payload(v any) []byte {
	b, err := json.Marshal(v)
	if err != nil {
		panic("issuer: encode payload: " + err.Error()) // our own types always encode
	}
	return b
}
