package server

import (
	"context"
	"crypto"
	"crypto/ecdsa"
	"crypto/rand"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"iter"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/certmill/certmill/issuer"
	"github.com/certmill/certmill/issuer/client"
)

// TestAdmin gives every command over the socket and, without a network, in the same process.
func TestAdmin(t *testing.T) {
	uid := strconv.Itoa(os.Getuid())
	for _, tt := range []struct {
		name, actor string
		client      func(f *factory) *AdminClient
	}{
		{"socket", "local:" + uid, func(f *factory) *AdminClient { return f.admin }},
		{"in process", "offline:" + uid, func(f *factory) *AdminClient { return InProcess(f.server.Admin(), "offline:"+uid) }},
	} {
		t.Run(tt.name, func(t *testing.T) {
			f := newFactory(t, nil)
			a := tt.client(f)
			adminOrders(t, f, a, tt.actor)
			adminDevices(t, f, a, tt.actor)
			adminStations(t, a, tt.actor)
			adminFreeze(t, a)
			adminCAs(t, f, a)
			adminStatus(t, f, a)
		})
	}
}

func adminOrders(t *testing.T, f *factory, a *AdminClient, actor string) {
	if all, err := a.Orders(t.Context()); err != nil || all == nil || len(all) != 0 {
		t.Errorf("orders at first: %v, %v", all, err)
	}
	made, err := a.CreateOrder(t.Context(), issuer.OrderSpec{Product: "demo", Profile: "device", Quantity: 5})
	if err != nil {
		t.Fatal(err)
	}
	if made.ID != "O-1" || made.By != actor || made.State != issuer.OrderOpen {
		t.Errorf("got %+v", made)
	}
	station := f.addStation(t, "line-0")
	for _, id := range []string{"unit-1", "unit-2"} {
		if _, err := f.stationClient(t, station).Issue(t.Context(), made.ID, ask(t, id)); err != nil {
			t.Fatal(err)
		}
	}
	if o, err := a.Order(t.Context(), made.ID); err != nil || o.Issued != 2 {
		t.Errorf("got %+v, %v, want 2 issued", o, err)
	}
	var ids []string
	for l, err := range a.Manifest(t.Context(), made.ID) {
		if err != nil {
			t.Fatal(err)
		}
		ids = append(ids, l.DeviceID)
	}
	if strings.Join(ids, " ") != "unit-1 unit-2" {
		t.Errorf("manifest: %v", ids)
	}
	for range a.Manifest(t.Context(), made.ID) {
		break // whoever has seen enough leaves nothing behind
	}
	for _, err := range a.Manifest(t.Context(), "O-9") {
		wantCode(t, err, client.CodeOrderUnknown)
	}
	_, err = a.Order(t.Context(), "O-9")
	wantCode(t, err, client.CodeOrderUnknown)
	_, err = a.CreateOrder(t.Context(), issuer.OrderSpec{ID: made.ID, Product: "demo", Profile: "device", Quantity: 5})
	wantCode(t, err, client.CodeExists)
	_, err = a.CreateOrder(t.Context(), issuer.OrderSpec{Product: "demo", Profile: "device"})
	wantCode(t, err, client.CodeInvalid)
}

