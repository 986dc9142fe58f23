package server

import (
	"bytes"
	"crypto"
	"crypto/ecdsa"
	"crypto/rand"
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"errors"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/santhosh-tekuri/jsonschema/v6"

	"github.com/certmill/certmill/issuer"
	"github.com/certmill/certmill/issuer/client"
)

// driver asks a factory for everything that stands in the document.
type driver struct {
	*factory
	*document
	t       *testing.T
	station *http.Client
	stopped atomic.Pointer[error] // what Config.Ready says
	serial  string
	key     *ecdsa.PrivateKey // of unit-1
	id      string            // of its certificate
	second  string            // the request of unit-2
}

// TestOpenAPI drives every path, method, status, media type and code of openapi.yaml against a running server, and fails on
// an answer that is not in the document and on anything in the document that was never seen.
func TestOpenAPI(t *testing.T) {
	d := &driver{document: loadDocument(t), t: t}
	d.factory = newFactory(t, func(c *Config) {
		c.Limits.Concurrent = 1
		c.Ready = func() error {
			if err := d.stopped.Load(); err != nil {
				return *err
			}
			return nil
		}
	})
	d.station = d.client(t, d.addStation(t, "line-1"))
	d.order(t, issuer.OrderSpec{ID: "O-open"})
	d.answers()
	d.refusals()
	d.orderRefusals()
	d.confirmRefusals()
	d.otherMethods()
	d.faults()
	d.tooMany()
	d.revoked()
	d.badClock()
	spare := d.client(t, d.addStation(t, "line-2"))
	d.notAllowed()
	d.storeFails(spare)
	t.Log("provoked by a fault put in: hsm-unavailable, store-read-only and internal (the signer's answer, readiness), slow-down (a signature held up)")
	for _, m := range d.missing() {
		t.Errorf("%s stands in the document and was never seen", m)
	}
}

// get asks for a path and wants a status.
func (d *driver) get(c *http.Client, base, path string, status int, accept ...string) []byte {
	d.t.Helper()
	req, err := http.NewRequestWithContext(d.t.Context(), http.MethodGet, base+path, nil)
	if err != nil {
		d.t.Fatal(err)
	}
	for _, a := range accept {
		req.Header.Set("Accept", a)
	}
	return d.want(c, req, status)
}

// post sends a body to an order's certificates and wants a status.
func (d *driver) post(order, contentType, body string, status int) []byte {
	d.t.Helper()
	return d.postTo("/v1/orders/"+order+"/certificates", contentType, body, status)
}

func (d *driver) postTo(path, contentType, body string, status int) []byte {
	d.t.Helper()
	req, err := http.NewRequestWithContext(d.t.Context(), http.MethodPost, d.stations+path, strings.NewReader(body))
	if err != nil {
		d.t.Fatal(err)
	}
	req.Header.Set("Content-Type", contentType)
	return d.want(d.station, req, status)
}

func (d *driver) want(c *http.Client, req *http.Request, status int) []byte {
	d.t.Helper()
	res, body := d.ask(d.t, c, req)
	if res.StatusCode != status {
		d.t.Errorf("%s %s: got %d %s, want %d", req.Method, req.URL.Path, res.StatusCode, body, status)
	}
	return body
}

// refused sends a request and wants its problem's code.
func (d *driver) refused(order, body, code string) {
	d.t.Helper()
	d.isProblem(d.post(order, client.TypeJSON, body, problems[code].status), code)
}

func (d *driver) isProblem(body []byte, code string) {
	d.t.Helper()
	var p client.Problem
	if err := json.Unmarshal(body, &p); err != nil || p.Code != code {
		d.t.Errorf("got %s, %v, want %s", body, err, code)
	}
}

// body writes a request for a device with a fresh key, or with this CSR.
func (d *driver) body(id string, csr ...[]byte) string {
	if len(csr) == 0 {
		csr = [][]byte{request(d.t, newKey(d.t), id)}
	}
	b, err := json.Marshal(client.Request{DeviceID: id, CSR: toPEM(csr[0]), ClientRef: "ref"})
	if err != nil {
		d.t.Fatal(err)
	}
	return string(b)
}

