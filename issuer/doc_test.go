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
	for _, first := range slices.Concat(crashPoints(), slices.Sorted(maps.Keys(kindRules))) {
		if !strings.Contains(page, "\n| `"+first+"` |") {
			t.Errorf("no row for %q", first)
		}
	}
}
