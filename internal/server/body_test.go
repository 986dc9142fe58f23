package server

import (
	"encoding/base64"
	"encoding/json"
	"errors"
	"strings"
	"testing"

	"github.com/certmill/certmill/issuer/client"
)

func TestDecodeRequest(t *testing.T) {
	for _, tt := range []struct {
		body string
		want client.Request
		err  string // what the problem says; "" none
	}{
		{`{"device_id":"d","csr":"c","client_ref":"r","slot":"s-1"}`, client.Request{DeviceID: "d", CSR: "c", ClientRef: "r", Slot: "s-1"}, ""},
		{" {\n\"csr\" : \"\\u0041\" }\r\n", client.Request{CSR: "A"}, ""},
		{``, client.Request{}, "not a JSON object"},
		{`null`, client.Request{}, "not a JSON object"},
		{`[]`, client.Request{}, "not a JSON object"},
		{"\ufeff{}", client.Request{}, "not a JSON object"},
		{`{}`, client.Request{}, "csr is missing"},
		{`{"csr":"c"`, client.Request{}, "does not end"},
		{`{"csr":"c",}`, client.Request{}, "broken"},
		{`{"csr":"c" "slot":"s"}`, client.Request{}, "broken"},
		{`{"csr":"c"}{"csr":"c"}`, client.Request{}, "follows"},
		{`{"csr":"c"}]`, client.Request{}, "follows"},
		{`{"csr":"c","csr":"d"}`, client.Request{}, `"csr" is unknown or stands twice`},
		{`{"CSR":"c"}`, client.Request{}, `"CSR" is unknown`},
		{`{"csr":null}`, client.Request{}, "csr is not a string"},
		{`{"csr":["c"]}`, client.Request{}, "csr is not a string"},
		{`{"csr":"c","slot":7}`, client.Request{}, "slot is not a string"},
		{`{"csr":"\ud800"}`, client.Request{}, "a character that is none"},
		{"{\"csr\":\"\xff\"}", client.Request{}, "not UTF-8"},
		{`{"csr":"c","client_ref":"` + strings.Repeat("d", 257) + `"}`, client.Request{}, "client_ref has more than"},
		{`{"csr":` + strings.Repeat("[", 60000), client.Request{}, "csr is not a string"},
	} {
		got, err := decodeRequest([]byte(tt.body))
		if tt.err == "" {
			if err != nil || got != tt.want {
				t.Errorf("%.60s: got %+v, %v, want %+v", tt.body, got, err, tt.want)
			}
			continue
		}
		var r *refusal
		if !errors.As(err, &r) || r.code != client.CodeBodyMalformed || !strings.Contains(err.Error(), tt.err) {
			t.Errorf("%.60s: got %v, want %q", tt.body, err, tt.err)
		}
	}
}

// FuzzDecodeRequest: whatever is taken means the same to encoding/json, and is taken again once written anew.
func FuzzDecodeRequest(f *testing.F) {
	for _, s := range []string{`{"device_id":"d","csr":"c","client_ref":"r","slot":"main"}`, `{"csr":"\u00e9"}`, `{"csr":"c","csr":""}`, "{\"csr\"\x00}", `[{}]`} {
		f.Add([]byte(s))
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		got, err := decodeRequest(b)
		if err != nil {
			var r *refusal
			if !errors.As(err, &r) {
				t.Fatalf("an error without a code: %v", err)
			}
			return
		}
		var std client.Request
		if err := json.Unmarshal(b, &std); err != nil || std != got {
			t.Fatalf("%q: got %+v, encoding/json says %+v, %v", b, got, std, err)
		}
		again, err := json.Marshal(got)
		if err != nil {
			t.Fatal(err)
		}
		if r, err := decodeRequest(again); err != nil || r != got {
			t.Fatalf("%q: read back %+v, %v", again, r, err)
		}
	})
}

const aPEM = "-----BEGIN CERTIFICATE REQUEST-----\nAQID\n-----END CERTIFICATE REQUEST-----\n"

func TestDecodeCSR(t *testing.T) {
	for _, tt := range []struct{ name, text, err string }{
		{"PEM", aPEM, ""},
		{"PEM of older tools", strings.ReplaceAll(aPEM, "CERTIFICATE", "NEW CERTIFICATE"), ""},
		{"PEM with CRLF", "\r\n" + strings.ReplaceAll(aPEM, "\n", "\r\n"), ""},
		{"base64", "AQID", ""},
		{"base64 in lines", "AQ\r\nID\n", ""},
		{"nothing", "  ", ""}, // the empty DER, which is no CSR
		{"junk in base64", "AQ*D", "neither PEM nor base64"},
		{"base64url", "__-_", "neither PEM nor base64"},
		{"bits behind the end", "AQJ=", ""}, // padding bits are judged by nobody: the DER is the same
		{"other label", strings.ReplaceAll(aPEM, "CERTIFICATE REQUEST", "CERTIFICATE"), "labelled"},
		{"two", aPEM + aPEM, "more than one"},
		{"broken, then a whole one", "-----BEGIN CERTIFICATE REQUEST-----\nA*\n" + aPEM, "more than one"},
		{"headers", strings.Replace(aPEM, "-----\n", "-----\nProc-Type: 4,ENCRYPTED\n\n", 1), "headers"},
		{"text behind", aPEM + "x", "something behind"},
		{"no end", aPEM[:50], "broken"},
		{"text before, as openssl req -text writes it", "Certificate Request:\n" + aPEM, ""},
	} {
		t.Run(tt.name, func(t *testing.T) {
			der, err := decodeCSR(tt.text)
			if tt.err == "" {
				if err != nil {
					t.Fatal(err)
				}
				return
			}
			var r *refusal
			if !errors.As(err, &r) || r.code != client.CodeCSRMalformed || !strings.Contains(err.Error(), tt.err) {
				t.Fatalf("got %x, %v, want %q", der, err, tt.err)
			}
		})
	}
}

// FuzzDecodeCSR: what is taken out of PEM is taken out of its base64 too.
func FuzzDecodeCSR(f *testing.F) {
	f.Add(aPEM)
	f.Add("AQID")
	f.Fuzz(func(t *testing.T, text string) {
		der, err := decodeCSR(text)
		if err != nil {
			return
		}
		again, err := decodeCSR(base64.StdEncoding.EncodeToString(der))
		if err != nil || string(again) != string(der) {
			t.Fatalf("%q: got %x, then %x, %v", text, der, again, err)
		}
	})
}

func TestReadLines(t *testing.T) {
	for _, tt := range []struct {
		body string
		n    int
		code string
	}{
		{"a", 1, ""},
		{"a\n", 1, ""},
		{"a\r\nb\r\n\r\n", 2, ""},
		{"a\n\nb", 3, ""}, // an empty line in the middle is a line: it gets its problem
		{"", 0, client.CodeBodyMalformed},
		{"\n\r\n", 0, client.CodeBodyMalformed},
		{strings.Repeat("a\n", 1000), 1000, ""},
		{strings.Repeat("a\n", 1001), 0, client.CodeTooLarge},
	} {
		lines, err := readLines([]byte(tt.body))
		var r *refusal
		if code := ""; errors.As(err, &r) {
			code = r.code
			if code != tt.code {
				t.Errorf("%.10q: got %v, want %s", tt.body, err, tt.code)
			}
		} else if len(lines) != tt.n {
			t.Errorf("%.10q: got %d lines, want %d", tt.body, len(lines), tt.n)
		}
	}
}
