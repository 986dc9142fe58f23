package server

import (
	"bytes"
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/sha256"
	"crypto/x509"
	"encoding/base64"
	"encoding/json"
	"encoding/pem"
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"unicode/utf16"

	"golang.org/x/crypto/cryptobyte"
	der "golang.org/x/crypto/cryptobyte/asn1"

	"github.com/certmill/certmill/issuer/client"
)

//go:generate go test -run TestMalformedFiles . -update-malformed

var updateMalformed = flag.Bool("update-malformed", false, "write testdata/malformed anew")

const malformedDir = "../../testdata/malformed"

// input is one row of cases.json: how a file is sent, and what comes back.
type input struct {
	File     string   `json:"file"`
	Sent     string   `json:"sent"`                // der: base64 of it is the csr; text: it is the csr; body: it is the body
	Type     string   `json:"type,omitempty"`      // Content-Type of a body, where it is not application/json
	DeviceID string   `json:"device_id,omitempty"` // beside a csr
	Status   int      `json:"status"`
	Code     string   `json:"code,omitempty"`
	Lines    []string `json:"lines,omitempty"` // codes of the answer's lines, where the body is NDJSON

	content []byte // nil: openssl made the file, testdata/README.md says how
}

// csr is a certification request (RFC 2986) that can be wrong in each of its parts.
type csr struct {
	key        *ecdsa.PrivateKey
	version    []byte // INTEGER; nil: 0
	subject    []byte // Name; nil: a common name
	spki       []byte // nil: the key's
	attributes []byte // content of [0]
	behind     []byte // more in the CertificationRequestInfo
	algorithm  []byte // nil: ecdsa-with-SHA256
	signature  func(info []byte) []byte
}

// device returns the fixed key of a number: files are the same whenever they are made.
func device(n byte) *ecdsa.PrivateKey {
	k, err := ecdsa.ParseRawPrivateKey(elliptic.P256(), bytes.Repeat([]byte{n}, 32))
	if err != nil {
		panic(err)
	}
	return k
}

// sign signs deterministically (RFC 6979).
func sign(k *ecdsa.PrivateKey, info []byte) []byte {
	h := sha256.Sum256(info)
	sig, err := k.Sign(nil, h[:], crypto.SHA256)
	if err != nil {
		panic(err)
	}
	return sig
}

func build(f func(b *cryptobyte.Builder)) []byte {
	var b cryptobyte.Builder
	f(&b)
	return b.BytesOrPanic()
}

func sequence(parts ...[]byte) []byte { return tagged(der.SEQUENCE, parts...) }

func tagged(tag der.Tag, parts ...[]byte) []byte {
	return build(func(b *cryptobyte.Builder) {
		b.AddASN1(tag, func(b *cryptobyte.Builder) { b.AddBytes(bytes.Join(parts, nil)) })
	})
}

var (
	oidCN           = []byte{6, 3, 0x55, 4, 3}
	ecdsaWithSHA256 = sequence([]byte{6, 8, 0x2a, 0x86, 0x48, 0xce, 0x3d, 4, 3, 2})
	ecPublicKey     = []byte{6, 7, 0x2a, 0x86, 0x48, 0xce, 0x3d, 2, 1}
	prime256v1      = []byte{6, 8, 0x2a, 0x86, 0x48, 0xce, 0x3d, 3, 1, 7}
	challenge       = []byte{6, 9, 0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 1, 9, 7} // challengePassword
)

// rdn is one relative distinguished name with one common name of any string type.
func rdn(tag der.Tag, value string) []byte {
	return tagged(der.SET, sequence(oidCN, tagged(tag, []byte(value))))
}

func cn(value string) []byte { return sequence(rdn(der.UTF8String, value)) }

func bits(b []byte) []byte { return tagged(der.BIT_STRING, []byte{0}, b) }

func (c csr) info() []byte {
	if c.version == nil {
		c.version = []byte{2, 1, 0}
	}
	if c.subject == nil {
		c.subject = cn("malformed-1")
	}
	if c.spki == nil {
		spki, err := x509.MarshalPKIXPublicKey(c.key.Public())
		if err != nil {
			panic(err)
		}
		c.spki = spki
	}
	return sequence(c.version, c.subject, c.spki, tagged(der.Tag(0).ContextSpecific().Constructed(), c.attributes), c.behind)
}

