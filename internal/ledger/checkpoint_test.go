package ledger

import (
	"crypto/rand"
	"strings"
	"testing"

	"golang.org/x/mod/sumdb/note"
)

func TestVerifyCheckpoint(t *testing.T) {
	const hash = "AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8="
	key, verifier, err := note.GenerateKey(rand.Reader, "ledger.test")
	if err != nil {
		t.Fatal(err)
	}
	tests := []struct {
		name, text string
		ok         bool
	}{
		{"good", "ledger.test\n8\n" + hash + "\n", true},
		{"another origin", "ledger.tset\n8\n" + hash + "\n", false},
		{"leading zero", "ledger.test\n08\n" + hash + "\n", false},
		{"plus", "ledger.test\n+8\n" + hash + "\n", false},
		{"negative", "ledger.test\n-8\n" + hash + "\n", false},
		{"too large", "ledger.test\n9223372036854775808\n" + hash + "\n", false},
		{"no size", "ledger.test\n\n" + hash + "\n", false},
		{"no hash", "ledger.test\n8\n", false},
		{"short hash", "ledger.test\n8\nAAEC\n", false},
		{"bits after the hash", "ledger.test\n8\n" + strings.Replace(hash, "8=", "9=", 1) + "\n", false},
		{"one line more", "ledger.test\n8\n" + hash + "\nmore\n", false},
		{"space", "ledger.test\n8 \n" + hash + "\n", false},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			signer, err := note.NewSigner(key)
			if err != nil {
				t.Fatal(err)
			}
			signed, err := note.Sign(&note.Note{Text: test.text}, signer)
			if err != nil {
				t.Fatal(err)
			}
			cp, err := VerifyCheckpoint(signed, verifier)
			if (err == nil) != test.ok || test.ok && (cp.Size != 8 || cp.Hash[31] != 31 || string(cp.Note) != string(signed)) {
				t.Errorf("got %+v, %v", cp, err)
			}
			// No octet of the statement can be changed. (The last digit of the signature's base64 has bits that mean nothing.)
			for i := range signed {
				bad := append([]byte(nil), signed...)
				bad[i] ^= 1
				if got, err := VerifyCheckpoint(bad, verifier); err == nil && (got.Size != cp.Size || got.Hash != cp.Hash) {
					t.Errorf("with octet %d changed it states %+v", i, got)
				}
			}
		})
	}
	if _, err := VerifyCheckpoint(nil, verifier); err == nil {
		t.Error("nothing was taken for a checkpoint")
	}
	_, other, err := note.GenerateKey(rand.Reader, "ledger.test")
	if err != nil {
		t.Fatal(err)
	}
	signer, _ := note.NewSigner(key)
	cp, err := signCheckpoint(signer, 8, [32]byte{1})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := VerifyCheckpoint(cp.Note, other); err == nil {
		t.Error("another ledger's key of the same name verifies it")
	}
}
