package server

import (
	"bufio"
	"bytes"
	"context"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/base64"
	"encoding/json"
	"encoding/pem"
	"errors"
	"fmt"
	"io"
	"math/big"
	"net"
	"net/http"
	"net/http/httptrace"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"golang.org/x/mod/sumdb/note"

	"github.com/certmill/certmill/issuer"
	"github.com/certmill/certmill/issuer/client"
)

// ask is a request for a device with a fresh key.
func ask(t *testing.T, id string) client.Request {
	t.Helper()
	return client.Request{DeviceID: id, CSR: toPEM(request(t, newKey(t), id)), ClientRef: "ref-" + id}
}

func marshal(t *testing.T, v any) []byte {
	t.Helper()
	b, err := json.Marshal(v)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

func TestStationGetsItsCertificate(t *testing.T) {
	f := newFactory(t, nil)
	c := f.stationClient(t, f.addStation(t, "line-1"))
	f.order(t, issuer.OrderSpec{ID: "O-1"})
	req := ask(t, "unit-1")
	a, err := c.Issue(t.Context(), "O-1", req)
	if err != nil {
		t.Fatal(err)
	}
	if a.DeviceID != "unit-1" || a.ClientRef != "ref-unit-1" || a.Replayed {
		t.Errorf("got %+v", a)
	}
	chain, err := c.Chain(t.Context(), "O-1")
	if err != nil {
		t.Fatal(err)
	}
	verify(t, a, chain)
	again, err := c.Issue(t.Context(), "O-1", req)
	if err != nil {
		t.Fatal(err)
	}
	if !again.Replayed || again.Certificate != a.Certificate {
		t.Errorf("the repeat gives %+v", again)
	}
	o, err := c.Order(t.Context(), "O-1")
	if err != nil || o.Issued != 1 || o.State != "open" || o.CA != "issuing" {
		t.Errorf("order: %+v, %v", o, err)
	}
}

// verify checks a certificate up to the root of its chain.
func verify(t *testing.T, a client.Answer, chain []byte) {
	t.Helper()
	var certs []*x509.Certificate
	for rest := append([]byte(a.Certificate), chain...); ; {
		var block *pem.Block
		if block, rest = pem.Decode(rest); block == nil {
			break
		}
		cert, err := x509.ParseCertificate(block.Bytes)
		if err != nil {
			t.Fatal(err)
		}
		certs = append(certs, cert)
	}
	if len(certs) != 3 {
		t.Fatalf("got %d certificates, want leaf, issuing CA and root", len(certs))
	}
	roots, between := x509.NewCertPool(), x509.NewCertPool()
	between.AddCert(certs[1])
	roots.AddCert(certs[2])
	if _, err := certs[0].Verify(x509.VerifyOptions{Roots: roots, Intermediates: between, KeyUsages: []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth}}); err != nil {
		t.Error(err)
	}
}

// TestExactlyOnce: of 64 equal requests at once exactly one makes the certificate, and all get its bytes.
func TestExactlyOnce(t *testing.T) {
	f := newFactory(t, nil)
	c := f.client(t, f.addStation(t, "line-1"))
	f.order(t, issuer.OrderSpec{ID: "O-1"})
	body := marshal(t, ask(t, "unit-1"))
	type result struct {
		status   int
		replayed string
		cert     string
	}
	results := make(chan result, 64)
	var wg sync.WaitGroup
	for range cap(results) {
		wg.Go(func() {
			res, err := c.Post(f.stations+"/v1/orders/O-1/certificates", client.TypeJSON, bytes.NewReader(body))
			if err != nil {
				t.Error(err)
				return
			}
			defer res.Body.Close()
			var a client.Answer
			if err := json.NewDecoder(res.Body).Decode(&a); err != nil {
				t.Error(err)
			}
			results <- result{res.StatusCode, res.Header.Get(client.HeaderReplayed), a.Certificate}
		})
	}
	wg.Wait()
	close(results)
	count := make(map[result]int)
	cert := ""
	for r := range results {
		cert = r.cert
		count[r]++
	}
	if count[result{201, "", cert}] != 1 || count[result{200, "true", cert}] != 63 {
		t.Errorf("got %v, want one 201 and 63 replays of the same certificate", count)
	}
}