// adminDevices goes through a unit's life: certificate, confirmation, rekey, next certificate, and the end of its order.
func adminDevices(t *testing.T, f *factory, a *AdminClient, actor string) {
	line := f.stationClient(t, f.addStation(t, "line-5"))
	spec := issuer.OrderSpec{ID: "life", Product: "lamp", Profile: "device", Quantity: 5, Scrap: 1, Plant: "Brno", Line: "3", EndsIn: time.Hour,
		Devices: []string{"lamp-1", "lamp-2", "lamp/3"}, Attributes: map[string]issuer.Attributes{"lamp-1": {"color": "red"}}}
	first, err := a.CreateOrder(t.Context(), spec)
	if err != nil {
		t.Fatal(err)
	}
	if again, err := a.CreateOrder(t.Context(), spec); err != nil || again.Until != first.Until || again.Listed != 3 {
		t.Errorf("created again: %+v, %v", again, err)
	}
	key := newKey(t)
	made, err := line.Issue(t.Context(), "life", client.Request{DeviceID: "lamp-1", CSR: toPEM(request(t, key, "lamp-1"))})
	if err != nil {
		t.Fatal(err)
	}
	for range 2 {
		_, err = line.Issue(t.Context(), "life", ask(t, "lamp-9"))
		wantCode(t, err, client.CodeDeviceNotInOrder)
	}
	waiting := collect(t, a.Unconfirmed(t.Context(), "life", 0))
	if len(waiting) != 1 || waiting[0].DeviceID != "lamp-1" || waiting[0].Station != "line-5" {
		t.Errorf("unconfirmed: %+v", waiting)
	}
	adminConfirm(t, a, key, made, actor)
	if o, err := a.Order(t.Context(), "life"); err != nil || o.Confirmed != 1 || o.Issued != 1 || o.PerHour == 0 || o.Forecast.IsZero() ||
		len(o.Refused) != 1 || o.Refused[client.CodeDeviceNotInOrder] != 2 {
		t.Errorf("order: %+v, %v", o, err)
	}
	if waiting := collect(t, a.Unconfirmed(t.Context(), "life", 0)); len(waiting) != 0 {
		t.Errorf("unconfirmed: %+v", waiting)
	}
	rekeyed, err := a.Rekey(t.Context(), issuer.RekeySpec{DeviceID: "lamp-1", Return: true, Reason: "board replaced"})
	if err != nil || rekeyed.By != actor || rekeyed.Serial != made.Serial {
		t.Errorf("rekey: %+v, %v", rekeyed, err)
	}
	next, err := line.Issue(t.Context(), "life", ask(t, "lamp-1"))
	if err != nil {
		t.Fatal(err)
	}
	d, err := a.Device(t.Context(), "", "lamp-1", "")
	if err != nil || len(d.Certificates) != 2 || d.Attributes["color"] != "red" || d.Certificates[0].Confirmed.By != actor || *d.Certificates[0].Rekey != rekeyed ||
		d.Certificates[1].CertificateID != next.CertificateID {
		t.Errorf("its life: %+v, %v", d, err)
	}
	closed, err := a.CloseOrder(t.Context(), "life", "done")
	if err != nil || closed.State != issuer.OrderClosed || closed.Closed.By != actor {
		t.Errorf("closed: %+v, %v", closed, err)
	}
	_, err = line.Issue(t.Context(), "life", ask(t, "lamp-2"))
	wantCode(t, err, client.CodeOrderClosed)
	_, err = a.Device(t.Context(), "", "lamp/3", "")
	wantCode(t, err, client.CodeNotFound)
	_, err = a.CloseOrder(t.Context(), "nosuch", "done")
	wantCode(t, err, client.CodeOrderUnknown)
	for _, err := range a.Unconfirmed(t.Context(), "life", -1) {
		wantCode(t, err, client.CodeInvalid)
	}
	if err := a.AcceptClock(t.Context(), "it is right anyway"); err != nil {
		t.Error(err)
	}
}

func adminConfirm(t *testing.T, a *AdminClient, key *ecdsa.PrivateKey, made client.Answer, actor string) {
	ch, err := a.Challenge(t.Context(), "lamp", "lamp-1", "main")
	if err != nil || ch.Serial != made.Serial || ch.CertificateID != made.CertificateID || ch.Order != "life" {
		t.Fatalf("challenge: %+v, %v", ch, err)
	}
	sig, err := key.Sign(rand.Reader, issuer.ConfirmDigest(ch.Challenge.Challenge, ch.CertificateID), crypto.SHA256)
	if err != nil {
		t.Fatal(err)
	}
	done, err := a.Confirm(t.Context(), "", "lamp-1", "", ch.Challenge.Challenge, sig)
	if err != nil || done.ConfirmedAt.IsZero() {
		t.Errorf("confirm: %+v, %v", done, err)
	}
	if again, err := a.Confirm(t.Context(), "", "lamp-1", "", ch.Challenge.Challenge, sig); err != nil || again != done {
		t.Errorf("confirm again: %+v, %v", again, err)
	}
	_, err = a.Confirm(t.Context(), "", "lamp-1", "", "x", nil)
	wantCode(t, err, client.CodeBodyMalformed)
	_, err = a.Challenge(t.Context(), "", "nosuch", "")
	wantCode(t, err, client.CodeNotFound)
}

