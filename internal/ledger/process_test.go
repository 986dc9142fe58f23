//go:build unix

package ledger_test

import (
	"bufio"
	"fmt"
	"os"
	"os/exec"
	"strings"
	"syscall"
	"testing"

	"github.com/certmill/certmill/internal/ledger"
	"github.com/certmill/certmill/internal/ledger/ledgertest"
	"github.com/certmill/certmill/internal/testdisk"
)

// TestMain lets the test binary be the process that is killed, or whose disk is full, or that serves disks.
func TestMain(m *testing.M) {
	testdisk.ServeIfAsked()
	if path := os.Getenv("LEDGERTEST_PATH"); path != "" {
		fmt.Println("end", appendForEver(ledger.Config{Path: path, Marker: path + ".failed"}, os.Getenv("LEDGERTEST_GROWTH") != ""))
		os.Exit(0)
	}
	os.Exit(m.Run())
}

// appendForEver says "acked N" on standard output when entry N is in the ledger. With full, the file may soon grow no more.
func appendForEver(cfg ledger.Config, full bool) error {
	l, err := ledger.Open(cfg)
	if err != nil {
		return err
	}
	payload := make([]byte, 1000)
	if full {
		payload = make([]byte, 50_000) // to be there soon
		info, err := os.Stat(cfg.Path)
		if err != nil {
			return err
		}
		limit := uint64(info.Size() + 1<<20)
		if err := syscall.Setrlimit(syscall.RLIMIT_FSIZE, &syscall.Rlimit{Cur: limit, Max: limit}); err != nil {
			return err
		}
	}
	for {
		var index uint64
		_, err := l.Update(func(tx *ledger.Tx) error {
			for range 3 {
				name := fmt.Sprint(tx.Next())
				index, err = tx.Append(ledger.Draft{
					Kind: "intent", Payload: payload, Claims: []ledger.Claim{{Space: "device", Key: name}}, Heads: []string{name}, Opens: true,
				})
				if err != nil {
					return err
				}
			}
			return nil
		})
		if err != nil {
			return err
		}
		fmt.Println("acked", index)
	}
}

type child struct {
	cmd *exec.Cmd
	out *bufio.Scanner
}

func start(t *testing.T, cfg ledger.Config, env ...string) child {
	t.Helper()
	cmd := exec.Command(os.Args[0])
	cmd.Env = append(append(os.Environ(), "LEDGERTEST_PATH="+cfg.Path), env...)
	cmd.Stderr = os.Stderr
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	return child{cmd, bufio.NewScanner(out)}
}

// next is what the child says next, and the index if it is an acknowledgement.
func (c child) next() (line string, acked uint64) {
	if !c.out.Scan() {
		return "", 0
	}
	fmt.Sscanf(c.out.Text(), "acked %d", &acked)
	return c.out.Text(), acked
}

// Twenty times kill -9: everything that was acknowledged is there, and the store needs no repair.
func TestKilled(t *testing.T) {
	cfg := ledgertest.Create(t)
	var last uint64
	for round := range 20 {
		c := start(t, cfg)
		for range 3 + round*7%31 {
			line, acked := c.next()
			if acked == 0 {
				t.Fatalf("round %d: the child says %q", round, line)
			}
			last = acked
		}
		if err := c.cmd.Process.Kill(); err != nil {
			t.Fatal(err)
		}
		for line, acked := c.next(); line != ""; line, acked = c.next() { // what it said before it died
			last = max(last, acked)
		}
		c.cmd.Wait()
		mustHold(t, cfg, last)
	}
	t.Logf("20 of 20 kills, %d entries", last+1)
}

// A disk that takes no more, for once a real one to bbolt: the file may not grow.
func TestDiskFull(t *testing.T) {
	cfg := ledgertest.Create(t)
	cfg.Marker = cfg.Path + ".failed"
	c := start(t, cfg, "LEDGERTEST_GROWTH=no")
	var last uint64
	line, acked := c.next()
	for ; acked != 0; line, acked = c.next() {
		last = acked
	}
	if err := c.cmd.Wait(); err != nil {
		t.Fatal(err)
	}
	if !strings.Contains(line, ledger.ErrFailed.Error()) || !strings.Contains(line, "file too large") || last == 0 {
		t.Fatalf("after entry %d the child says %q", last, line)
	}
	if _, err := os.Stat(cfg.Marker); err != nil {
		t.Error(err)
	}
	mustHold(t, cfg, last)
	if _, err := os.Stat(cfg.Marker); err == nil {
		t.Error("the marker is still there")
	}
}

// mustHold opens the ledger, checks it, and looks for an entry that was acknowledged.
func mustHold(t *testing.T, cfg ledger.Config, index uint64) {
	t.Helper()
	l, err := ledger.Open(cfg)
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	if err := l.Check(); err != nil {
		t.Fatal(err)
	}
	err = l.View(func(v *ledger.View) error {
		holder, ok := v.Claimed(ledger.Claim{Space: "device", Key: fmt.Sprint(index)})
		if !ok || holder != index {
			t.Errorf("entry %d was acknowledged, its claim is held by %d (%v)", index, holder, ok)
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
}
