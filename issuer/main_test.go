package issuer

import (
	"os"
	"testing"

	"github.com/certmill/certmill/internal/testdisk"
)

// TestMain lets the test binary serve the disks of its tests.
func TestMain(m *testing.M) {
	testdisk.ServeIfAsked()
	os.Exit(m.Run())
}
