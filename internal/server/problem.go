package server

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"time"

	"github.com/certmill/certmill/ca"
	"github.com/certmill/certmill/issuer"
	"github.com/certmill/certmill/issuer/client"
)

// ErrorCode joins an error to the code of its problem.
type ErrorCode struct {
	Err  error
	Code string
}

// errorCodes is the one table from errors to codes. Nobody reads an error's text.
var errorCodes = []ErrorCode{
	{ca.ErrNoDevice, client.CodeBodyMalformed},
	{ca.ErrMalformed, client.CodeCSRMalformed},
	{ca.ErrSignature, client.CodeCSRSignature},
	{ca.ErrWeakKey, client.CodeKeyWeak},
	{ca.ErrMismatch, client.CodeDeviceMismatch},
	{ca.ErrRefused, client.CodeProfileRefused},
	{issuer.ErrStation, client.CodeStationNotAllowed},
	{issuer.ErrOrderUnknown, client.CodeOrderUnknown},
	{issuer.ErrOrderFull, client.CodeOrderFull},
	{issuer.ErrOrderClosed, client.CodeOrderClosed},
	{issuer.ErrFrozen, client.CodeOrderFrozen},
	{issuer.ErrDevice, client.CodeDeviceNotInOrder},
	{issuer.ErrHasCertificate, client.CodeDeviceHasCertificate},
	{issuer.ErrRevoked, client.CodeCertificateRevoked},
	{issuer.ErrChallenge, client.CodeBodyMalformed},
	{issuer.ErrProof, client.CodeCSRSignature},
	{issuer.ErrClock, client.CodeClockUntrusted},
	{issuer.ErrKeyInUse, client.CodeKeyInUse},
	{issuer.ErrSlowDown, client.CodeSlowDown},
	{issuer.ErrNotFound, client.CodeNotFound},
	{issuer.ErrExists, client.CodeExists},
	{issuer.ErrInvalid, client.CodeInvalid},
	{issuer.ErrStopped, client.CodeStoreReadOnly},
	{context.DeadlineExceeded, client.CodeSlowDown}, // the outcome is unknown, and asking again finds it
	{context.Canceled, client.CodeSlowDown},
}

// problem is what all problems of one code have in common.
type problem struct {
	status int
	title  string
	after  time.Duration // when to ask again; 0: asking again changes nothing
	cause  bool          // the detail begins with the error's text also where another package made it: it says what exactly is wrong
	advice string        // why, and what to do: for the operator at the line
}

