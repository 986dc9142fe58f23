package main

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"golang.org/x/sys/unix"
)

// TestProgress draws a bar on a terminal, with the total of the file, and nothing into a file.
func TestProgress(t *testing.T) {
	name := filepath.Join(t.TempDir(), "in.jsonl")
	if err := os.WriteFile(name, []byte(strings.Repeat("{}\n", 12)), modePublic); err != nil {
		t.Fatal(err)
	}
	file, err := os.OpenFile(name, os.O_RDWR, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer file.Close()
	lines, err := countLines(file)
	if err != nil {
		t.Fatal(err)
	}
	draw := func(to *os.File) {
		p := (&env{stderr: to}).newProgress("issue", lines)
		p.add(7)
		p.done()
	}
	draw(file)
	if text, err := os.ReadFile(name); err != nil || len(text) != 36 {
		t.Errorf("a bar in a file: %q, %v", text, err)
	}
	master, terminal, err := openTerminal()
	if err != nil {
		t.Skip(err)
	}
	defer master.Close()
	if err := unix.IoctlSetWinsize(int(master.Fd()), unix.TIOCSWINSZ, &unix.Winsize{Row: 25, Col: 100}); err != nil {
		t.Fatal(err)
	}
	draw(terminal)
	terminal.Close()
	if said := answerPrompts(master, nil); !strings.Contains(string(said), "issue  7 of 12") {
		t.Errorf("on a terminal: %q", said)
	}
}
