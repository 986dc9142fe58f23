//go:build linux

package hsm

import (
	"bytes"
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"sync/atomic"
	"testing"

	"golang.org/x/time/rate"
)

// What a daemon that was taken over may ask for as a self-test: nothing but the words of one, once for each key, from a signer that was started for it.
func TestSelftestSignsNothingElse(t *testing.T) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	words := append([]byte(selftestWords), make([]byte, 32)...)
	certificate := append([]byte{0x30, 0x82, 0x01, 0x00}, make([]byte, len(words)-4)...)
	for _, c := range []struct {
		name     string
		started  bool
		messages [][]byte
		want     []code
	}{
		{"the words, twice", true, [][]byte{words, words}, []code{codeDone, codeRefused}},
		{"the words and more", true, [][]byte{append(bytes.Clone(words), 0)}, []code{codeRefused}},
		{"a sequence of their length", true, [][]byte{certificate}, []code{codeRefused}},
		{"a refusal is not the one", true, [][]byte{certificate, words}, []code{codeRefused, codeDone}},
		{"a signer that was not started for it", false, [][]byte{words}, []code{codeRefused}},
	} {
		s := &signer{cfg: start{Selftest: c.started}, limit: rate.NewLimiter(1, 10),
			keys: []signingKey{{signer: key, hash: crypto.SHA256, public: key.Public(), tested: new(atomic.Bool)}}}
		for i, m := range c.messages {
			if got := s.manage(request{Op: opSelftest, Items: [][]byte{m}}); got.Code != c.want[i] {
				t.Errorf("%s, message %d: code %d %s, want %d", c.name, i, got.Code, got.Bytes, c.want[i])
			}
		}
		if got := s.manage(request{Op: opSelftest, Key: 1, Items: [][]byte{words}}); got.Code != codeRefused {
			t.Errorf("a key that is not there: code %d", got.Code)
		}
	}
}