// TestOrderOfTen: 64 stations ask at once, and exactly ten certificates are made.
func TestOrderOfTen(t *testing.T) {
	f := newFactory(t, nil)
	f.order(t, issuer.OrderSpec{ID: "O-1", Quantity: 10})
	codes := make(chan string, 64)
	var wg sync.WaitGroup
	for n := range cap(codes) {
		name := fmt.Sprintf("line-%02d", n)
		c, req := f.stationClient(t, f.addStation(t, name)), ask(t, "unit-"+name)
		wg.Go(func() {
			_, err := c.Issue(t.Context(), "O-1", req)
			var p *client.Problem
			switch {
			case err == nil:
				codes <- "issued"
			case errors.As(err, &p):
				codes <- p.Code
			default:
				codes <- err.Error()
			}
		})
	}
	wg.Wait()
	close(codes)
	count := make(map[string]int)
	for c := range codes {
		count[c]++
	}
	if count["issued"] != 10 || count[client.CodeOrderFull] != 54 {
		t.Errorf("got %v, want 10 issued and 54 order-full", count)
	}
}

// TestCurl: a client that nobody of us wrote, with a CSR that OpenSSL made, and what it must not send.
func TestCurl(t *testing.T) {
	curl, err := exec.LookPath("curl")
	if err != nil {
		t.Skip("needs curl")
	}
	f := newFactory(t, nil)
	dir := f.stationFolder(t, f.addStation(t, "line-1"))
	f.order(t, issuer.OrderSpec{ID: "O-1"})
	pem, err := os.ReadFile("../../testdata/wellformed/openssl-plain.pem")
	if err != nil {
		t.Fatal(err)
	}
	for name, b := range map[string][]byte{"request.json": marshal(t, client.Request{CSR: string(pem)}), "large.json": make([]byte, 10<<20)} {
		if err := os.WriteFile(filepath.Join(dir, name), b, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	for _, tt := range []struct {
		args []string
		want string
	}{
		{[]string{"--data-binary", "@request.json"}, "201 application/json"},
		{[]string{"--data-binary", "@request.json"}, "200 application/json"},
		{[]string{"--data-binary", "@large.json"}, "413 application/problem+json"},
		{[]string{"--data-binary", "@large.json", "-H", "Expect:", "-H", "Transfer-Encoding: chunked"}, "413 application/problem+json"},
		{[]string{"-X", "OPTIONS", "--request-target", "*"}, "404 application/problem+json"},
		{[]string{"-I", "-X", "HEAD"}, "405 application/problem+json"},
	} {
		args := append([]string{"-s", "-o", "out", "-w", "%{http_code} %{content_type}", "--cert", "station.crt", "--key", "station.key",
			"--cacert", "ca.crt", "-H", "Content-Type: application/json"}, tt.args...)
		cmd := exec.CommandContext(t.Context(), curl, append(args, f.stations+"/v1/orders/O-1/certificates")...)
		cmd.Dir = dir
		if out, err := cmd.Output(); string(out) != tt.want {
			t.Errorf("%v: got %s, %v, want %s", tt.args, out, err, tt.want)
		}
	}
}

// TestWhoMayEnter: the stations' listener takes certificates of the plant CA for clients, and nobody else's.
func TestWhoMayEnter(t *testing.T) {
	f := newFactory(t, nil)
	station := f.addStation(t, "line-1")
	f.order(t, issuer.OrderSpec{ID: "O-1"})
	deviceKey := newKey(t)
	a, err := f.stationClient(t, station).Issue(t.Context(), "O-1", client.Request{CSR: toPEM(request(t, deviceKey, "unit-1"))})
	if err != nil {
		t.Fatal(err)
	}
	block, _ := pem.Decode([]byte(a.Certificate))
	device := tls.Certificate{Certificate: [][]byte{block.Bytes, f.issuing.Certificate().Raw}, PrivateKey: deviceKey}
	for _, tt := range []struct {
		name string
		own  []tls.Certificate
		in   bool
	}{
		{"station", []tls.Certificate{station}, true},
		{"nobody", nil, false},
		{"device", []tls.Certificate{device}, false},
		{"the service itself", []tls.Certificate{*f.serviceCertificate(t)}, false},
		{"a station by its own word", []tls.Certificate{selfSigned(t, f.plant.Subject)}, false},
	} {
		t.Run(tt.name, func(t *testing.T) {
			res, err := f.client(t, tt.own...).Get(f.stations + "/livez")
			if err == nil {
				res.Body.Close()
			}
			if (err == nil) != tt.in {
				t.Errorf("got %v, want to enter: %v", err, tt.in)
			}
			var op *net.OpError
			if err != nil && (!errors.As(err, &op) || op.Op != "remote error") {
				t.Errorf("got %v, want a TLS alert", err)
			}
		})
	}
}

// selfSigned makes a client certificate that names the plant CA as its issuer.
func selfSigned(t *testing.T, subject pkix.Name) tls.Certificate {
	t.Helper()
	key := newKey(t)
	tmpl := &x509.Certificate{SerialNumber: big.NewInt(1), Subject: subject, NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour),
		ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth}}
	der, err := x509.CreateCertificate(rand.Reader, tmpl, tmpl, key.Public(), key)
	if err != nil {
		t.Fatal(err)
	}
	return tls.Certificate{Certificate: [][]byte{der}, PrivateKey: key}
}

