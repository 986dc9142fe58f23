package ledger

import (
	"fmt"
	"strconv"
	"strings"

	"golang.org/x/mod/sumdb/note"
	"golang.org/x/mod/sumdb/tlog"
)

// Checkpoint is a signed statement of the tree (golang.org/x/mod/sumdb/note; C2SP tlog-checkpoint).
type Checkpoint struct {
	Size uint64   // number of entries
	Hash [32]byte // root of the Merkle tree over them (RFC 6962)
	Note []byte   // the signed note
}

// VerifyCheckpoint checks a signed note against a ledger's verifier key (Ledger.VerifierKey), whose name must be the note's origin, and returns what it states.
func VerifyCheckpoint(signed []byte, verifierKey string) (Checkpoint, error) {
	verifier, err := note.NewVerifier(verifierKey)
	if err != nil {
		return Checkpoint{}, fmt.Errorf("verifier key: %w", err)
	}
	n, err := note.Open(signed, note.VerifierList(verifier))
	if err != nil {
		return Checkpoint{}, fmt.Errorf("checkpoint: %w", err)
	}
	lines := strings.SplitN(n.Text, "\n", 4)
	if len(lines) != 4 || lines[0] != verifier.Name() {
		return Checkpoint{}, fmt.Errorf("checkpoint is not one of %s", verifier.Name())
	}
	size, err := strconv.ParseInt(lines[1], 10, 64) // tlog counts in int64
	if err != nil || size < 0 {
		return Checkpoint{}, fmt.Errorf("checkpoint has no size")
	}
	hash, err := tlog.ParseHash(lines[2])
	if err != nil {
		return Checkpoint{}, fmt.Errorf("checkpoint has no hash: %w", err)
	}
	if n.Text != checkpointText(lines[0], uint64(size), hash) { // one text for one statement
		return Checkpoint{}, fmt.Errorf("checkpoint is not in its canonical form")
	}
	return Checkpoint{Size: uint64(size), Hash: hash, Note: signed}, nil
}

func checkpointText(origin string, size uint64, hash tlog.Hash) string {
	return fmt.Sprintf("%s\n%d\n%s\n", origin, size, hash)
}

func signCheckpoint(signer note.Signer, size uint64, hash tlog.Hash) (Checkpoint, error) {
	signed, err := note.Sign(&note.Note{Text: checkpointText(signer.Name(), size, hash)}, signer)
	if err != nil {
		return Checkpoint{}, fmt.Errorf("sign checkpoint: %w", err)
	}
	return Checkpoint{Size: size, Hash: hash, Note: signed}, nil
}