func (c csr) der() []byte {
	if c.key == nil {
		c.key = device(1)
	}
	if c.algorithm == nil {
		c.algorithm = ecdsaWithSHA256
	}
	if c.signature == nil {
		c.signature = func(info []byte) []byte { return bits(sign(c.key, info)) }
	}
	info := c.info()
	return sequence(info, c.algorithm, c.signature(info))
}

func toPEM(b []byte) string {
	return string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE REQUEST", Bytes: b}))
}

// bad makes a row for a CSR in DER.
func bad(name string, content []byte, code string) input {
	return input{File: "csr-" + name + ".der", Sent: "der", DeviceID: "malformed-1", Status: problems[code].status, Code: code, content: content}
}

// wrong makes a row for a CSR in text.
func wrong(name, content string) input {
	in := bad(name, []byte(content), client.CodeCSRMalformed)
	in.File, in.Sent = "csr-"+name+".pem", "text"
	return in
}

// structureCases are CSRs whose frame is broken.
func structureCases() []input {
	good := csr{}.der()
	n := len(good)
	code := client.CodeCSRMalformed
	edit := func(f func(b []byte) []byte) []byte { return f(bytes.Clone(good)) }
	return []input{
		bad("empty", []byte{}, client.CodeBodyMalformed),
		bad("truncated-after-tag", good[:1], code),
		bad("truncated-in-length", good[:2], code),
		bad("truncated-in-version", good[:6], code),
		bad("truncated-half", good[:n/2], code),
		bad("truncated-before-signature", good[:n-74], code),
		bad("truncated-last-octet", good[:n-1], code),
		bad("trailing-octet", append(bytes.Clone(good), 0), code),
		bad("trailing-second-csr", append(bytes.Clone(good), good...), code),
		bad("trailing-in-info", csr{behind: []byte{5, 0}}.der(), code),
		bad("outer-is-a-set", edit(func(b []byte) []byte { b[0] = 0x31; return b }), code),
		bad("ber-indefinite-length", edit(func(b []byte) []byte {
			return bytes.Join([][]byte{{0x30, 0x80}, b[3:], {0, 0}}, nil)
		}), code),
		bad("ber-length-in-long-form", edit(func(b []byte) []byte {
			return append([]byte{0x30, 0x83, 0, 0, b[2]}, b[3:]...)
		}), code),
		bad("length-of-4-GiB", edit(func(b []byte) []byte {
			return append([]byte{0x30, 0x84, 0xff, 0xff, 0xff, 0xff}, b[3:]...)
		}), code),
		bad("length-of-eight-octets", edit(func(b []byte) []byte {
			return append([]byte{0x30, 0x88, 0x7f, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff}, b[3:]...)
		}), code),
		bad("zeros", make([]byte, 300), code),
		bad("nested-1000-deep", nested(1000), code),
		bad("17-KiB", csr{attributes: sequence(challenge, tagged(der.SET, tagged(der.UTF8String, make([]byte, 17<<10))))}.der(), code),
	}
}

func nested(n int) []byte {
	b := []byte{5, 0}
	for range n {
		b = sequence(b)
	}
	return b
}

