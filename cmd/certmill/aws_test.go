package main

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/certmill/certmill/registrar"
)

// writeFleet writes a fleet file with one registration.
func writeFleet(t *testing.T, ca, access string) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "fleet.yaml")
	text := "version: 1\naccess: {" + access + "}\nregistrations:\n  - {ca: " + ca + ", accounts: [\"111111111111\"], regions: [eu-central-1], mode: sni-only}\n"
	if err := os.WriteFile(path, []byte(text), modePublic); err != nil {
		t.Fatal(err)
	}
	return path
}

// A plan was made for any CA that a fleet file named: with the plant CA registered, AWS would have made things of stations.
func TestOnlyCAsOfDevicesAreRegistered(t *testing.T) {
	p := newTestPlant(t)
	nobody := "endpoint: http://" + freePort(t)
	for ca, want := range map[string]struct {
		code int
		text string
	}{
		"issuing": {exitPartly, "could not be looked at"},
		"plant":   {exitConfig, "whose role is plant"},
		"root":    {exitConfig, "whose role is root"},
		"missing": {exitConfig, `"missing", which is not in the ledger`},
	} {
		code, _, talk := p.try("aws", "plan", "-f", writeFleet(t, ca, nobody))
		if code != want.code || !strings.Contains(talk, want.text) {
			t.Errorf("CA %s: exit %d, %s\nwant exit %d, %q", ca, code, talk, want.code, want.text)
		}
	}
}

// Whoever has no credentials in hand gets the simulator's, unless the file names a profile: both together were refused.
func TestLoopbackWithProfile(t *testing.T) {
	for access, want := range map[string]bool{
		"endpoint: http://127.0.0.1:1":             true,
		"endpoint: http://127.0.0.1:1, profile: p": false,
		"endpoint: http://192.0.2.1:1":             false,
		"profile: p":                               false,
	} {
		f, err := registrar.LoadFleet(writeFleet(t, "issuing", access))
		if err != nil {
			t.Fatal(err)
		}
		if got := onlyLoopback(f); got != want {
			t.Errorf("%s: %v, want %v", access, got, want)
		}
	}
}
