package main

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/base64"
	"encoding/json"
	"encoding/pem"
	"errors"
	mrand "math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/certmill/certmill/internal/ledger"
	"github.com/certmill/certmill/internal/server"
	"github.com/certmill/certmill/issuer"
	"github.com/certmill/certmill/issuer/client"
)

// unitKey makes a key file and a CSR for it.
func (p *testPlant) unitKey(id string) (keyFile, csr string) {
	p.t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		p.t.Fatal(err)
	}
	der, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		p.t.Fatal(err)
	}
	keyFile = filepath.Join(p.t.TempDir(), "key.pem")
	if err := os.WriteFile(keyFile, pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: der}), modeSecret); err != nil {
		p.t.Fatal(err)
	}
	der, err = x509.CreateCertificateRequest(rand.Reader, &x509.CertificateRequest{Subject: pkix.Name{CommonName: id}}, key)
	if err != nil {
		p.t.Fatal(err)
	}
	return keyFile, string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE REQUEST", Bytes: der}))
}

// read runs a command with -o json and reads what it prints.
func read[T any](p *testPlant, args string) (v T) {
	p.t.Helper()
	out := p.run(append(strings.Fields(args), "-o", "json")...)
	if err := json.Unmarshal([]byte(out), &v); err != nil {
		p.t.Fatalf("%s: %v\n%s", args, err, out)
	}
	return v
}

func (p *testPlant) write(name, text string) (path string) {
	p.t.Helper()
	path = filepath.Join(p.t.TempDir(), name)
	if err := os.WriteFile(path, []byte(text), modePublic); err != nil {
		p.t.Fatal(err)
	}
	return path
}

// TestDeviceCommands is a unit's life as people type it: an order with a list, a certificate, a confirmation by file and by openssl, a rekey, the next
// certificate, and the end of the order.
func TestDeviceCommands(t *testing.T) {
	p := newTestPlant(t)
	s := p.serve()
	line := p.station("line-1")
	list := p.write("lamps.csv", "device_id,color,mac\nlamp-1,red,02:00\nlamp-2,,\nlamp-3,blue,\n")
	create := "order create --id lamps --product lamp --profile device --quantity 3 --scrap 1 --plant Brno --line 3 --until 720h --devices " + list
	first := read[issuer.Order](p, create)
	if again := read[issuer.Order](p, create); again.Until != first.Until || again.Listed != 3 || again.Scrap != 1 || again.Plant != "Brno" {
		t.Errorf("created again: %+v, want %+v", again, first)
	}
	if code, _, talk := p.try(strings.Fields(create + " --stations line-1")...); code != exitFailed || !strings.Contains(talk, "in other words") {
		t.Errorf("created otherwise: exit %d\n%s", code, talk)
	}
	keyFile, csr := p.unitKey("lamp-1")
	made, err := line.Issue(t.Context(), "lamps", client.Request{DeviceID: "lamp-1", CSR: csr})
	if err != nil {
		t.Fatal(err)
	}
	if waiting := read[[]issuer.Unconfirmed](p, "order show lamps --unconfirmed-for 0s"); len(waiting) != 1 || waiting[0].Serial != made.Serial {
		t.Errorf("unconfirmed: %+v", waiting)
	}
	otherKey, otherCSR := p.unitKey("lamp-1")
	if code, _, talk := p.try("device", "confirm", "lamp-1", "--key", otherKey); code != exitVerify {
		t.Errorf("confirmed with another key: exit %d\n%s", code, talk)
	}
	p.confirmByOpenSSL("lamp-1", keyFile)
	done := read[client.Confirmed](p, "device confirm lamp-1 --key "+keyFile)
	if order := read[issuer.Order](p, "order show lamps"); order.Confirmed != 1 || order.Issued != 1 {
		t.Errorf("order %+v", order)
	}
	p.run("device", "rekey", "lamp-1", "--reason", "board replaced", "--return-to-order", "--serial", made.Serial)
	if _, err := line.Issue(t.Context(), "lamps", client.Request{DeviceID: "lamp-1", CSR: csr}); err == nil || !strings.Contains(err.Error(), client.CodeCertificateRevoked) {
		t.Errorf("the old certificate: %v", err)
	}
	if _, err := line.Issue(t.Context(), "lamps", client.Request{DeviceID: "lamp-1", CSR: otherCSR}); err != nil {
		t.Fatal(err)
	}
	life := read[issuer.Device](p, "device show lamp-1")
	if len(life.Certificates) != 2 || life.Attributes["color"] != "red" || life.Attributes["mac"] != "02:00" || !life.Certificates[0].Confirmed.At.Equal(done.ConfirmedAt) ||
		life.Certificates[0].Revoked.Reason != "board replaced" || life.Certificates[1].Revoked != nil {
		t.Errorf("its life: %+v", life)
	}
	text := p.run("device", "show", "lamp-1", "--product", "lamp", "--slot", "main")
	for _, want := range []string{"device       lamp-1, product lamp, slot main", "color      red", made.Serial, made.CertificateID, "the unit given back to order lamps", "board replaced"} {
		if !strings.Contains(text, want) {
			t.Errorf("device show does not say %q\n%s", want, text)
		}
	}
	p.run("order", "close", "lamps", "--reason", "batch is done")
	text = p.run("order", "show", "lamps")
	for _, want := range []string{"state      closed", "issued     2 of 3 and 1 for scrap, 1 given back", "confirmed  1", "refused    1 certificate-revoked", "rate ", "devices    a list of 3", "batch is done"} {
		if !strings.Contains(text, want) {
			t.Errorf("order show does not say %q\n%s", want, text)
		}
	}
	p.run("clock", "accept", "--reason", "it is right anyway")
	for args, want := range map[string]int{"device show nobody": exitFailed, "device rekey lamp-1": exitUsage, "order close lamps": exitUsage, "clock accept": exitUsage,
		"device confirm lamp-1 --key x --challenge y": exitUsage, "device confirm lamp-1 --challenge y": exitUsage, "device confirm lamp-1 --challenge y --signature ?": exitUsage,
		"device confirm lamp-1 --key " + list: exitUsage, "device rekey lamp-1 --reason x --order nosuch": exitFailed, "device confirm lamp-1 --challenge y --signature AAAA": exitFailed} {
		if code, _, talk := p.try(strings.Fields(args)...); code != want {
			t.Errorf("%s: exit %d, want %d\n%s", args, code, want, talk)
		}
	}
	if code := s.stop(t); code != exitDone {
		t.Errorf("serve ended with %d\n%s", code, s.log)
	}
	if life := read[issuer.Device](p, "device show lamp-1"); len(life.Certificates) != 2 { // without serve
		t.Errorf("its life: %+v", life)
	}
}

