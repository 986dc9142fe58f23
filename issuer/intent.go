package issuer

import (
	"encoding/binary"
	"errors"
	"fmt"

	"github.com/certmill/certmill/internal/ledger"
)

// Kinds of entries of this package. They stand in the ledger: never rename one.
const (
	entryIntent    = "intent"    // what a CA key is about to sign
	entrySignature = "signature" // its signature; closes the intent
	entryOrder     = "order"
	entryDevices   = "order.devices" // a part of an order's device list
	entryProfile   = "profile"       // a version of a profile, recorded when an order first names it
	entryStation   = "station"
	entryFreeze    = "freeze"
	entryCA        = "ca"
	EntrySelftest  = "selftest" // exported for who opens tokens
)

// intent is the stored form of a signature that is about to be made. docs/issuance.md gives its encoding for those who
// read the ledger without this package. New fields go to the end, under a new version.
type intent struct {
	kind    string   // of signature: a row of the table in kinds.go
	ca      string   // name of the CA whose key signs
	profile []byte   // SHA-256 of the profile's version; empty for a proof
	key     [32]byte // SHA-256 of the subject's SPKI
	order   string   // that pays for it; "" for all kinds but devices
	station string   // who asked; "" for all kinds but devices
	device  string   // device id, or the station's name; "" for others
	slot    string   // of the device
	right   []byte   // JSON of the recorded authority, where no order is one
	tbs     []byte   // exactly the bytes to be signed
}

const intentVersion = 1

var errPayload = errors.New("payload is malformed")

// encode writes the version octet, then each field with its length before it.
func (in *intent) encode() []byte {
	b := make([]byte, 0, 160+len(in.right)+len(in.tbs))
	b = append(b, intentVersion)
	for _, field := range []string{in.kind, in.ca, string(in.profile), string(in.key[:]), in.order, in.station, in.device, in.slot} {
		b = binary.AppendUvarint(b, uint64(len(field)))
		b = append(b, field...)
	}
	b = binary.AppendUvarint(b, uint64(len(in.right)))
	b = append(b, in.right...)
	b = binary.AppendUvarint(b, uint64(len(in.tbs)))
	return append(b, in.tbs...)
}

// decodeIntent reads what encode wrote, and nothing else.
func decodeIntent(b []byte) (intent, error) {
	if len(b) == 0 || b[0] != intentVersion {
		return intent{}, fmt.Errorf("intent of unknown version: %w", errPayload)
	}
	b = b[1:]
	var fields [10][]byte
	for n := range fields {
		length, size := binary.Uvarint(b)
		if size <= 0 || size != uvarintLen(length) || length > uint64(len(b)-size) {
			return intent{}, fmt.Errorf("intent, field %d: %w", n, errPayload)
		}
		fields[n], b = b[size:size+int(length)], b[size+int(length):]
	}
	if len(b) != 0 || len(fields[3]) != 32 {
		return intent{}, fmt.Errorf("intent: %w", errPayload)
	}
	return intent{
		kind: string(fields[0]), ca: string(fields[1]), profile: fields[2], key: [32]byte(fields[3]),
		order: string(fields[4]), station: string(fields[5]), device: string(fields[6]), slot: string(fields[7]),
		right: fields[8], tbs: fields[9],
	}, nil
}

// uvarintLen is the length of a number's shortest form, the only one we take: one content, one encoding.
func uvarintLen(n uint64) int { return len(binary.AppendUvarint(nil, n)) }

// encodeSignature is the payload of a signature's entry: the intent's index, then the signature as the key made it.
func encodeSignature(intent uint64, sig []byte) []byte {
	return append(binary.AppendUvarint(make([]byte, 0, 10+len(sig)), intent), sig...)
}

func decodeSignature(b []byte) (intent uint64, sig []byte, err error) {
	intent, size := binary.Uvarint(b)
	if size <= 0 || size != uvarintLen(intent) || size == len(b) {
		return 0, nil, fmt.Errorf("signature: %w", errPayload)
	}
	return intent, b[size:], nil
}

// intentAt reads the intent at an index.
func intentAt(v *ledger.View, index uint64) (intent, error) {
	e, err := get(v, index)
	if err != nil {
		return intent{}, err
	}
	if e.Kind != entryIntent {
		return intent{}, fmt.Errorf("%w: entry %d is a %s, not an intent", errStore, index, e.Kind)
	}
	in, err := decodeIntent(e.Payload)
	if err != nil {
		return intent{}, fmt.Errorf("%w: entry %d: %w", errStore, index, err)
	}
	return in, nil
}

// signatureOf finds the signature that closed an intent; ok is false while it is open.
func signatureOf(v *ledger.View, index uint64) (by uint64, sig []byte, ok bool, err error) {
	by, ok = v.ClosedBy(index)
	if !ok {
		return 0, nil, false, nil
	}
	e, err := get(v, by)
	if err != nil {
		return 0, nil, false, err
	}
	of, sig, err := decodeSignature(e.Payload)
	if err != nil || e.Kind != entrySignature || of != index {
		return 0, nil, false, fmt.Errorf("%w: entry %d is no signature of entry %d", errStore, by, index)
	}
	return by, sig, true, nil
}
