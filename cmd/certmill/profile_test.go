package main

import (
	"encoding/pem"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/certmill/certmill/ca"
)

// What a profile describes is signed by the real signer processes, and for an order that keeps it also after the file has changed; another
// profile's names are not.
func TestSignersTakeWhatProfilesDescribe(t *testing.T) {
	p := newTestPlant(t)
	file := filepath.Join(p.dir, "profiles/device.yaml")
	before, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	more := strings.Replace(string(before), "[A-Za-z0-9][A-Za-z0-9:_-]{2,62}", "[A-Z0-9-]{3,20}", 1) + `
alt_names:
  - dns: "{device_id}.devices.example.com"
  - hardware_module: {type: 1.3.6.1.4.1.99999.7, serial: "{device_id}"}
extensions:
  - {oid: 1.3.6.1.4.1.99999.1, utf8: "made for {device_id}"}
`
	if err := os.WriteFile(file, []byte(more), modePublic); err != nil {
		t.Fatal(err)
	}
	s := p.serve()
	p.station("line-1")
	order := p.order(10)
	issue := func(id string) string {
		t.Helper()
		csr := filepath.Join(t.TempDir(), "csr.pem")
		if err := os.WriteFile(csr, []byte(newCSR(t, id)), modePublic); err != nil {
			t.Fatal(err)
		}
		return p.run("issue", "--order", order, "--device", id, "--csr", csr, "-c", filepath.Join(p.dir, "stations/line-1/station.yaml"))
	}
	names := func(certificate string) string {
		t.Helper()
		block, _ := pem.Decode([]byte(certificate))
		if block == nil {
			t.Fatalf("no certificate: %s", certificate)
		}
		says, err := ca.Describe(block.Bytes)
		if err != nil {
			t.Fatal(err)
		}
		return fmt.Sprint(says.Extensions)
	}
	if got := names(issue("DEMO-1")); !strings.Contains(got, "demo-1.devices.example.com") {
		t.Fatalf("names %s", got)
	}
	if code := s.stop(t); code != exitDone {
		t.Fatalf("serve ended with %d", code)
	}
	if err := os.WriteFile(file, before, modePublic); err != nil {
		t.Fatal(err)
	}
	p.serve()
	if got := names(issue("DEMO-2")); !strings.Contains(got, "demo-2.devices.example.com") {
		t.Fatalf("the order lost its profile: names %s", got)
	}
	order = p.order(10)
	if got := names(issue("DEMO-3")); strings.Contains(got, "example.com") {
		t.Fatalf("a new order has the old profile: names %s", got)
	}
}

// A device with a key that can be factored learns at the line what is wrong with it.
func TestWeakKeyAtTheLine(t *testing.T) {
	p := newTestPlant(t)
	p.serve()
	p.station("line-1")
	order := p.order(10)
	for csr, want := range map[string]string{
		"weak-rsa2048-roca":             "ROCA (CVE-2017-15361)",
		"weak-rsa2048-close-primes":     "Fermat's method factors it",
		"weak-p256-private-key-minus-2": "its private key is the number 2",
	} {
		code, _, stderr := p.try("issue", "--order", order, "--device", "DEMO-000001", "--csr", "../../testdata/csr/"+csr+".der",
			"-c", filepath.Join(p.dir, "stations/line-1/station.yaml"))
		if code != exitFailed || !strings.Contains(stderr, "key-weak") || !strings.Contains(stderr, want) {
			t.Errorf("%s: exit %d, %s", csr, code, stderr)
		}
	}
}
