package hsm_test

import (
	"context"
	"crypto"
	"crypto/ecdsa"
	"crypto/sha256"
	"crypto/sha512"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/certmill/certmill/hsm"
	"github.com/certmill/certmill/hsm/hsmtest"
)

func TestMain(m *testing.M) {
	if hsmtest.Main(checkForTests) {
		return
	}
	os.Exit(m.Run())
}

// checkForTests refuses TBS that begin with "no", and every kind but "device".
func checkForTests([]byte) (func(kind string, tbs []byte) error, error) {
	return func(kind string, tbs []byte) error {
		if kind != "device" || strings.HasPrefix(string(tbs), "no") {
			return fmt.Errorf("kind %s is not for this key", kind)
		}
		return nil
	}, nil
}

// newKey makes a key at a ceremony and returns the configuration that signs with it.
func newKey(t testing.TB, alg hsm.Algorithm) (hsm.Config, crypto.PublicKey) {
	t.Helper()
	cfg := hsmtest.SoftHSM(t)
	ceremony := cfg
	ceremony.Ceremony, ceremony.Signers = true, 1
	token := open(t, ceremony)
	public, err := token.Generate(t.Context(), "ca-g1", alg)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := token.Generate(t.Context(), "ca-g1", alg); !errors.Is(err, hsm.ErrExists) {
		t.Errorf("a second key of that label: %v, want ErrExists", err)
	}
	if found, err := token.Public(t.Context(), "ca-g1"); err != nil || !found.(*ecdsa.PublicKey).Equal(public) {
		t.Errorf("found %v, %v", found, err)
	}
	if _, err := token.Public(t.Context(), "nobody"); !errors.Is(err, hsm.ErrNoKey) {
		t.Errorf("a label that is not there: %v, want ErrNoKey", err)
	}
	key, err := token.Use(t.Context(), hsm.KeyConfig{Label: "ca-g1", Public: public})
	if err != nil {
		t.Fatal(err)
	}
	signAndVerify(t, key, public, 1)
	if err := token.Close(); err != nil {
		t.Fatal(err)
	}
	cfg.Keys = []hsm.KeyConfig{{Label: "ca-g1", Public: public}}
	return cfg, public
}

func open(t testing.TB, cfg hsm.Config) *hsm.Token {
	t.Helper()
	token, err := hsm.Open(t.Context(), cfg)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { token.Close() })
	return token
}

func openKey(t testing.TB, cfg hsm.Config) (*hsm.Token, *hsm.Key) {
	t.Helper()
	token := open(t, cfg)
	key, err := token.Key("ca-g1")
	if err != nil {
		t.Fatal(err)
	}
	return token, key
}

func batch(n int) (tbs [][]byte) {
	for i := range n {
		tbs = append(tbs, fmt.Appendf(nil, "tbs %d", i))
	}
	return tbs
}

// signAndVerify checks signatures by another road than the package's own.
func signAndVerify(t testing.TB, key *hsm.Key, public crypto.PublicKey, n int) {
	t.Helper()
	tbs := batch(n)
	sigs, errs := key.Sign(t.Context(), "device", tbs)
	for i := range tbs {
		p := public.(*ecdsa.PublicKey)
		sum := sha256.Sum256(tbs[i])
		digest := sum[:]
		if p.Curve.Params().BitSize == 384 {
			sum := sha512.Sum384(tbs[i])
			digest = sum[:]
		}
		if errs[i] != nil || !ecdsa.VerifyASN1(p, digest, sigs[i]) {
			t.Fatalf("item %d: %v, signature %x", i, errs[i], sigs[i])
		}
	}
}

func TestGenerateSignVerify(t *testing.T) {
	for _, alg := range []hsm.Algorithm{hsm.P256, hsm.P384} {
		t.Run(string(alg), func(t *testing.T) {
			cfg, public := newKey(t, alg)
			token, key := openKey(t, cfg)
			for _, n := range []int{1, 7, 64, 500} {
				signAndVerify(t, key, public, n)
			}
			if s := token.Stats(); s.Signatures != 572 || s.Wrong != 0 || s.Respawns != 0 {
				t.Errorf("stats %+v", s)
			}
		})
	}
}

// The signer's own check says no to one item; the others of the batch are signed.
func TestSignerRefuses(t *testing.T) {
	cfg, _ := newKey(t, hsm.P256)
	token, key := openKey(t, cfg)
	sigs, errs := key.Sign(t.Context(), "device", [][]byte{[]byte("yes"), []byte("no"), []byte("yes too")})
	if sigs[0] == nil || sigs[2] == nil || !errors.Is(errs[1], hsm.ErrRefused) || sigs[1] != nil {
		t.Errorf("%v %v", sigs, errs)
	}
	if _, errs := key.Sign(t.Context(), "crl", batch(1)); !errors.Is(errs[0], hsm.ErrRefused) {
		t.Errorf("kind crl: %v", errs[0])
	}
	if _, err := token.Generate(t.Context(), "other", hsm.P256); !errors.Is(err, hsm.ErrRefused) {
		t.Errorf("generate outside a ceremony: %v", err)
	}
	if s := token.Stats(); s.Refused != 2 || s.Respawns != 0 {
		t.Errorf("stats %+v", s)
	}
}

