package issuer

import (
	"testing"

	"github.com/certmill/certmill/internal/ledger"
)

// P1: the self-test of tokens that hold the same keys stands in the ledger, with who started it.
func TestSelftestIsRecorded(t *testing.T) {
	p := newPlant(t)
	p.must(RecordSelftest(p.ledger, []string{"main", "spare"}, "local:0"))
	p.must(p.ledger.View(func(v *ledger.View) error {
		e, err := v.Entry(v.Size() - 1)
		if want := `{"tokens":["main","spare"],"by":"local:0"}`; err != nil || e.Kind != entrySelftest || string(e.Payload) != want {
			t.Errorf("got %s %s, %v, want %s", e.Kind, e.Payload, err, want)
		}
		return nil
	}))
}
