package hsm

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io"
)

// The wire between the daemon and a signer is a stream socket; each socket of a signer is one lane: one session of the token, one
// request at a time. A signer has as many lanes as sessions are worthwhile. Integers are big-endian.
//
//	frame    length(4: of what follows) type(1) body
//	hello    'H'  version(2)                                                             signer → daemon, once, first
//	request  op   id(8) key(2) kind(1+n) items(2) { length(2) bytes }                    daemon → signer
//	answer   'A'  id(8) signed(8) first(2) results(2) { code(1) length(2) bytes }        signer → daemon
//
// A request is answered by one or more answers, which carry its results in order: first is the index of the first of them. A signer
// sends what it has ten times a second, so that an answer is overdue when one signature is, whatever the size of the request.
// signed is the signer's own count of signatures since its start. Of a result with codeDone the bytes are the signature (or the
// public key, in PKIX DER), of any other they are a sentence.
//
// All caps are checked before anything is allocated.
const (
	wireVersion = 1

	maxTBS    = 16 << 10 // bytes of one item
	maxItems  = 64       // of one request
	maxKind   = 32       // bytes
	maxResult = 1 << 10  // bytes of one result
	maxFrame  = 1 + 8 + 2 + 1 + maxKind + 2 + maxItems*(2+maxTBS)
)

// Types of frames. An op is the type of its request.
const (
	frameHello  byte = 'H'
	frameAnswer byte = 'A'
	opSign      byte = 'S' // items: TBS; kind: kind of signature; key: index in the keeper's list
	opGenerate  byte = 'G' // item: label; kind: algorithm; ceremony only
	opPublic    byte = 'P' // item: label; ceremony only
	opSelftest  byte = 'T' // item: see isSelftest; key: as in opSign
	opUse       byte = 'U' // kind: label; items: SubjectPublicKeyInfo, policy; the result's bytes are the key's index(2); ceremony only
)

// selftestWords begin what a self-test signs: text, so that it cannot be the DER of anything, then 32 random octets.
const selftestWords = "certmill self-test, not a certificate\x00"

func isSelftest(message []byte) bool {
	return len(message) == len(selftestWords)+32 && string(message[:len(selftestWords)]) == selftestWords
}

// request asks a signer for one thing per item.
type request struct {
	Op    byte
	ID    uint64
	Key   uint16
	Kind  string
	Items [][]byte
}

// answer carries some results of a request.
type answer struct {
	ID      uint64
	Signed  uint64
	First   uint16
	Results []result
}

// result answers one item.
type result struct {
	Code  code
	Bytes []byte
}

var errFrame = errors.New("malformed frame")

// appendHello appends a hello frame.
func appendHello(b []byte) []byte {
	return append(b, 0, 0, 0, 3, frameHello, wireVersion>>8, wireVersion&0xff)
}

// checkHello refuses a hello of another version.
func checkHello(typ byte, body []byte) error {
	if typ != frameHello || len(body) != 2 {
		return errFrame
	}
	if v := binary.BigEndian.Uint16(body); v != wireVersion {
		return fmt.Errorf("signer speaks version %d of the wire, we speak %d: its binary is another one", v, wireVersion)
	}
	return nil
}

// appendRequest appends a request frame. The caller keeps to the caps.
func appendRequest(b []byte, r request) []byte {
	start := len(b)
	b = append(b, 0, 0, 0, 0, r.Op)
	b = binary.BigEndian.AppendUint64(b, r.ID)
	b = binary.BigEndian.AppendUint16(b, r.Key)
	b = append(b, byte(len(r.Kind)))
	b = append(b, r.Kind...)
	b = binary.BigEndian.AppendUint16(b, uint16(len(r.Items)))
	for _, it := range r.Items {
		b = binary.BigEndian.AppendUint16(b, uint16(len(it)))
		b = append(b, it...)
	}
	binary.BigEndian.PutUint32(b[start:], uint32(len(b)-start-4))
	return b
}

