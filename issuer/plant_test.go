package issuer

import (
	"context"
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/sha256"
	"crypto/sha512"
	"crypto/x509"
	"crypto/x509/pkix"
	"errors"
	"fmt"
	"path/filepath"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/certmill/certmill/ca"
	"github.com/certmill/certmill/internal/ledger"
	"github.com/certmill/certmill/internal/ledger/ledgertest"
)

// epoch is when the tests play.
var epoch = time.Date(2026, 11, 24, 8, 30, 0, 0, time.UTC)

// testClock moves when a test moves it, and so do its timers.
type testClock struct {
	mu     sync.Mutex
	offset time.Duration // how long the test plays: timers and elapsed go by it
	wrong  time.Duration // what the time of day is off
	timers []timer
}

type timer struct {
	due  time.Duration
	fire chan time.Time
}

func (c *testClock) now() time.Time {
	c.mu.Lock()
	defer c.mu.Unlock()
	return epoch.Add(c.offset + c.wrong)
}

// elapsed is the clock that nobody sets.
func (c *testClock) elapsed() time.Duration {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.offset
}

// jump sets the time of day, by so much from what is right.
func (c *testClock) jump(wrong time.Duration) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.wrong = wrong
}

// after is time.After by this clock.
func (c *testClock) after(d time.Duration) <-chan time.Time {
	c.mu.Lock()
	defer c.mu.Unlock()
	t := timer{c.offset + d, make(chan time.Time, 1)}
	c.timers = append(c.timers, t)
	return t.fire
}

func (c *testClock) advance(d time.Duration) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.offset += d
	c.timers = slices.DeleteFunc(c.timers, func(t timer) bool {
		if t.due > c.offset {
			return false
		}
		t.fire <- epoch.Add(c.offset)
		return true
	})
}

// token signs with keys in memory, as its faults allow.
type token struct {
	key    crypto.Signer
	signed atomic.Int64

	mu    sync.Mutex
	fault func(ctx context.Context, tbs [][]byte) error // asked before a batch is signed
	loses int                                           // answers that are lost after the signature was made
}

var (
	errAway   = errors.New("token is away")
	errRefuse = errors.New("signer refused")
)

func (s *token) breakWith(f func(context.Context, [][]byte) error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.fault = f
}

func (s *token) state() (fault func(context.Context, [][]byte) error, lost bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.loses > 0 {
		s.loses--
		lost = true
	}
	return s.fault, lost
}

// Sign implements ca.Signer.
func (s *token) Sign(ctx context.Context, _ string, tbs [][]byte) (sigs [][]byte, errs []error) {
	sigs, errs = make([][]byte, len(tbs)), make([]error, len(tbs))
	fault, lost := s.state()
	for n := range tbs {
		if fault != nil {
			if errs[n] = fault(ctx, tbs[n:n+1]); errs[n] != nil {
				continue
			}
		}
		sigs[n], errs[n] = signTBS(s.key, tbs[n])
		s.signed.Add(1)
		if lost {
			sigs[n], errs[n] = nil, errAway
		}
	}
	return sigs, errs
}

func signTBS(key crypto.Signer, tbs []byte) ([]byte, error) {
	if k, ok := key.(*ecdsa.PrivateKey); ok && k.Curve == elliptic.P384() {
		d := sha512.Sum384(tbs)
		return key.Sign(rand.Reader, d[:], crypto.SHA384)
	}
	d := sha256.Sum256(tbs)
	return key.Sign(rand.Reader, d[:], crypto.SHA256)
}

// plant is a factory node in a temporary folder: a real ledger, real CAs, keys in memory. It can be crashed and started again.
type plant struct {
	testing.TB
	cfg      ledger.Config
	clock    testClock
	profiles []*ca.Profile
	tokens   map[string]*token // by CA
	records  []CARecord
	csrs     map[string][]byte // by name of key
	keys     map[string]*ecdsa.PrivateKey

	disk   *ledgertest.Disk
	ledger *ledger.Ledger
	*Issuer
	cancel context.CancelFunc
	ended  chan error
}

// caPlan are the CAs of every test plant.
var caPlan = []struct{ name, role string }{{"root", ca.RoleRoot}, {"issuing", ca.RoleIssuing}, {"plant", ca.RolePlant}}