// signatureCases do not prove possession of their key.
func signatureCases() []input {
	unsigned := func(sig []byte) csr { return csr{signature: func([]byte) []byte { return bits(sig) }} }
	flipped := csr{signature: func(info []byte) []byte {
		sig := sign(device(1), info)
		sig[10] ^= 1
		return bits(sig)
	}}
	other := csr{signature: func(info []byte) []byte { return bits(sign(device(2), info)) }}
	changed := csr{signature: func(info []byte) []byte {
		return bits(sign(device(1), csr{key: device(1), subject: cn("malformed-2")}.info()))
	}}
	loose := csr{signature: func(info []byte) []byte { return tagged(der.BIT_STRING, []byte{3}, sign(device(1), info)) }}
	rsaName := sequence([]byte{6, 9, 0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 1, 1, 11}, []byte{5, 0})
	code := client.CodeCSRSignature
	return []input{
		bad("signature-flipped-bit", flipped.der(), code),
		bad("signature-by-another-key", other.der(), code),
		bad("signature-over-another-subject", changed.der(), code),
		bad("signature-empty", unsigned(nil).der(), code),
		bad("signature-is-text", unsigned([]byte("signed, the device")).der(), code),
		bad("signature-of-zeros", unsigned(sequence([]byte{2, 1, 0}, []byte{2, 1, 0})).der(), code),
		bad("signature-negative", unsigned(sequence([]byte{2, 1, 0xff}, []byte{2, 1, 0xff})).der(), code),
		bad("signature-algorithm-unknown", csr{algorithm: sequence([]byte{6, 3, 0x2a, 3, 4})}.der(), code),
		bad("signature-algorithm-of-rsa", csr{algorithm: rsaName}.der(), code),
		bad("signature-unused-bits", loose.der(), client.CodeCSRMalformed),
	}
}

// keyCases carry a key that no certificate may carry.
func keyCases() []input {
	point := func(curve []byte, p []byte) csr { return csr{spki: sequence(sequence(ecPublicKey, curve), bits(p))} }
	on, err := device(1).PublicKey.Bytes()
	if err != nil {
		panic(err)
	}
	off := bytes.Clone(on)
	off[64] ^= 1
	hybrid := bytes.Clone(on)
	hybrid[0] = 6 | on[64]&1
	compressed := append([]byte{2 | on[64]&1}, on[1:33]...)
	x25519 := csr{spki: sequence(sequence([]byte{6, 3, 0x2b, 0x65, 0x6e}), bits(make([]byte, 32)))}
	code := client.CodeKeyWeak
	return []input{
		bad("key-not-on-curve", point(prime256v1, off).der(), code),
		bad("key-at-infinity", point(prime256v1, []byte{0}).der(), code),
		bad("key-empty", point(prime256v1, nil).der(), code),
		bad("key-hybrid-point", point(prime256v1, hybrid).der(), code),
		bad("key-compressed-point", point(prime256v1, compressed).der(), code),
		bad("key-without-curve", point(nil, on).der(), code),
		bad("key-of-unknown-curve", point([]byte{6, 3, 0x2a, 3, 4}, on).der(), code),
		bad("key-for-agreement-only", x25519.der(), code),
		{File: "openssl-rsa-512.der"}, {File: "openssl-rsa-1024.der"}, {File: "openssl-rsa-2048-e3.der"},
		{File: "openssl-p224.der"}, {File: "openssl-secp256k1.der"}, {File: "openssl-brainpool.der"}, {File: "openssl-p256-explicit.der"},
		{File: "openssl-ed25519.der"}, {File: "openssl-ed448.der"}, {File: "openssl-dsa.der"},
	}
}

const hex64 = "0123456789abcdef0123456789ABCDEF0123456789abcdef0123456789abcdef"

