package format

import (
	"bytes"
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/sha256"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/csv"
	"encoding/hex"
	"encoding/json"
	"encoding/pem"
	"math/big"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/certmill/certmill/issuer/client"
)

// hierarchy makes a root, an issuing CA and one device.
func hierarchy(t *testing.T, id string, key crypto.Signer) *Device {
	t.Helper()
	var above []byte
	var parent *x509.Certificate
	parentKey := key
	var der []byte
	for i, name := range []string{"Root", "Issuing", id} {
		k := key
		if i < 2 {
			k = newKey(t)
		}
		c := &x509.Certificate{SerialNumber: big.NewInt(int64(0x7a0b + i)), Subject: pkix.Name{CommonName: name}, NotAfter: time.Now().Add(time.Hour),
			IsCA: i < 2, BasicConstraintsValid: true}
		if parent == nil {
			parent, parentKey = c, k
		}
		var err error
		if der, err = x509.CreateCertificate(rand.Reader, c, parent, k.Public(), parentKey); err != nil {
			t.Fatal(err)
		}
		if parent, err = x509.ParseCertificate(der); err != nil {
			t.Fatal(err)
		}
		parentKey = k
		if i < 2 {
			above = append(pemOf(parent), above...)
		}
	}
	sum := sha256.Sum256(der)
	d, err := NewDevice(client.Answer{DeviceID: id, Serial: "7a0d", CertificateID: hex.EncodeToString(sum[:]), Certificate: string(pemOf(parent))}, above)
	if err != nil {
		t.Fatal(err)
	}
	return d
}

func newKey(t *testing.T) crypto.Signer {
	t.Helper()
	k, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	return k
}

// form writes d in a form into a file of a new folder.
func form(t *testing.T, d *Device, name string) string {
	t.Helper()
	f, ok := ByName(name)
	if !ok {
		t.Fatalf("no form %s", name)
	}
	b, err := f.Write(d)
	if err != nil {
		t.Fatal(err)
	}
	return write(t, name, b)
}

func write(t *testing.T, name string, b []byte) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), name)
	if err := os.WriteFile(path, b, 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

// tool runs a program that is not ours.
func tool(t *testing.T, name string, args ...string) string {
	t.Helper()
	if _, err := exec.LookPath(name); err != nil {
		t.Skipf("%s is not installed: make test installs it", name)
	}
	c := exec.Command(name, args...)
	out, err := c.CombinedOutput()
	if err != nil {
		t.Fatalf("%s %s: %v\n%s", name, strings.Join(args, " "), err, out)
	}
	return string(out)
}

func TestPEMAndDERByOpenssl(t *testing.T) {
	d := hierarchy(t, "D-1", newKey(t))
	if got := tool(t, "openssl", "x509", "-inform", "der", "-in", form(t, d, "der"), "-noout", "-subject"); !strings.Contains(got, "CN = D-1") {
		t.Errorf("DER: %s", got)
	}
	chain := form(t, d, "pem")
	text, err := os.ReadFile(chain)
	if err != nil {
		t.Fatal(err)
	}
	if n := bytes.Count(text, []byte("BEGIN CERTIFICATE")); n != 2 {
		t.Errorf("the chain has %d certificates, want leaf and issuing CA", n)
	}
	tool(t, "openssl", "verify", "-CAfile", write(t, "root.pem", pemOf(d.Above[1])), "-untrusted", chain, chain)
}

func TestPKCS12ByOpenssl(t *testing.T) {
	rsaKey, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		t.Fatal(err)
	}
	for _, key := range []crypto.Signer{newKey(t), rsaKey} {
		d := hierarchy(t, "D-1", key)
		f, _ := ByName("p12")
		if _, err := f.Write(d); err == nil {
			t.Error("a PKCS#12 file without a key")
		}
		if err := d.SetKey(key); err != nil {
			t.Fatal(err)
		}
		if _, err := f.Write(d); err == nil {
			t.Error("a PKCS#12 file without a password")
		}
		d.Password = "pässword 7"
		path, pass := form(t, d, "p12"), "file:"+write(t, "pass", []byte(d.Password+"\n"))
		info := tool(t, "openssl", "pkcs12", "-in", path, "-passin", pass, "-info", "-noout")
		if !strings.Contains(info, "AES-256-CBC") || !strings.Contains(info, "hmacWithSHA256") || !strings.Contains(info, "MAC: sha256") {
			t.Errorf("not the modern kind:\n%s", info)
		}
		out := tool(t, "openssl", "pkcs12", "-in", path, "-passin", pass, "-nodes")
		if n := strings.Count(out, "BEGIN CERTIFICATE"); n != 3 {
			t.Errorf("%d certificates, want 3", n)
		}
		back, err := ParseKey([]byte(out))
		if err != nil || !SamePublic(back.Public(), key.Public()) {
			t.Errorf("another key came out: %v", err)
		}
	}
}