// TestP6KeysCannotLeave asks the token itself, with a tool that is not ours.
func TestP6KeysCannotLeave(t *testing.T) {
	if _, err := exec.LookPath("pkcs11-tool"); err != nil {
		t.Skip("pkcs11-tool is not installed: make test installs it")
	}
	cfg, _ := newKey(t, hsm.P256)
	pin, err := os.ReadFile(cfg.PIN.File)
	if err != nil {
		t.Fatal(err)
	}
	c := exec.CommandContext(t.Context(), "pkcs11-tool", "--module", cfg.Module, "--token-label", cfg.Token, "--login", "--pin", string(pin), "--list-objects", "--type", "privkey")
	c.Env = append(os.Environ(), cfg.Env...)
	out, err := c.CombinedOutput()
	if err != nil || !strings.Contains(string(out), "sensitive, always sensitive, never extractable, local") {
		t.Fatalf("%v\n%s", err, out)
	}
	if strings.Contains(string(out), "decrypt") || strings.Contains(string(out), "unwrap") || !strings.Contains(string(out), "Usage:      sign") {
		t.Errorf("usage\n%s", out)
	}
	t.Log("P6: OpenSC's pkcs11-tool sees a key that is sensitive, always sensitive, never extractable, local, and signs only")
}

func TestOpenSaysWhatIsWrong(t *testing.T) {
	cfg, _ := newKey(t, hsm.P256)
	_, other := newKey(t, hsm.P256)
	for _, c := range []struct {
		name   string
		change func(*hsm.Config)
		want   error
		text   string
	}{
		{"no module", func(c *hsm.Config) { c.Module = "/nowhere/p11.so" }, hsm.ErrUnavailable, "module cannot be loaded"},
		{"open PIN file", func(c *hsm.Config) { c.PIN.File = openFile(t) }, hsm.ErrPIN, "chmod 600"},
		{"no PIN file", func(c *hsm.Config) { c.PIN.File = "/nowhere/pin" }, hsm.ErrPIN, "/nowhere/pin"},
		{"no key", func(c *hsm.Config) { c.Keys = []hsm.KeyConfig{{Label: "nobody", Public: other}} }, hsm.ErrNoKey, "0 keys with the label nobody"},
		{"another key", func(c *hsm.Config) { c.Keys = []hsm.KeyConfig{{Label: "ca-g1", Public: other}} }, hsm.ErrUnfit, "is not the CA certificate's"},
	} {
		t.Run(c.name, func(t *testing.T) {
			changed := cfg
			c.change(&changed)
			token, err := hsm.Open(t.Context(), changed)
			if err == nil {
				token.Close()
			}
			if !errors.Is(err, c.want) || !strings.Contains(err.Error(), c.text) {
				t.Errorf("error %v; want %v with %q", err, c.want, c.text)
			}
		})
	}
}