// confirmByOpenSSL brings a challenge to a device and its signature back, as the help says.
func (p *testPlant) confirmByOpenSSL(id, keyFile string) {
	p.t.Helper()
	openssl, err := exec.LookPath("openssl")
	if err != nil {
		p.t.Log("openssl is not installed")
		return
	}
	ch := read[server.DeviceChallenge](p, "device confirm "+id)
	sign := exec.CommandContext(p.t.Context(), openssl, "dgst", "-sha256", "-sign", keyFile)
	sign.Stdin = strings.NewReader("certmill-confirm-v1\x00" + ch.Challenge.Challenge + ch.CertificateID)
	sig, err := sign.Output()
	if err != nil {
		p.t.Fatal(err)
	}
	p.run("device", "confirm", id, "--challenge", ch.Challenge.Challenge, "--signature", base64.StdEncoding.EncodeToString(sig))
}

// TestKilledDeviceCommands kills each command, and the service under it, at any time, and gives it again until it ends well: each has happened once.
func TestKilledDeviceCommands(t *testing.T) {
	p := newTestPlant(t)
	s := p.serve()
	line := p.station("line-1")
	p.run("order", "create", "--id", "first", "--product", "lamp", "--profile", "device", "--quantity", "10")
	keyFile, csr := p.unitKey("lamp-1")
	made, err := line.Issue(t.Context(), "first", client.Request{DeviceID: "lamp-1", CSR: csr})
	if err != nil {
		t.Fatal(err)
	}
	kills := 0
	for _, args := range []string{
		"order create --id second --product lamp --profile device --quantity 5 --until 720h",
		"device confirm lamp-1 --key " + keyFile,
		"device show lamp-1",
		"device rekey lamp-1 --reason killed --return-to-order --serial " + made.Serial,
		"order close second --reason killed",
		"order show first --unconfirmed-for 1h",
		"clock accept --reason killed",
	} {
		for n := 0; ; n++ {
			c, talk := command(t, append(strings.Fields(args), "-c", p.dir+"/certmill.yaml")...), &lockedBuffer{}
			c.Stdout, c.Stderr = talk, talk
			if err := c.Start(); err != nil {
				t.Fatal(err)
			}
			switch after := time.After(mrand.N(60 * time.Millisecond)); n {
			case 0, 2:
				<-after
				c.Process.Kill()
				kills++
			case 1:
				<-after
				s.kill()
				c.Wait() // a command that only reads goes on with the ledger itself, and a serve that starts meanwhile would find it in use
				s = p.serve()
				kills++
			}
			c.Wait()
			if code := c.ProcessState.ExitCode(); code == exitDone && n > 2 {
				break
			} else if n > 2 {
				t.Fatalf("%s, after %d kills: exit %d\n%s", args, n, code, talk)
			}
		}
	}
	life := read[issuer.Device](p, "device show lamp-1")
	first, second := read[issuer.Order](p, "order show first"), read[issuer.Order](p, "order show second")
	if len(life.Certificates) != 1 || life.Certificates[0].Rekey == nil || first.Confirmed != 1 || first.Returned != 1 || first.Issued != 1 || second.State != issuer.OrderClosed {
		t.Errorf("%+v\n%+v\n%+v", life, first, second)
	}
	if orders := read[[]issuer.Order](p, "order list"); len(orders) != 2 {
		t.Errorf("orders: %+v", orders)
	}
	if code := s.stop(t); code != exitDone {
		t.Errorf("serve ended with %d\n%s", code, s.log)
	}
	p.checkKinds(map[string]int{"order": 2, "order.closed": 1, "confirm": 1, "rekey": 1, "revocation": 1, "clock": 0})
	t.Logf("%d kills of commands and of serve: each command has happened once", kills)
}

