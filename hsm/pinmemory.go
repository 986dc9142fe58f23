package hsm

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"time"

	"github.com/certmill/certmill/internal/durable"
)

// The PIN rule (promise P7): one wrong PIN is tried once, over all processes and restarts. Before a login the memory says "trying", on disk and synced;
// after it "good" or "wrong". What a crash leaves is "trying": whether the token counted a wrong PIN is not known, so one more try is
// allowed only where the token's own flags show no failed login.

// pinSource tells one PIN source from another, and a replaced file from the one before, by nothing that comes from the PIN itself.
type pinSource struct {
	Path  string // of the file; or what is typed at
	Inode uint64
	MTime int64 // nanoseconds since 1970
	Size  int64
}

// pinState is what became of the last try.
type pinState string

const (
	pinTrying pinState = "trying"
	pinGood   pinState = "good"
	pinWrong  pinState = "wrong"

	pinChanging pinState = "changing" // C_SetPIN may or may not have been carried out: the new PIN or this one
)

// pinMemory is the file, as JSON. It holds nothing that comes from the PIN.
type pinMemory struct {
	Version int       `json:"version"`
	State   pinState  `json:"state"`
	Token   string    `json:"token"` // its serial number
	Source  pinSource `json:"source"`
	At      time.Time `json:"at"`
}

// pinFlags are a token's own words on logins (PKCS#11 v2.40, CK_TOKEN_INFO).
type pinFlags struct {
	CountLow, FinalTry, Locked bool
}

// clean reports whether the token knows of no failed login.
func (f pinFlags) clean() bool { return !f.CountLow && !f.FinalTry && !f.Locked }

// mayTry decides whether a PIN from a source may be tried now at a token.
func (m pinMemory) mayTry(token string, source pinSource, flags pinFlags) error {
	known := m.Token == token && m.Source == source
	switch {
	case flags.Locked:
		return errors.New("the token has locked the user PIN: its security officer has to unlock it")
	case flags.FinalTry:
		return errors.New("the token allows one last try before it locks the PIN: log in once by hand (pkcs11-tool --login) with the right PIN")
	case known && m.State == pinWrong && source.Inode == 0: // no file of ours: whether it was replaced is not seen
		return fmt.Errorf("the token refused this PIN on %s: mend %s, then allow one try with certmill hsm pin-retry", m.At.Format(time.RFC3339), source.Path)
	case known && m.State == pinWrong:
		return fmt.Errorf("the token refused this PIN on %s: replace %s, or allow one more try with certmill hsm pin-retry", m.At.Format(time.RFC3339), source.Path)
	case known && m.State == pinChanging:
		return fmt.Errorf("a change of the PIN on %s was cut off: certmill hsm pin-change finishes it", m.At.Format(time.RFC3339))
	case known && m.State == pinTrying && !flags.clean():
		return fmt.Errorf("a login on %s was cut off and the token has counted a wrong PIN since the last good one: check the PIN, then allow one try with certmill hsm pin-retry", m.At.Format(time.RFC3339))
	}
	return nil
}

// readPINMemory reads the file; a missing one, and "", remember nothing.
func readPINMemory(path string) (m pinMemory, err error) {
	if path == "" {
		return m, nil
	}
	data, err := os.ReadFile(path)
	if errors.Is(err, fs.ErrNotExist) {
		return m, nil
	}
	if err == nil {
		err = json.Unmarshal(data, &m)
	}
	if err == nil && m.Version != 1 {
		err = fmt.Errorf("version %d is not known", m.Version)
	}
	if err != nil {
		return m, fmt.Errorf("PIN memory %s: %w", path, err)
	}
	return m, nil
}

// write replaces the file, synced.
func (m pinMemory) write(path string) error {
	m.Version = 1
	data, err := json.MarshalIndent(m, "", "  ")
	if err != nil {
		return err
	}
	if err := durable.WriteFile(path, append(data, '\n'), 0o600); err != nil {
		return fmt.Errorf("PIN memory: %w", err)
	}
	return nil
}

// AllowPINRetry forgets that a PIN was refused, so that the next start tries it once. It reports whether there was anything to forget.
func AllowPINRetry(memory string) (forgot bool, err error) {
	m, err := readPINMemory(memory)
	if err != nil || m.State == pinGood || m.State == "" {
		return false, err
	}
	if m.State == pinChanging {
		return false, fmt.Errorf("%w: a change of the PIN on %s was cut off: certmill hsm pin-change finishes it", ErrPIN, m.At.Format(time.RFC3339))
	}
	if err := os.Remove(memory); err != nil {
		return false, fmt.Errorf("PIN memory: %w", err)
	}
	return true, nil
}
