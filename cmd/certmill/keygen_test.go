package main

import (
	"bytes"
	"crypto/x509"
	"encoding/json"
	"encoding/pem"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/certmill/certmill/issuer/client"
	"github.com/certmill/certmill/issuer/client/format"
)

// TestKeygenBulkKilled kills a bulk keygen again and again. In the end there is one key for each id, devices.jsonl has them in order, each CSR with
// the key on disk; no key was ever replaced; and issue --in takes the file.
func TestKeygenBulkKilled(t *testing.T) {
	const devices = 400
	p := newTestPlant(t)
	p.serve()
	p.station("line-1")
	order := p.order(devices)
	dir := filepath.Join(t.TempDir(), "keys")
	list := filepath.Join(dir, "devices.jsonl")
	args := []string{"keygen", "--csr", "--count", fmt.Sprint(devices), "--pattern", "KEY-%04d", "--first", "7", "--out", dir, "--resume"}
	before := make(map[string]string)
	kills := killing{within: 65 * time.Millisecond, later: 10 * time.Millisecond, each: func() { wantSameKeys(t, dir, before) }}.run(t, args...)
	if len(before) != devices {
		t.Errorf("%d keys, want %d", len(before), devices)
	}
	n := 6
	eachLine(t, list, func(line []byte) {
		n++
		var r client.Request
		if err := json.Unmarshal(line, &r); err != nil || r.DeviceID != fmt.Sprintf("KEY-%04d", n) {
			t.Fatalf("line %d is for %s, %v", n-6, r.DeviceID, err)
		}
		wantKeyOf(t, r.CSR, before[r.DeviceID+".key"])
	})
	if n != devices+6 {
		t.Errorf("%d lines, want %d", n-6, devices)
	}
	p.run("issue", "--order", order, "--in", list, "--out", filepath.Join(dir, "certs.jsonl"))
	checkCount(t, filepath.Join(dir, "certs.jsonl"), devices)
	t.Logf("%d keys, %d kills", devices, kills)
}

// wantSameKeys holds the keys in a folder against those that were seen before, and adds the new ones.
func wantSameKeys(t *testing.T, dir string, before map[string]string) {
	t.Helper()
	keys, err := filepath.Glob(filepath.Join(dir, "*.key"))
	if err != nil {
		t.Fatal(err)
	}
	for _, path := range keys {
		text, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		name := filepath.Base(path)
		if old, there := before[name]; there && old != string(text) {
			t.Fatalf("%s was replaced", name)
		}
		if info, err := os.Stat(path); err != nil || info.Mode().Perm() != modeSecret {
			t.Fatalf("%s: mode %v, %v", name, info.Mode(), err)
		}
		before[name] = string(text)
	}
}

func wantKeyOf(t *testing.T, csr, key string) {
	t.Helper()
	block, _ := pem.Decode([]byte(csr))
	r, err := x509.ParseCertificateRequest(block.Bytes)
	if err != nil {
		t.Fatal(err)
	}
	k, err := format.ParseKey([]byte(key))
	if err != nil || !format.SamePublic(k.Public(), r.PublicKey) {
		t.Fatalf("the CSR of %s has another key: %v", r.Subject, err)
	}
}

func checkCount(t *testing.T, path string, want int) {
	t.Helper()
	n := 0
	eachLine(t, path, func(line []byte) {
		if n++; !bytes.HasPrefix(line, []byte(`{"status":201,`)) {
			t.Errorf("%s", line)
		}
	})
	if n != want {
		t.Errorf("%d answers, want %d", n, want)
	}
}

