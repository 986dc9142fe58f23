package hsm

import (
	"bytes"
	"testing"
)

// FuzzWire throws bytes at both parsers: what they take they write again byte for byte, so there is one encoding of each frame.
func FuzzWire(f *testing.F) {
	f.Add(appendRequest(nil, request{Op: opSign, ID: 1, Key: 2, Kind: "device", Items: [][]byte{[]byte("tbs"), {}}}))
	f.Add(appendAnswer(nil, answer{ID: 1, Signed: 9, First: 3, Results: []result{{Code: codeDone, Bytes: []byte("sig")}, {Code: codeRefused}}}))
	f.Add(appendHello(nil))
	f.Add([]byte{0, 0, 0, 1, 'S'})
	f.Add([]byte{0xff, 0xff, 0xff, 0xff})
	f.Fuzz(func(t *testing.T, data []byte) {
		typ, body, _, err := readFrame(bytes.NewReader(data), nil)
		if err != nil {
			return
		}
		frame := data[:5+len(body)]
		if r, err := parseRequest(typ, body); err == nil && !bytes.Equal(appendRequest(nil, r), frame) {
			t.Errorf("request %+v is written otherwise than it was read", r)
		}
		if a, err := parseAnswer(typ, body); err == nil && !bytes.Equal(appendAnswer(nil, a), frame) {
			t.Errorf("answer %+v is written otherwise than it was read", a)
		}
	})
}

// A length is never believed before it was compared with its cap.
func TestFrameCaps(t *testing.T) {
	for name, data := range map[string][]byte{
		"huge":      {0xff, 0xff, 0xff, 0xff, 'S'},
		"empty":     {0, 0, 0, 0},
		"cut short": {0, 0, 0, 9, 'S', 1},
	} {
		if _, _, buf, err := readFrame(bytes.NewReader(data), nil); err == nil || len(buf) > 16 {
			t.Errorf("%s: error %v, %d bytes allocated", name, err, len(buf))
		}
	}
}