// keptAlive asks twice over one connection, with something in between.
func keptAlive(t *testing.T, f *factory, c *http.Client, between func()) (status int, p client.Problem) {
	t.Helper()
	reused := false
	ctx := httptrace.WithClientTrace(t.Context(), &httptrace.ClientTrace{GotConn: func(i httptrace.GotConnInfo) { reused = i.Reused }})
	for range 2 {
		req, err := http.NewRequestWithContext(ctx, http.MethodGet, f.stations+"/v1/orders/O-1", nil)
		if err != nil {
			t.Fatal(err)
		}
		res, err := c.Do(req)
		if err != nil {
			t.Fatal(err)
		}
		b, err := io.ReadAll(res.Body)
		if err != nil {
			t.Fatal(err)
		}
		res.Body.Close()
		if status = res.StatusCode; status != http.StatusOK {
			if err := json.Unmarshal(b, &p); err != nil {
				t.Fatal(err)
			}
			break
		}
		between()
	}
	if !reused {
		t.Error("the connection was not kept")
	}
	return status, p
}

func TestStandingIsCheckedOnEveryRequest(t *testing.T) {
	for name, between := range map[string]func(t *testing.T, f *factory) error{
		"disabled": func(t *testing.T, f *factory) error { return f.admin.DisableStation(t.Context(), "line-1", "stolen") },
		"frozen": func(t *testing.T, f *factory) error {
			return f.admin.Freeze(t.Context(), issuer.Target{Kind: "station", Name: "line-1"}, "suspected")
		},
		"expired": func(t *testing.T, f *factory) error { f.clock.advance(2 * 366 * 24 * time.Hour); return nil },
	} {
		t.Run(name, func(t *testing.T) {
			f := newFactory(t, nil)
			c := f.client(t, f.addStation(t, "line-1"))
			f.order(t, issuer.OrderSpec{ID: "O-1"})
			status, p := keptAlive(t, f, c, func() {
				if err := between(t, f); err != nil {
					t.Fatal(err)
				}
			})
			if status != http.StatusForbidden || p.Code != client.CodeStationNotAllowed {
				t.Errorf("got %d %+v, want station-not-allowed", status, p)
			}
		})
	}
}