// checkKinds counts entries of some kinds, and checks the ledger.
func (p *testPlant) checkKinds(want map[string]int) {
	p.t.Helper()
	l, err := openLedger(p.cfg, forReading, nil)
	if err != nil {
		p.t.Fatal(err)
	}
	defer l.Close()
	got := make(map[string]int)
	err = l.View(func(v *ledger.View) error {
		for e, err := range v.Entries(0) {
			if err != nil {
				return err
			}
			got[e.Kind]++
		}
		return nil
	})
	if err != nil {
		p.t.Fatal(err)
	}
	for kind, n := range want {
		if got[kind] != n {
			p.t.Errorf("%d entries of kind %s, want %d", got[kind], kind, n)
		}
	}
	if err := l.Check(); err != nil {
		p.t.Error(err)
	}
}

// TestClockOfServe: the newest intent is an hour ahead of the clock. serve issues nothing and says so, through kills and restarts, until somebody gives his word.
func TestClockOfServe(t *testing.T) {
	p := newTestPlant(t)
	s := p.serve()
	line := p.station("line-1")
	p.run("order", "create", "--id", "first", "--product", "lamp", "--profile", "device", "--quantity", "10")
	_, csr := p.unitKey("lamp-1")
	req := client.Request{DeviceID: "lamp-1", CSR: csr}
	if _, err := line.Issue(t.Context(), "first", req); err != nil {
		t.Fatal(err)
	}
	s.stop(t)
	p.intentInAnHour()
	s = p.serve()
	_, csr = p.unitKey("lamp-2")
	next := client.Request{DeviceID: "lamp-2", CSR: csr}
	soon, cancel := context.WithTimeout(t.Context(), time.Second)
	defer cancel()
	var problem *client.Problem
	if _, err := line.Issue(soon, "first", next); !errors.As(err, &problem) || problem.Code != client.CodeClockUntrusted || !problem.Retryable {
		t.Errorf("under a wrong clock: %v", err)
	}
	if a, err := line.Issue(t.Context(), "first", req); err != nil || !a.Replayed {
		t.Errorf("what is made: %+v, %v", a, err)
	}
	if code, text, _ := p.try("status"); code != exitFailed || !strings.Contains(text, "! clock") || !strings.Contains(text, "certmill clock accept") {
		t.Errorf("status: exit %d\n%s", code, text)
	}
	for n := 0; ; n++ { // the command or serve killed on the way
		c := command(t, "clock", "accept", "--reason", "set by the radio clock", "-c", p.dir+"/certmill.yaml")
		if err := c.Start(); err != nil {
			t.Fatal(err)
		}
		if n < 4 {
			<-time.After(mrand.N(60 * time.Millisecond))
			if n%2 == 0 {
				c.Process.Kill()
			} else {
				s.kill()
				s = p.serve()
			}
		}
		c.Wait()
		if n >= 4 {
			if code := c.ProcessState.ExitCode(); code != exitDone {
				t.Fatalf("clock accept: exit %d", code)
			}
			break
		}
	}
	if a, err := line.Issue(t.Context(), "first", next); err != nil || a.Replayed {
		t.Errorf("under a clock that is right: %+v, %v", a, err)
	}
	if code, text, talk := p.try("status"); code != exitDone {
		t.Errorf("status: exit %d\n%s%s", code, text, talk)
	}
	s.kill()
	s = p.serve()
	if code, text, talk := p.try("status"); code != exitDone {
		t.Errorf("status after a kill: exit %d\n%s%s", code, text, talk)
	}
	s.stop(t)
	p.checkKinds(map[string]int{"clock": 1})
}

// intentInAnHour leaves in the ledger what a clock that was an hour ahead would have left.
func (p *testPlant) intentInAnHour() {
	p.t.Helper()
	l, err := ledger.Open(ledger.Config{Path: p.cfg.path(p.cfg.Ledger.Bbolt), Now: func() time.Time { return time.Now().Add(time.Hour) }})
	if err != nil {
		p.t.Fatal(err)
	}
	if _, err := l.Update(func(tx *ledger.Tx) error {
		_, err := tx.Append(ledger.Draft{Kind: "intent", Payload: []byte("of a clock that was wrong")})
		return err
	}); err != nil {
		p.t.Fatal(err)
	}
	if err := l.Close(); err != nil {
		p.t.Fatal(err)
	}
}
