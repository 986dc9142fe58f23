package main

import (
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// TestTour runs README.md's tour, line by line as it stands there, with a shell and this binary as certmill. Only the ports are others,
// because 8443 may be taken where tests run.
func TestTour(t *testing.T) {
	for _, tool := range []string{"softhsm2-util", "openssl", "sh"} {
		if _, err := exec.LookPath(tool); err != nil {
			t.Skipf("%s is not installed: make test installs it", tool)
		}
	}
	dir := t.TempDir()
	path := asCertmill(t) + ":" + os.Getenv("PATH")
	shell := func(line string) {
		t.Helper()
		c := exec.CommandContext(t.Context(), "sh", "-c", line)
		c.Dir, c.Env = dir, append(os.Environ(), "PATH="+path)
		out, err := c.CombinedOutput()
		if err != nil {
			t.Fatalf("%s\n%v\n%s", line, err, out)
		}
	}
	for _, line := range tour(t) {
		server, background := strings.CutSuffix(line, "&")
		if !background {
			shell(line)
			continue
		}
		usePorts(t, filepath.Join(dir, "plant/certmill.yaml"))
		p := &testPlant{t: t, dir: filepath.Join(dir, "plant")}
		p.load()
		c := exec.Command("sh", "-c", "exec "+server)
		log := &lockedBuffer{}
		c.Dir, c.Env, c.Stderr = dir, append(os.Environ(), "PATH="+path), log
		if err := c.Start(); err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { (&serving{cmd: c}).kill() })
		a := p.admin()
		waitFor(t, 20*time.Second, func() error { _, err := a.Status(t.Context()); return err }, log)
		a.Close()
	}
}

// tour returns the commands of README.md's tour.
func tour(t *testing.T) (lines []string) {
	t.Helper()
	readme, err := os.ReadFile("../../README.md")
	if err != nil {
		t.Fatal(err)
	}
	_, text, found := strings.Cut(string(readme), "<!-- tour -->\n```\n")
	text, _, ends := strings.Cut(text, "```")
	if !found || !ends {
		t.Fatal("README.md has no tour")
	}
	for line := range strings.Lines(text) {
		if line = strings.TrimSpace(line); line != "" {
			lines = append(lines, line)
		}
	}
	if len(lines) < 15 {
		t.Fatalf("the tour has only %d lines", len(lines))
	}
	return lines
}

// asCertmill returns a folder in which this test binary stands as certmill.
func asCertmill(t *testing.T) string {
	t.Helper()
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	if err := os.Symlink(self, filepath.Join(dir, "certmill")); err != nil {
		t.Fatal(err)
	}
	return dir
}
