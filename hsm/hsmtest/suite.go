//go:build linux

package hsmtest

import (
	"context"
	"crypto"
	"crypto/ecdsa"
	"crypto/rand"
	"crypto/rsa"
	"crypto/sha256"
	"crypto/sha512"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"log/slog"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/certmill/certmill/hsm"
)

// Run holds one kind of token against everything that package hsm promises of tokens. open makes an empty token and returns the configuration
// that opens it; TestMain must call Main(AllowAll). What a token does not offer must be refused by name. only are the algorithms to try; none: all.
func Run(t *testing.T, open func(t testing.TB) hsm.Config, only ...hsm.Algorithm) {
	t.Helper()
	s := &suite{cfg: open(t), algorithms: only, mark: "suite-" + rand.Text()}
	s.cfg.Command = append(slices.Clone(s.cfg.Command), s.mark)
	s.cfg.SignerCommand = append(slices.Clone(s.cfg.SignerCommand), s.mark)
	if len(only) == 0 {
		s.algorithms = algorithms()
	}
	began := time.Now()
	if !t.Run("ceremony with two sessions", s.ceremony) {
		return
	}
	t.Run("sign", s.sign)
	t.Run("killed signers", s.killed)
	if s.report == nil || s.report.Measured.Wall < 200*time.Millisecond { // a slow token does the rest as well, and nobody would wait for it
		t.Run("labels", s.labels)
		t.Run("two sessions", s.twoSessions)
		t.Run("ceremony while signers run", s.laterKey)
		t.Run("wrong PIN", s.wrongPIN)
	}
	if s.report != nil {
		r := s.report
		t.Logf("%s %s | %s | serial %q | sessions %d | %d × %d lanes | a signature %v | kinds %s | %v", r.Module, r.Model, r.Label, r.Serial, r.Sessions, r.Processes, r.Lanes,
			r.Measured.Wall.Round(time.Microsecond), strings.Join(s.kinds(), " "), time.Since(began).Round(time.Millisecond))
	}
}

// suite is one run of Run.
type suite struct {
	cfg        hsm.Config
	mark       string // in the arguments of every process of this run
	algorithms []hsm.Algorithm
	keys       []hsm.KeyConfig
	report     *hsm.TokenReport
}

func (s *suite) kinds() (all []string) {
	for _, k := range s.keys {
		all = append(all, k.Label)
	}
	return all
}

// algorithms are asked for in this order; those that take a token minutes only in the long run.
func algorithms() []hsm.Algorithm {
	all := []hsm.Algorithm{hsm.P256, hsm.P384, hsm.RSA2048, hsm.RSA3072}
	if os.Getenv("CERTMILL_TEST_LONG") != "" {
		all = append(all, hsm.RSA4096)
	}
	return all
}

// ceremony makes a key of every kind there is, each used at once, in one process with two sessions in all.
func (s *suite) ceremony(t *testing.T) {
	cfg := s.cfg
	cfg.Ceremony, cfg.Signers, cfg.Sessions = true, 1, 2
	token := openToken(t, cfg)
	for _, alg := range s.algorithms {
		label := "suite " + string(alg)
		public, err := token.Generate(t.Context(), label, alg)
		if errors.Is(err, hsm.ErrUnfit) && strings.Contains(err.Error(), "CKM_") {
			t.Logf("%s: %v", alg, err)
			continue
		}
		if err != nil {
			t.Errorf("generate %s: %v", alg, err)
			continue
		}
		if _, err := token.Generate(t.Context(), label, alg); !errors.Is(err, hsm.ErrExists) {
			t.Errorf("a second key %s: %v, want ErrExists", label, err)
		}
		if found, err := token.Public(t.Context(), label); err != nil || !public.(interface{ Equal(crypto.PublicKey) bool }).Equal(found) {
			t.Errorf("%s: found %v, %v; made %v", label, found, err, public)
		}
		k := hsm.KeyConfig{Label: label, Public: public}
		key, err := token.Use(t.Context(), k)
		if err != nil {
			t.Errorf("use %s: %v", label, err)
			continue
		}
		signAll(t, key, 2)
		s.keys = append(s.keys, k)
	}
	if _, err := token.Public(t.Context(), "nobody"); !errors.Is(err, hsm.ErrNoKey) {
		t.Errorf("a label that is not there: %v, want ErrNoKey", err)
	}
	if len(s.keys) == 0 {
		t.Fatal("this token makes no keys that a CA may have")
	}
}