func openFile(t *testing.T) string {
	path := filepath.Join(t.TempDir(), "pin")
	if err := os.WriteFile(path, []byte("1234"), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.Chmod(path, 0o644); err != nil {
		t.Fatal(err)
	}
	return path
}

// A wrong PIN is tried once, whatever asks for signatures afterwards.
func TestWrongPINIsTriedOnce(t *testing.T) {
	cfg, _ := newKey(t, hsm.P256)
	if err := os.WriteFile(cfg.PIN.File, []byte("wrong pin"), 0o600); err != nil {
		t.Fatal(err)
	}
	_, err := hsm.Open(t.Context(), cfg)
	if !errors.Is(err, hsm.ErrPIN) {
		t.Fatalf("error %v, want ErrPIN", err)
	}
	if strings.Contains(err.Error(), "wrong pin") {
		t.Errorf("the PIN stands in the error: %v", err)
	}
	if left := children(t, os.Getpid()); len(left) != 0 {
		t.Errorf("processes left behind: %v", left)
	}
}

// The PIN is in nobody's arguments or environment.
func TestPINIsNowhereToRead(t *testing.T) {
	cfg, _ := newKey(t, hsm.P256)
	pin, err := os.ReadFile(cfg.PIN.File)
	if err != nil {
		t.Fatal(err)
	}
	openKey(t, cfg)
	family := descendants(t)
	if len(family) < 2 {
		t.Fatalf("%d processes, want a keeper and signers", len(family))
	}
	for _, pid := range family {
		for _, file := range []string{"cmdline", "environ"} {
			text, err := os.ReadFile(fmt.Sprintf("/proc/%d/%s", pid, file)) // root may, although the process is not dumpable
			if err == nil && strings.Contains(string(text), string(pin)) {
				t.Errorf("PIN in /proc/%d/%s", pid, file)
			}
		}
		if f, err := os.Open(fmt.Sprintf("/proc/%d/mem", pid)); err == nil && os.Geteuid() != 0 {
			f.Close()
			t.Errorf("/proc/%d/mem can be opened", pid)
		}
	}
}

// TestP7KilledProcesses kills signers and keepers under load: no request fails, no signature is wrong.
func TestP7KilledProcesses(t *testing.T) {
	cfg, public := newKey(t, hsm.P256)
	cfg.Signers = 2
	token, key := openKey(t, cfg)
	ctx, cancel := context.WithCancel(t.Context())
	var load sync.WaitGroup
	var signed atomic.Int64
	for range 8 {
		load.Go(func() {
			for ctx.Err() == nil {
				sigs, errs := key.Sign(t.Context(), "device", batch(20))
				for i := range sigs {
					if errs[i] != nil {
						t.Errorf("a request failed: %v", errs[i])
						return
					}
				}
				signed.Add(int64(len(sigs)))
			}
		})
	}
	for range 20 {
		family := append(token.InService(), children(t, os.Getpid())...) // signers and the keeper
		if len(family) > 0 {
			kill(t, family[rand.IntN(len(family))])
		}
		<-time.After(time.Duration(10+rand.IntN(60)) * time.Millisecond)
	}
	cancel()
	load.Wait()
	signAndVerify(t, key, public, 100)
	s := token.Stats()
	if s.Wrong != 0 || s.Respawns == 0 {
		t.Errorf("stats %+v", s)
	}
	t.Logf("P7: 20 kills of signers and keepers, %d signatures, %d respawns, 0 failed, 0 wrong", signed.Load(), s.Respawns)
	if err := token.Close(); err != nil {
		t.Fatal(err)
	}
	if left := children(t, os.Getpid()); len(left) != 0 {
		t.Errorf("processes left behind: %v", left)
	}
}

// Close leaves no process and no file descriptor behind, however often the token was opened.
func TestCloseLeavesNothing(t *testing.T) {
	cfg, _ := newKey(t, hsm.P256)
	_, before := openKeyAndClose(t, cfg)
	for range 3 {
		openKeyAndClose(t, cfg)
	}
	if _, after := openKeyAndClose(t, cfg); after > before {
		t.Errorf("%d file descriptors, %d before", after, before)
	}
}

func openKeyAndClose(t *testing.T, cfg hsm.Config) (processes, files int) {
	token, err := hsm.Open(t.Context(), cfg)
	if err != nil {
		t.Fatal(err)
	}
	if err := token.Close(); err != nil {
		t.Fatal(err)
	}
	entries, err := os.ReadDir("/proc/self/fd")
	if err != nil {
		t.Fatal(err)
	}
	if left := children(t, os.Getpid()); len(left) != 0 {
		t.Errorf("processes left behind: %v", left)
	}
	return 0, len(entries)
}

// descendants are the keeper and the signers of this process.
func descendants(t *testing.T) (family []int) {
	for _, keeper := range children(t, os.Getpid()) {
		family = append(append(family, keeper), children(t, keeper)...)
	}
	return family
}

// children lists the processes that pid has started and that have not ended.
func children(t *testing.T, pid int) (pids []int) {
	t.Helper()
	stats, err := filepath.Glob("/proc/[0-9]*/stat")
	if err != nil {
		t.Fatal(err)
	}
	for _, path := range stats {
		text, err := os.ReadFile(path)
		if err != nil {
			continue // it has ended
		}
		head, rest, _ := strings.Cut(string(text), " (")
		fields := strings.Fields(rest[strings.LastIndex(rest, ")")+1:])
		if len(fields) > 1 && fields[1] == strconv.Itoa(pid) && fields[0] != "Z" {
			child, err := strconv.Atoi(head)
			if err != nil {
				t.Fatal(err)
			}
			pids = append(pids, child)
		}
	}
	return pids
}

func BenchmarkSign(b *testing.B) {
	cfg, _ := newKey(b, hsm.P256)
	_, key := openKey(b, cfg)
	for _, n := range []int{1, 10, 100} {
		b.Run("batch="+strconv.Itoa(n), func(b *testing.B) {
			tbs := batch(n)
			for b.Loop() {
				if _, errs := key.Sign(b.Context(), "device", tbs); errs[0] != nil {
					b.Fatal(errs[0])
				}
			}
			b.ReportMetric(float64(b.N*n)/b.Elapsed().Seconds(), "signatures/s")
		})
	}
}

// A ceremony goes on when its signer, or its keeper, is replaced: the key of Use is known to the next one.
func TestCeremonyOutlivesItsSigner(t *testing.T) {
	cfg, public := newKey(t, hsm.P256)
	cfg.Ceremony, cfg.Keys = true, nil
	token := open(t, cfg)
	key, err := token.Use(t.Context(), hsm.KeyConfig{Label: "ca-g1", Public: public})
	if err != nil {
		t.Fatal(err)
	}
	for range 2 {
		for _, pid := range append(token.InService(), children(t, os.Getpid())...) {
			kill(t, pid)
			signAndVerify(t, key, public, 1)
		}
	}
}
