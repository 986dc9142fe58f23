//go:build linux

package hsm

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// systemd makes a credential's file anew at each start, and lets the unit's user read it by an ACL that shows as 0440: neither makes it a new PIN, or one
// that others may read.
func TestCredentialIsOneSource(t *testing.T) {
	var sources []pinSource
	for range 2 {
		dir := t.TempDir()
		t.Setenv("CREDENTIALS_DIRECTORY", dir)
		path := filepath.Join(dir, "hsm-pin")
		if err := os.WriteFile(path, []byte("1234\n"), 0o600); err != nil {
			t.Fatal(err)
		}
		if err := os.Chmod(path, 0o440); err != nil {
			t.Fatal(err)
		}
		secret, source, err := readPIN(PIN{Credential: "hsm-pin"})
		if err != nil || secret != "1234" {
			t.Fatal(err)
		}
		sources = append(sources, source)
		if _, _, err := readPIN(PIN{File: path}); err == nil || !strings.Contains(err.Error(), "chmod 600") {
			t.Errorf("a file of ours that the group may read: %v", err)
		}
	}
	if sources[0] != sources[1] {
		t.Errorf("%+v and %+v: a wrong PIN would be tried at every start", sources[0], sources[1])
	}
}
