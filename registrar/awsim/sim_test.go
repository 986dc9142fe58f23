package awsim

import (
	"bytes"
	"context"
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/json"
	"encoding/pem"
	"fmt"
	"io"
	"log/slog"
	"math/big"
	"net/http"
	"strings"
	"testing"
	"time"
)

const (
	first  = "111111111111"
	second = "222222222222"
	region = "eu-central-1"
)

// start runs a simulator in a temporary folder, closed when the test ends.
func start(t *testing.T, change ...func(*Config)) *Sim {
	t.Helper()
	cfg := Config{Dir: t.TempDir(), Log: slog.New(slog.NewTextHandler(testWriter{t}, &slog.HandlerOptions{Level: slog.LevelInfo}))}
	for _, c := range change {
		c(&cfg)
	}
	return startWith(t, cfg)
}

func startWith(t *testing.T, cfg Config) *Sim {
	t.Helper()
	s, err := Start(context.Background(), cfg)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := s.Close(); err != nil {
			t.Error(err)
		}
	})
	return s
}

type testWriter struct{ t *testing.T }

func (w testWriter) Write(p []byte) (int, error) {
	w.t.Logf("%s", bytes.TrimSpace(p))
	return len(p), nil
}

// account speaks to one service of one account in one region.
type account struct {
	t       *testing.T
	sim     *Sim
	id      string
	region  string
	service string
}

func (s *Sim) as(t *testing.T, id string) *account {
	return &account{t: t, sim: s, id: id, region: region, service: "iot"}
}

func (a account) in(region string) *account     { a.region = region; return &a }
func (a account) speaking(name string) *account { a.service = name; return &a }

// answer is what came back.
type answer struct {
	status int
	header http.Header
	body   []byte
}

// do sends a request that is signed by nobody in particular: the secrets of long-term keys are not checked.
func (a *account) do(method, path string, body any, headers ...string) answer {
	a.t.Helper()
	data, isText := body.(string)
	if !isText && body != nil {
		b, err := json.Marshal(body)
		if err != nil {
			a.t.Fatal(err)
		}
		data = string(b)
	}
	r, err := http.NewRequestWithContext(a.t.Context(), method, a.sim.Endpoint()+path, strings.NewReader(data))
	if err != nil {
		a.t.Fatal(err)
	}
	now := time.Now().UTC()
	r.Header.Set("X-Amz-Date", now.Format("20060102T150405Z"))
	r.Header.Set("Authorization", fmt.Sprintf("AWS4-HMAC-SHA256 Credential=%s/%s/%s/%s/aws4_request, SignedHeaders=host;x-amz-date, Signature=%s",
		a.id, now.Format("20060102"), a.region, a.service, strings.Repeat("0", 64)))
	for i := 0; i < len(headers); i += 2 {
		r.Header.Set(headers[i], headers[i+1])
	}
	return send(a.t, r)
}

func send(t *testing.T, r *http.Request) answer {
	t.Helper()
	res, err := http.DefaultClient.Do(r)
	if err != nil {
		t.Fatal(err)
	}
	defer res.Body.Close()
	b, err := io.ReadAll(res.Body)
	if err != nil {
		t.Fatal(err)
	}
	return answer{res.StatusCode, res.Header, b}
}

// ok wants 200 and gives the body.
func (a *account) ok(method, path string, body any, headers ...string) map[string]any {
	a.t.Helper()
	res := a.do(method, path, body, headers...)
	if res.status != http.StatusOK {
		a.t.Fatalf("%s %s: %d %s", method, path, res.status, res.body)
	}
	out := map[string]any{}
	if len(res.body) > 0 {
		if err := json.Unmarshal(res.body, &out); err != nil {
			a.t.Fatalf("%s %s: %v in %s", method, path, err, res.body)
		}
	}
	return out
}

// want checks status and error name; "" wants 200.
func (a answer) want(t *testing.T, status int, code string) {
	t.Helper()
	if a.status != status || a.header.Get("X-Amzn-Errortype") != code {
		t.Errorf("got %d %s %s, want %d %s", a.status, a.header.Get("X-Amzn-Errortype"), a.body, status, code)
	}
}

// authority is a CA of the tests.
type authority struct {
	cert *x509.Certificate
	key  crypto.Signer
	pem  string
}

// change alters a template before it is signed.
type change func(*x509.Certificate)

var serial int64 // of the certificates of all tests; they run one after another

func newKey(t testing.TB) *ecdsa.PrivateKey {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	return key
}

func newAuthority(t testing.TB, name string, changes ...change) *authority {
	t.Helper()
	key := newKey(t)
	tmpl := template509(name)
	tmpl.IsCA, tmpl.BasicConstraintsValid = true, true
	tmpl.KeyUsage = x509.KeyUsageCertSign | x509.KeyUsageCRLSign
	for _, c := range changes {
		c(tmpl)
	}
	return sign(t, tmpl, tmpl, key, key)
}

func template509(name string) *x509.Certificate {
	serial++
	return &x509.Certificate{
		SerialNumber: big.NewInt(serial), Subject: pkix.Name{CommonName: name},
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(24 * time.Hour),
	}
}

func sign(t testing.TB, tmpl, parent *x509.Certificate, key, parentKey crypto.Signer) *authority {
	t.Helper()
	der, err := x509.CreateCertificate(rand.Reader, tmpl, parent, key.Public(), parentKey)
	if err != nil {
		t.Fatal(err)
	}
	cert, err := x509.ParseCertificate(der)
	if err != nil {
		t.Fatal(err)
	}
	return &authority{cert, key, string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der}))}
}

// issue signs a leaf with a fresh key: a device, or a proof.
func (a *authority) issue(t testing.TB, name string, changes ...change) *authority {
	t.Helper()
	tmpl := template509(name)
	for _, c := range changes {
		c(tmpl)
	}
	return sign(t, tmpl, a.cert, newKey(t), a.key)
}

func (a *authority) id() string { return certificateID(a.cert) }
