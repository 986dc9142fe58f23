package issuer

import (
	"encoding/json"
	"fmt"

	"github.com/certmill/certmill/ca"
	"github.com/certmill/certmill/internal/ledger"
)

// right is the recorded authority of a signature that no order pays for. It stands in the intent as JSON.
type right struct {
	By      string   `json:"by"`                  // who decided it
	Account string   `json:"account,omitempty"`   // proof: the AWS account that asked for it
	Region  string   `json:"region,omitempty"`    // proof
	Code    string   `json:"code_hash,omitempty"` // proof: hex SHA-256 of the registration code
	Names   []string `json:"names,omitempty"`     // service: DNS names and IP literals
}

func (r right) encode() []byte {
	b, err := json.Marshal(r)
	if err != nil {
		panic("issuer: encode right: " + err.Error()) // strings always encode
	}
	return b
}

// kindRule says by what authority a CA key signs one kind.
type kindRule struct {
	role       string                                 // of the CA whose key may be used
	authorised func(in *intent, d *ledger.Draft) bool // what must stand in the entry that records it
}

// kindRules is the one table of everything that a CA key signs while the factory runs, and of the recorded authority of each
// (promise P5; the same table for readers stands in docs/issuance.md). What has no row is not signed: a CA certificate is made at a
// ceremony, whose transcript is its record.
var kindRules = map[string]kindRule{
	ca.KindDevice:  {ca.RoleIssuing, byOrder},
	ca.KindProof:   {ca.RoleIssuing, byRight(func(r right) bool { return r.Account != "" && r.Region != "" && r.Code != "" })},
	ca.KindStation: {ca.RolePlant, byRight(func(right) bool { return true })},
	ca.KindService: {ca.RolePlant, byRight(func(r right) bool { return len(r.Names) > 0 })},
}

// byOrder demands that the entry itself draws one unit from the order it names, and makes the two claims that keep device and key unique.
func byOrder(in *intent, d *ledger.Draft) bool {
	return in.order != "" && len(d.Debits) == 1 && d.Debits[0].Counter == orderCounter(in.order) && d.Debits[0].Amount == 1 &&
		d.Debits[0].Limit > 0 && len(d.Claims) == 2
}

// byRight demands that somebody's decision stands in the entry.
func byRight(complete func(right) bool) func(*intent, *ledger.Draft) bool {
	return func(in *intent, d *ledger.Draft) bool {
		var r right
		return json.Unmarshal(in.right, &r) == nil && r.By != "" && complete(r) && len(d.Debits) == 0
	}
}

// authorise refuses to record an intent that has no authority. It guards against our own mistakes: no request gets here without one.
func authorise(in *intent, role string, d *ledger.Draft) error {
	rule, known := kindRules[in.kind]
	switch {
	case !known:
		return fmt.Errorf("no rule lets a CA key sign a %q", in.kind)
	case rule.role != role:
		return fmt.Errorf("CA %s has the role %s, a %s is signed by one of role %s", in.ca, role, in.kind, rule.role)
	case !rule.authorised(in, d):
		return fmt.Errorf("%s without a recorded authority", in.kind)
	}
	return nil
}
