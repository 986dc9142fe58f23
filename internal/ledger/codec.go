package ledger

import (
	"encoding/binary"
	"errors"
	"fmt"
	"time"
)

const (
	entryVersion = 1
	maxMillis    = 253402300799999 // the last of the year 9999
)

var errMalformed = errors.New("entry is malformed")

// appendEntry appends the encoding of an entry, as doc.go has it. The draft was checked.
func appendEntry(b []byte, e *Entry) []byte {
	b = append(b, entryVersion)
	b = binary.BigEndian.AppendUint64(b, e.Index)
	b = binary.BigEndian.AppendUint64(b, uint64(e.Time.UnixMilli()))
	b = appendText(b, e.Kind)
	b = binary.BigEndian.AppendUint32(b, uint32(len(e.Payload)))
	b = append(b, e.Payload...)
	b = binary.BigEndian.AppendUint16(b, uint16(len(e.Claims)))
	for _, c := range e.Claims {
		b = appendText(appendText(b, c.Space), c.Key)
	}
	b = binary.BigEndian.AppendUint16(b, uint16(len(e.Debits)))
	for _, d := range e.Debits {
		b = appendText(b, d.Counter)
		b = binary.BigEndian.AppendUint64(b, d.Amount)
		b = binary.BigEndian.AppendUint64(b, d.Limit)
	}
	b = binary.BigEndian.AppendUint16(b, uint16(len(e.Heads)))
	for _, h := range e.Heads {
		b = appendText(b, h)
	}
	var opens byte
	if e.Opens {
		opens = 1
	}
	b = append(b, opens)
	return binary.BigEndian.AppendUint64(b, e.Closes)
}

func appendText(b []byte, s string) []byte { return append(append(b, byte(len(s))), s...) }

// encodedSize is the length of what appendEntry appends.
func encodedSize(d *Draft) int {
	n := 1 + 8 + 8 + 1 + len(d.Kind) + 4 + len(d.Payload) + 2 + 2 + 2 + 1 + 8
	for _, c := range d.Claims {
		n += 2 + len(c.Space) + len(c.Key)
	}
	for _, b := range d.Debits {
		n += 1 + len(b.Counter) + 16
	}
	for _, h := range d.Heads {
		n += 1 + len(h)
	}
	return n
}

// decodeEntry is the inverse of appendEntry and accepts nothing else. The payload is a part of b.
func decodeEntry(b []byte) (Entry, error) {
	d := decoder{b: b}
	if d.uint(1) != entryVersion {
		return Entry{}, fmt.Errorf("%w: not of version %d", errMalformed, entryVersion)
	}
	var e Entry
	e.Index = d.uint(8)
	ms := d.uint(8)
	e.Time = time.UnixMilli(int64(ms)).UTC()
	e.Kind = d.text()
	e.Payload = d.take(d.capped(4, maxPayload))
	e.Claims = decodeList(&d, func() Claim { return Claim{d.text(), d.text()} })
	e.Debits = decodeList(&d, func() Debit { return Debit{d.text(), d.uint(8), d.uint(8)} })
	e.Heads = decodeList(&d, d.text)
	opens := d.uint(1)
	e.Opens = opens == 1
	e.Closes = d.uint(8)
	if d.short || len(d.b) != 0 {
		return Entry{}, fmt.Errorf("%w: wrong length", errMalformed)
	}
	if ms > maxMillis || opens > 1 || e.Closes != 0 && e.Closes >= e.Index {
		return Entry{}, fmt.Errorf("%w: time, opens or closes out of range", errMalformed)
	}
	if err := e.check(); err != nil {
		return Entry{}, fmt.Errorf("%w: %w", errMalformed, err)
	}
	return e, nil
}

// decoder takes parts off the front of b. Past the end it gives zeros and remembers that it was short.
type decoder struct {
	b     []byte
	short bool
}

func (d *decoder) take(n int) []byte {
	if n > len(d.b) {
		d.b, d.short = nil, true
		return nil
	}
	part := d.b[:n:n]
	d.b = d.b[n:]
	return part
}

func (d *decoder) uint(size int) (v uint64) {
	for _, b := range d.take(size) {
		v = v<<8 | uint64(b)
	}
	return v
}

// capped is a length or a count. One past its cap makes the decoder short before anything is allocated.
func (d *decoder) capped(size, limit int) int {
	n := d.uint(size)
	if n > uint64(limit) {
		d.b, d.short = nil, true
		return 0
	}
	return int(n)
}

func (d *decoder) text() string { return string(d.take(d.capped(1, maxName))) }

func decodeList[T any](d *decoder, item func() T) []T {
	n := d.capped(2, maxList)
	if n == 0 {
		return nil
	}
	list := make([]T, 0, n)
	for range n {
		list = append(list, item())
	}
	return list
}