func newPlant(t testing.TB) *plant {
	t.Helper()
	dir := t.TempDir() // not ledgertest.Create, whose first entry has the time of today: the ledger's own never goes back to the epoch
	p := barePlant(t, ledger.Config{Path: filepath.Join(dir, "ledger.db"), Marker: filepath.Join(dir, "failed")})
	p.must(ledger.Create(p.cfg, ledgertest.Name))
	return p.found()
}

// newPlantOn is newPlant with an empty ledger that is there.
func newPlantOn(t testing.TB, cfg ledger.Config) *plant {
	t.Helper()
	return barePlant(t, cfg).found()
}

func barePlant(t testing.TB, cfg ledger.Config) *plant {
	p := &plant{TB: t, cfg: cfg, tokens: make(map[string]*token), csrs: make(map[string][]byte), keys: make(map[string]*ecdsa.PrivateKey)}
	p.cfg.Now, p.cfg.Log = p.clock.now, nil
	return p
}

// found adopts the CAs and records what every test needs.
func (p *plant) found() *plant {
	p.Helper()
	p.profiles = []*ca.Profile{p.profile(string(ca.DefaultProfile(ca.KindDevice)))}
	l, err := ledger.Open(p.cfg)
	p.must(err)
	certs := make(map[string]*x509.Certificate)
	for _, c := range caPlan {
		p.makeCA(l, certs, c.name, c.role)
	}
	p.must(l.Close())
	p.start()
	return p
}

func (p *plant) must(err error) {
	p.Helper()
	if err != nil {
		p.Fatal(err)
	}
}

func (p *plant) profile(yaml string) *ca.Profile {
	p.Helper()
	pr, err := ca.ParseProfile([]byte(yaml))
	p.must(err)
	return pr
}

// makeCA makes and adopts one CA. The issuing CA is signed by the root.
func (p *plant) makeCA(l *ledger.Ledger, certs map[string]*x509.Certificate, name, role string) {
	p.Helper()
	curve := elliptic.P256()
	if role == ca.RoleRoot {
		curve = elliptic.P384()
	}
	key, err := ecdsa.GenerateKey(curve, rand.Reader)
	p.must(err)
	p.tokens[name] = &token{key: key}
	signer, above := p.tokens[name], (*x509.Certificate)(nil)
	if role == ca.RoleIssuing {
		signer, above = p.tokens["root"], certs["root"]
	}
	cfg := ca.HierarchyConfig{Name: name, Role: role, CommonName: "Test " + name, Organization: "Test", Country: "DE", Generation: 1,
		NotAfter: epoch.AddDate(30, 0, 0)}
	if role == ca.RoleRoot {
		cfg.NotAfter = epoch.AddDate(35, 0, 0)
	}
	s := ca.NewSerial(ca.CeremonyPrefix, 0, l.Cipher(), uint64(len(certs)), [8]byte{1})
	prepared, err := ca.PrepareCA(cfg, key.Public(), above, s, epoch)
	p.must(err)
	sig, err := ca.SignCA(p.Context(), signer, prepared)
	p.must(err)
	der, err := ca.Assemble(prepared.TBS(), sig)
	p.must(err)
	certs[name], err = x509.ParseCertificate(der)
	p.must(err)
	r, err := AdoptCA(l, CARecord{Name: name, Role: role, Token: "main", Label: name, Certificate: der, Generation: 1, Transcript: "00", By: "test"})
	p.must(err)
	p.records = append(p.records, r)
}

// start opens the plant's ledger and runs an issuer over it. hooks change the issuer before it runs.
func (p *plant) start(hooks ...func(*Issuer)) {
	p.Helper()
	p.open(hooks...)
	ctx, cancel := context.WithCancel(context.Background())
	p.cancel, p.ended = cancel, make(chan error, 1)
	i, ended := p.Issuer, p.ended
	go func() {
		defer func() {
			if r := recover(); r != nil {
				if r != errCrash {
					panic(r)
				}
				ended <- errCrash
			}
		}()
		ended <- i.Run(ctx)
	}()
	l := p.ledger
	p.Cleanup(func() { // before the cleanup of the ledger
		if p.ledger == l {
			p.stop()
		}
	})
}

