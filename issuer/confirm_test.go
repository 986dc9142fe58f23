package issuer

import (
	"bytes"
	"context"
	"crypto"
	"crypto/aes"
	"crypto/cipher"
	"crypto/ecdsa"
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"encoding/hex"
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/certmill/certmill/ca"
)

func awayFault(context.Context, [][]byte) error { return errAway }

// testDevice is a unit with its own key.
type testDevice struct {
	key  crypto.Signer
	item Item
	cert Certificate
}

func (p *plant) newDevice(order, id string) *testDevice {
	p.Helper()
	d := &testDevice{key: newKey(p)}
	d.item = Item{Order: order, Station: "line-1", DeviceID: id, CSR: newCSR(p, d.key, "")}
	d.cert = p.submit(d.item)
	return d
}

func (d *testDevice) sign(t testing.TB, ch Challenge) []byte {
	t.Helper()
	sig, err := d.key.Sign(rand.Reader, ConfirmDigest(ch.Text, ch.CertificateID), crypto.SHA256)
	if err != nil {
		t.Fatal(err)
	}
	return sig
}

// confirm goes the whole way.
func (p *plant) confirm(d *testDevice) Confirmed {
	p.Helper()
	ch, err := p.Challenge(d.item.Order, d.cert.Serial)
	p.must(err)
	c, err := p.Confirm(p.Context(), d.item.Order, d.cert.Serial, ch.Text, d.sign(p, ch), "line-1")
	p.must(err)
	return c
}

func TestConfirm(t *testing.T) {
	p, o := readyPlant(t, 10)
	d := p.newDevice(o.ID, "DEMO-000001")
	ch, err := p.Challenge(o.ID, d.cert.Serial)
	p.must(err)
	if !ch.Expires.Equal(epoch.Add(challengeLife)) {
		t.Errorf("expires %s", ch.Expires)
	}
	p.stop()
	p.start() // a challenge needs no memory
	sig := d.sign(t, ch)
	var size atomic.Uint64
	p.together(8, func(int) error {
		c, err := p.Confirm(p.Context(), o.ID, d.cert.Serial, ch.Text, sig, "line-1")
		if err == nil && (!c.At.Equal(epoch) || c.By != "line-1") {
			err = errors.New("confirmed otherwise")
		}
		return err
	})
	if now := p.orderNow(o.ID); now.Confirmed != 1 {
		t.Errorf("%d confirmed, want 1", now.Confirmed)
	}
	size.Store(p.ledger.Checkpoint().Size)
	p.clock.advance(2 * challengeLife) // repeating what is done needs no fresh challenge
	if c, err := p.Confirm(p.Context(), o.ID, d.cert.Serial, ch.Text, sig, "line-2"); err != nil || !c.At.Equal(epoch) || c.By != "line-1" {
		t.Errorf("again, and late: %+v, %v", c, err)
	}
	if p.ledger.Checkpoint().Size != size.Load() {
		t.Error("a repetition left an entry")
	}
	p.stop()
	p.start()
	if now := p.orderNow(o.ID); now.Confirmed != 1 {
		t.Errorf("%d confirmed after a restart, want 1", now.Confirmed)
	}
	life, err := p.Device("demo", "DEMO-000001", "main")
	p.must(err)
	if c := life.Certificates[0].Confirmed; c == nil || !c.At.Equal(epoch) {
		t.Errorf("its life: %+v", life)
	}
	p.audited()
}