func collect[T any](t *testing.T, seq iter.Seq2[T, error]) (all []T) {
	t.Helper()
	for v, err := range seq {
		if err != nil {
			t.Fatal(err)
		}
		all = append(all, v)
	}
	return all
}

func adminStations(t *testing.T, a *AdminClient, actor string) {
	csr := request(t, newKey(t), "line-1")
	added, err := a.AddStation(t.Context(), "line-1", csr)
	if err != nil {
		t.Fatal(err)
	}
	block, _ := pem.Decode(added.Plant)
	plant, err := x509.ParseCertificate(block.Bytes)
	if err != nil {
		t.Fatal(err)
	}
	cert, err := x509.ParseCertificate(added.Certificate)
	if err != nil {
		t.Fatal(err)
	}
	if err := cert.CheckSignatureFrom(plant); err != nil || added.Station.By != actor || cert.Subject.CommonName != "line-1" {
		t.Errorf("got %+v, %s, %v", added.Station, cert.Subject, err)
	}
	_, err = a.AddStation(t.Context(), "line-2", []byte("junk"))
	wantCode(t, err, client.CodeCSRMalformed)
	if err := a.DisableStation(t.Context(), "line-1", "stolen"); err != nil {
		t.Fatal(err)
	}
	wantCode(t, a.DisableStation(t.Context(), "line-9", "stolen"), client.CodeNotFound)
	all, err := a.Stations(t.Context())
	if err != nil || len(all) != 3 || all[1].Name != "line-1" || all[1].State != "disabled" {
		t.Errorf("stations: %+v, %v", all, err)
	}
}

func adminFreeze(t *testing.T, a *AdminClient) {
	all := issuer.Target{Kind: "all"}
	if err := a.Freeze(t.Context(), all, "smoke"); err != nil {
		t.Fatal(err)
	}
	if frozen, err := a.Frozen(t.Context()); err != nil || len(frozen) != 1 || frozen[0] != all {
		t.Errorf("frozen: %v, %v", frozen, err)
	}
	if err := a.Unfreeze(t.Context(), all, "no fire"); err != nil {
		t.Fatal(err)
	}
	if frozen, err := a.Frozen(t.Context()); err != nil || frozen == nil || len(frozen) != 0 {
		t.Errorf("frozen: %v, %v", frozen, err)
	}
	wantCode(t, a.Freeze(t.Context(), issuer.Target{Kind: "moon"}, "full"), client.CodeInvalid)
}

func adminCAs(t *testing.T, f *factory, a *AdminClient) {
	cas, err := a.CAs(t.Context())
	if err != nil || len(cas) != 3 || cas[0].Name != "issuing" {
		t.Errorf("CAs: %+v, %v", cas, err)
	}
	chain, err := a.Chain(t.Context(), "issuing")
	if err != nil || strings.Count(string(chain), "BEGIN CERTIFICATE") != 2 {
		t.Errorf("chain: %s, %v", chain, err)
	}
	profiles, err := a.Profiles(t.Context())
	if err != nil || len(profiles) != 1 || profiles[0].Name != "device" || profiles[0].Source != deviceProfile {
		t.Errorf("profiles: %+v, %v", profiles, err)
	}
	code := strings.Repeat("0123456789abcdef", 4)
	proof, err := a.Prove(t.Context(), "issuing", "111111111111", "eu-central-1", code)
	if err != nil {
		t.Fatal(err)
	}
	block, _ := pem.Decode(proof)
	cert, err := x509.ParseCertificate(block.Bytes)
	if err != nil {
		t.Fatal(err)
	}
	if err := cert.CheckSignatureFrom(f.issuing.Certificate()); err != nil || cert.Subject.CommonName != code {
		t.Errorf("proof: %s, %v", cert.Subject, err)
	}
}

