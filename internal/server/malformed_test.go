package server

import (
	"bufio"
	"bytes"
	"crypto/tls"
	"crypto/x509"
	"encoding/base64"
	"encoding/json"
	"encoding/pem"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/certmill/certmill/issuer"
	"github.com/certmill/certmill/issuer/client"
)

// TestMalformed sends every file of testdata/malformed over TLS to a running server: the code that its row says, a detail for
// an operator, never a panic, never a record in the ledger.
func TestMalformed(t *testing.T) {
	f := newFactory(t, nil)
	c := f.client(t, f.addStation(t, "line-1"))
	f.order(t, issuer.OrderSpec{ID: "O-1"})
	index, err := os.ReadFile(filepath.Join(malformedDir, "cases.json"))
	if err != nil {
		t.Fatal(err)
	}
	var cases []input
	if err := json.Unmarshal(index, &cases); err != nil {
		t.Fatal(err)
	}
	before := f.ledger.Checkpoint().Size
	for _, in := range cases {
		t.Run(in.File, func(t *testing.T) {
			content, err := os.ReadFile(filepath.Join(malformedDir, in.File))
			if err != nil {
				t.Fatal(err)
			}
			body, contentType := in.body(t, content)
			status, answer := send(t, c, f.stations, contentType, bytes.NewReader(body))
			if status != in.Status {
				t.Errorf("got %d %s, want %d", status, answer, in.Status)
			}
			if got := codes(t, answer); !slices.Equal(got, in.codes()) {
				t.Errorf("got %v, want %v: %s", got, in.codes(), answer)
			}
			if after := f.ledger.Checkpoint().Size; after != before {
				t.Errorf("the ledger grew from %d to %d entries", before, after)
				before = after
			}
		})
	}
	if strings.Contains(f.log.String(), "panic") {
		t.Errorf("a panic: %s", f.log)
	}
	t.Logf("%d malformed inputs", len(cases))
}

// body writes the request that carries a file.
func (in input) body(t *testing.T, content []byte) (body []byte, contentType string) {
	t.Helper()
	text := string(content)
	switch in.Sent {
	case "body":
		setDefault(&in.Type, client.TypeJSON)
		return content, in.Type
	case "der":
		text = base64.StdEncoding.EncodeToString(content)
	}
	b, err := json.Marshal(map[string]string{"device_id": in.DeviceID, "csr": text})
	if err != nil {
		t.Fatal(err)
	}
	return b, client.TypeJSON
}

func (in input) codes() []string {
	if in.Lines != nil {
		return in.Lines
	}
	return []string{in.Code}
}

// send posts a body to order O-1. Content type "-" sends none.
func send(t *testing.T, c *http.Client, base, contentType string, body io.Reader) (status int, answer []byte) {
	t.Helper()
	req, err := http.NewRequestWithContext(t.Context(), http.MethodPost, base+"/v1/orders/O-1/certificates", body)
	if err != nil {
		t.Fatal(err)
	}
	if contentType != "-" {
		req.Header.Set("Content-Type", contentType)
	}
	res, err := c.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer res.Body.Close()
	if answer, err = io.ReadAll(res.Body); err != nil {
		t.Fatal(err)
	}
	return res.StatusCode, answer
}

// codes reads the codes of an answer's lines; a certificate has none.
func codes(t *testing.T, answer []byte) (out []string) {
	t.Helper()
	for _, line := range bytes.Split(bytes.TrimSpace(answer), []byte("\n")) {
		var p client.Problem
		if err := json.Unmarshal(line, &p); err != nil {
			t.Fatalf("%s: %v", answer, err)
		}
		if p.Code != "" && (len(p.Detail) < 20 || p.RequestID == "") {
			t.Errorf("no operator understands this: %s", line)
		}
		out = append(out, p.Code)
	}
	return out
}

// endless yields a JSON body of n octets that is made while it is sent.
func endless(n int64) io.Reader {
	return io.MultiReader(strings.NewReader(`{"device_id":"`), io.LimitReader(zeros{}, n), strings.NewReader(`"}`))
}

// zeros reads as '0' without an end.
type zeros struct{}

func (zeros) Read(b []byte) (int, error) {
	for i := range b {
		b[i] = '0'
	}
	return len(b), nil
}

