package main

import (
	"context"
	"encoding/json"
	"errors"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/certmill/certmill/hsm/hsmtest"
	"github.com/certmill/certmill/internal/ledger"
	"github.com/certmill/certmill/issuer"
	"github.com/certmill/certmill/issuer/client"
)

// TestP7ServeWhileTheTokenIsAway starts serve without its token. What is stored is answered, what would have to be signed is told to come again, and nobody
// is needed when the token comes.
func TestP7ServeWhileTheTokenIsAway(t *testing.T) {
	p, faults := faultyPlant(t)
	s := p.serve()
	cl := p.station("line-1")
	order := p.order(10)
	known := client.Request{DeviceID: "DEMO-1", CSR: newCSR(t, "DEMO-1")}
	first, err := cl.Issue(t.Context(), order, known)
	if err != nil {
		t.Fatal(err)
	}
	s.stop(t)
	faults.Away(hsmtest.Forever)
	s = p.serve()
	again, err := cl.Issue(t.Context(), order, known)
	if err != nil || again.Certificate != first.Certificate {
		t.Errorf("a stored certificate while the token is away: %v", err)
	}
	if code := p.get("/readyz"); code != http.StatusOK {
		t.Errorf("/readyz: %d", code)
	}
	if code := p.get("/readyz?sign"); code != http.StatusServiceUnavailable {
		t.Errorf("/readyz?sign: %d", code)
	}
	fresh := client.Request{DeviceID: "DEMO-2", CSR: newCSR(t, "DEMO-2")}
	ctx, cancel := context.WithTimeout(t.Context(), 2*time.Second)
	defer cancel()
	var problem *client.Problem
	if _, err := cl.Issue(ctx, order, fresh); errors.As(err, &problem) && problem.Code != client.CodeHSMUnavailable || err == nil {
		t.Errorf("a new certificate while the token is away: %v", err)
	}
	faults.Away(0)
	waitFor(t, 20*time.Second, func() error { _, err := cl.Issue(t.Context(), order, fresh); return err }, s.log)
	if code := s.stop(t); code != exitDone {
		t.Errorf("serve ended with %d\n%s", code, s.log)
	}
	t.Log("P7: serve started without its token: stored certificates answered, a new one signed when the token came, nobody needed")
}

// get asks the metrics listener.
func (p *testPlant) get(path string) int {
	p.t.Helper()
	r, err := http.Get("http://" + p.cfg.Listen.Metrics + path)
	if err != nil {
		p.t.Fatal(err)
	}
	r.Body.Close()
	return r.StatusCode
}

// TestSelftestIsRecorded opens a plant whose token has a clone: the signatures by which both show that they hold the same keys stand in
// the ledger before they are made (P1).
func TestSelftestIsRecorded(t *testing.T) {
	p := newTestPlant(t)
	if out, err := exec.Command("cp", "-a", filepath.Join(p.dir, softHSMObject), filepath.Join(p.dir, "tokens/clone")).CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	if err := os.WriteFile(filepath.Join(p.dir, "tokens/clone.conf"), []byte("directories.tokendir = tokens/clone\nobjectstore.backend = file\n"), modePublic); err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(p.dir, "certmill.yaml")
	text, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	module := p.cfg.Tokens["main"].Module
	conf := strings.Replace(string(text), "  main:\n", "  clone:\n    module: "+module+"\n    token: certmill\n    pin: {file: tokens/pin}\n"+
		"    env: {SOFTHSM2_CONF: tokens/clone.conf}\n    signers: 1\n  main:\n    clones: [clone]\n", 1)
	if err := os.WriteFile(path, []byte(conf), modePublic); err != nil {
		t.Fatal(err)
	}
	p.load()
	s := p.serve()
	cl := p.station("line-1")
	if _, err := cl.Issue(t.Context(), p.order(10), client.Request{DeviceID: "DEMO-1", CSR: newCSR(t, "DEMO-1")}); err != nil {
		t.Error(err)
	}
	if code := s.stop(t); code != exitDone {
		t.Fatalf("serve ended with %d\n%s", code, s.log)
	}
	l, err := openLedger(p.cfg, forReading, nil)
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	var found []string
	err = l.View(func(v *ledger.View) error {
		for i := range l.Checkpoint().Size {
			e, err := v.Entry(i)
			if err != nil {
				return err
			}
			if e.Kind == issuer.EntrySelftest {
				var entry struct{ Tokens []string }
				if err := json.Unmarshal(e.Payload, &entry); err != nil {
					return err
				}
				found = entry.Tokens
			}
		}
		return nil
	})
	if err != nil || !slices.Equal(found, []string{"main", "clone"}) {
		t.Errorf("tokens %v, %v", found, err)
	}
}
