package main

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/certmill/certmill/issuer/client/format"
)

// TestIssueFormatsKilled makes a key and a CSR and has the certificate written in every form, killing keygen and issue again and again on the way. In the
// end every file is there, whole, for the key of the first run and with the certificate of the first answer; what holds the key is closed to others.
func TestIssueFormatsKilled(t *testing.T) {
	p := newTestPlant(t)
	p.serve()
	p.station("line-1")
	order := p.order(10)
	dir := t.TempDir()
	pass := filepath.Join(dir, "pass")
	put(t, pass, "secret 7\n")
	station := filepath.Join(p.dir, "stations/line-1/station.yaml")
	key, csr := filepath.Join(dir, "keys/FORM-1.key"), filepath.Join(dir, "keys/FORM-1.csr")
	kills := killUntilDone(t, csr, "keygen", "--csr", "--device", "FORM-1", "--out", filepath.Join(dir, "keys"))
	first, err := os.ReadFile(key)
	if err != nil {
		t.Fatal(err)
	}
	for _, name := range format.Names() {
		out := filepath.Join(dir, "FORM-1."+name)
		args := []string{"issue", "-c", station, "--order", order, "--device", "FORM-1", "--csr", csr, "--format", name, "--out", out}
		f, _ := format.ByName(name)
		if f.Key != format.Never {
			args = append(args, "--key", key)
		}
		if name == "p12" {
			args = append(args, "--password-file", pass)
		}
		if f.Chain == format.May {
			args = append(args, "--chain")
		}
		if name == "label" {
			args = append(args, "--qr", "svg")
		}
		kills += killUntilDone(t, out, args...)
		info, err := os.Stat(out)
		if want := map[bool]os.FileMode{false: modePublic, true: modeSecret}[f.Key != format.Never]; err != nil || info.Mode().Perm() != want {
			t.Errorf("%s: mode %v, want %v, %v", name, info.Mode(), want, err)
		}
	}
	if now, err := os.ReadFile(key); err != nil || string(now) != string(first) {
		t.Errorf("the key is another one: %v", err)
	}
	p.run("issue", "--order", order, "--device", "FORM-1", "--csr", csr, "--qr", "png", "--out", filepath.Join(dir, "again.pem"))
	checkForms(t, p.dir, dir)
	if left, err := filepath.Glob(filepath.Join(dir, "keys/*.key")); err != nil || len(left) != 1 {
		t.Errorf("keys: %v, %v", left, err)
	}
	t.Logf("%d forms, %d kills", len(format.Names()), kills)
}

// checkForms lets tools that are not ours read the files: all of them hold the certificate that the first one does.
func checkForms(t *testing.T, plant, dir string) {
	t.Helper()
	script := `set -e
cert() { openssl x509 -noout -fingerprint -sha256; }
want=$(openssl x509 -in FORM-1.pem | cert)
same() { test "$2" = "$want" || { echo "$1 is another certificate"; exit 1; }; }
openssl verify -CAfile $P/ca/root.pem -untrusted FORM-1.pem FORM-1.pem
same again "$(cert <again.pem)"
same der "$(openssl x509 -inform der -in FORM-1.der | cert)"
same p12 "$(openssl pkcs12 -in FORM-1.p12 -passin file:pass -nokeys -clcerts | openssl x509 | cert)"
openssl pkcs12 -in FORM-1.p12 -passin file:pass -nocerts -nodes | openssl pkey -pubout | cmp - pub.pem
openssl pkcs7 -inform der -in FORM-1.p7b -print_certs | grep -q CN.*FORM-1
test "$(jq -r .certificate FORM-1.json)" = "$(cat again.pem)"
grep -q "$(jq -r .certificate_id FORM-1.json)" FORM-1.label
printf '#include "FORM-1.c-array"\n#include <stdio.h>\nint main(void) { return fwrite(device_cert, 1, device_cert_len, stdout) + device_key[0] + device_ca_1[0] == 0; }\n' >main.c
cc -Wall -Werror -o main main.c && ./main >main.der
same c-array "$(openssl x509 -inform der -in main.der | cert)"
grep -q ^ESP_SECURE_CERT_PRIV_KEY_TLV,0, FORM-1.esp-secure-cert
test -s again.png
grep -q '<svg' FORM-1.svg`
	for _, tool := range []string{"openssl", "jq", "cc"} {
		if _, err := exec.LookPath(tool); err != nil {
			t.Skipf("%s is not installed: make test installs it", tool)
		}
	}
	c := exec.CommandContext(t.Context(), "sh", "-c", "openssl pkey -in keys/FORM-1.key -pubout >pub.pem\n"+script)
	c.Dir, c.Env = dir, append(os.Environ(), "P="+plant)
	if out, err := c.CombinedOutput(); err != nil {
		t.Errorf("%v\n%s", err, out)
	}
}