func TestConfirmRefuses(t *testing.T) {
	p, o := readyPlant(t, 10)
	other := p.order(10)
	d, e := p.newDevice(o.ID, "DEMO-000001"), p.newDevice(o.ID, "DEMO-000002")
	late := must(p.Challenge(o.ID, d.cert.Serial))
	p.clock.advance(challengeLife + time.Millisecond)
	good := must(p.Challenge(o.ID, d.cert.Serial))
	foreign := must(p.Challenge(o.ID, e.cert.Serial))
	flipped := good
	flipped.Text = string(append([]byte{good.Text[0] ^ 1}, good.Text[1:]...))
	for _, c := range []struct {
		name   string
		order  string
		serial ca.Serial
		ch     Challenge
		sig    []byte
		want   error
	}{
		{"late", o.ID, d.cert.Serial, late, d.sign(t, late), ErrChallenge},
		{"of another certificate", o.ID, d.cert.Serial, foreign, d.sign(t, foreign), ErrChallenge},
		{"later end", o.ID, d.cert.Serial, flipped, d.sign(t, flipped), ErrChallenge},
		{"no challenge", o.ID, d.cert.Serial, Challenge{}, d.sign(t, Challenge{}), ErrChallenge},
		{"another device's key", o.ID, d.cert.Serial, good, e.sign(t, good), ErrProof},
		{"over another challenge", o.ID, d.cert.Serial, good, d.sign(t, late), ErrProof},
		{"no signature", o.ID, d.cert.Serial, good, nil, ErrProof},
		{"another order", other.ID, d.cert.Serial, good, d.sign(t, good), ErrNotFound},
		{"no order", "nosuch", d.cert.Serial, good, d.sign(t, good), ErrNotFound},
		{"no such serial", o.ID, ca.Serial{1}, good, d.sign(t, good), ErrNotFound},
	} {
		if got, err := p.Confirm(p.Context(), c.order, c.serial, c.ch.Text, c.sig, "line-1"); !errors.Is(err, c.want) {
			t.Errorf("%s: %+v, %v, want %v", c.name, got, err, c.want)
		}
	}
	p.rekey(RekeySpec{DeviceID: "DEMO-000001"})
	if _, err := p.Confirm(p.Context(), o.ID, d.cert.Serial, good.Text, d.sign(t, good), "line-1"); !errors.Is(err, ErrRevoked) {
		t.Errorf("revoked: %v", err)
	}
	if _, err := p.Challenge(o.ID, d.cert.Serial); !errors.Is(err, ErrRevoked) {
		t.Errorf("challenge for a revoked one: %v", err)
	}
	if now := p.orderNow(o.ID); now.Confirmed != 0 {
		t.Errorf("%d confirmed", now.Confirmed)
	}
	p.audited()
}

func must[T any](v T, err error) T {
	if err != nil {
		panic(err)
	}
	return v
}

// The signature as openssl makes it, over the text as the page says it, with both kinds of keys.
func TestConfirmByOpenSSL(t *testing.T) {
	openssl, err := exec.LookPath("openssl")
	if err != nil {
		t.Skip("openssl is not installed")
	}
	dir := t.TempDir()
	for name, args := range map[string][]string{
		"ecdsa": {"genpkey", "-algorithm", "EC", "-pkeyopt", "ec_paramgen_curve:P-256"},
		"p384":  {"genpkey", "-algorithm", "EC", "-pkeyopt", "ec_paramgen_curve:P-384"},
		"rsa":   {"genpkey", "-algorithm", "RSA", "-pkeyopt", "rsa_keygen_bits:2048"},
	} {
		key, text, sigFile := filepath.Join(dir, name+".pem"), filepath.Join(dir, name+".txt"), filepath.Join(dir, name+".sig")
		openSSL(t, openssl, append(args, "-out", key)...)
		ch := newChallenge(testCipher(t), "ab12", epoch)
		if err := os.WriteFile(text, []byte("certmill-confirm-v1\x00"+ch.Text+"ab12"), 0o600); err != nil {
			t.Fatal(err)
		}
		openSSL(t, openssl, "dgst", "-sha256", "-sign", key, "-out", sigFile, text)
		sig, err := os.ReadFile(sigFile)
		if err != nil {
			t.Fatal(err)
		}
		public := publicKey(t, openSSL(t, openssl, "pkey", "-in", key, "-pubout", "-outform", "DER"))
		if err := checkPossession(public, ConfirmDigest(ch.Text, "ab12"), sig); err != nil {
			t.Errorf("%s: %v", name, err)
		}
		sig[len(sig)-1] ^= 1
		if err := checkPossession(public, ConfirmDigest(ch.Text, "ab12"), sig); !errors.Is(err, ErrProof) {
			t.Errorf("%s, changed: %v", name, err)
		}
	}
	if err := checkPossession(struct{}{}, nil, nil); !errors.Is(err, ErrInvalid) {
		t.Errorf("unknown key: %v", err)
	}
}

