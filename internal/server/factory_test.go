package server

import (
	"bytes"
	"context"
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/sha256"
	"crypto/sha512"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"errors"
	"log/slog"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/certmill/certmill/ca"
	"github.com/certmill/certmill/internal/ledger"
	"github.com/certmill/certmill/internal/ledger/ledgertest"
	"github.com/certmill/certmill/issuer"
	"github.com/certmill/certmill/issuer/client"
)

// factory is a whole service on loopback: ledger, three CAs with keys in memory, issuer, server and its four doors.
type factory struct {
	ledger  *ledger.Ledger
	disk    *ledgertest.Disk
	issuer  *issuer.Issuer
	server  *Server
	signer  *softSigner // of the issuing CA
	clock   *clock
	log     *syncBuffer
	plant   *x509.Certificate
	issuing *ca.Authority
	admin   *AdminClient

	stations, public, metrics string // addresses
	socket                    string
}

// clock is a time that tests move.
type clock struct{ ahead atomic.Int64 }

func (c *clock) now() time.Time          { return time.Now().Add(time.Duration(c.ahead.Load())) }
func (c *clock) advance(d time.Duration) { c.ahead.Add(int64(d)) }

// syncBuffer is a log that may be read while it is written.
type syncBuffer struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (s *syncBuffer) Write(p []byte) (int, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.b.Write(p)
}

func (s *syncBuffer) String() string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.b.String()
}

// softSigner is a CA key in memory. A fault is what it answers instead; a barrier is waited at first.
type softSigner struct {
	key     *ecdsa.PrivateKey
	fault   atomic.Pointer[error]
	barrier atomic.Pointer[barrier]
}

// fail makes every signature end with err; nil heals it.
func (s *softSigner) fail(err error) {
	if err == nil {
		s.fault.Store(nil)
		return
	}
	s.fault.Store(&err)
}

// barrier is where signatures are held up.
type barrier struct {
	reached chan struct{} // closed when the first one is asked for
	once    sync.Once
	opened  chan struct{} // closed to let all go on
}

// hold makes every signature wait until release is called. The first one that is asked for closes asked.
func (s *softSigner) hold(t *testing.T) (asked <-chan struct{}, release func()) {
	b := &barrier{reached: make(chan struct{}), opened: make(chan struct{})}
	s.barrier.Store(b)
	release = sync.OnceFunc(func() {
		s.barrier.Store(nil)
		close(b.opened)
	})
	t.Cleanup(release)
	return b.reached, release
}

func (s *softSigner) Sign(ctx context.Context, _ string, tbs [][]byte) ([][]byte, []error) {
	sigs, errs := make([][]byte, len(tbs)), make([]error, len(tbs))
	if b := s.barrier.Load(); b != nil {
		b.once.Do(func() { close(b.reached) })
		select {
		case <-b.opened:
		case <-ctx.Done():
		}
	}
	for i := range tbs {
		if err := s.fault.Load(); err != nil {
			errs[i] = *err
			continue
		}
		sigs[i], errs[i] = s.sign(tbs[i])
	}
	return sigs, errs
}

func (s *softSigner) sign(tbs []byte) ([]byte, error) {
	if s.key.Curve == elliptic.P384() {
		h := sha512.Sum384(tbs)
		return s.key.Sign(rand.Reader, h[:], crypto.SHA384)
	}
	h := sha256.Sum256(tbs)
	return s.key.Sign(rand.Reader, h[:], crypto.SHA256)
}

const (
	deviceProfile = `
version: 1
name: device
kind: device
subject: {common_name: "{device_id}", organization: Demo}
validity: {duration: 20y}
`
	stationProfile = `
version: 1
name: station
kind: station
subject: {common_name: "{device_id}"}
validity: {duration: 1y}
`
	serviceProfile = `
version: 1
name: service
kind: service
subject: {common_name: certmill}
validity: {duration: 90d}
`
)

// newFactory brings a factory up; change may alter the server's configuration.
func newFactory(t *testing.T, change func(*Config)) *factory {
	t.Helper()
	f := &factory{clock: new(clock), log: new(syncBuffer)}
	f.openLedger(t)
	f.openIssuer(t)
	cfg := Config{
		Issuer: f.issuer, Ledger: f.ledger, Profiles: []*ca.Profile{profile(t, deviceProfile)}, Node: "line-a", Version: "test",
		Errors: []ErrorCode{{errTokenAway, client.CodeHSMUnavailable}},
		Tokens: map[string]Token{"main": {Ready: f.signer.ready, Stats: func() TokenStats { return TokenStats{Signers: 2} }}},
		Now:    f.clock.now,
		Log:    slog.New(slog.NewTextHandler(f.log, nil)),
	}
	if change != nil {
		change(&cfg)
	}
	var err error
	if f.server, err = New(cfg); err != nil {
		t.Fatal(err)
	}
	f.listen(t)
	f.admin = NewAdminClient(f.socket)
	t.Cleanup(f.admin.Close)
	return f
}