// TestKeygenOne goes through the kinds and forms of keys, with openssl as the reader, and what becomes of keys that are there.
func TestKeygenOne(t *testing.T) {
	dir := t.TempDir()
	try := func(args ...string) (int, string) {
		var talk strings.Builder
		e := &env{stdin: strings.NewReader(""), stdout: &talk, stderr: &talk, getenv: os.Getenv}
		return run(t.Context(), e, append([]string{"keygen", "--out", dir}, args...)), talk.String()
	}
	for kind, want := range map[string]string{"p256": "256 bit", "p384": "384 bit", "rsa2048": "2048 bit", "rsa3072": "3072 bit"} {
		for _, form := range []string{"pem", "der"} {
			id := kind + ":" + form
			if code, said := try("--csr", "--device", id, "--kind", kind, "--format", form); code != exitDone {
				t.Fatalf("%s: exit %d\n%s", id, code, said)
			}
			key, csr := filepath.Join(dir, kind+"%3A"+form+".key"), filepath.Join(dir, kind+"%3A"+form+".csr")
			out, err := exec.Command("openssl", "pkey", "-inform", form, "-in", key, "-noout", "-text").CombinedOutput()
			if err != nil || !strings.Contains(string(out), want) {
				t.Errorf("%s: %v\n%.200s", id, err, out)
			}
			out, err = exec.Command("openssl", "req", "-in", csr, "-verify", "-noout", "-subject").CombinedOutput()
			if err != nil || !strings.Contains(string(out), "CN = "+id) {
				t.Errorf("%s: %v\n%s", id, err, out)
			}
		}
	}
	key := func() string {
		text, err := os.ReadFile(filepath.Join(dir, "K.key"))
		if err != nil {
			t.Fatal(err)
		}
		return string(text)
	}
	if code, said := try("--device", "K"); code != exitDone || exists(filepath.Join(dir, "K.csr")) {
		t.Errorf("a key alone: exit %d\n%s", code, said)
	}
	first := key()
	if code, _ := try("--device", "K"); code != exitUsage {
		t.Errorf("once more: exit %d", code)
	}
	if code, said := try("--csr", "--device", "K"); code != exitDone || key() != first {
		t.Errorf("its CSR: exit %d\n%s", code, said)
	}
	if code, said := try("--csr", "--device", "K"); code != exitUsage || key() != first || !strings.Contains(said, "K.key") {
		t.Errorf("both are there: exit %d\n%s", code, said)
	}
	if code, said := try("--csr", "--device", "K", "--force"); code != exitDone || key() == first {
		t.Errorf("--force: exit %d\n%s", code, said)
	}
	csr, err := os.ReadFile(filepath.Join(dir, "K.csr"))
	if err != nil {
		t.Fatal(err)
	}
	wantKeyOf(t, string(csr), key())
}

// An id is a file name on every system and nowhere else but in --out.
func TestKeygenFileNames(t *testing.T) {
	for id, want := range map[string]string{"DEMO-000001": "DEMO-000001", "a:b": "a%3Ab", "../x": "%2E.%2Fx", `..\x`: "%2E.%5Cx", ".": "%2E", "ü%": "%C3%BC%25", "v1.2": "v1.2"} {
		if got := fileName(id); got != want {
			t.Errorf("%q became %q, want %q", id, got, want)
		}
	}
}

func TestKeygenIDs(t *testing.T) {
	t.Chdir(t.TempDir())
	put(t, "ids", "\ufeffA-1\r\n\n  A-2\nA-3")
	put(t, "more", "A-1\nA-2\nA-3\nA-4\n")
	put(t, "other", "A-1\nA-2\nB-3\nA-4\n")
	put(t, "twice", "A-1\nA-1\n")
	put(t, "bad", "A-1\n"+strings.Repeat("x", 65)+"\n")
	put(t, "bad2", "A\x01\n")
	for _, tt := range []struct {
		args string
		code int
		says string
	}{
		{"--csr --ids ids --out out", exitDone, "3 keys, 0 made before"},
		{"--csr --ids ids --out out", exitUsage, "devices.jsonl exists already"},
		{"--csr --ids other --out out --resume", exitUsage, "ends with A-3 where the ids have B-3"},
		{"--csr --ids more --out out --resume", exitDone, "1 keys, 3 made before"},
		{"--csr --ids twice --out out2", exitUsage, "stands twice"},
		{"--csr --ids bad --out out3", exitUsage, "bad, line 2"},
		{"--csr --ids bad2 --out out3 --resume", exitUsage, "control character"},
		{"--csr --ids none --out out4", exitUsage, "none"},
		{"--csr --ids ids", exitUsage, "--out is missing"},
		{"--ids ids --out out5", exitUsage, "write CSRs"},
		{"--csr --ids ids --device A --out out5", exitUsage, "give --device, or"},
		{"--csr --ids ids --out out5 --force", exitUsage, "--force goes with --device"},
		{"--csr --device A --out out5 --resume", exitUsage, "--resume goes with"},
		{"--csr --device A --out out5 --kind ed25519", exitUsage, `"ed25519" is not known`},
		{"--csr --device A --out out5 --format p12", exitUsage, "issue --format p12 --key"},
		{"--csr --count 3 --pattern D-%s --out out5", exitUsage, "whole number"},
		{"--csr --count 3 --pattern D --out out5", exitUsage, "the pattern has one %d"},
		{"--csr --count 3 --out out5", exitUsage, "go together"},
		{"--csr --count 3 --pattern D-%d-%d --out out5", exitUsage, "whole number"},
	} {
		var talk strings.Builder
		e := &env{stdin: strings.NewReader(""), stdout: &talk, stderr: &talk, getenv: os.Getenv}
		if code := run(t.Context(), e, append([]string{"keygen"}, strings.Fields(tt.args)...)); code != tt.code || !strings.Contains(talk.String(), tt.says) {
			t.Errorf("%s: exit %d\n%s", tt.args, code, talk.String())
		}
	}
	text, err := os.ReadFile("out/devices.jsonl")
	if err != nil || bytes.Count(text, []byte("\n")) != 4 {
		t.Errorf("%s, %v", text, err)
	}
	if exists("out5") {
		t.Error("a refused call has made a folder")
	}
}
