package issuer

import (
	"encoding/pem"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"
)

// A CSR and a verifier that nobody of us wrote: OpenSSL makes the key and the request, and accepts the certificate up to the root.
func TestOpenSSL(t *testing.T) {
	if _, err := exec.LookPath("openssl"); err != nil {
		t.Skip("openssl is not installed")
	}
	p, o := readyPlant(t, 1)
	dir := t.TempDir()
	openssl := func(args ...string) string {
		t.Helper()
		cmd := exec.CommandContext(t.Context(), "openssl", args...)
		cmd.Dir = dir
		out, err := cmd.CombinedOutput()
		if err != nil {
			t.Fatalf("openssl %s: %v\n%s", strings.Join(args, " "), err, out)
		}
		return string(out)
	}
	openssl("req", "-new", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-keyout", "key.pem",
		"-subj", "/CN=DEMO-000001", "-outform", "DER", "-out", "csr.der")
	csr, err := os.ReadFile(filepath.Join(dir, "csr.der"))
	p.must(err)
	c := p.submit(Item{Order: o.ID, Station: "line-1", CSR: csr})
	chain, err := p.Chain("issuing")
	p.must(err)
	_, root := pem.Decode(chain)
	for name, text := range map[string][]byte{
		"cert.pem": pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: c.DER}), "chain.pem": chain, "root.pem": root,
	} {
		p.must(os.WriteFile(filepath.Join(dir, name), text, 0o600))
	}
	openssl("verify", "-x509_strict", "-purpose", "sslclient", "-attime", strconv.FormatInt(epoch.Add(time.Hour).Unix(), 10),
		"-CAfile", "root.pem", "-untrusted", "chain.pem", "cert.pem")
	if got := openssl("x509", "-in", "cert.pem", "-noout", "-serial"); !strings.EqualFold(strings.TrimSpace(got), "serial="+c.Serial.String()) {
		t.Errorf("openssl reads %s, we say %s", got, c.Serial)
	}
	if cert, key := openssl("x509", "-in", "cert.pem", "-noout", "-pubkey"), openssl("pkey", "-in", "key.pem", "-pubout"); cert != key {
		t.Error("the certificate is for another key")
	}
}
