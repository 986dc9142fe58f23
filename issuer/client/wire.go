package client

import (
	"encoding/json"
	"time"
)

// Names of headers and media types that both sides use.
const (
	HeaderCheckpoint = "Certmill-Checkpoint"  // base64 (RFC 4648 section 4) of the newest signed note; on every answer
	HeaderReplayed   = "Idempotency-Replayed" // "true" where the certificate was made before
	HeaderRequest    = "X-Request-Id"         // the request_id of a problem; on every answer

	TypeJSON    = "application/json"
	TypeNDJSON  = "application/x-ndjson"
	TypeProblem = "application/problem+json" // RFC 9457
	TypePEM     = "application/x-pem-file"
	TypeDER     = "application/pkix-cert" // RFC 2585 section 4.1
)

// Bounds of what one request may carry. Past them the answer is too-large.
const (
	MaxLine  = 64 << 10 // octets of one JSON request, alone or as a line
	MaxBatch = 4 << 20  // octets of an NDJSON body
	MaxLines = 1000     // lines of an NDJSON body
)

// Request asks for one device certificate.
type Request struct {
	DeviceID  string `json:"device_id,omitempty"` // "": the CSR's CN, where the profile takes ids from CSRs
	CSR       string `json:"csr"`                 // PEM, or base64 of the DER
	ClientRef string `json:"client_ref,omitempty"`
	Slot      string `json:"slot,omitempty"` // "": main
}

// Answer is one certificate: the same bytes for ever.
type Answer struct {
	DeviceID      string    `json:"device_id"`
	ClientRef     string    `json:"client_ref,omitempty"` // echoed
	Serial        string    `json:"serial"`               // 40 lower-case hex digits
	CertificateID string    `json:"certificate_id"`       // lower-case hex SHA-256 of the DER, as AWS IoT names it
	Certificate   string    `json:"certificate"`          // the leaf in PEM
	NotBefore     time.Time `json:"not_before"`
	NotAfter      time.Time `json:"not_after"`
	Receipt       Receipt   `json:"receipt"`
	Replayed      bool      `json:"replayed,omitempty"` // made before; in a single answer a header says it
}

// Receipt says where in the ledger the certificate's signature stands.
type Receipt struct {
	Index      uint64 `json:"index"`
	Checkpoint string `json:"checkpoint"` // a signed note (C2SP tlog-checkpoint) that covers it
}

// Order is what a station may know of an order.
type Order struct {
	ID        string    `json:"id"`
	Product   string    `json:"product"`
	Profile   string    `json:"profile"`
	CA        string    `json:"ca,omitempty"`
	State     string    `json:"state"` // open, full, closed, expired, frozen
	Quantity  uint64    `json:"quantity"`
	Scrap     uint64    `json:"scrap,omitempty"` // that may be drawn above the quantity
	Issued    uint64    `json:"issued"`
	Confirmed uint64    `json:"confirmed"`
	Created   time.Time `json:"created"`
	NotBefore time.Time `json:"not_before,omitzero"`
	Until     time.Time `json:"until,omitzero"`
}

// Line is one line of an NDJSON answer, and of a bulk output file: a certificate, or a problem.
type Line struct {
	Status  int      // the HTTP status that the request would have had alone
	Answer  Answer   // beside a problem only DeviceID and ClientRef, as far as the line could be read
	Problem *Problem // nil where there is a certificate
}

// problemFields is Problem without its methods, so that a line does not become an error by embedding it.
type problemFields Problem

// MarshalJSON writes the fields of Answer or of Problem flat beside the status.
func (l Line) MarshalJSON() ([]byte, error) {
	if l.Problem == nil {
		return json.Marshal(struct {
			Status int `json:"status"`
			Answer
		}{l.Status, l.Answer})
	}
	return json.Marshal(struct {
		Status    int    `json:"status"`
		DeviceID  string `json:"device_id,omitempty"`
		ClientRef string `json:"client_ref,omitempty"`
		problemFields
	}{l.Status, l.Answer.DeviceID, l.Answer.ClientRef, problemFields(*l.Problem)})
}

// UnmarshalJSON reads what MarshalJSON wrote: a line with a code is a problem.
func (l *Line) UnmarshalJSON(b []byte) error {
	var v struct {
		Status int `json:"status"`
		Answer
		problemFields
	}
	if err := json.Unmarshal(b, &v); err != nil {
		return err
	}
	*l = Line{Status: v.Status, Answer: v.Answer}
	if v.Code != "" {
		p := Problem(v.problemFields)
		p.Status = v.Status
		l.Problem = &p
	}
	return nil
}
