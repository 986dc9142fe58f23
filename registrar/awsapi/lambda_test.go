package awsapi

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/sha256"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/hex"
	"encoding/pem"
	"errors"
	"fmt"
	"math/big"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/iot"
	"github.com/aws/aws-sdk-go-v2/service/iot/types"

	"github.com/certmill/certmill/registrar/awsim"
	"github.com/certmill/certmill/registrar/jitr"
)

// newLambda opens the adapters as the Lambda function does, against the simulator.
func newLambda(t *testing.T) (*awsim.Sim, *Lambda) {
	t.Helper()
	sim, err := awsim.Start(context.Background(), awsim.Config{Dir: t.TempDir()})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := sim.Close(); err != nil {
			t.Error(err)
		}
	})
	for k, v := range map[string]string{
		"AWS_ENDPOINT_URL": sim.Endpoint(), "AWS_REGION": "eu-central-1", "AWS_ACCESS_KEY_ID": "111111111111", "AWS_SECRET_ACCESS_KEY": "x",
		"AWS_CONFIG_FILE": "/nonexistent", "AWS_SHARED_CREDENTIALS_FILE": "/nonexistent", "AWS_PROFILE": "",
	} {
		t.Setenv(k, v)
	}
	l, err := NewLambda(context.Background(), "allow")
	if err != nil {
		t.Fatal(err)
	}
	return sim, l
}

func TestLambdaRegistry(t *testing.T) {
	_, registry := newLambda(t)
	ctx := t.Context()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	tmpl := &x509.Certificate{SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "unit"}, NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour)}
	der, err := x509.CreateCertificate(rand.Reader, tmpl, tmpl, key.Public(), key)
	if err != nil {
		t.Fatal(err)
	}
	text := string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der}))
	sum := sha256.Sum256(der)
	id := hex.EncodeToString(sum[:])

	if _, err := registry.DescribeCertificate(ctx, id); !errors.Is(err, jitr.ErrNotFound) {
		t.Errorf("of a certificate that is not there: %v", err)
	}
	if _, err := registry.iot.RegisterCertificateWithoutCA(ctx, &iot.RegisterCertificateWithoutCAInput{CertificatePem: &text, Status: types.CertificateStatusInactive}); err != nil {
		t.Fatal(err)
	}
	if _, err := registry.iot.CreatePolicy(ctx, &iot.CreatePolicyInput{PolicyName: aws.String("device"), PolicyDocument: aws.String(`{"Statement":{"Effect":"Allow","Action":"iot:*","Resource":"*"}}`)}); err != nil {
		t.Fatal(err)
	}
	cert, err := registry.DescribeCertificate(ctx, id)
	if err != nil || cert.Status != "INACTIVE" || time.Since(cert.Created) > time.Minute {
		t.Fatalf("described as %+v, %v", cert, err)
	}
	for range 2 { // each call is safe to repeat
		for i, err := range []error{
			registry.CreateThing(ctx, "unit", map[string]string{"product": "demo"}),
			registry.AttachThingPrincipal(ctx, "unit", cert.ARN),
			registry.AttachPolicy(ctx, "device", cert.ARN),
			registry.UpdateCertificate(ctx, id, "ACTIVE"),
		} {
			if err != nil {
				t.Errorf("call %d: %v", i+1, err)
			}
		}
	}
	if err := registry.AttachPolicy(ctx, "missing", cert.ARN); err == nil || errors.Is(err, jitr.ErrNotFound) {
		t.Errorf("a policy that is not there: %v", err)
	}
	if err := registry.CreateThing(ctx, "unit", map[string]string{"product": "other"}); !errors.Is(err, jitr.ErrConflict) {
		t.Errorf("a thing of another product: %v", err)
	}
	if err := registry.UpdateCertificate(ctx, id, "REVOKED"); err != nil {
		t.Error(err)
	}
	if err := registry.UpdateCertificate(ctx, id, "ACTIVE"); !errors.Is(err, jitr.ErrState) {
		t.Errorf("a revoked certificate: %v", err)
	}
}

// rule R-13
func TestLambdaTable(t *testing.T) {
	sim, list := newLambda(t)
	ctx := t.Context()
	id := strings.Repeat("ab", 32)
	if _, err := list.Look(ctx, id); !errors.Is(err, jitr.ErrNotFound) {
		t.Errorf("of a row that is not there: %v", err)
	}
	if err := list.MarkUsed(ctx, id, "unit"); !errors.Is(err, jitr.ErrConflict) {
		t.Errorf("mark of a row that is not there: %v", err)
	}
	if _, err := list.Look(ctx, id); !errors.Is(err, jitr.ErrNotFound) {
		t.Errorf("marking made a row: %v", err)
	}
	post(t, sim, fmt.Sprintf(`{"order":"O-1","device_id":"unit","product":"demo","serial":"0a","certificate_id":"%s","ca":"issuing","not_after":"2050-01-02T03:04:05Z"}`, id))
	want := jitr.Row{CertificateID: id, Order: "O-1", DeviceID: "unit", Product: "demo", Serial: "0a", CA: "issuing", NotAfter: time.Date(2050, 1, 2, 3, 4, 5, 0, time.UTC)}
	if got, err := list.Look(ctx, id); err != nil || got != want {
		t.Errorf("got %+v, %v; want %+v", got, err, want)
	}
	for range 2 {
		if err := list.MarkUsed(ctx, id, "unit"); err != nil {
			t.Error(err)
		}
	}
	if err := list.MarkUsed(ctx, id, "other"); !errors.Is(err, jitr.ErrConflict) {
		t.Errorf("another thing: %v", err)
	}
	post(t, sim, fmt.Sprintf(`{"certificate_id":"%s","denied":true}`, strings.Repeat("cd", 32)))
	if got, err := list.Look(ctx, strings.Repeat("cd", 32)); err != nil || !got.Denied {
		t.Errorf("denied row is %+v, %v", got, err)
	}
}

func post(t *testing.T, sim *awsim.Sim, line string) {
	t.Helper()
	res, err := http.Post(sim.Endpoint()+"/_awsim/allow-list/111111111111/eu-central-1/allow", "application/x-ndjson", strings.NewReader(line))
	if err != nil {
		t.Fatal(err)
	}
	defer res.Body.Close()
	if res.StatusCode != http.StatusOK {
		t.Fatal(res.Status)
	}
}