// parseRequest reads a request. Its items are pieces of body.
func parseRequest(op byte, body []byte) (request, error) {
	if op != opSign && op != opGenerate && op != opPublic && op != opUse && op != opSelftest {
		return request{}, errFrame
	}
	c := cursor{rest: body}
	r := request{Op: op, ID: c.uint64(), Key: c.uint16()}
	r.Kind = string(c.take(int(c.byte()), maxKind))
	n := int(c.uint16())
	if c.bad || n == 0 || n > maxItems || n*2 > len(c.rest) {
		return request{}, errFrame
	}
	r.Items = make([][]byte, n)
	for i := range r.Items {
		r.Items[i] = c.take(int(c.uint16()), maxTBS)
	}
	return r, c.end()
}

// appendAnswer appends an answer frame. The caller keeps to the caps.
func appendAnswer(b []byte, a answer) []byte {
	start := len(b)
	b = append(b, 0, 0, 0, 0, frameAnswer)
	b = binary.BigEndian.AppendUint64(b, a.ID)
	b = binary.BigEndian.AppendUint64(b, a.Signed)
	b = binary.BigEndian.AppendUint16(b, a.First)
	b = binary.BigEndian.AppendUint16(b, uint16(len(a.Results)))
	for _, r := range a.Results {
		b = append(b, byte(r.Code))
		b = binary.BigEndian.AppendUint16(b, uint16(len(r.Bytes)))
		b = append(b, r.Bytes...)
	}
	binary.BigEndian.PutUint32(b[start:], uint32(len(b)-start-4))
	return b
}

// parseAnswer reads an answer. The bytes of its results are pieces of body.
func parseAnswer(typ byte, body []byte) (answer, error) {
	if typ != frameAnswer {
		return answer{}, errFrame
	}
	c := cursor{rest: body}
	a := answer{ID: c.uint64(), Signed: c.uint64(), First: c.uint16()}
	n := int(c.uint16())
	if c.bad || n == 0 || n > maxItems || n*3 > len(c.rest) {
		return answer{}, errFrame
	}
	a.Results = make([]result, n)
	for i := range a.Results {
		a.Results[i] = result{Code: code(c.byte()), Bytes: c.take(int(c.uint16()), maxResult)}
	}
	return a, c.end()
}

// readFrame reads one frame into buf, which grows as needed and is returned; body is a piece of it.
func readFrame(r io.Reader, buf []byte) (typ byte, body, grown []byte, err error) {
	var head [4]byte
	if _, err := io.ReadFull(r, head[:]); err != nil {
		return 0, nil, buf, err
	}
	n := binary.BigEndian.Uint32(head[:])
	if n == 0 || n > maxFrame {
		return 0, nil, buf, errFrame
	}
	if uint32(cap(buf)) < n {
		buf = make([]byte, n)
	}
	buf = buf[:n]
	if _, err := io.ReadFull(r, buf); err != nil {
		return 0, nil, buf, fmt.Errorf("frame of %d bytes: %w", n, err)
	}
	return buf[0], buf[1:], buf, nil
}

// cursor reads a body from its front; bad says that it was too short, and stays.
type cursor struct {
	rest []byte
	bad  bool
}

// take returns the next n bytes, nil where n passes limit or there are fewer.
func (c *cursor) take(n, limit int) []byte {
	if c.bad || n > limit || n > len(c.rest) {
		c.bad = true
		return nil
	}
	piece := c.rest[:n:n]
	c.rest = c.rest[n:]
	return piece
}

func (c *cursor) byte() byte {
	if b := c.take(1, 1); b != nil {
		return b[0]
	}
	return 0
}

func (c *cursor) uint16() uint16 {
	if b := c.take(2, 2); b != nil {
		return binary.BigEndian.Uint16(b)
	}
	return 0
}

func (c *cursor) uint64() uint64 {
	if b := c.take(8, 8); b != nil {
		return binary.BigEndian.Uint64(b)
	}
	return 0
}

// end is an error unless everything was there and nothing is left.
func (c *cursor) end() error {
	if c.bad || len(c.rest) != 0 {
		return errFrame
	}
	return nil
}
