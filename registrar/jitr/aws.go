package jitr

import (
	"context"
	"errors"
	"time"
)

// Errors that implementations of IoT and AllowList wrap, because the handler branches on them.
var (
	ErrNotFound = errors.New("not found") // the certificate, or its row, is not there
	ErrConflict = errors.New("conflict")  // the thing is there with other attributes; the row is used by another
	ErrState    = errors.New("state")     // the certificate's state does not let it change: it is revoked
)

// IoT is as much of AWS IoT's control plane as the handler needs. All methods may be called concurrently, and each
// again after an error: AWS takes every one of them twice.
type IoT interface {
	// DescribeCertificate gives a certificate as it stands, or ErrNotFound.
	DescribeCertificate(ctx context.Context, id string) (Certificate, error)
	// CreateThing makes a thing; one that is there with the same attributes is fine, with others it is ErrConflict.
	CreateThing(ctx context.Context, name string, attributes map[string]string) error
	// AttachThingPrincipal attaches the certificate to the thing.
	AttachThingPrincipal(ctx context.Context, thing, certificateARN string) error
	// AttachPolicy attaches the policy of that name to the certificate.
	AttachPolicy(ctx context.Context, policy, certificateARN string) error
	// UpdateCertificate sets a certificate's status, or gives ErrState.
	UpdateCertificate(ctx context.Context, id, status string) error
}

// Certificate is what AWS IoT knows of a registered certificate.
type Certificate struct {
	ARN     string
	CA      string // id of the CA certificate; "" where AWS does not say
	Status  string
	Created time.Time // when it was registered
}

// AllowList is the table of the certificates that may come, keyed by certificate id. Reads are consistent.
type AllowList interface {
	// Look gives the row of a certificate, or ErrNotFound.
	Look(ctx context.Context, certificateID string) (Row, error)
	// MarkUsed writes into the row which thing used it; the same thing again is fine, another is ErrConflict.
	MarkUsed(ctx context.Context, certificateID, thing string) error
}

// Row is an entry of the allow-list. Its fields but the last two are those of a line of `certmill order manifest`, and the
// attributes of the DynamoDB item are named alike.
type Row struct {
	CertificateID string    `json:"certificate_id"`
	Order         string    `json:"order"`
	DeviceID      string    `json:"device_id"`
	Slot          string    `json:"slot,omitempty"`
	Product       string    `json:"product"`
	Serial        string    `json:"serial"`
	CA            string    `json:"ca"` // certmill's name for it
	NotAfter      time.Time `json:"not_after"`
	Denied        bool      `json:"denied,omitempty"`  // known to be bad: scrapped, stolen, never delivered
	UsedBy        string    `json:"used_by,omitempty"` // the thing whose certificate was activated by this row
}