func adminStatus(t *testing.T, f *factory, a *AdminClient) {
	s, err := a.Status(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if s.Node != "line-a" || s.Ready != "" || s.Ledger.Size != f.ledger.Checkpoint().Size || len(s.CAs) != 3 || s.Officers != "none: no quorum" ||
		s.Tokens["main"].Signers != 2 || s.Tokens["main"].Ready != "" || s.TLSMin != "1.3" {
		t.Errorf("got %+v", s)
	}
	f.signer.fail(errTokenAway)
	defer f.signer.fail(nil)
	if s, err := a.Status(t.Context()); err != nil || s.Tokens["main"].Ready != errTokenAway.Error() {
		t.Errorf("got %+v, %v", s.Tokens, err)
	}
}

func wantCode(t *testing.T, err error, code string) {
	t.Helper()
	var p *client.Problem
	if !errors.As(err, &p) || p.Code != code {
		t.Errorf("got %v, want %s", err, code)
	}
}

func TestAdminWithoutServe(t *testing.T) {
	dir := t.TempDir()
	if _, err := NewAdminClient(filepath.Join(dir, "none.sock")).Status(t.Context()); !errors.Is(err, ErrNotServing) {
		t.Errorf("got %v, want ErrNotServing", err)
	}
}

// TestAdminIsNobodyElses: TCP connections, in which nobody is known, are refused whatever they ask.
func TestAdminIsNobodyElses(t *testing.T) {
	f := newFactory(t, nil)
	address := f.serve(t, f.server.Admin(), nil)
	for _, path := range []string{"/status", "/orders", "/nothing"} {
		res, err := http.Get("http://" + address + path)
		if err != nil {
			t.Fatal(err)
		}
		res.Body.Close()
		if res.StatusCode != http.StatusForbidden {
			t.Errorf("%s: got %d, want 403", path, res.StatusCode)
		}
	}
}

// TestAdminUIDs: a process of another user is told that it is not allowed, until the configuration admits it.
func TestAdminUIDs(t *testing.T) {
	if os.Getuid() != 0 {
		t.Skip("needs root, to become somebody else")
	}
	curl, err := exec.LookPath("curl")
	if err != nil {
		t.Skip("needs curl")
	}
	const stranger = 12345
	for _, tt := range []struct {
		admitted []int
		status   string
	}{{nil, "403"}, {[]int{stranger}, "200"}} {
		f := newFactory(t, func(c *Config) { c.AdminUIDs = tt.admitted })
		// Mode 0600 keeps strangers out by itself; the uid is asked for all the same.
		if err := errors.Join(os.Chmod(f.socket, 0o666), os.Chmod(filepath.Dir(f.socket), 0o755)); err != nil {
			t.Fatal(err)
		}
		cmd := exec.CommandContext(t.Context(), curl, "-s", "-o", "/dev/null", "-w", "%{http_code}", "--unix-socket", f.socket, "http://certmill/status")
		cmd.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: stranger, Gid: stranger}}
		out, err := cmd.CombinedOutput()
		if err != nil || string(out) != tt.status {
			t.Errorf("admitted %v: got %s, %v, want %s", tt.admitted, out, err, tt.status)
		}
	}
}

// TestInProcessEndsWithItsContext: a caller that gives up is not kept by a handler that goes on.
func TestInProcessEndsWithItsContext(t *testing.T) {
	began, end := make(chan struct{}), make(chan struct{})
	a := InProcess(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		close(began)
		<-end
	}), "offline:0")
	ctx, cancel := context.WithCancel(t.Context())
	go func() {
		<-began
		cancel()
	}()
	if _, err := a.Status(ctx); !errors.Is(err, context.Canceled) {
		t.Errorf("got %v, want the context's end", err)
	}
	close(end)
}

// TestInProcessCutsOff: an answer that a handler cuts off is not taken for a whole one.
func TestInProcessCutsOff(t *testing.T) {
	a := InProcess(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if _, err := w.Write([]byte(`{"order":"O-1"}` + "\n")); err != nil {
			t.Error(err)
		}
		panic(http.ErrAbortHandler)
	}), "offline:0")
	var last error
	n := 0
	for _, err := range a.Manifest(t.Context(), "O-1") {
		n, last = n+1, err
	}
	if n != 2 || last == nil {
		t.Errorf("got %d elements, %v, want a line and an error", n, last)
	}
}