// subjectCases have a subject or attributes that must not pass. Without a device_id the common name would be the id.
func subjectCases() []input {
	code := client.CodeCSRMalformed
	subject := func(name string, subject []byte, code string) input {
		in := bad("subject-"+name, csr{subject: subject}.der(), code)
		in.DeviceID = ""
		return in
	}
	oid := append([]byte{6, 0x82, 0x27, 0x10}, bytes.Repeat([]byte{0x81}, 9999)...) // 10,000 octets of one component
	oid = append(oid, 1)
	withID := func(in input, id, code string) input {
		in.File = strings.Replace(in.File, ".der", "-beside-device-id.der", 1)
		in.DeviceID, in.Code, in.Status = id, code, problems[code].status
		return in
	}
	code64 := subject("of-64-hex-digits", cn(hex64), client.CodeProfileRefused)
	return []input{
		subject("with-nul", cn("device\x00-1"), code),
		subject("with-newline", cn("device\n-1"), code),
		subject("not-utf8", cn("device-\xff\xfe"), code),
		subject("not-printable", sequence(rdn(der.PrintableString, "device\x80")), code),
		subject("with-two-names", sequence(rdn(der.UTF8String, "malformed-1"), rdn(der.UTF8String, "malformed-2")), code),
		subject("with-empty-set", sequence(tagged(der.SET)), code),
		subject("is-a-number", sequence(tagged(der.SET, sequence(oidCN, []byte{2, 1, 7}))), code),
		subject("with-right-to-left", cn("malformed-\u202e1"), code),
		subject("of-half-a-surrogate", sequence(rdn(der.Tag(30), "\xd8\x00\x00a")), code),
		code64,
		withID(code64, "malformed-1", client.CodeProfileRefused),
		subject("of-0x-and-64-hex-digits", cn("0x"+hex64), client.CodeProfileRefused),
		subject("of-64-hex-digits-in-utf16", sequence(rdn(der.Tag(30), wide(hex64))), client.CodeProfileRefused),
		subject("with-space", cn("malformed 1"), client.CodeProfileRefused),
		subject("too-long", cn(strings.Repeat("a", 300)), client.CodeProfileRefused),
		subject("empty", sequence(), client.CodeBodyMalformed),
		withID(subject("of-another-device", cn("malformed-2"), code), "malformed-1", client.CodeDeviceMismatch),
		bad("subject-huge-oid", csr{subject: sequence(tagged(der.SET, sequence(oid, tagged(der.UTF8String, []byte("x")))))}.der(), code),
		bad("attributes-junk", csr{attributes: []byte("junk")}.der(), code),
		bad("version-1", csr{version: []byte{2, 1, 1}}.der(), code),
		bad("version-negative", csr{version: []byte{2, 1, 0xff}}.der(), code),
		bad("version-padded", csr{version: []byte{2, 2, 0, 0}}.der(), code),
		bad("version-missing", csr{version: []byte{}}.der(), code),
	}
}

func wide(s string) string {
	var b strings.Builder
	for _, u := range utf16.Encode([]rune(s)) {
		b.Write([]byte{byte(u >> 8), byte(u)})
	}
	return b.String()
}

// textCases are wrapped wrongly.
func textCases() []input {
	good := csr{}.der()
	text := toPEM(good)
	b64 := base64.StdEncoding.EncodeToString(good)
	return []input{
		wrong("pem-twice", text+text),
		wrong("pem-of-another-label", strings.ReplaceAll(text, "CERTIFICATE REQUEST", "CERTIFICATE")),
		wrong("pem-lower-case-label", strings.ReplaceAll(text, "CERTIFICATE REQUEST", "certificate request")),
		wrong("pem-without-end", strings.Split(text, "-----END")[0]),
		wrong("pem-junk-inside", strings.Replace(text, "M", "*", 1)),
		wrong("pem-truncated-inside", toPEM(good[:100])),
		wrong("pem-empty", "-----BEGIN CERTIFICATE REQUEST-----\n-----END CERTIFICATE REQUEST-----\n"),
		wrong("pem-encrypted", strings.Replace(text, "-----\n", "-----\nProc-Type: 4,ENCRYPTED\nDEK-Info: AES-128-CBC,00\n\n", 1)),
		wrong("pem-text-behind", text+"and more\n"),
		wrong("pem-on-one-line", strings.ReplaceAll(text, "\n", "")),
		wrong("base64-with-junk", b64[:40]+"!"+b64[40:]),
		wrong("base64-for-urls", strings.NewReplacer("+", "-", "/", "_").Replace(b64)+"-"),
		wrong("base64-cut", b64[:len(b64)-3]),
		wrong("base64-of-pem", base64.StdEncoding.EncodeToString([]byte(text))),
		wrong("hex", fmt.Sprintf("%x", good)+"0"),
		wrong("blank", " \n"),
		{File: "openssl-certificate.pem", Sent: "text"}, {File: "openssl-public-key.pem", Sent: "text"}, {File: "openssl-pkcs7.pem", Sent: "text"},
	}
}

