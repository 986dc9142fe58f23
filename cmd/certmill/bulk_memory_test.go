package main

import (
	"bufio"
	"bytes"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"encoding/pem"
	"fmt"
	"math/big"
	mrand "math/rand/v2"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/certmill/certmill/issuer/client"
)

// TestBulkMemoryIsFlat answers 200,000 lines (10 million with CERTMILL_TEST_LONG and without the race detector), a tenth of them with a refusal, over several connections and in any
// order of arrival. The heap after each tenth of the way, garbage collected, stays what it was after the first one; the outputs are in order;
// and so it is again when a finished run is resumed, which reads all of it.
func TestBulkMemoryIsFlat(t *testing.T) {
	lines := 200_000
	if os.Getenv("CERTMILL_TEST_LONG") != "" && !underRace {
		lines = 10_000_000
	}
	heap := &heapWatch{every: int64(lines / 10)}
	station := fakeStation(t, func(w http.ResponseWriter, r *http.Request) {
		time.Sleep(mrand.N(3 * time.Millisecond)) // the batches overtake each other
		heap.saw(answerAll(t, w, r))
	})
	dir := t.TempDir()
	in, out, rejects := filepath.Join(dir, "in.jsonl"), filepath.Join(dir, "out.jsonl"), filepath.Join(dir, "rejects.jsonl")
	writeNumbers(t, in, lines)
	args := []string{"issue", "-c", station, "--order", "O-1", "--in", in, "--out", out, "--rejects", rejects, "--resume", "--parallel", "8"}
	began := time.Now()
	for range 2 {
		e := &env{stdin: strings.NewReader(""), stdout: &bytes.Buffer{}, stderr: &bytes.Buffer{}, getenv: os.Getenv}
		if code := run(t.Context(), e, args); code != exitPartly {
			t.Fatalf("exit %d, want %d: %v", code, exitPartly, e.stderr)
		}
		heap.note()
	}
	n := 0
	for _, path := range []string{out, rejects} {
		last := 0
		eachLine(t, path, func(line []byte) {
			n++
			if bytes.HasPrefix(line, []byte(`{"line"`)) == bytes.HasPrefix(line, []byte(`{"status":201`)) {
				t.Fatalf("%s: %s", path, line)
			}
			_, rest, _ := bytes.Cut(line, []byte(`"device_id":"`))
			id, _, _ := bytes.Cut(rest, []byte(`"`))
			if now, err := strconv.Atoi(string(id)); err != nil || now <= last {
				t.Fatalf("%s: %d after %d", path, now, last)
			} else {
				last = now
			}
		})
	}
	if n != lines || heap.seen.Load() != int64(lines) {
		t.Errorf("%d lines written, %d asked, want %d each", n, heap.seen.Load(), lines)
	}
	first, most := heap.sizes[0], uint64(0)
	for _, size := range heap.sizes {
		most = max(most, size)
	}
	if most > first+8<<20 {
		t.Errorf("the heap grows: %v", heap.sizes)
	}
	t.Logf("%d lines in %v, heap after a tenth %.1f MiB, at most %.1f MiB", lines, time.Since(began).Round(time.Millisecond), float64(first)/(1<<20), float64(most)/(1<<20))
}

// heapWatch notes the live heap after every so many lines.
type heapWatch struct {
	every int64
	seen  atomic.Int64
	mu    sync.Mutex
	sizes []uint64 // guarded by mu
}

func (h *heapWatch) saw(n int) {
	now := h.seen.Add(int64(n))
	if now/h.every != (now-int64(n))/h.every {
		h.note()
	}
}

func (h *heapWatch) note() {
	h.mu.Lock()
	defer h.mu.Unlock()
	var m runtime.MemStats
	runtime.GC()
	runtime.ReadMemStats(&m)
	h.sizes = append(h.sizes, m.HeapAlloc)
}

// answerAll answers every line of a batch; ids that end in 7 are refused.
func answerAll(t *testing.T, w http.ResponseWriter, r *http.Request) (n int) {
	w.Header().Set("Content-Type", client.TypeNDJSON)
	if err := http.NewResponseController(w).EnableFullDuplex(); err != nil {
		t.Error(err)
	}
	in, out := bufio.NewScanner(r.Body), json.NewEncoder(w)
	for ; in.Scan(); n++ {
		var req client.Request
		if err := json.Unmarshal(in.Bytes(), &req); err != nil {
			t.Error(err)
		}
		l := client.Line{Status: 201, Answer: client.Answer{DeviceID: req.DeviceID, Serial: "5a"}}
		if strings.HasSuffix(req.DeviceID, "7") {
			l.Status, l.Problem = 409, &client.Problem{Status: 409, Code: client.CodeKeyInUse}
		}
		if err := out.Encode(l); err != nil {
			t.Error(err)
		}
	}
	return n
}

// writeNumbers writes requests for the devices 1 to n.
func writeNumbers(t *testing.T, path string, n int) {
	t.Helper()
	f, err := os.Create(path)
	if err != nil {
		t.Fatal(err)
	}
	b := bufio.NewWriter(f)
	for i := 1; i <= n; i++ {
		fmt.Fprintf(b, `{"device_id":"%d","csr":"x"}`+"\n", i)
	}
	if err := b.Flush(); err != nil {
		t.Fatal(err)
	}
	if err := f.Close(); err != nil {
		t.Fatal(err)
	}
}

// fakeStation is a station.yaml for a service that a handler plays.
func fakeStation(t *testing.T, h http.HandlerFunc) string {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	c := &x509.Certificate{SerialNumber: big.NewInt(1), NotAfter: time.Now().Add(24 * time.Hour), IsCA: true, BasicConstraintsValid: true,
		IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)}}
	der, err := x509.CreateCertificate(rand.Reader, c, c, key.Public(), key)
	if err != nil {
		t.Fatal(err)
	}
	pkcs8, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		t.Fatal(err)
	}
	srv := httptest.NewUnstartedServer(h)
	srv.TLS = &tls.Config{Certificates: []tls.Certificate{{Certificate: [][]byte{der}, PrivateKey: key}}}
	srv.StartTLS()
	t.Cleanup(srv.Close)
	dir := t.TempDir()
	cert := string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der}))
	put(t, filepath.Join(dir, "station.crt"), cert)
	put(t, filepath.Join(dir, "ca.crt"), cert)
	put(t, filepath.Join(dir, "station.key"), string(pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: pkcs8})))
	put(t, filepath.Join(dir, "station.yaml"), "server: "+srv.URL+"\n")
	return filepath.Join(dir, "station.yaml")
}