// open opens the token for signing with every key of the ceremony: in other processes than those that made them.
func (s *suite) open(t *testing.T, change func(*hsm.Config)) *hsm.Token {
	t.Helper()
	cfg := s.cfg
	cfg.Keys = s.keys
	if change != nil {
		change(&cfg)
	}
	return openToken(t, cfg)
}

// sign signs batches with every key, from several goroutines, and checks the gate's verdict.
func (s *suite) sign(t *testing.T) {
	token := s.open(t, nil)
	r := token.Reports()[0]
	s.report = r
	if len(r.Keys) != len(s.keys) {
		t.Fatalf("the gate tells of %d keys, want %d", len(r.Keys), len(s.keys))
	}
	for _, k := range r.Keys {
		for _, f := range k.Findings {
			if f.Level == hsm.LevelFail {
				t.Errorf("%s: %+v", k.Label, f)
			}
			if k.Label == r.Keys[0].Label {
				t.Logf("%s: %s %s: %s", k.Label, f.Attribute, f.Level, f.Text)
			}
		}
	}
	for i, k := range s.keys {
		key := getKey(t, token, k.Label)
		started := time.Now()
		signAll(t, key, 1)
		each := time.Since(started)
		opensslVerifies(t, key)
		sizes := []int{1, 64, 500}
		switch {
		case i > 0 || each > 200*time.Millisecond:
			sizes = []int{1, 8}
		case each > 20*time.Millisecond:
			sizes = []int{1, 64}
		}
		var all sync.WaitGroup
		for _, n := range sizes {
			for range 2 {
				all.Go(func() { signAll(t, key, n) })
			}
		}
		all.Wait()
	}
	if st := token.Stats(); st.Wrong != 0 || st.Respawns != 0 || st.Refused != 0 {
		t.Errorf("stats %+v", st)
	}
}

// labels: one label names one key or none.
func (s *suite) labels(t *testing.T) {
	cfg := s.cfg
	cfg.Keys = []hsm.KeyConfig{{Label: "nobody", Public: s.keys[0].Public}}
	if token, err := hsm.Open(t.Context(), cfg); !errors.Is(err, hsm.ErrNoKey) {
		if err == nil {
			token.Close()
		}
		t.Errorf("an unknown label: %v, want ErrNoKey", err)
	}
	s.twins(t)
	cfg.Keys = []hsm.KeyConfig{{Label: "twin", Public: s.keys[0].Public}}
	if token, err := hsm.Open(t.Context(), cfg); !errors.Is(err, hsm.ErrNoKey) || !strings.Contains(err.Error(), "2 keys with the label twin") {
		if err == nil {
			token.Close()
		}
		t.Errorf("two keys with one label: %v, want ErrNoKey", err)
	}
}

// twins makes two keys with one label, which Generate would not: with a tool that is not ours.
func (s *suite) twins(t *testing.T) {
	t.Helper()
	pin, err := os.ReadFile(s.cfg.PIN.File)
	tool, missing := exec.LookPath("pkcs11-tool")
	if err != nil || missing != nil || s.cfg.InitArgs != "" || s.cfg.PIN.ProtectedPath || s.cfg.NoLogin {
		t.Skip("two keys with one label: pkcs11-tool is missing, or cannot open this token")
	}
	kind := "EC:secp256r1"
	if _, rsa := s.keys[0].Public.(*rsa.PublicKey); rsa {
		kind = "rsa:2048"
	}
	before := s.cfg.SignerCommand[:len(s.cfg.SignerCommand)-3] // what stands before our own binary
	command := append(slices.Clone(before), tool)
	for _, id := range []string{"7001", "7002"} {
		run(t, s.cfg.Env, command[0], append(command[1:len(command):len(command)], "--module", s.cfg.Module, "--token-label", s.cfg.Token, "--login", "--pin", string(pin),
			"--keypairgen", "--key-type", kind, "--label", "twin", "--id", id)...)
	}
}

