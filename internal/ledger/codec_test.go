package ledger

import (
	"bytes"
	"encoding/hex"
	"errors"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"
	"time"
)

// fullEntry uses every field.
func fullEntry() Entry {
	return Entry{Index: 7, Time: time.UnixMilli(1_700_000_000_123).UTC(), Draft: Draft{
		Kind: "intent", Payload: []byte("tbs"),
		Claims: []Claim{{"device", "demo/D-1/main"}, {"key", "\x00\xff"}},
		Debits: []Debit{{"order/O-1", 1, 1 << 40}},
		Heads:  []string{"device/D-1", "newest"},
		Opens:  true, Closes: 3,
	}}
}

// The encoding is for ever: what is in the file was written by the first version.
func TestEncodingIsFrozen(t *testing.T) {
	text, err := os.ReadFile("testdata/entry-v1.hex")
	if err != nil {
		t.Fatal(err)
	}
	want, err := hex.DecodeString(strings.Join(strings.Fields(string(text)), ""))
	if err != nil {
		t.Fatal(err)
	}
	e := fullEntry()
	got := appendEntry(nil, &e)
	if !bytes.Equal(got, want) {
		t.Errorf("encoding changed:\n got %x\nwant %x", got, want)
	}
	if len(got) != encodedSize(&e.Draft) {
		t.Errorf("encodedSize = %d, want %d", encodedSize(&e.Draft), len(got))
	}
	back, err := decodeEntry(want)
	if err != nil || !reflect.DeepEqual(back, e) {
		t.Errorf("decoded %+v, %v\nwant %+v", back, err, e)
	}
}

// Each file holds one entry in hex that differs from a good one in what its name says.
func TestDecodeRefuses(t *testing.T) {
	files, err := filepath.Glob("testdata/bad/*.hex")
	if err != nil || len(files) < 20 {
		t.Fatalf("%d files in testdata/bad: %v", len(files), err)
	}
	for _, file := range files {
		t.Run(strings.TrimSuffix(filepath.Base(file), ".hex"), func(t *testing.T) {
			text, err := os.ReadFile(file)
			if err != nil {
				t.Fatal(err)
			}
			data, err := hex.DecodeString(strings.TrimSpace(string(text)))
			if err != nil {
				t.Fatal(err)
			}
			if e, err := decodeEntry(data); !errors.Is(err, errMalformed) {
				t.Errorf("accepted as %+v (%v)", e, err)
			}
		})
	}
}

func TestDecodeRefusesEveryOtherLength(t *testing.T) {
	e := fullEntry()
	good := appendEntry(nil, &e)
	for n := range good {
		if _, err := decodeEntry(good[:n]); !errors.Is(err, errMalformed) {
			t.Errorf("first %d octets: %v", n, err)
		}
	}
	if _, err := decodeEntry(append(good, 0)); !errors.Is(err, errMalformed) {
		t.Errorf("one octet more: %v", err)
	}
}

func FuzzDecodeEntry(f *testing.F) {
	e := fullEntry()
	f.Add(appendEntry(nil, &e))
	f.Add(appendEntry(nil, &Entry{Time: time.UnixMilli(0), Draft: Draft{Kind: kindGenesis, Payload: []byte("name")}}))
	f.Fuzz(func(t *testing.T, data []byte) {
		e, err := decodeEntry(data)
		if err != nil {
			return
		}
		if again := appendEntry(nil, &e); !bytes.Equal(again, data) {
			t.Errorf("two encodings of one entry:\n%x\n%x", data, again)
		}
		if n := encodedSize(&e.Draft); n != len(data) {
			t.Errorf("encodedSize = %d, want %d", n, len(data))
		}
	})
}
