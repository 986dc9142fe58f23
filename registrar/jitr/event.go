package jitr

import (
	"encoding/json"
	"errors"
	"fmt"
	"regexp"
	"strconv"
	"time"
)

// Event is what AWS IoT publishes on $aws/events/certificates/registered/CA-ID (J-03 to J-08).
type Event struct {
	CertificateID   string // 64 lower-case hex digits
	CACertificateID string // 64 lower-case hex digits
	Account         string // 12 digits
	Status          string // PENDING_ACTIVATION
	At              time.Time
	Registered      time.Time // of the first event for this certificate; zero where AWS sent null
}

// maxEvent is the size of the largest event that is read, in bytes; AWS's have some 400.
const maxEvent = 64 << 10

var (
	hexID   = regexp.MustCompile(`^[0-9a-f]{64}$`)
	account = regexp.MustCompile(`^[0-9]{12}$`)
)

// ParseEvent reads an event. Members that are not known are left alone: the rule's SQL may add some.
func ParseEvent(data []byte) (Event, error) {
	if len(data) > maxEvent {
		return Event{}, errors.New("event is too large")
	}
	var wire struct {
		CertificateID   string          `json:"certificateId"`
		CACertificateID string          `json:"caCertificateId"`
		Timestamp       json.Number     `json:"timestamp"`
		Status          string          `json:"certificateStatus"`
		Account         string          `json:"awsAccountId"`
		Registered      json.RawMessage `json:"certificateRegistrationTimestamp"`
	}
	if err := json.Unmarshal(data, &wire); err != nil {
		return Event{}, fmt.Errorf("event is not JSON: %w", err)
	}
	e := Event{CertificateID: wire.CertificateID, CACertificateID: wire.CACertificateID, Account: wire.Account, Status: wire.Status}
	switch {
	case !hexID.MatchString(e.CertificateID):
		return Event{}, errors.New("event has no certificateId of 64 hex digits")
	case !hexID.MatchString(e.CACertificateID):
		return Event{}, errors.New("event has no caCertificateId of 64 hex digits")
	case !account.MatchString(e.Account):
		return Event{}, errors.New("event has no awsAccountId of 12 digits")
	}
	var err error
	if e.At, err = millis(wire.Timestamp.String()); err != nil {
		return Event{}, fmt.Errorf("event's timestamp: %w", err)
	}
	if e.Registered, err = registered(wire.Registered); err != nil {
		return Event{}, fmt.Errorf("event's certificateRegistrationTimestamp: %w", err)
	}
	return e, nil
}

// registered reads both forms that were seen: a text of epoch milliseconds, and null (J-07).
func registered(raw json.RawMessage) (time.Time, error) {
	var text *string
	if len(raw) == 0 {
		return time.Time{}, nil
	}
	if err := json.Unmarshal(raw, &text); err != nil || text == nil {
		return time.Time{}, err
	}
	return millis(*text)
}

func millis(text string) (time.Time, error) {
	n, err := strconv.ParseInt(text, 10, 64)
	if err != nil || n <= 0 {
		return time.Time{}, fmt.Errorf("%q is not a number of milliseconds", text)
	}
	return time.UnixMilli(n).UTC(), nil
}