// open makes an issuer that does not run.
func (p *plant) open(hooks ...func(*Issuer)) {
	p.Helper()
	var err error
	p.ledger, p.disk = ledgertest.OpenFaulty(p, p.cfg)
	var authorities []*ca.Authority
	for _, r := range p.records {
		if r.Role == ca.RoleRoot {
			continue
		}
		cert, err := x509.ParseCertificate(r.Certificate)
		p.must(err)
		a, err := ca.NewAuthority(ca.AuthorityConfig{Name: r.Name, Certificate: cert, Prefix: r.Prefix, Signer: p.tokens[r.Name]})
		p.must(err)
		authorities = append(authorities, a)
	}
	p.Issuer, err = New(Config{Ledger: p.ledger, Profiles: p.profiles, Authorities: authorities, Now: p.clock.now, Elapsed: p.clock.elapsed})
	p.must(err)
	p.Issuer.after = p.clock.after
	for _, h := range hooks {
		h(p.Issuer)
	}
}

// errCrash is what a crash point panics with.
var errCrash = errors.New("crashed")

// crashAt stops the owner dead at the n-th passing of a point: what it had in memory is gone.
func crashAt(point string, n int) func(*Issuer) {
	return func(i *Issuer) {
		i.at = func(at string) {
			if at == point {
				if n--; n == 0 {
					panic(errCrash)
				}
			}
		}
	}
}

// stop ends the service in order and closes the ledger.
func (p *plant) stop() {
	p.Helper()
	p.cancel()
	if err := <-p.ended; !errors.Is(err, context.Canceled) && err != errCrash {
		p.Errorf("Run ended with %v", err)
	}
	p.close()
}

func (p *plant) close() {
	p.Helper()
	p.must(p.ledger.Close())
	p.ledger = nil
}

// csr makes a CSR for a key, which is made once for each name, so that a device can ask twice.
func (p *plant) csr(key string, cn ...string) []byte {
	p.Helper()
	if der := p.csrs[key]; der != nil {
		return der
	}
	p.keys[key] = newKey(p)
	p.csrs[key] = newCSR(p, p.keys[key], append(cn, "")[0])
	return p.csrs[key]
}

func newKey(t testing.TB) *ecdsa.PrivateKey {
	t.Helper()
	k, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	return k
}

func newCSR(t testing.TB, k crypto.Signer, cn string) []byte {
	t.Helper()
	der, err := x509.CreateCertificateRequest(rand.Reader, &x509.CertificateRequest{Subject: pkix.Name{CommonName: cn}}, k)
	if err != nil {
		t.Fatal(err)
	}
	return der
}

// station adds a station.
func (p *plant) station(name string) (Station, []byte) {
	p.Helper()
	s, der, err := p.AddStation(p.Context(), name, p.csr("station "+name), "test")
	p.must(err)
	return s, der
}

// order opens an order for n devices.
func (p *plant) order(n uint64) Order {
	p.Helper()
	o, err := p.CreateOrder(p.Context(), OrderSpec{Product: "demo", Profile: "device", Quantity: n}, "test")
	p.must(err)
	return o
}

// item asks for a device at station line-1, with a key of the same name.
func (p *plant) item(order string, device string) Item {
	p.Helper()
	return Item{Order: order, Station: "line-1", DeviceID: device, CSR: p.csr(device)}
}

// submit expects a certificate.
func (p *plant) submit(it Item) Certificate {
	p.Helper()
	c, err := p.Submit(p.Context(), it)
	if err != nil {
		p.Fatalf("submit %s: %v", it.DeviceID, err)
	}
	return c
}

// refuse expects an error.
func (p *plant) refuse(it Item, want error) {
	p.Helper()
	c, err := p.Submit(p.Context(), it)
	if !errors.Is(err, want) {
		p.Errorf("submit %s: got %v and %d octets, want %v", it.DeviceID, err, len(c.DER), want)
	}
}

// readyPlant is a plant with station line-1 and an order for n devices.
func readyPlant(t testing.TB, n uint64) (*plant, Order) {
	t.Helper()
	p := newPlant(t)
	p.station("line-1")
	return p, p.order(n)
}

func deviceID(n int) string { return fmt.Sprintf("DEMO-%06d", n) }
