package jitr

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"time"
)

// DefaultGrace is how long a certificate that is not on the list may wait for its row.
const DefaultGrace = 24 * time.Hour

// Handler decides about registered certificates. Its fields are not changed while it runs; it may be used concurrently.
type Handler struct {
	IoT       IoT
	AllowList AllowList
	Policy    string           // name of the policy that each device gets; it must exist
	Grace     time.Duration    // 0: DefaultGrace
	CAs       []string         // ids of the CA certificates whose devices are ours; empty: those whose events come here
	Now       func() time.Time // nil: time.Now
	Log       *slog.Logger
}

// Outcome is what became of an event.
type Outcome string

// Outcomes.
const (
	Activated   Outcome = "activated"   // thing and policy are attached, the certificate is ACTIVE
	Revoked     Outcome = "revoked"     // the list denies it
	Waiting     Outcome = "waiting"     // not on the list, within its grace time
	Deactivated Outcome = "deactivated" // not on the list, and the grace time is over
	Refused     Outcome = "refused"     // on the list, but it would take what is another's; it stays as it is
	Ignored     Outcome = "ignored"     // not ours, or no longer pending
)

// Statuses of a certificate.
const (
	active   = "ACTIVE"
	inactive = "INACTIVE"
	revoked  = "REVOKED"
	pending  = "PENDING_ACTIVATION"
)

// Handle does what an event asks for. After an error the same event may be handled again, by this handler or another one;
// what it says of the certificate's status is not believed, AWS is asked.
func (h *Handler) Handle(ctx context.Context, e Event) (Outcome, error) {
	if len(h.CAs) > 0 && !slices.Contains(h.CAs, e.CACertificateID) {
		return Ignored, nil
	}
	cert, err := h.describe(ctx, e.CertificateID)
	if err != nil || cert == nil {
		return Ignored, err
	}
	if cert.CA != "" && cert.CA != e.CACertificateID {
		h.alarm(e.CertificateID, "the event names another CA than the certificate has", "ca", cert.CA, "event_ca", e.CACertificateID)
		return Refused, nil
	}
	switch cert.Status {
	case pending:
		return h.decide(ctx, e.CertificateID, cert)
	case active:
		return Ignored, h.settle(ctx, e.CertificateID)
	}
	return Ignored, nil
}

// RowArrived activates a certificate whose row came after it had connected: one that is pending, and one that was made
// INACTIVE when its grace time was over. A row that was used is no reason: then somebody made the certificate INACTIVE later.
func (h *Handler) RowArrived(ctx context.Context, certificateID string) (Outcome, error) {
	cert, err := h.describe(ctx, certificateID)
	if err != nil || cert == nil {
		return Ignored, err
	}
	if len(h.CAs) > 0 && !slices.Contains(h.CAs, cert.CA) {
		return Ignored, nil
	}
	row, err := h.AllowList.Look(ctx, certificateID)
	if err != nil {
		return Ignored, ignoreNotFound(err)
	}
	if cert.Status == pending || cert.Status == inactive && row.UsedBy == "" {
		return h.apply(ctx, cert, row)
	}
	return Ignored, nil
}

func (h *Handler) describe(ctx context.Context, id string) (*Certificate, error) {
	cert, err := h.IoT.DescribeCertificate(ctx, id)
	if errors.Is(err, ErrNotFound) {
		return nil, nil // deleted since: its next connect registers it again (DC-38)
	}
	if err != nil {
		return nil, fmt.Errorf("describe certificate: %w", err)
	}
	return &cert, nil
}

// decide is for a certificate that is pending.
func (h *Handler) decide(ctx context.Context, id string, cert *Certificate) (Outcome, error) {
	row, err := h.AllowList.Look(ctx, id)
	if errors.Is(err, ErrNotFound) {
		return h.unknown(ctx, id, cert)
	}
	if err != nil {
		return Ignored, fmt.Errorf("look into the allow-list: %w", err)
	}
	return h.apply(ctx, cert, row)
}

// unknown waits, and ends the waiting. The time of registration is AWS's word, not the event's.
func (h *Handler) unknown(ctx context.Context, id string, cert *Certificate) (Outcome, error) {
	waited := h.now().Sub(cert.Created)
	if waited < h.grace() {
		h.Log.Warn("jitr: certificate is not on the allow-list yet", "certificate_id", id, "waited", waited)
		return Waiting, nil
	}
	if err := h.IoT.UpdateCertificate(ctx, id, inactive); err != nil {
		return Ignored, h.unlessRevoked(id, err)
	}
	h.alarm(id, "certificate was not on the allow-list within its grace time and is INACTIVE", "waited", waited)
	return Deactivated, nil
}

