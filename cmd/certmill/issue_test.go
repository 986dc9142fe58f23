package main

import (
	"bufio"
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/certmill/certmill/issuer/client"
)

// TestBulkKilledAndResumed kills `certmill issue --in` again and again. In the end the output has every certificate once, in the order
// of the input, and the rejects name their lines.
func TestBulkKilledAndResumed(t *testing.T) {
	const devices = 2000
	p := newTestPlant(t)
	p.serve()
	p.station("line-1")
	order := p.order(devices)
	dir := t.TempDir()
	in, out, rejects := filepath.Join(dir, "in.jsonl"), filepath.Join(dir, "out.jsonl"), filepath.Join(dir, "rejects.jsonl")
	bad := writeRequests(t, in, devices)
	args := []string{"issue", "-c", filepath.Join(p.dir, "stations/line-1/station.yaml"), "--order", order,
		"--in", in, "--out", out, "--rejects", rejects, "--resume"}
	kills := killing{within: 85 * time.Millisecond, later: 10 * time.Millisecond, ends: func(code int, _ string) bool { return code == exitPartly }}.run(t, args...)
	checkAnswers(t, out, devices, bad)
	checkRejects(t, rejects, bad)
	t.Logf("%d devices, %d refused, %d kills", devices, len(bad), kills)
}

// writeRequests writes n requests; every 100th has a CSR that is none. It returns the numbers of those lines.
func writeRequests(t *testing.T, path string, n int) (bad map[int]bool) {
	t.Helper()
	var b strings.Builder
	bad = make(map[int]bool)
	for i := 1; i <= n; i++ {
		r := client.Request{DeviceID: fmt.Sprintf("BULK-%05d", i), CSR: "no CSR"}
		if bad[i] = i%100 == 0; !bad[i] {
			delete(bad, i)
			r.CSR = newCSR(t, r.DeviceID)
		}
		line, err := json.Marshal(r)
		if err != nil {
			t.Fatal(err)
		}
		b.Write(line)
		b.WriteByte('\n')
	}
	if err := os.WriteFile(path, []byte(b.String()), modePublic); err != nil {
		t.Fatal(err)
	}
	return bad
}

func checkAnswers(t *testing.T, path string, n int, bad map[int]bool) {
	t.Helper()
	var ids []string
	eachLine(t, path, func(line []byte) {
		var l client.Line
		if err := json.Unmarshal(line, &l); err != nil || l.Problem != nil {
			t.Fatalf("%s: %v %v", line, err, l.Problem)
		}
		ids = append(ids, l.Answer.DeviceID)
	})
	for i, at := 1, 0; i <= n; i++ {
		if bad[i] {
			continue
		}
		if want := fmt.Sprintf("BULK-%05d", i); at >= len(ids) || ids[at] != want {
			t.Fatalf("answer %d is not for %s; there are %d", at+1, want, len(ids))
		}
		at++
	}
	if len(ids) != n-len(bad) {
		t.Errorf("%d answers, want %d", len(ids), n-len(bad))
	}
}

func checkRejects(t *testing.T, path string, bad map[int]bool) {
	t.Helper()
	seen := make(map[int]bool)
	eachLine(t, path, func(line []byte) {
		var r struct {
			Line int
			Code string
		}
		if err := json.Unmarshal(line, &r); err != nil || !bad[r.Line] || r.Code != client.CodeCSRMalformed {
			t.Errorf("reject %s: %v", line, err)
		}
		seen[r.Line] = true
	})
	if len(seen) != len(bad) {
		t.Errorf("%d lines rejected, want %d", len(seen), len(bad))
	}
}

func eachLine(t *testing.T, path string, f func([]byte)) {
	t.Helper()
	file, err := os.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	defer file.Close()
	s := bufio.NewScanner(file)
	s.Buffer(nil, 1<<20)
	for s.Scan() {
		f(s.Bytes())
	}
	if s.Err() != nil {
		t.Fatal(s.Err())
	}
}

