package client

import (
	"fmt"
	"time"
)

// Codes of problems (contract, design.md section 7). A code always has the same status.
const (
	CodeBodyMalformed        = "body-malformed"         // 400
	CodeCSRMalformed         = "csr-malformed"          // 400
	CodeCSRSignature         = "csr-signature"          // 400
	CodeStationNotAllowed    = "station-not-allowed"    // 403
	CodeDeviceNotInOrder     = "device-not-in-order"    // 403
	CodeOrderUnknown         = "order-unknown"          // 404
	CodeNotFound             = "not-found"              // 404
	CodeMethod               = "method"                 // 405
	CodeOrderFull            = "order-full"             // 409
	CodeOrderClosed          = "order-closed"           // 409
	CodeOrderFrozen          = "order-frozen"           // 409
	CodeDeviceHasCertificate = "device-has-certificate" // 409
	CodeKeyInUse             = "key-in-use"             // 409
	CodeDeviceMismatch       = "device-mismatch"        // 409
	CodeCertificateRevoked   = "certificate-revoked"    // 409
	CodeTooLarge             = "too-large"              // 413
	CodeContentType          = "content-type"           // 415
	CodeKeyWeak              = "key-weak"               // 422
	CodeProfileRefused       = "profile-refused"        // 422
	CodeSlowDown             = "slow-down"              // 429
	CodeInternal             = "internal"               // 500: our own bug; the service's log has it under the request id
	CodeHSMUnavailable       = "hsm-unavailable"        // 503
	CodeStoreReadOnly        = "store-read-only"        // 503
	CodeClockUntrusted       = "clock-untrusted"        // 503

	// On the admin socket only.
	CodeNotAllowed = "not-allowed" // 403
	CodeExists     = "exists"      // 409
	CodeInvalid    = "invalid"     // 422: what was asked for is not valid; the detail says why
)

// Problem is a refusal (RFC 9457). As an error it is found with errors.As.
type Problem struct {
	Type       string `json:"type"`
	Title      string `json:"title"`
	Status     int    `json:"status"`
	Detail     string `json:"detail"` // what, why, what to do: written for whoever stands at the line
	Instance   string `json:"instance,omitempty"`
	Code       string `json:"code"` // one of the Code constants
	Retryable  bool   `json:"retryable"`
	RetryAfter int    `json:"retry_after,omitempty"` // seconds; as the Retry-After header, for lines of a batch
	RequestID  string `json:"request_id"`
}

// Error says code and detail.
func (p *Problem) Error() string {
	if p.RequestID == "" {
		return fmt.Sprintf("%s: %s", p.Code, p.Detail)
	}
	return fmt.Sprintf("%s: %s (request %s)", p.Code, p.Detail, p.RequestID)
}

// wait is how long the service asks to be left alone before the next try.
func (p *Problem) wait() time.Duration { return time.Duration(p.RetryAfter) * time.Second }