// bodyCases are whole bodies. Where they can, they hold a CSR that would be signed, so that a check that does not check shows.
func bodyCases() []input {
	quoted := func(c csr) string {
		b, err := json.Marshal(toPEM(c.der()))
		if err != nil {
			panic(err)
		}
		return string(b)
	}
	nameless := quoted(csr{key: device(3), subject: sequence()})
	csr := quoted(csr{key: device(3), subject: cn("malformed-3")})
	good := `{"device_id":"malformed-3","csr":` + csr + `}`
	body := func(name, content string) input {
		return input{File: "body-" + name + ".json", Sent: "body", Status: 400, Code: client.CodeBodyMalformed, content: []byte(content)}
	}
	of := func(contentType string, in input) input {
		in.Type, in.Code, in.Status = contentType, client.CodeContentType, 415
		return in
	}
	refused := func(name, fields string) input {
		in := body(name, `{`+fields+`,"csr":`+nameless+`}`)
		in.Code, in.Status = client.CodeProfileRefused, 422
		return in
	}
	utf16be := "\xfe\xff" + wide(good)
	return []input{
		body("empty", ""),
		body("text", "please sign"),
		body("html", "<html><body>sign</body></html>"),
		body("null", "null"),
		body("array", "["+good+"]"),
		body("string", `"sign"`),
		body("number", "7"),
		body("cut", good[:len(good)-1]),
		body("cut-in-csr", good[:200]),
		body("trailing-comma", strings.TrimSuffix(good, "}")+",}"),
		body("trailing-text", good+" and more"),
		body("trailing-object", good+good),
		body("comment", "{/* sign */"+good[1:]),
		body("single-quotes", `{'device_id':'malformed-3','csr':'x'}`),
		body("unknown-field", `{"validity":"99y",`+good[1:]),
		body("unknown-field-of-another-case", `{"Device_ID":"malformed-3","csr":`+csr+`}`),
		body("field-twice", `{"device_id":"malformed-4",`+good[1:]),
		body("field-twice-escaped", `{"device\u005fid":"malformed-4",`+good[1:]),
		body("id-is-a-number", `{"device_id":3,"csr":`+csr+`}`),
		body("id-is-null", `{"device_id":null,"csr":`+csr+`}`),
		body("csr-is-null", `{"device_id":"malformed-3","csr":null}`),
		body("csr-is-an-array", `{"device_id":"malformed-3","csr":[`+csr+`]}`),
		body("csr-is-an-object", `{"device_id":"malformed-3","csr":{"pem":`+csr+`}}`),
		body("csr-missing", `{"device_id":"malformed-3"}`),
		body("csr-empty", `{"device_id":"malformed-3","csr":""}`),
		body("csr-with-raw-newlines", `{"device_id":"malformed-3","csr":"`+strings.ReplaceAll(csr[1:len(csr)-1], `\n`, "\n")+`"}`),
		body("deep", `{"csr":`+strings.Repeat(`{"csr":`, 8000)),
		body("deep-arrays", strings.Repeat("[", 60000)),
		body("byte-order-mark", "\ufeff"+good),
		body("utf16-big-endian", utf16be),
		body("utf16-little-endian", swap(utf16be)),
		body("not-utf8", strings.Replace(good, "malformed-3", "malformed-\xe9", 1)),
		body("half-a-surrogate", strings.Replace(good, "malformed-3", `malformed-\ud83d`, 1)),
		body("nul-outside", "\x00"+good),
		body("client-ref-of-300-characters", `{"client_ref":"`+strings.Repeat("r", 300)+`",`+good[1:]),
		refused("id-of-64-hex-digits", `"device_id":"`+hex64+`"`),
		refused("id-of-200-characters", `"device_id":"`+strings.Repeat("d", 200)+`"`),
		refused("slot-with-slash", `"device_id":"malformed-3","slot":"../main"`),
		refused("id-with-nul", `"device_id":"malformed\u0000-3"`),
		refused("id-with-newline", `"device_id":"malformed\n-3"`),
		refused("id-with-slash", `"device_id":"malformed/3"`),
		refused("id-with-parameter", `"device_id":"${iot:ClientId}"`),
		refused("id-with-letters-that-look-alike", `"device_id":"m\u0430lformed-3"`),
		of("text/plain", body("sent-as-text", good)),
		of("application/x-www-form-urlencoded", body("sent-as-form", "device_id=malformed-3&csr=x")),
		of("application/json; charset=iso-8859-1", body("sent-as-latin1", good)),
		of("-", body("sent-without-type", good)),
		of("application/pkcs10", body("sent-as-pkcs10", good)),
	}
}