func TestPKCS7ByOpenssl(t *testing.T) {
	d := hierarchy(t, "D-1", newKey(t))
	path := form(t, d, "p7b")
	out := tool(t, "openssl", "pkcs7", "-inform", "der", "-in", path, "-print_certs")
	for _, c := range append(d.Above, d.Leaf) {
		if !strings.Contains(out, string(pemOf(c))) {
			t.Errorf("%s is not in\n%s", c.Subject, out)
		}
	}
	tool(t, "openssl", "cms", "-cmsout", "-inform", "der", "-in", path, "-outform", "pem") // the stricter reader
}

// A hostile id must not get out of its literal or comment.
func TestCArrayByCompiler(t *testing.T) {
	key := newKey(t)
	d := hierarchy(t, `D-1"; */ ??/ \1 ü`, key)
	if err := d.SetKey(key); err != nil {
		t.Fatal(err)
	}
	header := form(t, d, "c-array")
	tool(t, "cc", "-c", "-Wall", "-Wextra", "-Werror", "-std=c99", "-pedantic", header, "-o", filepath.Join(t.TempDir(), "x.gch"))
	main := write(t, "main.c", []byte(`#include <stdio.h>
#include "`+header+`"
#include "`+header+`"
static void put(const unsigned char *p, unsigned n) { while (n--) printf("%02x", *p++); putchar('\n'); }
int main(void) {
	puts(CERTMILL_DEVICE_ID);
	put(device_cert, device_cert_len);
	put(device_ca_1, device_ca_1_len);
	put(device_ca_2, device_ca_2_len);
	put(device_key, sizeof device_key);
	return 0;
}
`))
	program := filepath.Join(t.TempDir(), "program")
	tool(t, "cc", "-Wall", "-Wextra", "-Werror", "-std=c99", "-o", program, main)
	der, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		t.Fatal(err)
	}
	want := d.Answer.DeviceID + "\n"
	for _, b := range [][]byte{d.Leaf.Raw, d.Above[0].Raw, d.Above[1].Raw, der} {
		want += hex.EncodeToString(b) + "\n"
	}
	if got := tool(t, program); got != want {
		t.Errorf("the program says\n%s\nwant\n%s", got, want)
	}
}

// TestESPSecureCert holds the file against the columns that Espressif documents, and has openssl read what is in the cells.
func TestESPSecureCert(t *testing.T) {
	key := newKey(t)
	d := hierarchy(t, "D-1", key)
	if rows := readCSV(t, form(t, d, "esp-secure-cert")); len(rows) != 4 {
		t.Errorf("without a key: %d rows, want header and three certificates", len(rows))
	}
	if err := d.SetKey(key); err != nil {
		t.Fatal(err)
	}
	var got []string
	for _, r := range readCSV(t, form(t, d, "esp-secure-cert")) {
		if r[3] == "string" {
			kind := "x509"
			if r[4] != "" {
				kind = "pkey"
			}
			tool(t, "openssl", kind, "-noout", "-in", write(t, "cell.pem", []byte(r[2])))
			r[2] = "-"
		}
		got = append(got, strings.Join(r, ","))
	}
	want := `tlv_type,tlv_subtype,data_value,data_type,priv_key_type,algorithm,key_size,efuse_id,efuse_key
ESP_SECURE_CERT_CA_CERT_TLV,0,-,string,,,,,
ESP_SECURE_CERT_CA_CERT_TLV,1,-,string,,,,,
ESP_SECURE_CERT_DEV_CERT_TLV,0,-,string,,,,,
ESP_SECURE_CERT_PRIV_KEY_TLV,0,-,string,plaintext,ECDSA,256,,`
	if strings.Join(got, "\n") != want {
		t.Errorf("got\n%s\nwant\n%s", strings.Join(got, "\n"), want)
	}
}