var problems = map[string]problem{
	client.CodeBodyMalformed: {400, "Request not understood", 0, true,
		"A certificate is asked for with a JSON object that has csr and, unless the CSR carries it, device_id; it is confirmed with one that has challenge and signature. Check the station's software, and ask for a new challenge."},
	client.CodeCSRMalformed: {400, "CSR not understood", 0, true,
		"Send a PKCS#10 request as openssl req -new makes it: PEM, or the base64 of its DER."},
	client.CodeCSRSignature: {400, "Signature wrong", 0, true,
		"What was signed, a CSR or a challenge, was changed on its way, or not signed by the device's own key. Have the device sign again."},
	client.CodeStationNotAllowed: {403, "Station not allowed", 0, true,
		"`certmill station list` tells how the station stands, `certmill order show` for which stations an order is."},
	client.CodeDeviceNotInOrder: {403, "Device not in order", 0, false,
		"The order does not name this device id. Check that the station works on the right order and that the id was read correctly."},
	client.CodeOrderUnknown: {404, "Order unknown", 0, false,
		"There is no such order here. Check the order number that the station was given."},
	client.CodeNotFound: {404, "Not found", 0, true,
		"There is nothing under this address or name. Check how it is written."},
	client.CodeMethod: {405, "Method not allowed", 0, false,
		"This address does not take this method; the Allow header names those it takes."},
	client.CodeOrderFull: {409, "Order full", 0, false,
		"Every certificate of this order has been made. Ask for another order; devices that have their certificate still get it again."},
	client.CodeOrderClosed: {409, "Order closed", 0, true,
		"Ask for another one; devices that have their certificate still get it again."},
	client.CodeOrderFrozen: {409, "Frozen", 0, true,
		"Somebody stopped it. Stop the line and ask: `certmill status` shows what is frozen."},
	client.CodeDeviceHasCertificate: {409, "Device has a certificate", 0, false,
		"This device has a certificate already: for another key, or by another order. Either two devices carry this id, or the device lost its key, or the station works on the wrong order. Put it aside."},
	client.CodeCertificateRevoked: {409, "Certificate revoked", 0, true,
		"This certificate is not handed out any more. The device needs a new key; `certmill device show` tells what became of it, and on which order the next one may be drawn."},
	client.CodeKeyInUse: {409, "Key in use", 0, false,
		"Another device, or another slot of this one, has this very key: one is a copy of the other, or the key generator is broken. Put the device aside."},
	client.CodeDeviceMismatch: {409, "Device id and CSR differ", 0, true,
		"The device_id of the request is not the CSR's common name. Labels may be swapped: read the id again and make a new CSR."},
	client.CodeTooLarge: {413, "Too large", 0, false,
		"One request may have 64 KiB; many in one body 1000 lines and 4 MiB. Send less at once."},
	client.CodeContentType: {415, "Content type not taken", 0, false,
		"Send Content-Type application/json for one request, application/x-ndjson for one on each line."},
	client.CodeKeyWeak: {422, "Key not acceptable", 0, true,
		"Have the device make a new key of the kind that the order's profile takes."},
	client.CodeProfileRefused: {422, "Refused by profile", 0, true,
		"The order's profile does not allow this certificate. Check that the station works on the right order and that the device id was read correctly."},
	client.CodeSlowDown: {429, "Slow down", time.Second, false,
		"Nothing is lost: ask again after the time in Retry-After."},
	client.CodeInternal: {500, "Fault in the service", 0, false,
		"The service met a fault of its own; its log tells which under this request id. Asking again is safe."},
	client.CodeHSMUnavailable: {503, "HSM not available", time.Second, false,
		"The HSM cannot sign now. Nothing is lost: ask again after the time in Retry-After. `certmill status` tells what it waits for."},
	client.CodeStoreReadOnly: {503, "Store cannot be written", 5 * time.Second, false,
		"What cannot be recorded is not issued. The service will be restarted; if that does not help, its disk needs somebody: `certmill status`."},
	client.CodeClockUntrusted: {503, "Clock not trusted", 30 * time.Second, true,
		"Nothing new is made by a clock that jumped. Set it right; then `certmill clock accept` says so. Nothing is lost: what is made is handed out meanwhile."},
	client.CodeNotAllowed: {403, "Not allowed", 0, false,
		"The admin socket is for the user of serve, root, and the configuration's admin_users."},
	client.CodeExists: {409, "Exists already", 0, true,
		"Choose another name."},
	client.CodeInvalid: {422, "Not valid", 0, true,
		"Nothing was changed."},
}

// refusal is an error that the server itself makes: it knows its code.
type refusal struct {
	code  string
	after time.Duration // instead of the code's own
	err   error
}

func (e *refusal) Error() string { return e.err.Error() }
func (e *refusal) Unwrap() error { return e.err }

// refuse makes an error with a code. The text says what is wrong; why and what to do stand in the table.
func refuse(code, format string, args ...any) error {
	return &refusal{code: code, err: fmt.Errorf(format, args...)}
}

// code finds the code of an error; what is in no table is our own fault.
func (s *Server) code(err error) string {
	var r *refusal
	if errors.As(err, &r) {
		return r.code
	}
	for _, table := range [][]ErrorCode{s.Errors, errorCodes} {
		for _, e := range table {
			if errors.Is(err, e.Err) {
				return e.Code
			}
		}
	}
	return client.CodeInternal
}

// problemOf is the one way from an error to what is said about it.
func (s *Server) problemOf(c *call, err error) client.Problem {
	code := s.code(err)
	p := problems[code]
	detail, after := p.advice, p.after
	var r *refusal
	own := errors.As(err, &r)
	if own || p.cause {
		detail = sentence(err.Error()) + " " + detail
	}
	if own && r.after > 0 {
		after = r.after
	}
	return client.Problem{
		Type:       "urn:certmill:problem:" + code,
		Title:      p.title,
		Status:     p.status,
		Detail:     detail,
		Instance:   c.r.URL.EscapedPath(),
		Code:       code,
		Retryable:  p.status == http.StatusTooManyRequests || p.status == http.StatusServiceUnavailable,
		RetryAfter: int((after + time.Second - 1) / time.Second),
		RequestID:  c.id,
	}
}

// sentence makes an error's text the first sentence of a detail.
func sentence(text string) string {
	if text == "" {
		return ""
	}
	return string(upper(text[0])) + text[1:] + "."
}

func upper(b byte) byte {
	if 'a' <= b && b <= 'z' {
		return b - 'a' + 'A'
	}
	return b
}