// apply does what a row says.
func (h *Handler) apply(ctx context.Context, cert *Certificate, row Row) (Outcome, error) {
	if row.Denied {
		if err := h.IoT.UpdateCertificate(ctx, row.CertificateID, revoked); err != nil {
			return Ignored, h.unlessRevoked(row.CertificateID, err)
		}
		h.alarm(row.CertificateID, "a denied certificate connected and is REVOKED", "device_id", row.DeviceID)
		return Revoked, nil
	}
	thing := row.DeviceID
	if row.UsedBy != "" && row.UsedBy != thing {
		h.alarm(row.CertificateID, "the row was used by another thing", "device_id", thing, "used_by", row.UsedBy)
		return Refused, nil
	}
	return h.activate(ctx, cert, row, thing)
}

// activate makes ACTIVE the last change of the certificate. The thing carries its product: a device of another
// product with the same id meets a conflict instead of taking the thing over. No attribute ever differs for the same device.
func (h *Handler) activate(ctx context.Context, cert *Certificate, row Row, thing string) (Outcome, error) {
	err := h.IoT.CreateThing(ctx, thing, map[string]string{"product": row.Product})
	if errors.Is(err, ErrConflict) {
		h.alarm(row.CertificateID, "there is a thing of this name with other attributes", "thing", thing, "product", row.Product)
		return Refused, nil
	}
	if err != nil {
		return Ignored, fmt.Errorf("create thing: %w", err)
	}
	if err := h.IoT.AttachThingPrincipal(ctx, thing, cert.ARN); err != nil {
		return Ignored, fmt.Errorf("attach thing: %w", err)
	}
	if err := h.IoT.AttachPolicy(ctx, h.Policy, cert.ARN); err != nil {
		return Ignored, fmt.Errorf("attach policy: %w", err)
	}
	if err := h.IoT.UpdateCertificate(ctx, row.CertificateID, active); err != nil {
		return Ignored, h.unlessRevoked(row.CertificateID, err)
	}
	h.Log.Info("jitr: activated", "certificate_id", row.CertificateID, "thing", thing, "order", row.Order)
	return Activated, h.markUsed(ctx, row.CertificateID, thing)
}

// settle marks the row of an ACTIVE certificate used: a handler may have stopped between the two.
func (h *Handler) settle(ctx context.Context, id string) error {
	row, err := h.AllowList.Look(ctx, id)
	if err != nil {
		return ignoreNotFound(err)
	}
	if row.UsedBy != "" || row.Denied {
		return nil
	}
	return h.markUsed(ctx, id, row.DeviceID)
}

func (h *Handler) markUsed(ctx context.Context, id, thing string) error {
	err := h.AllowList.MarkUsed(ctx, id, thing)
	if errors.Is(err, ErrConflict) {
		h.alarm(id, "the row was used by another thing meanwhile", "thing", thing)
		return nil
	}
	if err != nil {
		return fmt.Errorf("mark the row used: %w", err)
	}
	return nil
}

// unlessRevoked: somebody revoked the certificate meanwhile, which is final and right (DC-33).
func (h *Handler) unlessRevoked(id string, err error) error {
	if errors.Is(err, ErrState) {
		h.Log.Info("jitr: certificate was revoked meanwhile", "certificate_id", id)
		return nil
	}
	return fmt.Errorf("update certificate: %w", err)
}

func ignoreNotFound(err error) error {
	if errors.Is(err, ErrNotFound) {
		return nil
	}
	return fmt.Errorf("look into the allow-list: %w", err)
}

// alarm writes the line that a log filter wakes somebody by: its attribute alarm is true.
func (h *Handler) alarm(certificateID, what string, attrs ...any) {
	h.Log.Error("jitr: "+what, append([]any{"alarm", true, "certificate_id", certificateID}, attrs...)...)
}

func (h *Handler) grace() time.Duration {
	if h.Grace > 0 {
		return h.Grace
	}
	return DefaultGrace
}

func (h *Handler) now() time.Time {
	if h.Now != nil {
		return h.Now()
	}
	return time.Now()
}
