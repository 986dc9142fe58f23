package issuer

import (
	"maps"
	"os"
	"slices"
	"strings"
	"testing"
)

// The tables in docs/issuance.md are the code's: every crash point has a row, every kind of signature has one, and each test they name exists.
func TestIssuancePage(t *testing.T) {
	b, err := os.ReadFile("../docs/issuance.md")
	if err != nil {
		t.Fatal(err)
	}
	page := string(b)
	kinds := []string{entryIntent, entrySignature, entryOrder, entryDevices, entryProfile, entryStation, entryFreeze, entryCA, EntrySelftest,
		entryClosed, entryRekey, entryRevoked, entryConfirm, entryClock}
	states := []string{OrderOpen, OrderFull, OrderClosed, OrderExpired, OrderFrozen}
	for _, first := range slices.Concat(crashPoints(), slices.Sorted(maps.Keys(kindRules)), kinds, states) {
		if !strings.Contains(page, "\n| `"+first+"` |") {
			t.Errorf("no row for %q", first)
		}
	}
	for _, space := range []string{claimCA, claimPrefix, claimKey, claimDevice, claimRekey, claimConfirm, claimOrder, claimProfile, claimStation} {
		if !strings.Contains(page, "`"+space+"` (") {
			t.Errorf("no claim %q", space)
		}
	}
}
