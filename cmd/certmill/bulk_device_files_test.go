package main

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// TestBulkFilesKilled makes 60 keys and has a PKCS#12 file and a QR code written for each device, killing the run again and again. At the end every device has both,
// openssl opens files with the one password, and they hold the certificate that stands in --out.
func TestBulkFilesKilled(t *testing.T) {
	const devices = 60
	p := newTestPlant(t)
	p.serve()
	p.station("line-1")
	order := p.order(devices)
	dir := t.TempDir()
	path := func(name string) string { return filepath.Join(dir, name) }
	put(t, path("pass"), "secret 7\n")
	p.run("keygen", "--csr", "--count", fmt.Sprint(devices), "--pattern", "F:%03d", "--out", path("keys"))
	args := []string{"issue", "-c", filepath.Join(p.dir, "stations/line-1/station.yaml"), "--order", order, "--in", path("keys/devices.jsonl"), "--out", path("out.jsonl"),
		"--resume", "--format", "p12", "--keys", path("keys"), "--password-file", path("pass"), "--files", path("files"), "--qr", "svg"}
	kills := killing{within: 130 * time.Millisecond, later: 200 * time.Millisecond}.run(t, args...)
	checkCountOf(t, path("out.jsonl"), devices)
	for _, ending := range []string{".p12", ".svg"} {
		if n := len(glob(t, path("files/F%3A*"+ending))); n != devices {
			t.Errorf("%d files *%s, want %d", n, ending, devices)
		}
	}
	script := `set -e
for i in 001 030 060; do
	test "$(openssl pkcs12 -in files/F%3A$i.p12 -passin file:pass -nokeys -clcerts | openssl x509 -outform der | sha256sum | cut -d' ' -f1)" = \
		"$(jq -r "select(.device_id == \"F:$i\").certificate_id" out.jsonl)"
done`
	c := exec.CommandContext(t.Context(), "sh", "-c", script)
	c.Dir = dir
	if out, err := c.CombinedOutput(); err != nil {
		t.Errorf("%v\n%s", err, out)
	}
	if info, err := os.Stat(path("files/F%3A001.p12")); err != nil || info.Mode().Perm() != modeSecret {
		t.Errorf("mode %v, %v", info.Mode(), err)
	}
	t.Logf("%d devices, %d kills", devices, kills)
}

// checkCountOf wants certificates alone; after a kill they may be repeats.
func checkCountOf(t *testing.T, path string, want int) {
	t.Helper()
	n := 0
	eachLine(t, path, func(line []byte) {
		if n++; !strings.HasPrefix(string(line), `{"status":20`) {
			t.Errorf("%s", line)
		}
	})
	if n != want {
		t.Errorf("%d answers, want %d", n, want)
	}
}

func glob(t *testing.T, pattern string) []string {
	t.Helper()
	found, err := filepath.Glob(pattern)
	if err != nil {
		t.Fatal(err)
	}
	return found
}

func TestBulkFilesRefusals(t *testing.T) {
	station := fakeStation(t, nil)
	t.Chdir(t.TempDir())
	put(t, "pass", "\n")
	for _, tt := range []struct{ args, says string }{
		{"--format p12", "need --files"},
		{"--qr png", "need --files"},
		{"--format p12 --files f", "format p12 needs --keys"},
		{"--format p12 --files f --keys k --password-file pass", "the password, is empty"},
		{"--format der --files f --keys k", "takes no --key"},
		{"--format gif --files f", `"gif" is not known`},
		{"--key k", "not with --in"},
		{"--spool s", "not with --in"},
		{"--parallel 0", "--parallel 0"},
		{"--parallel 129", "from 1 to 128"},
	} {
		var talk strings.Builder
		e := &env{stdin: strings.NewReader(""), stdout: &talk, stderr: &talk, getenv: os.Getenv}
		args := append([]string{"issue", "-c", station, "--order", "O-1", "--in", "in.jsonl", "--out", "out.jsonl"}, strings.Fields(tt.args)...)
		if code := run(t.Context(), e, args); code != exitUsage || !strings.Contains(talk.String(), tt.says) {
			t.Errorf("%s: exit %d\n%s", tt.args, code, talk.String())
		}
	}
	if exists("out.jsonl") || exists("f") {
		t.Error("a refused call has made files")
	}
}
