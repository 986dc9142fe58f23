package hsm_test

import (
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/certmill/certmill/hsm"
	"github.com/certmill/certmill/hsm/hsmtest"
)

// cloneOf copies a SoftHSM token, as a vendor's cloning would.
func cloneOf(t *testing.T, cfg hsm.Config) hsm.Config {
	t.Helper()
	dir := t.TempDir()
	if out, err := exec.Command("cp", "-a", filepath.Join(cfg.Dir, "tokens"), dir).CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	conf := filepath.Join(dir, "softhsm2.conf")
	if err := os.WriteFile(conf, []byte("directories.tokendir = "+dir+"/tokens\nobjectstore.backend = file\nlog.level = ERROR\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	cfg.Name, cfg.Env, cfg.Dir, cfg.Keys = "clone", []string{"SOFTHSM2_CONF=" + conf}, dir, nil
	return cfg
}

// Two tokens with one key share the load; each may go away, and nobody notices.
func TestP7TwoTokensOneKey(t *testing.T) {
	main, public := newKey(t, hsm.P256)
	keys := main.Keys
	clone, cloneFaults := hsmtest.Faulty(t, cloneOf(t, main))
	main, mainFaults := hsmtest.Faulty(t, main)
	main.Keys, main.Signers, clone.Signers, main.Clones = keys, 1, 1, []hsm.Config{clone}
	token, key := openKey(t, main)
	wait(t, "both tokens", func() bool { return token.Stats().Signers == 2 })
	l := startLoad(t, key, public, 16)
	l.waitGood(500)
	for _, f := range []*hsmtest.Faults{mainFaults, cloneFaults} {
		wait(t, "its share of the load", func() bool { return f.Counts().Signatures >= 50 })
		f.Away(hsmtest.Forever)
		f.Reboot(hsmtest.Forever)
		l.waitGood(500)
		f.Away(0)
		wait(t, "its return", func() bool { return token.Stats().Signers == 2 })
	}
	l.stop()
	t.Logf("P7: two tokens with one key, each away in turn: %d signatures, %d failed", l.good.Load(), l.failed.Load())
}

// A clone that does not hold the same key never serves: the gate sees another public half, and the self-test another signature.
func TestCloneWithAnotherKey(t *testing.T) {
	main, _ := newKey(t, hsm.P256)
	other, _ := newKey(t, hsm.P256)
	lying, faults := hsmtest.Faulty(t, cloneOf(t, main))
	faults.Corrupt(hsmtest.Always(), 1, 1)
	main.Module = "/nowhere/p11.so" // so that readiness is the clone's
	for _, clone := range []hsm.Config{other, lying} {
		clone.Name = "clone"
		main.Clones = []hsm.Config{clone}
		token := hsm.Start(t.Context(), main)
		wait(t, "the refusal", func() bool { return errors.Is(token.Ready(), hsm.ErrUnfit) })
		if err := token.Ready(); !strings.Contains(err.Error(), "clone") || !strings.Contains(err.Error(), "ca-g1") {
			t.Errorf("error %v does not name token and key", err)
		}
		token.Close()
	}
}