// killUntilDone runs certmill and kills it, later each time, until it is done or has written the file that it writes last.
func killUntilDone(t *testing.T, last string, args ...string) (kills int) {
	t.Helper()
	return killing{within: 30 * time.Millisecond, later: 10 * time.Millisecond, ends: func(code int, _ string) bool { return code == exitDone || exists(last) }}.run(t, args...)
}

// What is wrong at the station's side is found before the order is debited: there is no service behind this station.yaml.
func TestIssueFormatRefusals(t *testing.T) {
	dir := t.TempDir()
	path := func(name string) string { return filepath.Join(dir, name) }
	keys := func(args ...string) {
		e := &env{stdin: strings.NewReader(""), stdout: &strings.Builder{}, stderr: &strings.Builder{}, getenv: os.Getenv}
		if code := run(t.Context(), e, append([]string{"keygen", "--csr", "--out", dir, "--device"}, args...)); code != exitDone {
			t.Fatalf("keygen %v: exit %d: %v", args, code, e.stderr)
		}
	}
	keys("A")
	keys("B", "--kind", "p384", "--format", "der")
	put(t, path("empty"), "\n")
	put(t, path("there.png"), "")
	station := fakeStation(t, nil)
	for _, tt := range []struct{ want, args string }{
		{"format \"gif\" is not known", "--format gif"},
		{"format p12 needs --key", "--format p12"},
		{"format der takes no --key", "--format der --key A.key"},
		{"format der takes no --chain", "--format der --chain"},
		{"--password-file goes with", "--password-file empty"},
		{"B.key is not the key of", "--format p12 --key B.key --password-file empty"},
		{"the password, is empty", "--format p12 --key A.key --password-file empty"},
		{"there is no terminal", "--format p12 --key A.key"},
		{"there is no private key", "--format c-array --key A.csr"},
		{"--qr is svg or png", "--qr gif --out A.pem"},
		{"--qr needs an --out of another name", "--qr svg"},
		{"--qr needs an --out of another name", "--qr svg --out A.svg"},
		{"there.png exists already", "--out there.png"},
		{"--replay goes alone", "--replay"},
	} {
		args := []string{"issue", "-c", station, "--order", "O-1", "--device", "A", "--csr", path("A.csr")}
		for _, a := range strings.Fields(tt.args) {
			if strings.Contains(a, ".") || a == "empty" {
				a = path(a)
			}
			args = append(args, a)
		}
		var talk strings.Builder
		e := &env{stdin: strings.NewReader(""), stdout: &talk, stderr: &talk, getenv: os.Getenv}
		if code := run(t.Context(), e, args); code != exitUsage || !strings.Contains(talk.String(), tt.want) {
			t.Errorf("%s: exit %d, %s", tt.args, code, talk.String())
		}
	}
}

// TestPasswordAtTerminal asks twice, without an echo.
func TestPasswordAtTerminal(t *testing.T) {
	p := newTestPlant(t)
	p.serve()
	p.station("line-1")
	order := p.order(10)
	dir := t.TempDir()
	p.run("keygen", "--csr", "--device", "P12-1", "--out", dir)
	out := filepath.Join(dir, "P12-1.p12")
	args := []string{"issue", "-c", filepath.Join(p.dir, "certmill.yaml"), "--order", order, "--device", "P12-1", "--csr", filepath.Join(dir, "P12-1.csr"),
		"--format", "p12", "--key", filepath.Join(dir, "P12-1.key"), "--out", out}
	if err := runAtTerminal(command(t, args...), "one", "another"); err == nil || !strings.Contains(err.Error(), "differ") || strings.Contains(err.Error(), "another\r") {
		t.Fatalf("two passwords: %v", err)
	}
	if err := runAtTerminal(command(t, args...), "secret 7", "secret 7"); err != nil {
		t.Fatal(err)
	}
	pass := filepath.Join(dir, "pass")
	put(t, pass, "secret 7\n")
	if said, err := exec.Command("openssl", "pkcs12", "-in", out, "-passin", "file:"+pass, "-noout").CombinedOutput(); err != nil {
		t.Error(fmt.Errorf("openssl: %w: %s", err, said))
	}
}