func readCSV(t *testing.T, path string) [][]string {
	t.Helper()
	b, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	rows, err := csv.NewReader(bytes.NewReader(b)).ReadAll()
	if err != nil {
		t.Fatal(err)
	}
	return rows
}

func TestLabelsAndJSON(t *testing.T) {
	d := hierarchy(t, `D,"1"`, newKey(t))
	a := d.Answer
	want := [][]string{{"device_id", "serial", "certificate_id", "qr"}, {a.DeviceID, a.Serial, a.CertificateID, QRText(a)}}
	if got := readCSV(t, form(t, d, "label")); len(got) != 2 || strings.Join(got[1], "|") != strings.Join(want[1], "|") {
		t.Errorf("got %q, want %q", got, want)
	}
	b, err := os.ReadFile(form(t, d, "json"))
	if err != nil {
		t.Fatal(err)
	}
	var back client.Answer
	if err := json.Unmarshal(b, &back); err != nil || back != a {
		t.Errorf("JSON reads back as %+v, %v", back, err)
	}
}

// TestQRByZbar has somebody else's scanner read both drawings.
func TestQRByZbar(t *testing.T) {
	a := client.Answer{DeviceID: "Demo:Device-000001", Serial: strings.Repeat("5a", 20), CertificateID: strings.Repeat("0f", 32)}
	png, err := QR(a, "png")
	if err != nil {
		t.Fatal(err)
	}
	svg, err := QR(a, "svg")
	if err != nil {
		t.Fatal(err)
	}
	drawing := write(t, "code.svg", svg)
	tool(t, "python3", "-c", "import sys, xml.dom.minidom; xml.dom.minidom.parse(sys.argv[1])", drawing)
	scan := func(path string) {
		t.Helper()
		said := strings.Split(strings.TrimSpace(tool(t, "zbarimg", "-q", "--raw", path)), "\n")
		if got := said[len(said)-1]; got != QRText(a) { // before it, what it thinks of a machine without D-Bus
			t.Errorf("zbarimg reads %q, want %q", got, QRText(a))
		}
	}
	scan(write(t, "code.png", png))
	raster := filepath.Join(t.TempDir(), "raster.png")
	tool(t, "rsvg-convert", "-z", "8", "-o", raster, drawing)
	scan(raster)
	if _, err := QR(a, "gif"); err == nil {
		t.Error("a QR code as gif")
	}
}

func TestWrongKeyAndChain(t *testing.T) {
	d := hierarchy(t, "D-1", newKey(t))
	if err := d.SetKey(newKey(t)); err == nil {
		t.Error("a key that was not certified")
	}
	if _, err := NewDevice(d.Answer, pemOf(d.Above[1])); err == nil {
		t.Error("a chain that does not lead to the leaf")
	}
	if _, err := NewDevice(client.Answer{}, nil); err == nil {
		t.Error("an answer without a certificate")
	}
}

func TestParseKey(t *testing.T) {
	ec, _ := newKey(t).(*ecdsa.PrivateKey)
	rsaKey, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		t.Fatal(err)
	}
	sec1, err := x509.MarshalECPrivateKey(ec)
	if err != nil {
		t.Fatal(err)
	}
	pkcs8, err := x509.MarshalPKCS8PrivateKey(ec)
	if err != nil {
		t.Fatal(err)
	}
	params := pem.EncodeToMemory(&pem.Block{Type: "EC PARAMETERS", Bytes: []byte{6, 1, 0}}) // as `openssl ecparam -genkey` puts before it
	for what, text := range map[string][]byte{
		"PKCS#8": pkcs8, "SEC 1": sec1,
		"PEM":             pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: pkcs8}),
		"PEM of ecparam":  append(params, pem.EncodeToMemory(&pem.Block{Type: "EC PRIVATE KEY", Bytes: sec1})...),
		"PKCS#1, another": x509.MarshalPKCS1PrivateKey(rsaKey),
	} {
		k, err := ParseKey(text)
		if err != nil || SamePublic(k.Public(), ec.Public()) == strings.Contains(what, "another") {
			t.Errorf("%s: %v", what, err)
		}
	}
	for _, text := range []string{"", "-----BEGIN ENCRYPTED PRIVATE KEY-----\nMAA=\n-----END ENCRYPTED PRIVATE KEY-----\n"} {
		if _, err := ParseKey([]byte(text)); err == nil {
			t.Errorf("%q is taken for a key", text)
		}
	}
}