func swap(s string) string {
	b := []byte(s)
	for i := 0; i+1 < len(b); i += 2 {
		b[i], b[i+1] = b[i+1], b[i]
	}
	return string(b)
}

// lineCases are NDJSON bodies: each bad line gets its problem, and the lines behind it are looked at too.
func lineCases() []input {
	other, err := json.Marshal(toPEM(csr{key: device(5), subject: cn("malformed-5")}.der()))
	if err != nil {
		panic(err)
	}
	mismatch := `{"device_id":"malformed-6","csr":` + string(other) + `}`
	lines := func(name, content string, codes ...string) input {
		in := input{File: "lines-" + name + ".ndjson", Sent: "body", Type: client.TypeNDJSON, Status: 200, Lines: codes, content: []byte(content)}
		if len(codes) == 0 {
			in.Status, in.Code = 400, client.CodeBodyMalformed
		}
		return in
	}
	b, m := client.CodeBodyMalformed, client.CodeDeviceMismatch
	return []input{
		lines("none", ""),
		lines("blank", "\r\n\n\n"),
		lines("bad-between-bad", "{\n"+mismatch+"\nnull\n"+mismatch+"\n", b, m, b, m),
		lines("empty-line-between", mismatch+"\n\n"+mismatch, m, b, m),
		lines("crlf", mismatch+"\r\n"+mismatch+"\r\n", m, m),
		lines("one-object-on-two-lines", strings.Replace(mismatch, ",", ",\n", 1), b, b),
		lines("array", "["+mismatch+",\n"+mismatch+"]\n", b, b),
		lines("two-on-one-line", mismatch+" "+mismatch+"\n"+mismatch, b, m),
		lines("byte-order-mark", "\ufeff"+mismatch+"\n"+mismatch, b, m),
		lines("carriage-returns-only", mismatch+"\r"+mismatch, b),
		lines("json-seq", "\x1e"+mismatch+"\n\x1e"+mismatch+"\n", b, b),
		lines("csr-broken", `{"csr":"AAAA"}`+"\n"+mismatch, client.CodeCSRMalformed, m),
	}
}

// malformed lists every case. Those that openssl made get what their kind gets.
func malformed() []input {
	var all []input
	for _, group := range [][]input{structureCases(), signatureCases(), keyCases(), subjectCases(), textCases(), bodyCases(), lineCases()} {
		all = append(all, group...)
	}
	all = append(all, input{File: "openssl-ecdsa-sha1.der", Code: client.CodeCSRSignature})
	for i := range all {
		c := &all[i]
		switch {
		case c.content != nil:
			continue
		case c.Sent == "text":
			c.Code = client.CodeCSRMalformed
		case c.Code == "":
			c.Code = client.CodeKeyWeak
		}
		setDefault(&c.Sent, "der")
		c.Status, c.DeviceID = problems[c.Code].status, "malformed-1"
	}
	return all
}

// TestMalformedFiles keeps testdata/malformed and what made it together: nothing there that is in no row, no row
// whose file says something else.
func TestMalformedFiles(t *testing.T) {
	all := malformed()
	index, err := json.MarshalIndent(all, "", "\t")
	if err != nil {
		t.Fatal(err)
	}
	all = append(all, input{File: "cases.json", content: append(index, '\n')})
	if len(all) < 51 {
		t.Errorf("%d cases, want 50 and more", len(all)-1)
	}
	want := make(map[string]bool)
	for _, c := range all {
		if want[c.File] {
			t.Errorf("%s stands twice", c.File)
		}
		want[c.File] = true
		path := filepath.Join(malformedDir, c.File)
		if *updateMalformed && c.content != nil {
			if err := os.WriteFile(path, c.content, 0o644); err != nil {
				t.Fatal(err)
			}
		}
		got, err := os.ReadFile(path)
		if err != nil {
			t.Error(err)
		} else if c.content != nil && !bytes.Equal(got, c.content) {
			t.Errorf("%s is not what its row makes: go generate ./internal/server", c.File)
		}
	}
	files, err := os.ReadDir(malformedDir)
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range files {
		if !want[f.Name()] {
			t.Errorf("%s is in no row", f.Name())
		}
	}
}
