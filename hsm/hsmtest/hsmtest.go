// Package hsmtest makes tokens of many kinds in temporary folders, for tests that need a real one, holds each against one suite (Run), and puts a module in
// front of them that fails on command.
//
//	cfg, faults := hsmtest.Faulty(t, hsmtest.SoftHSM(t))
//	faults.Hang(hsmtest.Sign, hsmtest.InOneProcess(), hsmtest.Forever)
//	faults.Reboot(200 * time.Millisecond)
//
// The module is module/fault.c. It is compiled by the test and loaded by the processes that speak to the token; what Faults says
// reaches all of them at once, while they run.
package hsmtest

import (
	"crypto/rand"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"testing"

	"github.com/certmill/certmill/hsm"
)

// Names of the children that Main runs.
const (
	keeper = "hsm-keeper"
	signer = "hsm-signer"
)

// Main runs the keeper or the signer where the test binary was started as one of them, and reports whether it did: call it first in
// TestMain. check is what the signers demand.
func Main(check hsm.Check) bool {
	if len(os.Args) < 2 {
		return false
	}
	var err error
	switch os.Args[1] {
	case keeper:
		err = hsm.RunKeeper()
	case signer:
		err = hsm.RunSigner(check)
	default:
		return false
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	return true
}

// AllowAll is a check that lets everything pass.
func AllowAll([]byte) (func(kind string, tbs []byte) error, error) {
	return func(string, []byte) error { return nil }, nil
}

// modules are the places where distributions put SoftHSM's module.
var modules = []string{
	"/usr/lib/softhsm/libsofthsm2.so", "/usr/lib/x86_64-linux-gnu/softhsm/libsofthsm2.so", "/usr/lib/aarch64-linux-gnu/softhsm/libsofthsm2.so",
	"/usr/lib64/pkcs11/libsofthsm2.so", "/usr/local/lib/softhsm/libsofthsm2.so",
}

// SoftHSM makes a token in a temporary folder and returns the configuration that opens it. The test is skipped where there is no SoftHSM.
func SoftHSM(t testing.TB) hsm.Config {
	t.Helper()
	module := ""
	for _, m := range modules {
		if _, err := os.Stat(m); err == nil {
			module = m
			break
		}
	}
	util, err := exec.LookPath("softhsm2-util")
	if module == "" || err != nil {
		t.Skip("SoftHSM is not installed: make test installs it")
	}
	dir, pin := t.TempDir(), rand.Text()
	conf := filepath.Join(dir, "softhsm2.conf")
	must(t, os.Mkdir(filepath.Join(dir, "tokens"), 0o700))
	must(t, os.WriteFile(conf, []byte("directories.tokendir = "+dir+"/tokens\nobjectstore.backend = file\nlog.level = ERROR\n"), 0o600))
	must(t, os.WriteFile(filepath.Join(dir, "pin"), []byte(pin), 0o600))
	// The PIN of a test's token guards nothing: it may stand in an argument.
	c := exec.CommandContext(t.Context(), util, "--init-token", "--free", "--label", "test", "--so-pin", rand.Text(), "--pin", pin)
	c.Env = append(os.Environ(), "SOFTHSM2_CONF="+conf)
	if out, err := c.CombinedOutput(); err != nil {
		t.Fatalf("softhsm2-util: %v\n%s", err, out)
	}
	return hsm.Config{Module: module, Token: "test", PIN: hsm.PIN{File: filepath.Join(dir, "pin")}, Env: []string{"SOFTHSM2_CONF=" + conf}, Dir: dir,
		Command: []string{"/proc/self/exe", keeper}, SignerCommand: []string{"/proc/self/exe", signer}}
}

func must(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}
