package server

import (
	"context"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"

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
	if err != nil || len(all) != 2 || all[1].Name != "line-1" || all[1].State != "disabled" {
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