// TestBatchAnswersInOrder: whatever was asked, the answers come one a line in the order asked, certificates and problems.
func TestBatchAnswersInOrder(t *testing.T) {
	f := newFactory(t, nil)
	c := f.stationClient(t, f.addStation(t, "line-1"))
	f.order(t, issuer.OrderSpec{ID: "O-1"})
	var reqs []client.Request
	for n := range 300 {
		reqs = append(reqs, ask(t, fmt.Sprintf("unit-%03d", n)))
	}
	reqs[7].CSR = "junk"
	reqs[250] = reqs[3] // a repeat
	i := 0
	for line, err := range c.IssueBatch(t.Context(), "O-1", reqs) {
		if err != nil {
			t.Fatal(err)
		}
		switch {
		case line.Answer.ClientRef != reqs[i].ClientRef:
			t.Errorf("line %d answers %s", i, line.Answer.ClientRef)
		case i == 7 && (line.Status != 400 || line.Problem == nil || line.Problem.Code != client.CodeCSRMalformed):
			t.Errorf("line %d: got %+v, want csr-malformed", i, line)
		case i != 7 && line.Problem != nil:
			t.Errorf("line %d: %v", i, line.Problem)
		case line.Answer.Replayed != (line.Status == 200):
			t.Errorf("line %d: status %d, replayed %v", i, line.Status, line.Answer.Replayed)
		}
		i++
	}
	if i != len(reqs) {
		t.Errorf("%d lines, want %d", i, len(reqs))
	}
	if o, err := c.Order(t.Context(), "O-1"); err != nil || o.Issued != 298 {
		t.Errorf("order: %+v, %v, want 298 issued", o, err)
	}
}