var errTokenAway = errors.New("token away")

func (s *softSigner) ready() error {
	if err := s.fault.Load(); err != nil {
		return *err
	}
	return nil
}

func profile(t *testing.T, yaml string) *ca.Profile {
	t.Helper()
	p, err := ca.ParseProfile([]byte(yaml))
	if err != nil {
		t.Fatal(err)
	}
	return p
}

func (f *factory) openLedger(t *testing.T) {
	t.Helper()
	cfg := ledger.Config{Path: filepath.Join(t.TempDir(), "ledger.db"), Now: f.clock.now}
	if err := ledger.Create(cfg, "test"); err != nil {
		t.Fatal(err)
	}
	f.ledger, f.disk = ledgertest.OpenFaulty(t, cfg)
}

// openIssuer makes the three CAs, and an issuer that runs until the test ends.
func (f *factory) openIssuer(t *testing.T) {
	t.Helper()
	root := f.newCA(t, "root", elliptic.P384(), nil)
	issuing := f.newCA(t, "issuing", elliptic.P256(), root)
	plant := f.newCA(t, "plant", elliptic.P256(), nil)
	f.issuing, f.signer, f.plant = issuing.Authority, issuing.signer, plant.Certificate()
	var err error
	f.issuer, err = issuer.New(issuer.Config{
		Ledger:      f.ledger,
		Profiles:    []*ca.Profile{profile(t, deviceProfile), profile(t, stationProfile), profile(t, serviceProfile)},
		Authorities: []*ca.Authority{f.issuing, plant.Authority},
		Now:         f.clock.now,
	})
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan error, 1)
	go func() { ended <- f.issuer.Run(ctx) }()
	t.Cleanup(func() {
		cancel()
		if err := <-ended; err != nil && !errors.Is(err, context.Canceled) && !errors.Is(err, ledgertest.ErrDisk) {
			t.Errorf("issuer ended: %v", err)
		}
	})
}

// testCA is an authority with its key.
type testCA struct {
	*ca.Authority
	signer *softSigner
}

