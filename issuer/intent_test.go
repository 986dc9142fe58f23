package issuer

import (
	"bytes"
	"encoding/hex"
	"reflect"
	"testing"

	"github.com/certmill/certmill/ca"
)

var sampleIntent = intent{
	kind: ca.KindDevice, ca: "issuing", profile: bytes.Repeat([]byte{1}, 32), key: [32]byte(bytes.Repeat([]byte{2}, 32)),
	order: "O-1", station: "line-1", device: "DEMO-000001", slot: "main", right: []byte("{}"), tbs: []byte("tbs"),
}

// The encoding stands in ledgers: it never changes.
func TestIntentEncoding(t *testing.T) {
	const want = "01" + "06646576696365" + "0769737375696e67" +
		"20" + "0101010101010101010101010101010101010101010101010101010101010101" +
		"20" + "0202020202020202020202020202020202020202020202020202020202020202" +
		"034f2d31" + "066c696e652d31" + "0b44454d4f2d303030303031" + "046d61696e" + "027b7d" + "03746273"
	if got := hex.EncodeToString(sampleIntent.encode()); got != want {
		t.Errorf("got  %s\nwant %s", got, want)
	}
	got, err := decodeIntent(sampleIntent.encode())
	if err != nil || !reflect.DeepEqual(got, sampleIntent) {
		t.Errorf("decoded %+v, %v", got, err)
	}
	if got, want := hex.EncodeToString(encodeSignature(300, []byte{1, 2})), "ac020102"; got != want {
		t.Errorf("signature: got %s, want %s", got, want)
	}
}

func TestIntentDecodeRefuses(t *testing.T) {
	good := sampleIntent.encode()
	for n := range good {
		if _, err := decodeIntent(good[:n]); err == nil {
			t.Errorf("the first %d of %d octets were taken for an intent", n, len(good))
		}
	}
	for name, b := range map[string][]byte{
		"octet behind":     append(bytes.Clone(good), 0),
		"unknown version":  append([]byte{2}, good[1:]...),
		"long form of len": append([]byte{1, 0x86, 0}, good[2:]...),
		"huge length":      {1, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 1},
	} {
		if _, err := decodeIntent(b); err == nil {
			t.Errorf("%s: taken for an intent", name)
		}
	}
	for name, b := range map[string][]byte{"empty": {}, "no signature": {5}, "long form": {0x85, 0, 1}} {
		if _, _, err := decodeSignature(b); err == nil {
			t.Errorf("%s: taken for a signature", name)
		}
	}
}

// One content has one encoding: whatever decodes encodes to the same octets.
func FuzzDecodeIntent(f *testing.F) {
	f.Add(sampleIntent.encode())
	f.Add([]byte{1})
	f.Fuzz(func(t *testing.T, b []byte) {
		in, err := decodeIntent(b)
		if err == nil && !bytes.Equal(in.encode(), b) {
			t.Errorf("%x decodes, and encodes to %x", b, in.encode())
		}
		index, sig, err := decodeSignature(b)
		if err == nil && !bytes.Equal(encodeSignature(index, sig), b) {
			t.Errorf("%x decodes as a signature, and encodes to %x", b, encodeSignature(index, sig))
		}
	})
}
