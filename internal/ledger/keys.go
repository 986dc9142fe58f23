package ledger

import (
	"bytes"
	"crypto/aes"
	"crypto/cipher"
	"crypto/rand"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"os"

	"golang.org/x/mod/sumdb/note"

	"github.com/certmill/certmill/internal/durable"
)

// keys are the ledger's secrets, as they are used.
type keys struct {
	name     string
	signer   note.Signer
	verifier string // note format
	cipher   cipher.Block
}

// keyFile is how they stand in <Path>.key. Fields are never renamed; a new one needs a new version.
type keyFile struct {
	Version       int    `json:"version"` // 1
	Name          string `json:"name"`
	VerifierKey   string `json:"verifier_key"`
	CheckpointKey string `json:"checkpoint_key"`
	SerialSecret  string `json:"serial_secret"`
}

const maxKeyFile = 4096

// makeKeys writes a new key file; it is durable when makeKeys returns.
func makeKeys(path, name string) (*keys, error) {
	if err := checkName(name); err != nil {
		return nil, err
	}
	signer, verifier, err := note.GenerateKey(rand.Reader, name)
	if err != nil {
		return nil, fmt.Errorf("make checkpoint key: %w", err)
	}
	var secret [16]byte
	rand.Read(secret[:]) // never fails
	f := keyFile{Version: 1, Name: name, VerifierKey: verifier, CheckpointKey: signer, SerialSecret: hex.EncodeToString(secret[:])}
	data, err := json.MarshalIndent(f, "", "  ")
	if err != nil {
		return nil, err
	}
	if err := durable.WriteFile(path, append(data, '\n'), 0o600); err != nil {
		return nil, fmt.Errorf("write ledger key: %w", err)
	}
	return f.open()
}

// readKeys reads a key file; fs.ErrNotExist where there is none.
func readKeys(path string) (*keys, error) {
	info, err := os.Stat(path)
	if err != nil {
		return nil, err
	}
	if !info.Mode().IsRegular() || info.Size() > maxKeyFile {
		return nil, fmt.Errorf("%s is not a ledger key file", path)
	}
	if info.Mode().Perm()&0o077 != 0 {
		return nil, fmt.Errorf("%s may be read by others (mode %04o): chmod 600, and think about who may have", path, info.Mode().Perm())
	}
	data, err := os.ReadFile(path)
	if err != nil {
		return nil, err
	}
	var f keyFile
	dec := json.NewDecoder(bytes.NewReader(data))
	dec.DisallowUnknownFields()
	if err := dec.Decode(&f); err != nil {
		return nil, fmt.Errorf("%s is not a ledger key file: %w", path, err)
	}
	k, err := f.open()
	if err != nil {
		return nil, fmt.Errorf("%s: %w", path, err)
	}
	return k, nil
}

// open checks a key file's content. Its errors hold no secrets.
func (f *keyFile) open() (*keys, error) {
	if f.Version != 1 {
		return nil, fmt.Errorf("ledger key of version %d, this program knows 1", f.Version)
	}
	if checkName(f.Name) != nil {
		return nil, errors.New("name is malformed") // and not shown: a file whose lines were mixed up may have a key there
	}
	signer, err := note.NewSigner(f.CheckpointKey)
	if err != nil || signer.Name() != f.Name {
		return nil, errors.New("checkpoint_key is malformed or not of this name")
	}
	if v, err := note.NewVerifier(f.VerifierKey); err != nil || v.Name() != f.Name || v.KeyHash() != signer.KeyHash() {
		return nil, errors.New("verifier_key is malformed or not that of checkpoint_key")
	}
	secret, err := hex.DecodeString(f.SerialSecret)
	if err != nil || len(secret) != 16 {
		return nil, errors.New("serial_secret is not 32 hex digits")
	}
	block, err := aes.NewCipher(secret)
	if err != nil {
		return nil, err
	}
	return &keys{name: f.Name, signer: signer, verifier: f.VerifierKey, cipher: block}, nil
}

// checkName keeps to what can stand as an origin in a signed note, in logs and in file names.
func checkName(name string) error {
	for _, c := range []byte(name) {
		if c <= ' ' || c > '~' || c == '+' {
			return fmt.Errorf("ledger name %q: printable ASCII without spaces and plus signs", name)
		}
	}
	if len(name) < 1 || len(name) > 128 {
		return fmt.Errorf("ledger name of %d characters: 1 to 128", len(name))
	}
	return nil
}
