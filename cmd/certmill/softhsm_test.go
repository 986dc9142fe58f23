package main

import (
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// The random PIN of the file must be the one that the token accepts, and a second call must find the first one's token.
func TestMakeSoftHSM(t *testing.T) {
	for _, tool := range []string{"softhsm2-util", "pkcs11-tool"} {
		if _, err := exec.LookPath(tool); err != nil {
			t.Skipf("%s is not installed", tool)
		}
	}
	dir := t.TempDir()
	choice, err := makeSoftHSM(t.Context(), dir)
	if err != nil {
		t.Fatal(err)
	}
	pin, err := os.ReadFile(filepath.Join(dir, choice.PINFile))
	if err != nil {
		t.Fatal(err)
	}
	login := exec.Command("pkcs11-tool", "--module", choice.Module, "--token-label", choice.Token, "--login", "--pin", "env:PIN", "--list-objects")
	login.Dir = dir
	login.Env = append(os.Environ(), "SOFTHSM2_CONF=tokens/softhsm2.conf", "PIN="+string(pin))
	if out, err := login.CombinedOutput(); err != nil {
		t.Fatalf("log in with the PIN of the file: %v\n%s", err, out)
	}
	before := tree(t, filepath.Join(dir, "tokens"))
	if again, err := makeSoftHSM(t.Context(), dir); err != nil || again.Module != choice.Module {
		t.Fatalf("second call: %+v, %v", again, err)
	}
	if after := tree(t, filepath.Join(dir, "tokens")); after != before {
		t.Fatalf("second call changed the token:\n%s\nbefore\n%s", after, before)
	}
}

func tree(t *testing.T, dir string) string {
	t.Helper()
	var names []string
	err := filepath.WalkDir(dir, func(path string, _ os.DirEntry, err error) error {
		names = append(names, path)
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return strings.Join(names, "\n")
}

// TestPINPrompt types the PIN at a terminal. The process that asks was in a process group of its own, so the terminal stopped it for ever.
func TestPINPrompt(t *testing.T) {
	p := newTestPlant(t)
	conf := filepath.Join(p.dir, "certmill.yaml")
	text, err := os.ReadFile(conf)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(conf, []byte(strings.Replace(string(text), "file: tokens/pin", "prompt: true", 1)), modePublic); err != nil {
		t.Fatal(err)
	}
	pin, err := os.ReadFile(filepath.Join(p.dir, "tokens/pin"))
	if err != nil {
		t.Fatal(err)
	}
	c := command(t, "ceremony", "run", filepath.Join(p.dir, "ca/root.yaml"), "-c", conf)
	timer := time.AfterFunc(20*time.Second, func() { c.Process.Kill() })
	defer timer.Stop()
	if err := runAtTerminal(c, string(pin)); err != nil {
		t.Error(err)
	}
}