func (s *suite) twoSessions(t *testing.T) {
	token := s.open(t, func(c *hsm.Config) { c.Sessions = 2 })
	if r := token.Reports()[0]; r.Processes != 1 || r.Lanes != 1 {
		t.Errorf("%d processes with %d lanes, want 1 with 1", r.Processes, r.Lanes)
	}
	for _, k := range s.keys {
		signAll(t, getKey(t, token, k.Label), 4)
	}
}

// killed kills signers under load: no request fails.
func (s *suite) killed(t *testing.T) {
	token := s.open(t, func(c *hsm.Config) { c.Signers = 2 })
	key := getKey(t, token, s.keys[0].Label)
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	var load sync.WaitGroup
	var signed atomic.Int64
	for range 4 {
		load.Go(func() {
			for ctx.Err() == nil && !t.Failed() {
				signAll(t, key, 4)
				signed.Add(4)
			}
		})
	}
	// Only those that are ready: SoftHSM writes its token's file at every login, and a kill in that moment is the token's end.
	const kills = 3
	want := token.Reports()[0].Processes
	for n := range kills {
		var pids []int
		waitUntil(t, "the signers are ready", func() bool {
			pids = s.signers(t)
			return len(pids) == want && token.Stats().Signers == want
		})
		if err := syscall.Kill(pids[n%want], syscall.SIGKILL); err != nil {
			t.Fatal(err)
		}
		<-time.After(50 * time.Millisecond)
	}
	cancel()
	load.Wait()
	signAll(t, key, 4)
	if st := token.Stats(); st.Wrong != 0 || st.Respawns == 0 {
		t.Errorf("stats %+v", st)
	}
	t.Logf("%d kills, %d signatures, %d respawns, 0 failed", kills, signed.Load(), token.Stats().Respawns)
}

// signers are the signer processes of this run. Their arguments may be read although they are not dumpable.
func (s *suite) signers(t *testing.T) (pids []int) {
	t.Helper()
	paths, err := filepath.Glob("/proc/[0-9]*/cmdline")
	must(t, err)
	for _, path := range paths {
		text, err := os.ReadFile(path)
		args := strings.Split(string(text), "\x00")
		if err != nil || !slices.Contains(args, s.mark) || !slices.Contains(args, signer) {
			continue
		}
		pid, err := strconv.Atoi(filepath.Base(filepath.Dir(path)))
		must(t, err)
		pids = append(pids, pid)
	}
	return pids
}

// laterKey makes a key while signers run; those that start afterwards see it, and the others go on.
func (s *suite) laterKey(t *testing.T) {
	running := s.open(t, nil)
	old := getKey(t, running, s.keys[0].Label)
	signAll(t, old, 1)
	cfg := s.cfg
	cfg.Ceremony, cfg.Signers = true, 1
	if n := s.report.Sessions; n > 0 && n < 8 {
		must(t, running.Close()) // the ceremony needs the sessions
	}
	ceremony := openToken(t, cfg)
	alg := hsm.Algorithm(strings.TrimPrefix(s.keys[0].Label, "suite "))
	public, err := ceremony.Generate(t.Context(), "later", alg)
	if err != nil {
		t.Fatal(err)
	}
	must(t, ceremony.Close())
	token := s.open(t, func(c *hsm.Config) {
		c.Keys = append(slices.Clone(c.Keys), hsm.KeyConfig{Label: "later", Public: public})
	})
	signAll(t, getKey(t, token, "later"), 4)
	if s.report.Sessions == 0 || s.report.Sessions >= 8 {
		signAll(t, old, 4)
	}
}

