package client

import (
	"bufio"
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/json"
	"encoding/pem"
	"errors"
	"fmt"
	"io"
	"math/big"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"sync/atomic"
	"testing"
	"time"
)

// identity makes a self-signed certificate that serves as CA, as server and as station.
func identity(t *testing.T) (tls.Certificate, []byte, []byte) {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	tmpl := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "plant"}, NotAfter: time.Now().Add(time.Hour),
		IsCA: true, BasicConstraintsValid: true, IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)},
	}
	der, err := x509.CreateCertificate(rand.Reader, tmpl, tmpl, key.Public(), key)
	if err != nil {
		t.Fatal(err)
	}
	pk8, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		t.Fatal(err)
	}
	return tls.Certificate{Certificate: [][]byte{der}, PrivateKey: key},
		pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der}),
		pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: pk8})
}

// serve runs a handler over mutual TLS and returns a client that was read from a station's folder.
func serve(t *testing.T, h http.HandlerFunc) *Client {
	t.Helper()
	pair, crt, key := identity(t)
	pool := x509.NewCertPool()
	pool.AppendCertsFromPEM(crt)
	srv := httptest.NewUnstartedServer(h)
	srv.TLS = &tls.Config{Certificates: []tls.Certificate{pair}, ClientCAs: pool, ClientAuth: tls.RequireAndVerifyClientCert}
	srv.StartTLS()
	t.Cleanup(srv.Close)

	dir := t.TempDir()
	write(t, dir, "station.crt", crt)
	write(t, dir, "station.key", key)
	write(t, dir, "plant.crt", crt)
	write(t, dir, "station.yaml", []byte("server: "+srv.URL+"/\nca: plant.crt\n"))
	s, err := LoadStation(filepath.Join(dir, "station.yaml"))
	if err != nil {
		t.Fatal(err)
	}
	c, err := New(s)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(c.Close)
	return c
}

func write(t *testing.T, dir, name string, b []byte) {
	t.Helper()
	if err := os.WriteFile(filepath.Join(dir, name), b, 0o600); err != nil {
		t.Fatal(err)
	}
}

func reply(w http.ResponseWriter, status int, kind string, v any) {
	w.Header().Set("Content-Type", kind)
	w.WriteHeader(status)
	if err := json.NewEncoder(w).Encode(v); err != nil {
		panic(err)
	}
}

func TestIssueRetriesWhatMayPass(t *testing.T) {
	var calls atomic.Int32
	c := serve(t, func(w http.ResponseWriter, r *http.Request) {
		switch calls.Add(1) {
		case 1: // the service dies in the middle of its answer
			panic(http.ErrAbortHandler)
		case 2:
			reply(w, 503, TypeProblem, Problem{Code: CodeHSMUnavailable, Status: 503, Retryable: true})
		case 3: // a proxy in between
			reply(w, 502, "text/html", "bad gateway")
		default:
			w.Header().Set(HeaderReplayed, "true")
			reply(w, 200, TypeJSON, Answer{DeviceID: "d-1", Serial: "01"})
		}
	})
	a, err := c.Issue(t.Context(), "O-1", Request{DeviceID: "d-1"})
	if err != nil {
		t.Fatal(err)
	}
	if want := (Answer{DeviceID: "d-1", Serial: "01", Replayed: true}); a != want {
		t.Errorf("got %+v, want %+v", a, want)
	}
	if n := calls.Load(); n != 4 {
		t.Errorf("%d calls, want 4", n)
	}
}

func TestIssueReturnsRefusalAtOnce(t *testing.T) {
	var calls atomic.Int32
	want := Problem{Type: "t", Title: "Order full", Status: 409, Detail: "full", Code: CodeOrderFull, RequestID: "r-1"}
	c := serve(t, func(w http.ResponseWriter, r *http.Request) {
		calls.Add(1)
		if r.URL.Path != "/v1/orders/O 1/certificates" {
			t.Errorf("path %q", r.URL.Path)
		}
		reply(w, 409, TypeProblem, want)
	})
	_, err := c.Issue(t.Context(), "O 1", Request{})
	var p *Problem
	if !errors.As(err, &p) || *p != want {
		t.Fatalf("got %v, want %+v", err, want)
	}
	if calls.Load() != 1 {
		t.Errorf("%d calls, want 1", calls.Load())
	}
}

