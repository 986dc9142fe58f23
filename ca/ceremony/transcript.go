package ceremony

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"time"

	"github.com/certmill/certmill/internal/durable"
)

// Steps in the order in which they stand in every transcript.
const (
	stepBegin = iota
	stepMake
	stepKey
	stepIntent
	stepSignature
	stepEnd
)

func stepName(step int) string {
	return [...]string{"begin", "make", "key", "intent", "signature", "end"}[step]
}

// line is one line of a transcript. Each step fills in its own fields.
type line struct {
	Prev        string    `json:"prev"` // hex SHA-256 of the line before, without its newline; of nothing for the first
	Time        time.Time `json:"time"`
	Step        string    `json:"step"`
	File        string    `json:"file,omitempty"`        // begin: the ceremony file
	Label       string    `json:"label,omitempty"`       // make, key
	Algorithm   string    `json:"algorithm,omitempty"`   // make
	Public      []byte    `json:"public,omitempty"`      // key: SubjectPublicKeyInfo
	TBS         []byte    `json:"tbs,omitempty"`         // intent
	Certificate []byte    `json:"certificate,omitempty"` // signature: DER
	SHA256      string    `json:"sha256,omitempty"`      // end: of the certificate
}

// transcript is the file of a ceremony that is going on, or over.
type transcript struct {
	path  string
	text  []byte // whole lines
	lines []line
	fault func(point string) error // lets a test stop at any point
}

// maxTranscript bounds what is read: a ceremony file and six lines.
const maxTranscript = 1 << 20

// openTranscript reads what there is. A last line without its end was torn by a crash and never acted upon: it is cut off. The file
// is written anew as a whole, so that what the next line builds on is on the disk, whatever became of the last sync.
func openTranscript(path string, fault func(string) error) (*transcript, error) {
	t := &transcript{path: path, fault: fault}
	if info, err := os.Stat(path); err == nil && info.Size() > maxTranscript {
		return nil, fmt.Errorf("transcript %s has %d octets: it is none", path, info.Size())
	}
	text, err := os.ReadFile(path)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return t, nil
	case err != nil:
		return nil, fmt.Errorf("read transcript: %w", err)
	}
	whole := text[:bytes.LastIndexByte(text, '\n')+1]
	for raw := range bytes.Lines(whole) {
		if err := t.take(raw); err != nil {
			return nil, fmt.Errorf("transcript %s: %w", path, err)
		}
	}
	if err := durable.WriteFile(path, whole, 0o644); err != nil {
		return nil, fmt.Errorf("transcript: %w", err)
	}
	return t, nil
}

// take reads the next line and checks that it is the one that must follow.
func (t *transcript) take(raw []byte) error {
	n := len(t.lines)
	if n > stepEnd {
		return errors.New("it goes on after its end")
	}
	var l line
	d := json.NewDecoder(bytes.NewReader(raw))
	d.DisallowUnknownFields()
	if err := d.Decode(&l); err != nil {
		return fmt.Errorf("line %d: %w", n+1, err)
	}
	if l.Step != stepName(n) || l.Prev != t.head() {
		return fmt.Errorf("line %d: it does not follow line %d", n+1, n)
	}
	t.lines, t.text = append(t.lines, l), append(t.text, raw...)
	return nil
}

// head is the hash of the last line.
func (t *transcript) head() string {
	text := bytes.TrimSuffix(t.text, []byte("\n"))
	return hash(text[bytes.LastIndexByte(text, '\n')+1:])
}

// sum is the hash of the whole file.
func (t *transcript) sum() string { return hash(t.text) }

func hash(b []byte) string {
	sum := sha256.Sum256(b)
	return hex.EncodeToString(sum[:])
}

// at returns the line of a step, where it is there.
func (t *transcript) at(step int) (line, bool) {
	if step < len(t.lines) {
		return t.lines[step], true
	}
	return line{}, false
}

// append writes the line of the next step and returns once it is durable. After an error its fate is unknown: the next run finds out.
func (t *transcript) append(step int, now time.Time, l line) error {
	l.Prev, l.Time, l.Step = t.head(), now.UTC().Truncate(time.Second), stepName(step)
	raw, err := json.Marshal(l)
	if err != nil {
		return err
	}
	raw = append(raw, '\n')
	if err := t.write(l.Step, raw); err != nil {
		return fmt.Errorf("transcript: %s: %w", l.Step, err)
	}
	return t.take(raw)
}

func (t *transcript) write(step string, raw []byte) (err error) {
	if err := t.fault("before " + step); err != nil {
		return err
	}
	f, err := os.OpenFile(t.path, os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o644)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, f.Close()) }()
	if _, err := f.Write(raw); err != nil {
		return err
	}
	if err := t.fault("written " + step); err != nil {
		return err
	}
	if err := errors.Join(f.Sync(), durable.SyncDir(filepath.Dir(t.path))); err != nil {
		return err
	}
	return t.fault("recorded " + step)
}
