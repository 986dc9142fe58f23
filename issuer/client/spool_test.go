package client

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
	"time"
)

// A service that is away, comes back, refuses one device for good and answers the others; order and slot must reach it as they were asked.
func TestSpoolOutlivesAnOutage(t *testing.T) {
	var away atomic.Bool
	away.Store(true)
	var asked []string
	c := serve(t, func(w http.ResponseWriter, r *http.Request) {
		var req Request
		if err := json.NewDecoder(r.Body).Decode(&req); err != nil {
			t.Error(err)
		}
		if away.Load() {
			reply(w, 503, TypeProblem, Problem{Code: CodeHSMUnavailable, Retryable: true})
			return
		}
		asked = append(asked, r.URL.Path+" "+req.DeviceID)
		if req.DeviceID == "B" {
			reply(w, 409, TypeProblem, Problem{Code: CodeKeyInUse, Detail: "in use"})
			return
		}
		reply(w, 201, TypeJSON, Answer{DeviceID: req.DeviceID, Serial: "s-" + req.DeviceID})
	})
	dir := t.TempDir()
	s := openSpool(t, dir)
	var names []string
	for _, id := range []string{"C", "A", "B", "A"} {
		e, err := s.Add("O-1", Request{DeviceID: id})
		if err != nil {
			t.Fatal(err)
		}
		names = append(names, e.Name)
	}
	if names[1] != names[3] {
		t.Error("the same request stands twice")
	}
	ctx, cancel := context.WithTimeout(t.Context(), 150*time.Millisecond)
	defer cancel()
	if err := c.Replay(ctx, s); !errors.Is(err, context.DeadlineExceeded) {
		t.Fatalf("got %v, want the deadline", err)
	}
	away.Store(false)
	s = openSpool(t, dir) // as another process
	if err := c.Replay(t.Context(), s); err != nil {
		t.Fatal(err)
	}
	if got, want := strings.Join(asked, ", "), "/v1/orders/O-1/certificates C, /v1/orders/O-1/certificates A, /v1/orders/O-1/certificates B"; got != want {
		t.Errorf("asked %s\nwant %s", got, want)
	}
	if left, err := s.Waiting(); err != nil || len(left) != 0 {
		t.Errorf("still waiting: %v, %v", left, err)
	}
	got, err := s.Answered()
	if err != nil || len(got) != 3 || got[1].Line.Answer.Serial != "s-A" || got[2].Line.Problem.Code != CodeKeyInUse {
		t.Fatalf("answered: %+v, %v", got, err)
	}
	// A late answer waits for whoever asks again.
	e, err := s.Add("O-1", Request{DeviceID: "A"})
	if err != nil || e.Line == nil || e.Line.Answer.Serial != "s-A" {
		t.Errorf("asking again finds %+v, %v", e, err)
	}
	if e, err := s.Add("O-1", Request{DeviceID: "B"}); err != nil || e.Line != nil {
		t.Errorf("asking again what was refused finds %+v, %v", e, err)
	}
	if err := s.Remove(e.Name); err != nil {
		t.Fatal(err)
	}
	if _, err := s.Find(e.Name); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("after its removal: %v", err)
	}
}

// TestSpoolStates goes through what a crash may leave: a half-written file is nothing, and a request whose answer is there already is asked
// once more and gets the same.
func TestSpoolStates(t *testing.T) {
	calls := 0
	c := serve(t, func(w http.ResponseWriter, _ *http.Request) {
		calls++
		w.Header().Set(HeaderReplayed, "true")
		reply(w, 200, TypeJSON, Answer{DeviceID: "A", Serial: "01"})
	})
	dir := t.TempDir()
	s := openSpool(t, dir)
	e, err := s.Add("O-1", Request{DeviceID: "A"})
	if err != nil {
		t.Fatal(err)
	}
	write(t, filepath.Join(dir, "waiting"), "."+e.Name+".123", []byte(`{"order":"O`))
	text, err := os.ReadFile(filepath.Join(dir, "waiting", e.Name))
	if err != nil {
		t.Fatal(err)
	}
	if err := c.Replay(t.Context(), s); err != nil {
		t.Fatal(err)
	}
	write(t, filepath.Join(dir, "waiting"), e.Name, text) // the crash came before its removal
	if err := c.Replay(t.Context(), openSpool(t, dir)); err != nil || calls != 2 {
		t.Errorf("%d calls, %v", calls, err)
	}
	if all, err := s.Answered(); err != nil || len(all) != 1 || all[0].Line.Answer.Serial != "01" {
		t.Errorf("answered: %+v, %v", all, err)
	}
	write(t, filepath.Join(dir, "waiting"), "00000009-x.json", []byte("no JSON"))
	if err := c.Replay(t.Context(), s); err == nil || !strings.Contains(err.Error(), "00000009-x.json") {
		t.Errorf("a file that was spoilt: %v", err)
	}
}

func openSpool(t *testing.T, dir string) *Spool {
	t.Helper()
	s, err := OpenSpool(dir)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

// A station that must not lose a device keeps its request before it asks, and forgets it when the certificate is stored.
func ExampleClient_Replay() {
	dir, err := os.MkdirTemp("", "spool")
	if err != nil {
		fmt.Println(err)
		return
	}
	defer os.RemoveAll(dir)
	spool, err := OpenSpool(dir)
	if err != nil {
		fmt.Println(err)
		return
	}
	e, err := spool.Add("O-1", Request{DeviceID: "DEMO-000001", CSR: "-----BEGIN CERTIFICATE REQUEST-----…"})
	if err != nil {
		fmt.Println(err)
		return
	}
	station := func(ctx context.Context, c *Client) error {
		if err := c.Replay(ctx, spool); err != nil {
			return err // the service is away: the next call goes on, in this process or another
		}
		now, err := spool.Find(e.Name)
		if err != nil {
			return err
		}
		if now.Line.Problem != nil {
			return now.Line.Problem
		}
		// … store now.Line.Answer.Certificate, and then:
		return spool.Remove(e.Name)
	}
	_ = station
	waiting, err := spool.Waiting()
	fmt.Println(len(waiting), waiting[0].Request.DeviceID, err)
	// Output: 1 DEMO-000001 <nil>
}