// TestIssueCSV takes CSRs from files that a column names.
func TestIssueCSV(t *testing.T) {
	p := newTestPlant(t)
	p.serve()
	p.station("line-1")
	order := p.order(10)
	dir := t.TempDir()
	for _, id := range []string{"CSV-1", "CSV-2"} {
		if err := os.WriteFile(filepath.Join(dir, id+".csr"), []byte(newCSR(t, id)), modePublic); err != nil {
			t.Fatal(err)
		}
	}
	in, out := filepath.Join(dir, "in.csv"), filepath.Join(dir, "out.jsonl")
	if err := os.WriteFile(in, []byte("device_id,csr_file\nCSV-1,CSV-1.csr\nCSV-2,CSV-2.csr\nCSV-3,missing.csr\n"), modePublic); err != nil {
		t.Fatal(err)
	}
	code, _, talk := p.try("issue", "--order", order, "--in", in, "--out", out)
	if code != exitPartly {
		t.Fatalf("exit %d, want %d\n%s", code, exitPartly, talk)
	}
	var codes []string
	eachLine(t, out, func(line []byte) {
		var l client.Line
		if err := json.Unmarshal(line, &l); err != nil {
			t.Fatal(err)
		}
		code := "ok"
		if l.Problem != nil {
			code = l.Problem.Code
		}
		codes = append(codes, l.Answer.DeviceID+" "+code)
	})
	if got, want := strings.Join(codes, ", "), "CSV-1 ok, CSV-2 ok, CSV-3 body-malformed"; got != want {
		t.Errorf("got %s, want %s", got, want)
	}
	if code, _, _ := p.try("issue", "--order", order, "--in", in, "--out", out); code != exitUsage {
		t.Errorf("an output that exists: exit %d, want %d", code, exitUsage)
	}
}

// TestOpensslAndCurl is what nobody of us wrote: openssl makes key and CSR, curl sends it with the station's key, openssl accepts the
// certificate up to the root.
func TestOpensslAndCurl(t *testing.T) {
	for _, tool := range []string{"openssl", "curl", "jq"} {
		if _, err := exec.LookPath(tool); err != nil {
			t.Skipf("%s is not installed: make test installs it", tool)
		}
	}
	p := newTestPlant(t)
	p.serve()
	p.station("line-1")
	order := p.order(10)
	script := `set -e
openssl req -new -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -keyout key.pem -subj /CN=CURL-1 -out csr.pem 2>/dev/null
jq -n --arg csr "$(cat csr.pem)" '{device_id: "CURL-1", csr: $csr, client_ref: "r-1"}' >body.json
ask() { curl -sS -o $1 -w '%{http_code}' --cacert $S/ca.crt --cert $S/station.crt --key $S/station.key -H 'Content-Type: application/json' -d @body.json $URL; }
test "$(ask first.json)" = 201
test "$(ask second.json)" = 200
jq -r .certificate first.json >cert.pem
jq -r .certificate second.json | cmp - cert.pem
test "$(jq -r .client_ref first.json)" = r-1
openssl verify -x509_strict -CAfile $P/ca/root.pem -untrusted $P/ca/issuing.pem cert.pem
test "$(openssl x509 -in cert.pem -outform der | sha256sum | cut -d' ' -f1)" = "$(jq -r .certificate_id first.json)"
openssl x509 -in cert.pem -noout -text`
	c := exec.CommandContext(t.Context(), "sh", "-c", script)
	c.Dir = t.TempDir()
	c.Env = append(os.Environ(), "S="+filepath.Join(p.dir, "stations/line-1"), "P="+p.dir,
		"URL=https://"+p.cfg.Listen.Stations+"/v1/orders/"+order+"/certificates")
	out, err := c.CombinedOutput()
	if err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	for _, want := range []string{"Subject: O = Demo, CN = CURL-1, serialNumber = CURL-1", "CA:FALSE", "TLS Web Client Authentication", "cert.pem: OK"} {
		if !strings.Contains(string(out), want) {
			t.Errorf("no %q in\n%s", want, out)
		}
	}
}