// answers are the successes.
func (d *driver) answers() {
	d.key = newKey(d.t)
	one := d.body("unit-1", request(d.t, d.key, "unit-1"))
	var a client.Answer
	if err := json.Unmarshal(d.post("O-open", client.TypeJSON, one, 201), &a); err != nil {
		d.t.Fatal(err)
	}
	d.serial, d.id = a.Serial, a.CertificateID
	d.post("O-open", client.TypeJSON, one, 200)
	confirmation := d.confirmation(d.id)
	for range 2 {
		d.postTo(d.under("confirm"), client.TypeJSON, confirmation, 200)
	}
	d.second = d.body("unit-2")
	lines := []string{one, d.second, "junk", d.body("unit-3")}
	d.post("O-open", client.TypeNDJSON, strings.Join(lines, "\n"), 200)
	for _, path := range []string{"", "/chain", "/manifest"} {
		d.get(d.station, d.stations, "/v1/orders/O-open"+path, 200)
	}
	for _, accept := range []string{"", client.TypePEM, client.TypeDER, client.TypeJSON, "text/html, */*"} {
		d.get(d.station, d.stations, "/v1/certificates/"+a.Serial, 200, accept)
	}
	for _, path := range []string{"/livez", "/readyz", "/readyz?sign"} {
		d.get(d.station, d.stations, path, 200)
		d.get(http.DefaultClient, d.factory.metrics, path, 200)
	}
	d.get(http.DefaultClient, d.factory.metrics, "/metrics", 200)
	for _, ca := range []string{"root", "issuing", "plant"} {
		d.get(http.DefaultClient, d.public, "/ca/"+ca+".cer", 200)
	}
}

// under is a path below unit-1's certificate.
func (d *driver) under(what string) string {
	return "/v1/orders/O-open/certificates/" + d.serial + "/" + what
}

// confirmation asks for a challenge and has unit-1 sign it.
func (d *driver) confirmation(id string) string {
	d.t.Helper()
	var ch client.Challenge
	if err := json.Unmarshal(d.postTo(d.under("challenge"), "", "", 200), &ch); err != nil {
		d.t.Fatal(err)
	}
	digest := sha256.Sum256([]byte("certmill-confirm-v1\x00" + ch.Challenge + id))
	sig, err := d.key.Sign(rand.Reader, digest[:], crypto.SHA256)
	if err != nil {
		d.t.Fatal(err)
	}
	b, err := json.Marshal(client.Confirmation{Challenge: ch.Challenge, Signature: base64.StdEncoding.EncodeToString(sig)})
	if err != nil {
		d.t.Fatal(err)
	}
	return string(b)
}

// confirmRefusals are those of challenges and confirmations.
func (d *driver) confirmRefusals() {
	confirm, challenge := d.under("confirm"), d.under("challenge")
	good := d.confirmation("another certificate") // so the signature is wrong
	d.isProblem(d.postTo(confirm, client.TypeJSON, good, 400), client.CodeCSRSignature)
	for _, body := range []string{"{", `{"challenge":"x"}`, `{"challenge":"x","signature":"?"}`, `{"challenge":"x","signature":"AA=="}`, `{"challenge":"x","signature":"AA==","more":"x"}`,
		`{"challenge":"x","signature":null}`, strings.Replace(good, `"challenge":"A`, `"challenge":"B`, 1)} {
		d.isProblem(d.postTo(confirm, client.TypeJSON, body, 400), client.CodeBodyMalformed)
	}
	d.isProblem(d.postTo(confirm, "text/plain", good, 415), client.CodeContentType)
	d.isProblem(d.postTo(confirm, client.TypeJSON, strings.Repeat("a", client.MaxLine+1), 413), client.CodeTooLarge)
	for _, path := range []string{confirm, challenge} {
		d.isProblem(d.postTo(strings.Replace(path, "O-open", "O-none", 1), client.TypeJSON, good, 404), client.CodeOrderUnknown)
		d.isProblem(d.postTo(strings.Replace(path, "O-open", "O-full", 1), client.TypeJSON, good, 404), client.CodeNotFound)
		d.isProblem(d.postTo(strings.Replace(path, d.serial, "7f"+d.serial[2:], 1), client.TypeJSON, good, 404), client.CodeNotFound)
		d.isProblem(d.postTo(strings.Replace(path, d.serial, "xyz", 1), client.TypeJSON, good, 404), client.CodeNotFound)
		d.isProblem(d.postTo(strings.Replace(path, "O-open", "O-others", 1), client.TypeJSON, good, 403), client.CodeStationNotAllowed)
	}
}