func TestIssueEndsWithItsContext(t *testing.T) {
	c := serve(t, func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Retry-After", "3600")
		reply(w, 503, TypeProblem, Problem{Code: CodeStoreReadOnly, Retryable: true})
	})
	ctx, cancel := context.WithTimeout(t.Context(), 200*time.Millisecond)
	defer cancel()
	_, err := c.Issue(ctx, "O-1", Request{})
	var p *Problem
	if !errors.As(err, &p) || p.Code != CodeStoreReadOnly || p.RetryAfter != 3600 || !errors.Is(err, context.DeadlineExceeded) {
		t.Fatalf("got %v, want the deadline and the last problem", err)
	}
}

func TestWrongServerIsNotAskedAgain(t *testing.T) {
	c := serve(t, func(w http.ResponseWriter, r *http.Request) {})
	_, other, _ := identity(t)
	pool := x509.NewCertPool()
	pool.AppendCertsFromPEM(other)
	c.http.Transport.(*http.Transport).TLSClientConfig.RootCAs = pool
	_, err := c.Issue(t.Context(), "O-1", Request{})
	var cert *tls.CertificateVerificationError
	if !errors.As(err, &cert) {
		t.Fatalf("got %v, want a certificate error", err)
	}
}

func TestUnwantedStationIsNotAskedAgain(t *testing.T) {
	c := serve(t, func(w http.ResponseWriter, r *http.Request) {})
	other, _, _ := identity(t)
	c.http.Transport.(*http.Transport).TLSClientConfig.Certificates = []tls.Certificate{other}
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
	defer cancel()
	if _, err := c.Issue(ctx, "O-1", Request{}); err == nil || errors.Is(err, context.DeadlineExceeded) {
		t.Fatalf("got %v, want the service's alert", err)
	}
}

// batchServer answers each line by what lines says for its device, one answer a call.
func batchServer(t *testing.T, lines map[string][]Line, cut int) http.HandlerFunc {
	var calls int
	return func(w http.ResponseWriter, r *http.Request) {
		calls++
		w.Header().Set("Content-Type", TypeNDJSON)
		in, enc := bufio.NewScanner(r.Body), json.NewEncoder(w)
		for n := 0; in.Scan(); n++ {
			if calls == 1 && n == cut {
				panic(http.ErrAbortHandler)
			}
			var req Request
			if err := json.Unmarshal(in.Bytes(), &req); err != nil {
				t.Error(err)
			}
			if len(lines[req.DeviceID]) == 0 {
				t.Errorf("%s was asked once too often", req.DeviceID)
				return
			}
			if err := enc.Encode(lines[req.DeviceID][0]); err != nil {
				t.Error(err)
			}
			lines[req.DeviceID] = lines[req.DeviceID][1:]
			if err := http.NewResponseController(w).Flush(); err != nil {
				t.Error(err)
			}
		}
	}
}

func TestBatchAsksAgainForWhatIsOpenOnly(t *testing.T) {
	made := func(id string) Line { return Line{Status: 201, Answer: Answer{DeviceID: id, Serial: "s-" + id}} }
	busy := Line{Status: 429, Problem: &Problem{Status: 429, Code: CodeSlowDown, Retryable: true}}
	full := Line{Status: 409, Problem: &Problem{Status: 409, Code: CodeOrderFull}}
	c := serve(t, batchServer(t, map[string][]Line{
		"a": {made("a")},
		"b": {busy, made("b")},
		"c": {full},
		"d": {made("d")}, // the first call is cut before it
	}, 3))
	var got []Line
	for l, err := range c.IssueBatch(t.Context(), "O-1", []Request{{DeviceID: "a"}, {DeviceID: "b"}, {DeviceID: "c"}, {DeviceID: "d"}}) {
		if err != nil {
			t.Fatal(err)
		}
		got = append(got, l)
	}
	if want := []Line{made("a"), made("b"), full, made("d")}; !reflect.DeepEqual(got, want) {
		t.Errorf("got %+v\nwant %+v", got, want)
	}
}

func TestBatchYieldsTheLastProblemWhenTimeIsUp(t *testing.T) {
	busy := Line{Status: 503, Problem: &Problem{Status: 503, Code: CodeHSMUnavailable, Retryable: true, RetryAfter: 60}}
	c := serve(t, batchServer(t, map[string][]Line{"a": {busy}, "b": {{Status: 201}}}, -1))
	ctx, cancel := context.WithTimeout(t.Context(), 300*time.Millisecond)
	defer cancel()
	var got []Line
	for l, err := range c.IssueBatch(ctx, "O-1", []Request{{DeviceID: "a"}, {DeviceID: "b"}}) {
		if err != nil {
			t.Fatal(err)
		}
		got = append(got, l)
	}
	if want := []Line{busy, {Status: 201}}; !reflect.DeepEqual(got, want) {
		t.Errorf("got %+v\nwant %+v", got, want)
	}
}