// wrongPIN is tried once, and the right one afterwards is good.
func (s *suite) wrongPIN(t *testing.T) {
	if s.cfg.PIN.ProtectedPath || s.cfg.NoLogin {
		t.Skip("this token has no PIN of ours")
	}
	cfg := s.cfg
	cfg.Keys, cfg.PINMemory = s.keys, filepath.Join(t.TempDir(), "pin.json")
	right := cfg.PIN.File
	cfg.PIN.File = filepath.Join(t.TempDir(), "pin")
	must(t, os.WriteFile(cfg.PIN.File, []byte("wrong-pi"), 0o600))
	for _, text := range []string{"did not accept the PIN", "refused this PIN on"} {
		token, err := hsm.Open(t.Context(), cfg)
		if err == nil {
			token.Close()
		}
		if !errors.Is(err, hsm.ErrPIN) || !strings.Contains(err.Error(), text) || strings.Contains(err.Error(), "wrong-pi") {
			t.Errorf("error %v; want ErrPIN with %q", err, text)
		}
	}
	cfg.PIN.File = right
	token := openToken(t, cfg)
	signAll(t, getKey(t, token, s.keys[0].Label), 1)
}

func openToken(t testing.TB, cfg hsm.Config) *hsm.Token {
	t.Helper()
	cfg.Log = slog.New(slog.NewTextHandler(t.Output(), nil))
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	token, err := hsm.Open(ctx, cfg)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { token.Close() })
	return token
}

// patience is how long anything may take that needs the token.
const patience = 15 * time.Second

func getKey(t testing.TB, token *hsm.Token, label string) *hsm.Key {
	t.Helper()
	key, err := token.Key(label)
	must(t, err)
	return key
}

// signAll signs n messages and verifies each by another road than the package's own. It may run in any goroutine.
func signAll(t testing.TB, key *hsm.Key, n int) {
	tbs := make([][]byte, n)
	for i := range tbs {
		tbs[i] = []byte("to be signed " + rand.Text())
	}
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	sigs, errs := key.Sign(ctx, "device", tbs)
	for i := range tbs {
		if errs[i] != nil {
			t.Errorf("item %d of %d: %v", i, n, errs[i])
			return
		}
		if !verifies(key.Public(), tbs[i], sigs[i]) {
			t.Errorf("item %d of %d: signature %x does not verify", i, n, sigs[i])
			return
		}
	}
}

func verifies(public crypto.PublicKey, tbs, sig []byte) bool {
	switch p := public.(type) {
	case *ecdsa.PublicKey:
		if p.Curve.Params().BitSize == 384 {
			d := sha512.Sum384(tbs)
			return ecdsa.VerifyASN1(p, d[:], sig)
		}
		d := sha256.Sum256(tbs)
		return ecdsa.VerifyASN1(p, d[:], sig)
	case *rsa.PublicKey:
		d := sha256.Sum256(tbs)
		return rsa.VerifyPKCS1v15(p, crypto.SHA256, d[:], sig) == nil
	}
	return false
}

// opensslVerifies checks one signature with a program that shares no code with ours.
func opensslVerifies(t *testing.T, key *hsm.Key) {
	t.Helper()
	openssl, err := exec.LookPath("openssl")
	if err != nil {
		t.Log("openssl is not installed: make test installs it")
		return
	}
	tbs := []byte("to be signed, for openssl")
	sigs, errs := key.Sign(t.Context(), "device", [][]byte{tbs})
	must(t, errs[0])
	der, err := x509.MarshalPKIXPublicKey(key.Public())
	must(t, err)
	dir := t.TempDir()
	file := func(name string, content []byte) string {
		path := filepath.Join(dir, name)
		must(t, os.WriteFile(path, content, 0o600))
		return path
	}
	hash := "-sha256"
	if p, ec := key.Public().(*ecdsa.PublicKey); ec && p.Curve.Params().BitSize == 384 {
		hash = "-sha384"
	}
	public := file("public.pem", pem.EncodeToMemory(&pem.Block{Type: "PUBLIC KEY", Bytes: der}))
	out, err := exec.CommandContext(t.Context(), openssl, "dgst", hash, "-verify", public, "-signature", file("sig", sigs[0]), file("tbs", tbs)).CombinedOutput()
	if err != nil || !strings.Contains(string(out), "Verified OK") {
		t.Errorf("openssl: %v: %s", err, out)
	}
}