// revoked asks for what a rekey has ended.
func (d *driver) revoked() {
	if _, err := d.admin.Rekey(d.t.Context(), issuer.RekeySpec{DeviceID: "unit-1", Reason: "test"}); err != nil {
		d.t.Fatal(err)
	}
	d.refused("O-open", d.body("unit-1", request(d.t, d.key, "unit-1")), client.CodeCertificateRevoked)
	d.isProblem(d.postTo(d.under("confirm"), client.TypeJSON, `{"challenge":"x","signature":"AA=="}`, 409), client.CodeCertificateRevoked)
	d.isProblem(d.postTo(d.under("challenge"), "", "", 409), client.CodeCertificateRevoked)
	d.get(d.station, d.stations, "/v1/orders/O-open/manifest", 200) // with a line that is denied
	d.key = newKey(d.t)
	var a client.Answer
	if err := json.Unmarshal(d.post("O-open", client.TypeJSON, d.body("unit-1", request(d.t, d.key, "unit-1")), 201), &a); err != nil {
		d.t.Fatal(err)
	}
	d.serial, d.id = a.Serial, a.CertificateID
}

// badClock asks under a clock that jumped.
func (d *driver) badClock() {
	d.clock.advance(48 * time.Hour)
	d.refused("O-open", d.body("clock-1"), client.CodeClockUntrusted)
	d.post("O-open", client.TypeJSON, d.second, 200)
	d.isProblem(d.get(d.station, d.stations, "/readyz?sign", 503), client.CodeClockUntrusted)
	d.get(d.station, d.stations, "/readyz", 200)
	if err := d.admin.AcceptClock(d.t.Context(), "set right"); err != nil {
		d.t.Fatal(err)
	}
	d.post("O-open", client.TypeJSON, d.body("clock-1"), 201)
}

// storeFails breaks the disk under a confirmation: the last thing that this factory does.
func (d *driver) storeFails(spare *http.Client) {
	d.station = spare
	confirmation := d.confirmation(d.id)
	d.disk.LoseNext()
	d.isProblem(d.postTo(d.under("confirm"), client.TypeJSON, confirmation, 503), client.CodeStoreReadOnly)
}

// refusals are those that a request earns by itself.
func (d *driver) refusals() {
	key := newKey(d.t)
	d.post("O-open", client.TypeJSON, d.body("unit-4", request(d.t, key, "unit-4")), 201)
	d.refused("O-open", d.body("unit-5", request(d.t, key, "unit-5")), client.CodeKeyInUse)
	d.refused("O-open", d.body("unit-4"), client.CodeDeviceHasCertificate)
	d.refused("O-open", d.body("unit-6", request(d.t, newKey(d.t), "unit-7")), client.CodeDeviceMismatch)
	d.refused("O-open", d.body("unit 8"), client.CodeProfileRefused)
	d.refused("O-open", "{", client.CodeBodyMalformed)
	d.refused("O-open", d.body("unit-9", []byte{1}), client.CodeCSRMalformed)
	wrong := request(d.t, newKey(d.t), "unit-9")
	wrong[len(wrong)-1] ^= 1
	d.refused("O-open", d.body("unit-9", wrong), client.CodeCSRSignature)
	d.refused("O-open", d.body("unit-9", keyCases()[0].content), client.CodeKeyWeak)
	d.refused("O-open", strings.Repeat("a", client.MaxLine+1), client.CodeTooLarge)
	d.isProblem(d.post("O-open", "text/plain", one, 415), client.CodeContentType)
	d.isProblem(d.post("O-none", client.TypeNDJSON, one, 404), client.CodeOrderUnknown)
	d.refused("O-none", d.body("unit-9"), client.CodeOrderUnknown)
	for _, path := range []string{"", "/chain", "/manifest"} {
		d.isProblem(d.get(d.station, d.stations, "/v1/orders/O-none"+path, 404), client.CodeOrderUnknown)
	}
	for _, serial := range []string{"7f00000000000000000000000000000000000000", "xyz"} {
		d.isProblem(d.get(d.station, d.stations, "/v1/certificates/"+serial, 404), client.CodeNotFound)
	}
	for _, file := range []string{"nobody.cer", "root.pem", "root"} {
		d.isProblem(d.get(http.DefaultClient, d.public, "/ca/"+file, 404), client.CodeNotFound)
	}
}

