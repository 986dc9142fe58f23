package main

import (
	"os"
	"os/exec"
	"path/filepath"
	"testing"
)

// TestP13NoInternet runs the whole chain in a network namespace that has a loopback interface and nothing else: no route, no name
// server, no time server. (That the stations' side never asks AWS is also a matter of imports: internal/archtest.)
func TestP13NoInternet(t *testing.T) {
	for _, tool := range []string{"softhsm2-util", "unshare", "ip"} {
		if _, err := exec.LookPath(tool); err != nil {
			t.Skipf("%s is not installed: make test installs it", tool)
		}
	}
	if out, err := exec.Command("unshare", "-rn", "true").CombinedOutput(); err != nil {
		t.Skipf("this machine makes no network namespaces: %v: %s", err, out)
	}
	dir := filepath.Join(t.TempDir(), "demo")
	script := `ip link set lo up && test -z "$(ip route)" && exec certmill quickstart --devices 50 -o json --dir "$1"`
	c := exec.CommandContext(t.Context(), "unshare", "-rn", "sh", "-c", script, "sh", dir)
	c.Env = append(os.Environ(), "PATH="+asCertmill(t)+":"+os.Getenv("PATH"))
	log := &lockedBuffer{}
	c.Stderr = log
	stdout, err := c.Output()
	if err != nil {
		t.Fatalf("%v\n%s", err, log)
	}
	if r := readReport(t, string(stdout)); r.Issued != 50 || r.Order.Issued != 50 {
		t.Errorf("issued %d, order %+v", r.Issued, r.Order)
	}
	t.Log("P13: 50 of 50 devices in a network namespace with nothing but loopback")
}