// TestTooLarge: what is too large is refused before it is parsed.
func TestTooLarge(t *testing.T) {
	f := newFactory(t, nil)
	c := f.client(t, f.addStation(t, "line-1"))
	f.order(t, issuer.OrderSpec{ID: "O-1"})
	before := f.ledger.Checkpoint().Size
	line := `{"csr":"AAAA"}` + "\n"
	for _, tt := range []struct {
		name, contentType string
		body              io.Reader
		status            int
		codes             []string
	}{
		{"10 MiB", client.TypeJSON, bytes.NewReader(make([]byte, 10<<20)), 413, []string{client.CodeTooLarge}},
		{"10 MiB in chunks", client.TypeJSON, endless(10 << 20), 413, []string{client.CodeTooLarge}},
		{"64 KiB and one", client.TypeJSON, endless(client.MaxLine + 1), 413, []string{client.CodeTooLarge}},
		{"10 MiB of lines", client.TypeNDJSON, strings.NewReader(strings.Repeat(line, 10<<20/len(line))), 413, []string{client.CodeTooLarge}},
		{"1001 lines", client.TypeNDJSON, strings.NewReader(strings.Repeat(line, 1001)), 413, []string{client.CodeTooLarge}},
		{"a line of 64 KiB and one", client.TypeNDJSON, io.MultiReader(strings.NewReader(line), endless(client.MaxLine), strings.NewReader("\n"+line)), 200,
			[]string{client.CodeCSRMalformed, client.CodeTooLarge, client.CodeCSRMalformed}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			status, answer := send(t, c, f.stations, tt.contentType, tt.body)
			if got := codes(t, answer); status != tt.status || !slices.Equal(got, tt.codes) {
				t.Errorf("got %d %v, want %d %v", status, got, tt.status, tt.codes)
			}
		})
	}
	if after := f.ledger.Checkpoint().Size; after != before {
		t.Errorf("the ledger grew from %d to %d entries", before, after)
	}
}

// TestRefusedAfterItIsSent: clients that read nothing before they have sent everything, as Python's http.client, found a broken connection in
// place of the problem where the body was larger than what the sockets hold. So did curl with a stream, for which it expects 100 Continue first.
func TestRefusedAfterItIsSent(t *testing.T) {
	f := newFactory(t, nil)
	tlsConfig := f.client(t, f.addStation(t, "line-1")).Transport.(*http.Transport).TLSClientConfig
	for _, tt := range []struct {
		contentType, expect string
		length              int64 // as the header says it; -1: sent in chunks
		code                string
	}{
		{client.TypeJSON, "", 10 << 20, client.CodeTooLarge},
		{"text/plain", "", 10 << 20, client.CodeContentType},
		{client.TypeJSON, "100-continue", -1, client.CodeTooLarge},
	} {
		conn, err := tls.Dial("tcp", strings.TrimPrefix(f.stations, "https://"), tlsConfig)
		if err != nil {
			t.Fatal(err)
		}
		defer conn.Close()
		req, err := http.NewRequestWithContext(t.Context(), http.MethodPost, f.stations+"/v1/orders/O-1/certificates", io.LimitReader(zeros{}, 10<<20))
		if err != nil {
			t.Fatal(err)
		}
		req.ContentLength = tt.length
		req.Header.Set("Content-Type", tt.contentType)
		if tt.expect != "" {
			req.Header.Set("Expect", tt.expect)
		}
		if err := req.Write(conn); err != nil {
			t.Errorf("%s: %v", tt.code, err)
			continue
		}
		in := bufio.NewReader(conn)
		res, err := http.ReadResponse(in, req)
		if err == nil && res.StatusCode == http.StatusContinue {
			res, err = http.ReadResponse(in, req)
		}
		if err != nil {
			t.Fatal(err)
		}
		answer, err := io.ReadAll(res.Body)
		if got := codes(t, answer); err != nil || got[0] != tt.code {
			t.Errorf("got %v, %v, want %s", got, err, tt.code)
		}
	}
}

// TestWellformed: CSRs that OpenSSL made are accepted, and nothing but their key is found in the certificate.
func TestWellformed(t *testing.T) {
	f := newFactory(t, nil)
	c := f.client(t, f.addStation(t, "line-1"))
	f.order(t, issuer.OrderSpec{ID: "O-1"})
	files, err := filepath.Glob("../../testdata/wellformed/*.*")
	if err != nil || len(files) < 9 {
		t.Fatalf("got %d files, %v", len(files), err)
	}
	for _, file := range files {
		t.Run(filepath.Base(file), func(t *testing.T) {
			content, err := os.ReadFile(file)
			if err != nil {
				t.Fatal(err)
			}
			base := filepath.Base(file)
			in := input{Sent: "text", DeviceID: "wf-" + strings.TrimSuffix(base, filepath.Ext(base))}
			if filepath.Ext(file) == ".der" {
				in.Sent = "der"
			}
			body, contentType := in.body(t, content)
			status, answer := send(t, c, f.stations, contentType, bytes.NewReader(body))
			if status != http.StatusCreated {
				t.Fatalf("got %d %s, want 201", status, answer)
			}
			var a client.Answer
			if err := json.Unmarshal(answer, &a); err != nil {
				t.Fatal(err)
			}
			onlyTheKey(t, a, in.DeviceID)
		})
	}
}

// onlyTheKey wants a certificate with nothing that the CSR asked for.
func onlyTheKey(t *testing.T, a client.Answer, id string) {
	t.Helper()
	block, _ := pem.Decode([]byte(a.Certificate))
	cert, err := x509.ParseCertificate(block.Bytes)
	if err != nil {
		t.Fatal(err)
	}
	if got, want := cert.Subject.String(), "CN="+id+",O=Demo"; got != want {
		t.Errorf("subject %s, want %s", got, want)
	}
	if cert.IsCA || cert.DNSNames != nil || cert.IPAddresses != nil || cert.EmailAddresses != nil ||
		cert.KeyUsage != x509.KeyUsageDigitalSignature || !slices.Equal(cert.ExtKeyUsage, []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth}) {
		t.Errorf("the CSR's wishes came true: %+v", cert)
	}
}