const one = `{"csr":"x"}`

// orderRefusals are those that an order's state brings about.
func (d *driver) orderRefusals() {
	d.order(d.t, issuer.OrderSpec{ID: "O-full", Quantity: 1})
	d.post("O-full", client.TypeJSON, d.body("full-1"), 201)
	d.refused("O-full", d.body("full-2"), client.CodeOrderFull)

	d.order(d.t, issuer.OrderSpec{ID: "O-listed", Devices: []string{"listed-1"}})
	d.refused("O-listed", d.body("listed-2"), client.CodeDeviceNotInOrder)

	d.order(d.t, issuer.OrderSpec{ID: "O-frozen"})
	if err := d.admin.Freeze(d.t.Context(), issuer.Target{Kind: "order", Name: "O-frozen"}, "test"); err != nil {
		d.t.Fatal(err)
	}
	d.refused("O-frozen", d.body("frozen-1"), client.CodeOrderFrozen)

	d.order(d.t, issuer.OrderSpec{ID: "O-short", Until: d.clock.now().Add(time.Hour)})
	d.clock.advance(2 * time.Hour)
	d.refused("O-short", d.body("short-1"), client.CodeOrderClosed)

	d.order(d.t, issuer.OrderSpec{ID: "O-others", Stations: "line-7*"})
	d.refused("O-others", d.body("others-1"), client.CodeStationNotAllowed)
	d.isProblem(d.post("O-others", client.TypeNDJSON, one, 403), client.CodeStationNotAllowed)
	for _, path := range []string{"", "/chain", "/manifest"} {
		d.isProblem(d.get(d.station, d.stations, "/v1/orders/O-others"+path, 403), client.CodeStationNotAllowed)
	}
}

// everywhere lists each path with the client and door that reach it.
func (d *driver) everywhere() (out []struct {
	client     *http.Client
	base, path string
}) {
	for _, p := range []struct {
		client *http.Client
		base   string
		paths  []string
	}{
		{d.station, d.stations, []string{"/v1/orders/O-open/certificates", "/v1/orders/O-open", "/v1/orders/O-open/chain",
			"/v1/orders/O-open/manifest", "/v1/certificates/" + d.serial, "/livez", "/readyz", d.under("challenge"), d.under("confirm")}},
		{http.DefaultClient, d.factory.metrics, []string{"/livez", "/readyz", "/metrics"}},
		{http.DefaultClient, d.public, []string{"/ca/root.cer"}},
	} {
		for _, path := range p.paths {
			out = append(out, struct {
				client     *http.Client
				base, path string
			}{p.client, p.base, path})
		}
	}
	return out
}

// otherMethods tries what no path takes.
func (d *driver) otherMethods() {
	for _, e := range d.everywhere() {
		for _, method := range []string{"DELETE", "PUT", "PATCH", "OPTIONS", "TRACE", "BREW"} {
			req, err := http.NewRequestWithContext(d.t.Context(), method, e.base+e.path, nil)
			if err != nil {
				d.t.Fatal(err)
			}
			res, body := d.ask(d.t, e.client, req)
			d.isProblem(body, client.CodeMethod)
			if allow := res.Header.Get("Allow"); allow != "GET" && allow != "POST" {
				d.t.Errorf("%s %s: Allow %q", method, e.path, allow)
			}
		}
	}
}

// faults are put in behind the server.
func (d *driver) faults() {
	for _, f := range []struct {
		err  error
		code string
	}{{errTokenAway, client.CodeHSMUnavailable}, {issuer.ErrStopped, client.CodeStoreReadOnly}, {errors.New("a bug"), client.CodeInternal}} {
		d.signer.fail(f.err)
		d.refused("O-open", d.body("fault-"+f.code), f.code)
		if f.code == client.CodeHSMUnavailable {
			d.isProblem(d.get(d.station, d.stations, "/readyz?sign", 503), f.code)
			d.get(d.station, d.stations, "/readyz", 200)
		}
		d.signer.fail(nil)
	}
	stopped := errors.New("the ledger cannot be written")
	d.stopped.Store(&stopped)
	d.isProblem(d.get(http.DefaultClient, d.factory.metrics, "/readyz", 503), client.CodeStoreReadOnly)
	d.stopped.Store(nil)
}

