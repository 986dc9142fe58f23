package main

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/certmill/certmill/internal/testdisk"
)

// TestStoreOnTerminal: who restores is asked, and a bar shows how far a check is; anything but the word itself does nothing.
func TestStoreOnTerminal(t *testing.T) {
	p := newTestPlant(t)
	backup := filepath.Join(t.TempDir(), "b.ledger")
	p.run("store", "backup", backup)
	if err := os.RemoveAll(filepath.Dir(p.cfg.ledgerPath())); err != nil {
		t.Fatal(err)
	}
	for _, test := range []struct {
		answer string
		code   int
	}{{"yes", exitUsage}, {"restore", exitDone}} {
		master, terminal, err := openTerminal()
		if err != nil {
			t.Skip(err)
		}
		if err := unix.IoctlSetWinsize(int(master.Fd()), unix.TIOCSWINSZ, &unix.Winsize{Row: 25, Col: 100}); err != nil {
			t.Fatal(err)
		}
		said := make(chan []byte)
		go func() { said <- answerPrompts(master, []string{test.answer}) }()
		var out strings.Builder
		e := &env{stdin: terminal, stdout: &out, stderr: terminal, getenv: os.Getenv}
		code := run(t.Context(), e, []string{"store", "restore", backup, "-c", filepath.Join(p.dir, "certmill.yaml")})
		terminal.Close()
		talk := string(<-said)
		master.Close()
		if code != test.code || exists(p.cfg.ledgerPath()) != (code == exitDone) || !strings.Contains(talk, "Type restore to go on") || !strings.Contains(talk, "checking  ") {
			t.Errorf("%s: exit %d, want %d\n%s", test.answer, code, test.code, talk)
		}
	}
}

// TestStoreOnNetwork: a ledger on a network file system is a fault that check names, a backup on one is none.
func TestStoreOnNetwork(t *testing.T) {
	p := newTestPlant(t)
	drive, stick := testdisk.Start(t), t.TempDir()
	drive.MountNamed(t, stick, "sshfs")
	p.run("store", "backup", filepath.Join(stick, "b.ledger"))
	if code, r := p.report(filepath.Join(stick, "b.ledger")); code != exitDone {
		t.Errorf("backup: exit %d, %+v", code, r)
	}
	moveLedger(t, p, func(dir string) { drive.MountNamed(t, dir, "sshfs") })
	if code, r := p.report(); code != exitVerify || r.Network != "fuse.sshfs" || len(r.Faults) != 1 {
		t.Errorf("ledger: exit %d, %+v", code, r)
	}
}