// newCA does what a ceremony does.
func (f *factory) newCA(t *testing.T, role string, curve elliptic.Curve, above *testCA) *testCA {
	t.Helper()
	key, err := ecdsa.GenerateKey(curve, rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	own := &softSigner{key: key}
	by := own
	now := f.clock.now().UTC().Truncate(time.Second)
	end := now.AddDate(35, 0, 0)
	var aboveCert *x509.Certificate
	if above != nil {
		aboveCert, by = above.Certificate(), above.signer
		end = aboveCert.NotAfter // not now's: a second may have begun since
	}
	cfg := ca.HierarchyConfig{Name: role, Role: role, CommonName: "Test " + role, Organization: "Demo", Generation: 1,
		NotAfter: end, IssueUntil: now.AddDate(3, 0, 0)}
	serial := ca.NewSerial(0x7fff, 0, f.ledger.Cipher(), uint64(len(role)), [8]byte{1})
	p, err := ca.PrepareCA(cfg, key.Public(), aboveCert, serial, now)
	if err != nil {
		t.Fatal(err)
	}
	sig, err := by.sign(p.TBS())
	if err != nil {
		t.Fatal(err)
	}
	der, err := ca.Assemble(p.TBS(), sig)
	if err != nil {
		t.Fatal(err)
	}
	return &testCA{f.adopt(t, cfg, der, own), own}
}

func (f *factory) adopt(t *testing.T, cfg ca.HierarchyConfig, der []byte, s *softSigner) *ca.Authority {
	t.Helper()
	cert, err := x509.ParseCertificate(der)
	if err != nil {
		t.Fatal(err)
	}
	state := "issuing"
	if cfg.Role == "root" {
		state = "offline"
	}
	r, err := issuer.AdoptCA(f.ledger, issuer.CARecord{Name: cfg.Name, Role: cfg.Role, Token: "main", Label: cfg.Name, Certificate: der,
		Generation: cfg.Generation, State: state, NotAfter: cert.NotAfter, IssueUntil: cfg.IssueUntil, By: "test"})
	if err != nil {
		t.Fatal(err)
	}
	a, err := ca.NewAuthority(ca.AuthorityConfig{Name: cfg.Name, Certificate: cert, Prefix: r.Prefix, IssueUntil: cfg.IssueUntil, Signer: s})
	if err != nil {
		t.Fatal(err)
	}
	return a
}

// listen opens the four doors.
func (f *factory) listen(t *testing.T) {
	t.Helper()
	own := f.serviceCertificate(t)
	conf, err := StationTLS(TLSConfig{Plant: f.plant, Now: f.clock.now, Certificate: func() (*tls.Certificate, error) { return own, nil }})
	if err != nil {
		t.Fatal(err)
	}
	f.stations = "https://" + f.serve(t, f.server.Stations(), func(l net.Listener) net.Listener { return tls.NewListener(l, conf) })
	f.public = "http://" + f.serve(t, f.server.Public(), nil)
	f.metrics = "http://" + f.serve(t, f.server.Metrics(), nil)
	dir, err := os.MkdirTemp("", "cm") // short: a socket's path has about 100 characters
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	f.socket = filepath.Join(dir, "admin.sock")
	l, err := ListenAdmin(f.socket)
	if err != nil {
		t.Fatal(err)
	}
	f.run(t, l, f.server.Admin())
}

func (f *factory) serve(t *testing.T, h http.Handler, wrap func(net.Listener) net.Listener) (address string) {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	address = l.Addr().String()
	if wrap != nil {
		l = wrap(l)
	}
	f.run(t, l, h)
	return address
}

func (f *factory) run(t *testing.T, l net.Listener, h http.Handler) {
	t.Helper()
	hs := f.server.HTTPServer(h)
	ended := make(chan error, 1)
	go func() { ended <- hs.Serve(l) }()
	t.Cleanup(func() {
		hs.Close()
		if err := <-ended; !errors.Is(err, http.ErrServerClosed) {
			t.Error(err)
		}
	})
}

func newKey(t *testing.T) *ecdsa.PrivateKey {
	t.Helper()
	k, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	return k
}

// request makes a CSR in DER.
func request(t *testing.T, key crypto.Signer, commonName string) []byte {
	t.Helper()
	der, err := x509.CreateCertificateRequest(rand.Reader, &x509.CertificateRequest{Subject: pkix.Name{CommonName: commonName}}, key)
	if err != nil {
		t.Fatal(err)
	}
	return der
}

func (f *factory) serviceCertificate(t *testing.T) *tls.Certificate {
	t.Helper()
	key := newKey(t)
	der, err := f.issuer.ServiceCertificate(t.Context(), request(t, key, "certmill"), []string{"localhost", "127.0.0.1"}, "test")
	if err != nil {
		t.Fatal(err)
	}
	return &tls.Certificate{Certificate: [][]byte{der}, PrivateKey: key}
}

// addStation adds a station over the admin socket and returns what it shows.
func (f *factory) addStation(t *testing.T, name string) tls.Certificate {
	t.Helper()
	key := newKey(t)
	added, err := f.admin.AddStation(t.Context(), name, request(t, key, name))
	if err != nil {
		t.Fatal(err)
	}
	return tls.Certificate{Certificate: [][]byte{added.Certificate}, PrivateKey: key}
}

// client speaks to the stations' door with a certificate, or none.
func (f *factory) client(t *testing.T, own ...tls.Certificate) *http.Client {
	t.Helper()
	pool := x509.NewCertPool()
	pool.AddCert(f.plant)
	tr := &http.Transport{
		TLSClientConfig:     &tls.Config{RootCAs: pool, Certificates: own, Time: f.clock.now},
		MaxIdleConnsPerHost: 64,
	}
	t.Cleanup(tr.CloseIdleConnections)
	return &http.Client{Transport: tr}
}

// stationFolder writes a station's folder as station add does.
func (f *factory) stationFolder(t *testing.T, own tls.Certificate) (dir string) {
	t.Helper()
	dir = t.TempDir()
	pk8, err := x509.MarshalPKCS8PrivateKey(own.PrivateKey)
	if err != nil {
		t.Fatal(err)
	}
	for name, b := range map[string][]byte{
		"station.yaml": []byte("server: " + f.stations + "\n"),
		"station.key":  pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: pk8}),
		"station.crt":  pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: own.Certificate[0]}),
		"ca.crt":       pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: f.plant.Raw}),
	} {
		if err := os.WriteFile(filepath.Join(dir, name), b, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	return dir
}

// stationClient is the station's own client, read from its folder.
func (f *factory) stationClient(t *testing.T, own tls.Certificate) *client.Client {
	t.Helper()
	s, err := client.LoadStation(filepath.Join(f.stationFolder(t, own), "station.yaml"))
	if err != nil {
		t.Fatal(err)
	}
	c, err := client.New(s)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(c.Close)
	return c
}

// order opens an order.
func (f *factory) order(t *testing.T, s issuer.OrderSpec) issuer.Order {
	t.Helper()
	setDefault(&s.Product, "demo")
	setDefault(&s.Profile, "device")
	setDefault(&s.Quantity, 1000)
	o, err := f.admin.CreateOrder(t.Context(), s)
	if err != nil {
		t.Fatal(err)
	}
	return o
}
