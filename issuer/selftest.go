package issuer

import (
	"fmt"

	"github.com/certmill/certmill/internal/ledger"
)

// selftestEntry is the recorded authority of one signature by each key of tokens that hold the same keys: it shows at their start that they do. What
// is signed is text that cannot be a certificate, made by the signer's side of the wire (hsm's wire.go).
type selftestEntry struct {
	Tokens []string `json:"tokens"`
	By     string   `json:"by"`
}

// RecordSelftest records that such tokens are about to be started (promise P1). Works before Run: it commits by itself.
func RecordSelftest(l *ledger.Ledger, tokens []string, by string) error {
	_, err := l.Update(func(tx *ledger.Tx) error {
		_, err := tx.Append(ledger.Draft{Kind: EntrySelftest, Payload: payload(selftestEntry{tokens, by})})
		return err
	})
	if err != nil {
		return fmt.Errorf("record the self-test of tokens %v: %w", tokens, err)
	}
	return nil
}
