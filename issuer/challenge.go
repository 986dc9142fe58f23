package issuer

import (
	"crypto/cipher"
	"crypto/hmac"
	"crypto/rand"
	"crypto/sha256"
	"encoding/base64"
	"encoding/binary"
	"fmt"
	"time"
)

// challengeLife is how long a challenge may be used: a device may have to be plugged in first.
const challengeLife = time.Hour

// A challenge is kept nowhere: it carries its end and proves by itself that we made it for this certificate, so it survives restarts and costs no memory.
// It may be used more than once, which changes nothing: a certificate is confirmed once.
//
//	end in milliseconds since 1970 (8 octets) | random (16) | HMAC-SHA256 of both and the certificate id (32)      in base64url
const (
	challengeRandom = 16
	challengeLength = 8 + challengeRandom + sha256.Size
)

func newChallenge(b cipher.Block, certificateID string, now time.Time) Challenge {
	end := entryTime(now.Add(challengeLife))
	body := binary.BigEndian.AppendUint64(nil, uint64(end.UnixMilli()))
	random := make([]byte, challengeRandom)
	rand.Read(random) // never fails
	body = append(body, random...)
	text := base64.RawURLEncoding.EncodeToString(append(body, challengeMAC(b, body, certificateID)...))
	return Challenge{Text: text, Expires: end, CertificateID: certificateID}
}

// openChallenge returns the end of a challenge that is ours: ErrChallenge.
func openChallenge(b cipher.Block, certificateID, text string) (end time.Time, err error) {
	raw, err := base64.RawURLEncoding.Strict().DecodeString(text)
	if err != nil || len(raw) != challengeLength || len(text) != base64.RawURLEncoding.EncodedLen(challengeLength) { // the decoder skips newlines
		return end, fmt.Errorf("it is not written as ours are: %w", ErrChallenge)
	}
	body, mac := raw[:challengeLength-sha256.Size], raw[challengeLength-sha256.Size:]
	if !hmac.Equal(mac, challengeMAC(b, body, certificateID)) {
		return end, fmt.Errorf("it was not made here for this certificate: %w", ErrChallenge)
	}
	return time.UnixMilli(int64(binary.BigEndian.Uint64(body))).UTC(), nil
}

// challengeMAC derives its key from the ledger's secret, by two blocks that no serial can be made of: their first half would be a sequence number
// of more than 10^18.
func challengeMAC(b cipher.Block, body []byte, certificateID string) []byte {
	var key [32]byte
	b.Encrypt(key[:16], []byte("challenge key /1"))
	b.Encrypt(key[16:], []byte("challenge key /2"))
	h := hmac.New(sha256.New, key[:])
	h.Write(body)
	h.Write([]byte(certificateID))
	return h.Sum(nil)
}
