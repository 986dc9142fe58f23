package main

import (
	"bytes"
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"testing"
)

// TestStationBuildNeedsNoCompiler builds certmill with CGO_ENABLED=0 for every system that stations run, and tries the one of this machine against a real
// service: what needs no token works, what needs one says so with exit 78, and no command is missing from the help.
func TestStationBuildNeedsNoCompiler(t *testing.T) {
	if testing.Short() {
		t.Skip("cross-builds take a minute the first time")
	}
	dir := t.TempDir()
	here := ""
	for _, system := range []string{"linux/amd64", "linux/arm64", "windows/amd64", "darwin/arm64"} {
		goos, goarch, _ := strings.Cut(system, "/")
		binary := filepath.Join(dir, goos+"-"+goarch)
		c := exec.Command("go", "build", "-ldflags=-s -w", "-o", binary, ".")
		c.Env = append(os.Environ(), "CGO_ENABLED=0", "CC=/nonexistent", "GOOS="+goos, "GOARCH="+goarch)
		if out, err := c.CombinedOutput(); err != nil {
			t.Errorf("%s: %v\n%s", system, err, out)
		}
		if goos == runtime.GOOS && goarch == runtime.GOARCH {
			here = binary
		}
	}
	if here == "" {
		t.Skip("none of them is for this machine")
	}
	p := newTestPlant(t)
	p.serve()
	p.station("line-1")
	order := p.order(10)
	b := stationBuild{t, here}
	station := filepath.Join(p.dir, "stations/line-1/station.yaml")
	list, out := filepath.Join(dir, "keys/devices.jsonl"), filepath.Join(dir, "out.jsonl")
	b.want(exitDone, "", "keygen", "--csr", "--count", "3", "--pattern", "NOCGO-%d", "--out", filepath.Join(dir, "keys"))
	b.want(exitDone, "3 answers", "issue", "-c", station, "--order", order, "--in", list, "--out", out)
	b.want(exitDone, "", "keygen", "--csr", "--device", "NOCGO-4", "--out", dir)
	b.want(exitDone, "NOCGO-4", "issue", "-c", station, "--order", order, "--device", "NOCGO-4", "--csr", filepath.Join(dir, "NOCGO-4.csr"), "--out", filepath.Join(dir, "cert.pem"))
	b.want(exitDone, "CN=NOCGO-4", "inspect", filepath.Join(dir, "cert.pem"))
	b.want(exitDone, "issuing", "order", "list", "-c", filepath.Join(p.dir, "certmill.yaml"))
	other, root, pin := filepath.Join(dir, "other"), filepath.Join(dir, "other/ca/root.yaml"), filepath.Join(dir, "pin")
	put(t, pin, "1234")
	b.want(exitDone, "", "init", "--dir", other, "--module", "/nonexistent.so", "--token", "factory", "--pin-file", pin)
	b.want(exitDone, "", "ceremony", "new", "root", "-f", root, "-c", filepath.Join(other, "certmill.yaml"))
	for _, args := range [][]string{
		{"serve", "-c", filepath.Join(p.dir, "certmill.yaml")},
		{"quickstart", "--dir", filepath.Join(dir, "demo")},
		{"init", "--softhsm", "--dir", filepath.Join(dir, "plant")},
		{"ceremony", "run", root, "-c", filepath.Join(other, "certmill.yaml")},
	} {
		b.want(exitConfig, "needs a token", args...)
	}
	theirs := b.want(exitDone, "", "help")
	if ours, err := command(t, "help").Output(); err != nil || string(ours) != theirs {
		t.Errorf("the help differs: %v\n%s\n%s", err, ours, theirs)
	}
}

// stationBuild is a certmill that was built without a C compiler.
type stationBuild struct {
	t      *testing.T
	binary string
}

// want runs a command, wants an exit code and a text, and returns its standard output.
func (b stationBuild) want(code int, text string, args ...string) string {
	b.t.Helper()
	var stdout, all bytes.Buffer
	c := exec.Command(b.binary, args...)
	c.Stdout, c.Stderr = &stdout, &all
	err := c.Run()
	var exit *exec.ExitError
	if err != nil && !errors.As(err, &exit) {
		b.t.Fatal(err)
	}
	all.Write(stdout.Bytes())
	if got := c.ProcessState.ExitCode(); got != code || !strings.Contains(all.String(), text) {
		b.t.Errorf("%v: exit %d, want %d and %q\n%s", args, got, code, text, all.String())
	}
	return stdout.String()
}