func TestBatchRefusedAsAWhole(t *testing.T) {
	c := serve(t, func(w http.ResponseWriter, r *http.Request) {
		if _, err := io.Copy(io.Discard, r.Body); err != nil {
			t.Error(err)
		}
		reply(w, 404, TypeProblem, Problem{Status: 404, Code: CodeOrderUnknown})
	})
	n := 0
	for _, err := range c.IssueBatch(t.Context(), "O-9", []Request{{}, {}}) {
		n++
		var p *Problem
		if !errors.As(err, &p) || p.Code != CodeOrderUnknown {
			t.Errorf("got %v, want order-unknown", err)
		}
	}
	if n != 1 {
		t.Errorf("%d elements, want 1", n)
	}
}

func TestLineForms(t *testing.T) {
	for _, tt := range []struct {
		line Line
		json string
	}{
		{Line{Status: 201, Answer: Answer{DeviceID: "d", Receipt: Receipt{7, "note"}, NotBefore: time.Unix(0, 0).UTC(), NotAfter: time.Unix(1, 0).UTC()}},
			`{"status":201,"device_id":"d","serial":"","certificate_id":"","certificate":"","not_before":"1970-01-01T00:00:00Z","not_after":"1970-01-01T00:00:01Z","receipt":{"index":7,"checkpoint":"note"}}`},
		{Line{Status: 409, Answer: Answer{DeviceID: "d", ClientRef: "7"}, Problem: &Problem{Type: "t", Title: "T", Status: 409, Detail: "D", Code: "order-full", RequestID: "r"}},
			`{"status":409,"device_id":"d","client_ref":"7","type":"t","title":"T","detail":"D","code":"order-full","retryable":false,"request_id":"r"}`},
	} {
		b, err := json.Marshal(tt.line)
		if err != nil {
			t.Fatal(err)
		}
		if string(b) != tt.json {
			t.Errorf("got  %s\nwant %s", b, tt.json)
		}
		var back Line
		if err := json.Unmarshal(b, &back); err != nil {
			t.Fatal(err)
		}
		if !reflect.DeepEqual(back, tt.line) {
			t.Errorf("read back %+v, want %+v", back, tt.line)
		}
	}
}

func TestLoadStation(t *testing.T) {
	for _, tt := range []struct {
		yaml string
		want Station
		err  string
	}{
		{yaml: "server: https://h:1\n", want: Station{"https://h:1", "DIR/station.key", "DIR/station.crt", "DIR/ca.crt", ""}},
		{yaml: "server: https://h:1\nkey: k/x.key\ncert: /abs.crt\nspool: open\n", want: Station{"https://h:1", "DIR/k/x.key", "/abs.crt", "DIR/ca.crt", "DIR/open"}},
		{yaml: "", err: "file is empty"},
		{yaml: "key: k.pem\n", err: "server is missing"},
		{yaml: "server: https://h:1\nkeys: x\n", err: `line 2: unknown key "keys"; did you mean "key"?`},
	} {
		t.Run(tt.yaml, func(t *testing.T) {
			dir := t.TempDir()
			write(t, dir, "station.yaml", []byte(tt.yaml))
			got, err := LoadStation(filepath.Join(dir, "station.yaml"))
			if tt.err != "" {
				if err == nil || !strings.Contains(err.Error(), tt.err) {
					t.Fatalf("got %v, want %q", err, tt.err)
				}
				return
			}
			for _, p := range []*string{&tt.want.Key, &tt.want.Cert, &tt.want.CA, &tt.want.Spool} {
				*p = strings.Replace(*p, "DIR", dir, 1)
			}
			if err != nil || got != tt.want {
				t.Errorf("got %+v, %v, want %+v", got, err, tt.want)
			}
		})
	}
}

func ExampleClient_Issue() {
	s, err := LoadStation("station.yaml")
	if err != nil {
		fmt.Println("read station.yaml first:", errors.Is(err, os.ErrNotExist))
		return
	}
	c, err := New(s)
	if err != nil {
		fmt.Println(err)
		return
	}
	ctx, cancel := context.WithTimeout(context.Background(), 30*time.Second) // the takt time
	defer cancel()
	a, err := c.Issue(ctx, "O-1", Request{DeviceID: "DEMO-000001", CSR: "-----BEGIN CERTIFICATE REQUEST-----…"})
	fmt.Println(a.Serial, err)
	// Output: read station.yaml first: true
}