// tooMany asks for everything while the station's only place is taken.
func (d *driver) tooMany() {
	asked, release := d.signer.hold(d.t)
	held, first := d.body("held-1"), make(chan struct{})
	go func() {
		defer close(first)
		d.post("O-open", client.TypeJSON, held, 201)
	}()
	<-asked
	for _, e := range d.everywhere()[:9] {
		method := http.MethodGet
		if strings.Contains(e.path, "/certificates") && strings.Contains(e.path, "/orders/") {
			method = http.MethodPost
		}
		req, err := http.NewRequestWithContext(d.t.Context(), method, e.base+e.path, strings.NewReader(one))
		if err != nil {
			d.t.Fatal(err)
		}
		d.isProblem(d.want(e.client, req, 429), client.CodeSlowDown)
	}
	release()
	<-first
}

// notAllowed asks for everything as a station that was disabled.
func (d *driver) notAllowed() {
	if err := d.admin.DisableStation(d.t.Context(), "line-1", "test"); err != nil {
		d.t.Fatal(err)
	}
	for _, e := range d.everywhere()[:9] {
		d.isProblem(d.get(e.client, e.base, e.path, 403), client.CodeStationNotAllowed)
	}
}

// eventually waits for something that other goroutines bring about.
func eventually(t *testing.T, done func() bool) {
	t.Helper()
	tick := time.NewTicker(time.Millisecond)
	defer tick.Stop()
	deadline := time.After(20 * time.Second)
	for !done() {
		select {
		case <-tick.C:
		case <-deadline:
			t.Fatal("it did not happen within 20 s")
		}
	}
}

// TestNothingElseIsServed: what is not built is not there, and what belongs to one door is not behind another.
func TestNothingElseIsServed(t *testing.T) {
	f := newFactory(t, nil)
	d := loadDocument(t)
	station := f.client(t, f.addStation(t, "line-1"))
	for _, tt := range []struct {
		client *http.Client
		base   string
		paths  []string
	}{
		{station, f.stations, []string{"/", "/metrics", "/ca/root.cer", "/crl/issuing.crl", "/ocsp/issuing", "/status", "/orders", "/v1/orders", "/v1//orders/O-1",
			"/v1/orders/O-1/", "/v1/orders/O-1/../O-2",
			"/v1/certificates/0101/receipt", "/openapi.yaml", "/debug/pprof/"}},
		{http.DefaultClient, f.public, []string{"/", "/livez", "/readyz", "/metrics", "/v1/orders/O-1", "/crl/issuing.crl", "/ocsp/issuing", "/ca/", "/ca/a/b.cer", "/status"}},
		{http.DefaultClient, f.metrics, []string{"/", "/ca/root.cer", "/v1/orders/O-1", "/status"}},
	} {
		for _, path := range tt.paths {
			req := httptest.NewRequest(http.MethodGet, tt.base+path, nil)
			req.RequestURI = ""
			res, err := tt.client.Do(req)
			if err != nil {
				t.Fatal(err)
			}
			var p client.Problem
			if err := json.NewDecoder(res.Body).Decode(&p); err != nil || res.StatusCode != 404 || p.Code != client.CodeNotFound {
				t.Errorf("%s: got %d %+v, %v, want not-found", tt.base+path, res.StatusCode, p, err)
			}
			res.Body.Close()
			b, err := json.Marshal(p)
			if err != nil {
				t.Fatal(err)
			}
			if v, err := jsonschema.UnmarshalJSON(bytes.NewReader(b)); err != nil || d.validate("/components/schemas/Problem", v) != nil {
				t.Errorf("%s: not the document's problem: %s", path, b)
			}
		}
	}
	for path := range d.root["paths"].(map[string]any) {
		if slices.ContainsFunc([]string{"receipt", "crl", "ocsp"}, func(s string) bool { return strings.Contains(path, s) }) {
			t.Errorf("%s is not built and stands in the document", path)
		}
	}
}