// TestBatchStreams: an answer goes out while a later one still waits for its signature.
func TestBatchStreams(t *testing.T) {
	f := newFactory(t, nil)
	c := f.client(t, f.addStation(t, "line-1"))
	f.order(t, issuer.OrderSpec{ID: "O-1"})
	made := marshal(t, ask(t, "unit-1"))
	if status, answer := send(t, c, f.stations, client.TypeJSON, bytes.NewReader(made)); status != 201 {
		t.Fatalf("%d %s", status, answer)
	}
	_, release := f.signer.hold(t)
	body := fmt.Sprintf("%s\n%s\n%s\n", made, marshal(t, ask(t, "unit-2")), made)
	res, err := c.Post(f.stations+"/v1/orders/O-1/certificates", client.TypeNDJSON, strings.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	defer res.Body.Close()
	in := bufio.NewScanner(res.Body)
	for n, want := range []int{200, 201, 200} {
		if !in.Scan() {
			t.Fatalf("no line %d: %v", n, in.Err())
		}
		var l client.Line
		if err := json.Unmarshal(in.Bytes(), &l); err != nil || l.Status != want {
			t.Errorf("line %d: got %s, %v, want %d", n, in.Bytes(), err, want)
		}
		release() // only after the first line is here
	}
}

// TestHSMAway: the line's client asks until the token is back, and every unit has one certificate.
func TestHSMAway(t *testing.T) {
	f := newFactory(t, nil)
	c := f.stationClient(t, f.addStation(t, "line-1"))
	f.order(t, issuer.OrderSpec{ID: "O-1"})
	f.signer.fail(errTokenAway)
	done, req := make(chan error, 1), ask(t, "unit-1")
	go func() {
		_, err := c.Issue(t.Context(), "O-1", req)
		done <- err
	}()
	eventually(t, func() bool { return strings.Contains(f.log.String(), client.CodeHSMUnavailable) })
	f.signer.fail(nil)
	if err := <-done; err != nil {
		t.Fatal(err)
	}
	if o, err := c.Order(t.Context(), "O-1"); err != nil || o.Issued != 1 {
		t.Errorf("order: %+v, %v, want 1 issued", o, err)
	}
}

// TestSlowBody: a body that does not arrive costs its time and no more.
func TestSlowBody(t *testing.T) {
	f := newFactory(t, func(c *Config) { c.Limits.Request = 200 * time.Millisecond })
	c := f.client(t, f.addStation(t, "line-1"))
	body, w := io.Pipe()
	defer w.Close()
	go io.WriteString(w, `{"device_id":`) // and then nothing
	status, answer := send(t, c, f.stations, client.TypeJSON, body)
	if got := codes(t, answer); status != 429 || got[0] != client.CodeSlowDown {
		t.Errorf("got %d %s, want slow-down", status, answer)
	}
}

// TestLongAnswerOutlivesTheRequestDeadline: the time a request has to arrive does not count for its answer.
func TestLongAnswerOutlivesTheRequestDeadline(t *testing.T) {
	f := newFactory(t, func(c *Config) { c.Limits.Request = 200 * time.Millisecond })
	c := f.client(t, f.addStation(t, "line-1"))
	f.order(t, issuer.OrderSpec{ID: "O-1"})
	_, release := f.signer.hold(t)
	timer := time.AfterFunc(600*time.Millisecond, release)
	defer timer.Stop()
	if status, answer := send(t, c, f.stations, client.TypeJSON, bytes.NewReader(marshal(t, ask(t, "unit-1")))); status != 201 {
		t.Errorf("got %d %s, want 201", status, answer)
	}
}

// TestAnswerDeadline: a request whose signature does not come is told to ask again, and then finds what was made meanwhile.
func TestAnswerDeadline(t *testing.T) {
	f := newFactory(t, func(c *Config) { c.Limits.Answer = 200 * time.Millisecond })
	c := f.client(t, f.addStation(t, "line-1"))
	f.order(t, issuer.OrderSpec{ID: "O-1"})
	body := marshal(t, ask(t, "unit-1"))
	_, release := f.signer.hold(t)
	status, answer := send(t, c, f.stations, client.TypeJSON, bytes.NewReader(body))
	if got := codes(t, answer); status != 429 || got[0] != client.CodeSlowDown {
		t.Errorf("got %d %s, want slow-down", status, answer)
	}
	release()
	eventually(t, func() bool {
		status, answer = send(t, c, f.stations, client.TypeJSON, bytes.NewReader(body))
		return status != 429
	})
	if o, err := f.issuer.Order("O-1"); err != nil || o.Issued != 1 || status >= 300 {
		t.Errorf("got %d %s, %d issued, want the one certificate", status, answer, o.Issued)
	}
}

func TestRate(t *testing.T) {
	f := newFactory(t, func(c *Config) { c.Limits.Rate = 1 })
	c := f.client(t, f.addStation(t, "line-1"))
	f.order(t, issuer.OrderSpec{ID: "O-1"})
	lines := strings.Repeat(`{"csr":"AAAA"}`+"\n", 1000)
	if status, answer := send(t, c, f.stations, client.TypeNDJSON, strings.NewReader(lines)); status != 200 {
		t.Fatalf("a whole batch: got %d %s", status, answer)
	}
	status, answer := send(t, c, f.stations, client.TypeNDJSON, strings.NewReader(lines))
	var p client.Problem
	if err := json.Unmarshal(answer, &p); err != nil || status != 429 || p.Code != client.CodeSlowDown || p.RetryAfter < 900 {
		t.Errorf("got %d %s, want slow-down for about 1000 s", status, answer)
	}
}

// TestPanicIsAProblem: a fault of our own is logged with its stack, counted, and answered; the next request is served.
func TestPanicIsAProblem(t *testing.T) {
	f := newFactory(t, func(c *Config) { c.Ready = func() error { panic("a bug") } })
	res, err := http.Get(f.metrics + "/readyz")
	if err != nil {
		t.Fatal(err)
	}
	b, err := io.ReadAll(res.Body)
	if err != nil {
		t.Fatal(err)
	}
	res.Body.Close()
	if got := codes(t, b); res.StatusCode != 500 || got[0] != client.CodeInternal || strings.Contains(string(b), "a bug") {
		t.Errorf("got %d %s, want internal, without what the log says", res.StatusCode, b)
	}
	if !strings.Contains(f.log.String(), "a bug") || !strings.Contains(f.log.String(), "readyz") {
		t.Errorf("log: %s", f.log)
	}
	if text := scrape(t, f); !strings.Contains(text, "certmill_panics_total 1") {
		t.Errorf("metrics: %s", text)
	}
}

func scrape(t *testing.T, f *factory) string {
	t.Helper()
	res, err := http.Get(f.metrics + "/metrics")
	if err != nil {
		t.Fatal(err)
	}
	defer res.Body.Close()
	b, err := io.ReadAll(res.Body)
	if err != nil {
		t.Fatal(err)
	}
	return string(b)
}

func TestMetrics(t *testing.T) {
	f := newFactory(t, nil)
	c := f.client(t, f.addStation(t, "line-1"))
	f.order(t, issuer.OrderSpec{ID: "O-1"})
	body := marshal(t, ask(t, "unit-1"))
	for _, want := range []int{201, 200, 200} {
		if status, answer := send(t, c, f.stations, client.TypeJSON, bytes.NewReader(body)); status != want {
			t.Fatalf("got %d %s", status, answer)
		}
	}
	send(t, c, f.stations, client.TypeJSON, strings.NewReader("{"))
	text := scrape(t, f)
	for _, want := range []string{
		"certmill_certificates_issued_total 1", "certmill_certificates_replayed_total 2", "certmill_issue_seconds_count 1",
		`certmill_requests_refused_total{code="body-malformed"} 1`, `certmill_station_requests_total{station="line-1"} 4`,
		`certmill_http_requests_total{listener="stations",status="200"} 2`, `certmill_hsm_ready{token="main"} 1`, `certmill_hsm_signers{token="main"} 2`,
		fmt.Sprintf("certmill_ledger_entries %d", f.ledger.Checkpoint().Size), "certmill_open_intents 0",
	} {
		if !strings.Contains(text, want+"\n") {
			t.Errorf("no %s in\n%s", want, text)
		}
	}
}

// TestCheckpointIsOnEveryAnswer and can be verified with the ledger's key, on refusals too.
func TestCheckpointIsOnEveryAnswer(t *testing.T) {
	f := newFactory(t, nil)
	verifier, err := note.NewVerifier(f.ledger.VerifierKey())
	if err != nil {
		t.Fatal(err)
	}
	station := f.client(t, f.addStation(t, "line-1"))
	for _, at := range []struct {
		client *http.Client
		url    string
	}{
		{station, f.stations + "/v1/orders/none"}, {station, f.stations + "/livez"}, {http.DefaultClient, f.public + "/nothing"},
		{http.DefaultClient, f.public + "/ca/root.cer"}, {http.DefaultClient, f.metrics + "/metrics"},
	} {
		res, err := at.client.Get(at.url)
		if err != nil {
			t.Fatal(err)
		}
		res.Body.Close()
		signed, err := base64.StdEncoding.DecodeString(res.Header.Get(client.HeaderCheckpoint))
		if err != nil {
			t.Fatal(err)
		}
		if _, err := note.Open(signed, note.VerifierList(verifier)); err != nil {
			t.Errorf("%s: %v: %q", at.url, err, signed)
		}
	}
}

// TestTLS12: the option lets TLS 1.2 in with ECDHE and AEAD, and without it nothing below 1.3 enters.
func TestTLS12(t *testing.T) {
	plant := selfSigned(t, pkix.Name{CommonName: "plant"})
	cert, err := x509.ParseCertificate(plant.Certificate[0])
	if err != nil {
		t.Fatal(err)
	}
	own := &plant
	for _, tt := range []struct {
		min    string
		suites []uint16
		in     bool
	}{
		{"", nil, false},
		{"1.3", nil, false},
		{"1.2", nil, true},
		{"1.2", []uint16{tls.TLS_ECDHE_ECDSA_WITH_AES_128_CBC_SHA}, false},
	} {
		conf, err := StationTLS(TLSConfig{Plant: cert, MinVersion: tt.min, Certificate: func() (*tls.Certificate, error) { return own, nil }})
		if err != nil {
			t.Fatal(err)
		}
		a, b := net.Pipe()
		srv := tls.Server(a, conf)
		done := make(chan error, 1)
		go func() { done <- srv.HandshakeContext(t.Context()) }()
		c := tls.Client(b, &tls.Config{InsecureSkipVerify: true, MaxVersion: tls.VersionTLS12, CipherSuites: tt.suites, Certificates: []tls.Certificate{*own}})
		err = c.HandshakeContext(t.Context())
		a.Close()
		b.Close()
		<-done
		if (err == nil) != tt.in {
			t.Errorf("tls_min %q, suites %v: got %v, want to enter: %v", tt.min, tt.suites, err, tt.in)
		}
	}
	if _, err := StationTLS(TLSConfig{Plant: cert, MinVersion: "1.1", Certificate: func() (*tls.Certificate, error) { return own, nil }}); err == nil {
		t.Error("tls_min 1.1 was taken")
	}
}

// TestShutdownFinishesWhatItHasBegun: a request under way gets its answer.
func TestShutdownFinishesWhatItHasBegun(t *testing.T) {
	f := newFactory(t, nil)
	station := f.addStation(t, "line-1")
	f.order(t, issuer.OrderSpec{ID: "O-1"})
	asked, release := f.signer.hold(t)
	own := f.serviceCertificate(t)
	conf, err := StationTLS(TLSConfig{Plant: f.plant, Certificate: func() (*tls.Certificate, error) { return own, nil }})
	if err != nil {
		t.Fatal(err)
	}
	l, err := tls.Listen("tcp", "127.0.0.1:0", conf)
	if err != nil {
		t.Fatal(err)
	}
	hs := f.server.HTTPServer(f.server.Stations())
	served := make(chan error, 1)
	go func() { served <- hs.Serve(l) }()
	c, body := f.client(t, station), marshal(t, ask(t, "unit-1"))
	answered := make(chan int, 1)
	go func() {
		defer close(answered)
		status, _ := send(t, c, "https://"+l.Addr().String(), client.TypeJSON, bytes.NewReader(body))
		answered <- status
	}()
	<-asked
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
	defer cancel()
	down := make(chan error, 1)
	go func() { down <- hs.Shutdown(ctx) }()
	<-served // the listener is closed
	release()
	if status := <-answered; status != http.StatusCreated {
		t.Errorf("got %d, want 201", status)
	}
	if err := <-down; err != nil {
		t.Error(err)
	}
}

// TestBatchesOfOneStationLeaveRoom: the lines of a station's batches took every place in the issuer's pool, and the other stations were told to
// slow down.
func TestBatchesOfOneStationLeaveRoom(t *testing.T) {
	f := newFactory(t, nil)
	greedy, other := f.client(t, f.addStation(t, "line-1")), f.client(t, f.addStation(t, "line-2"))
	f.order(t, issuer.OrderSpec{ID: "O-1"})
	_, release := f.signer.hold(t)
	const batches = 3 // of window lines each: more than stationWindow
	var all sync.WaitGroup
	for b := range batches {
		var body bytes.Buffer
		for n := range window {
			body.Write(append(marshal(t, ask(t, fmt.Sprintf("unit-%d-%d", b, n))), '\n'))
		}
		all.Go(func() {
			_, answer := send(t, greedy, f.stations, client.TypeNDJSON, &body)
			if made := bytes.Count(answer, []byte(`{"status":201`)); made != window {
				t.Errorf("%d of %d made", made, window)
			}
		})
	}
	eventually(t, func() bool { return f.issuer.OpenIntents() == stationWindow })
	all.Go(func() {
		if status, answer := send(t, other, f.stations, client.TypeJSON, bytes.NewReader(marshal(t, ask(t, "unit-9")))); status != 201 {
			t.Errorf("got %d %s, want 201", status, answer)
		}
	})
	eventually(t, func() bool { return f.issuer.OpenIntents() > stationWindow })
	if n := f.issuer.OpenIntents(); n != stationWindow+1 {
		t.Errorf("%d lines are under way, want %d and the other station's request", n, stationWindow)
	}
	release()
	all.Wait()
}