// What we did not make is not taken, however it is written.
func FuzzChallenge(f *testing.F) {
	b := testCipher(f)
	made := newChallenge(b, "ab12", epoch).Text
	for _, seed := range []string{made, "", "AAAA", made + "A", made[:len(made)-1], made[:9] + "\n" + made[9:], newChallenge(b, "ab13", epoch).Text} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, text string) {
		end, err := openChallenge(b, "ab12", text)
		if text == made && err != nil {
			t.Error(err)
		}
		// The process that made the seeds had the same key, so one of its may come; nothing near it.
		if err == nil && (!end.Equal(epoch.Add(challengeLife)) || len(text) != len(made) || strings.ContainsAny(text, "\r\n")) {
			t.Errorf("%q: %s", text, end)
		}
	})
}

func openSSL(t *testing.T, openssl string, args ...string) []byte {
	t.Helper()
	cmd := exec.CommandContext(t.Context(), openssl, args...)
	var talk bytes.Buffer
	cmd.Stderr = &talk
	out, err := cmd.Output()
	if err != nil {
		t.Fatalf("openssl %v: %v\n%s", args, err, &talk)
	}
	return out
}

func publicKey(t *testing.T, der []byte) crypto.PublicKey {
	t.Helper()
	k, err := x509.ParsePKIXPublicKey(der)
	if err != nil {
		t.Fatal(err)
	}
	switch k.(type) {
	case *ecdsa.PublicKey, *rsa.PublicKey:
		return k
	}
	t.Fatalf("a key of type %T: %s", k, hex.EncodeToString(der))
	return nil
}

func testCipher(t testing.TB) cipher.Block {
	t.Helper()
	b, err := aes.NewCipher(make([]byte, 16))
	if err != nil {
		t.Fatal(err)
	}
	return b
}

// Who has not confirmed within a time is listed, over several stretches of the log.
func TestUnconfirmed(t *testing.T) {
	p, o := readyPlant(t, 2000)
	p.together(600, func(n int) error {
		_, err := p.Submit(p.Context(), p.item(o.ID, deviceID(n)))
		return err
	})
	d, gone := p.newDevice(o.ID, "CONFIRMED-1"), p.newDevice(o.ID, "REVOKED-1")
	p.confirm(d)
	p.rekey(RekeySpec{DeviceID: gone.item.DeviceID})
	p.clock.advance(time.Hour)
	young := p.newDevice(o.ID, "YOUNG-1")
	for _, c := range []struct {
		older time.Duration
		want  int
	}{{0, 601}, {time.Minute, 600}, {time.Hour, 600}, {time.Hour + time.Minute, 0}} {
		seen := make(map[string]bool)
		for u, err := range p.Unconfirmed(o.ID, c.older) {
			p.must(err)
			seen[u.DeviceID] = true
			if u.Station != "line-1" || u.Serial == "" || u.Signed.IsZero() || u.Slot != "" {
				t.Errorf("%+v", u)
			}
		}
		if len(seen) != c.want || seen["CONFIRMED-1"] || seen["REVOKED-1"] || seen[young.item.DeviceID] != (c.older == 0) {
			t.Errorf("older than %s: %d, want %d", c.older, len(seen), c.want)
		}
	}
	for _, err := range p.Unconfirmed("nosuch", 0) {
		if !errors.Is(err, ErrOrderUnknown) {
			t.Error(err)
		}
	}
	for range p.Unconfirmed(o.ID, 0) {
		break
	}
}
