package registrar

import (
	"bytes"
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"log/slog"
	"math/big"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/certmill/certmill/registrar/awsapi"
	"github.com/certmill/certmill/registrar/awsim"
)

// testCA is a CA in memory that proves itself, as serve does with a key in its token.
type testCA struct {
	cert   *x509.Certificate
	key    *ecdsa.PrivateKey
	proofs atomic.Int64
}

func newTestCA(t *testing.T, change ...func(*x509.Certificate)) *testCA {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "Test Issuing G1"},
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(1000 * time.Hour),
		IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageCertSign | x509.KeyUsageCRLSign,
	}
	for _, c := range change {
		c(template)
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, &key.PublicKey, key)
	if err != nil {
		t.Fatal(err)
	}
	cert, err := x509.ParseCertificate(der)
	if err != nil {
		t.Fatal(err)
	}
	return &testCA{cert: cert, key: key}
}

// sign makes a leaf.
func (ca *testCA) sign(name string, public any) ([]byte, error) {
	serial, err := rand.Int(rand.Reader, big.NewInt(1<<62))
	if err != nil {
		return nil, err
	}
	return x509.CreateCertificate(rand.Reader, &x509.Certificate{
		SerialNumber: serial, Subject: pkix.Name{CommonName: name},
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(100 * time.Hour),
	}, ca.cert, public, ca.key)
}

func (ca *testCA) Prove(_ context.Context, _, _, _, code string) ([]byte, error) {
	ca.proofs.Add(1)
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader) // a fresh one (CA-07)
	if err != nil {
		return nil, err
	}
	der, err := ca.sign(code, &key.PublicKey)
	return pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der}), err
}

func startSim(t *testing.T) *awsim.Sim {
	t.Helper()
	sim, err := awsim.Start(context.Background(), awsim.Config{Dir: t.TempDir(), Log: slog.New(slog.DiscardHandler)})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := sim.Close(); err != nil {
			t.Error(err)
		}
	})
	return sim
}

// writeFleet makes a folder with testdata/quickstart.yaml for an endpoint and loads it; change edits the file's text first.
func writeFleet(t *testing.T, endpoint string, change ...func(string) string) *Fleet {
	t.Helper()
	dir := t.TempDir()
	text := readText(t, "testdata/quickstart.yaml")
	for _, c := range change {
		text = c(text)
	}
	for name, content := range map[string]string{
		"fleet.yaml": strings.ReplaceAll(text, "ENDPOINT", endpoint), "sensor.json": readText(t, "testdata/sensor.json"), "external-id": "certmill-demo\n",
	} {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(content), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	f, err := LoadFleet(filepath.Join(dir, "fleet.yaml"))
	if err != nil {
		t.Fatal(err)
	}
	return f
}

func readText(t *testing.T, path string) string {
	t.Helper()
	b, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return string(b)
}

func newTestRegistrar(t *testing.T, f *Fleet, ca *testCA, change ...func(*Config)) *Registrar {
	t.Helper()
	cfg := Config{
		Fleet: f, CAs: map[string]*x509.Certificate{"issuing": ca.cert}, Prover: ca, Keys: &awsapi.Keys{ID: "111111111111", Secret: "secret"},
	}
	for _, c := range change {
		c(&cfg)
	}
	r, err := New(cfg)
	if err != nil {
		t.Fatal(err)
	}
	return r
}

func mustPlan(t *testing.T, r *Registrar) *Plan {
	t.Helper()
	p, err := r.Plan(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	return p
}

// mustApply plans, applies, and wants everything done.
func mustApply(t *testing.T, r *Registrar) *Report {
	t.Helper()
	p := mustPlan(t, r)
	if len(p.BrokenRules)+len(p.Unreachable) > 0 {
		t.Fatalf("plan:\n%s", planText(t, p))
	}
	report, err := r.Apply(t.Context(), p)
	if err != nil {
		t.Fatal(err)
	}
	if !report.Complete() {
		t.Fatalf("apply:\n%s", reportText(t, report))
	}
	return report
}

func planText(t *testing.T, p *Plan) string {
	t.Helper()
	var b bytes.Buffer
	if err := p.WriteText(&b); err != nil {
		t.Fatal(err)
	}
	return b.String()
}

func reportText(t *testing.T, r *Report) string {
	t.Helper()
	var b bytes.Buffer
	if err := r.WriteText(&b); err != nil {
		t.Fatal(err)
	}
	return b.String()
}
