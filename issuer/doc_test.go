package issuer

import (
	"maps"
	"os"
	"regexp"
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
	kinds := []string{entryIntent, entrySignature, entryOrder, entryDevices, entryProfile, entryStation, entryFreeze, entryCA, entrySelftest,
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
	var tests strings.Builder
	files, err := os.ReadDir(".")
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range files {
		if strings.HasSuffix(f.Name(), "_test.go") {
			b, err := os.ReadFile(f.Name())
			if err != nil {
				t.Fatal(err)
			}
			tests.Write(b)
		}
	}
	for _, name := range regexp.MustCompile("`(Test[A-Za-z0-9]+)").FindAllStringSubmatch(page, -1) {
		if !strings.Contains(tests.String(), "func "+name[1]+"(") {
			t.Errorf("%s is named and does not exist", name[1])
		}
	}
}
