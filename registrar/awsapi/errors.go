package awsapi

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/url"

	"github.com/aws/aws-sdk-go-v2/aws/retry"
	smithy "github.com/aws/smithy-go"
	smithyhttp "github.com/aws/smithy-go/transport/http"
)

// Kind is what happened to a call that returned an error.
type Kind int

// Kinds of errors.
const (
	Unknown     Kind = iota // no answer, or one that does not say whether the call had its effect: look before repeating (K-04)
	NotFound                // the resource is not there
	Exists                  // a resource of this name, or another owner of this CA, is there already
	Throttled               // too fast, even after the SDK's own retries; nothing was done
	Denied                  // credentials or rights are missing, or nobody may do this
	Permanent               // refused, and will be refused again; a quota that is full counts too (K-03)
	Unsupported             // the endpoint does not have this call
)

func (k Kind) String() string {
	return [...]string{"outcome unknown", "not found", "exists", "throttled", "denied", "refused", "not supported by this endpoint"}[k]
}

// Error is what every method of a Target returns when it fails.
type Error struct {
	Kind       Kind
	Operation  string // AWS's name, as "RegisterCACertificate"
	Code       string // AWS's name of the error, as "LimitExceededException"; "" where there was no answer
	Message    string // AWS's text: for people, not for decisions
	ResourceID string // with Exists: of the resource that is there, where AWS says so

	err error
}

// Error tells operation, code and AWS's text on one line.
func (e *Error) Error() string {
	switch {
	case e.Kind == Unsupported:
		return e.Operation + ": the endpoint does not have this call"
	case e.Code != "":
		return fmt.Sprintf("%s: %s: %s", e.Operation, e.Code, e.Message)
	}
	var sending *url.Error
	if errors.As(e.err, &sending) { // what the SDK wraps around it says nothing more
		return fmt.Sprintf("%s: no answer: %v", e.Operation, sending)
	}
	return fmt.Sprintf("%s: %v", e.Operation, e.err)
}

// Unwrap gives the SDK's error, so that errors.Is finds context.Canceled.
func (e *Error) Unwrap() error { return e.err }

// KindOf says what happened; an error that does not come from this package is Unknown.
func KindOf(err error) Kind {
	var e *Error
	if errors.As(err, &e) {
		return e.Kind
	}
	return Unknown
}

// kinds are the codes whose kind does not follow from their HTTP status. STS and IAM write theirs without "Exception".
var kinds = map[string]Kind{
	"ResourceNotFoundException": NotFound,
	"NoSuchEntity":              NotFound,
	"NoSuchEntityException":     NotFound,

	"ResourceAlreadyExistsException": Exists,
	"EntityAlreadyExists":            Exists,
	"EntityAlreadyExistsException":   Exists,
	"ResourceConflictException":      Exists, // Lambda: the statement id is taken

	"AccessDenied":                        Denied,
	"AccessDeniedException":               Denied,
	"UnauthorizedException":               Denied,
	"UnrecognizedClientException":         Denied,
	"InvalidClientTokenId":                Denied,
	"InvalidSignatureException":           Denied,
	"SignatureDoesNotMatch":               Denied,
	"IncompleteSignatureException":        Denied,
	"MissingAuthenticationTokenException": Denied,
	"ExpiredToken":                        Denied,
	"ExpiredTokenException":               Denied,
	"RegionDisabledException":             Denied,
	"OptInRequired":                       Denied,

	"ConflictingResourceUpdateException": Unknown, // somebody else is at it: look, then decide
	"ConcurrentModification":             Unknown,
	"ServiceUnavailableException":        Unknown,

	"LimitExceededException":    Permanent, // a quota; the SDK takes it for a throttle (K-03)
	"UnknownOperationException": Unsupported,
}

// classified turns an error of the SDK into ours; operation is used where the SDK does not name one.
func classified(operation string, err error) error {
	if err == nil {
		return nil
	}
	e := &Error{Kind: Unknown, Operation: operation, err: err}
	var op *smithy.OperationError
	for inner := err; errors.As(inner, &op); inner = op.Err { // the innermost: with AssumeRole underneath, that is what failed
		e.Operation = op.Operation()
	}
	var api smithy.APIError
	if errors.As(err, &api) {
		e.Code, e.Message = api.ErrorCode(), api.ErrorMessage()
		e.Kind = kindOfCode(e.Code, err)
	}
	var unsupported *unsupportedError
	var unsent smithy.InvalidParamsError
	switch {
	case errors.As(err, &unsent):
		e.Kind = Permanent
	case errors.As(err, &unsupported):
		e.Kind = Unsupported
	case errors.Is(err, context.Canceled):
		e.Kind = Unknown
	}
	e.ResourceID = resourceID(err)
	return e
}

func kindOfCode(code string, err error) Kind {
	if k, ok := kinds[code]; ok {
		return k
	}
	if _, ok := retry.DefaultThrottleErrorCodes[code]; ok {
		return Throttled
	}
	var res *smithyhttp.ResponseError
	if errors.As(err, &res) && res.HTTPStatusCode() >= http.StatusInternalServerError {
		return Unknown
	}
	return Permanent
}

// unsupportedError is an endpoint without the call: HTTP 501, or the HTML page with which a web framework says that it crashed.
// AWS answers 5xx in the protocol of the service, never in HTML.
type unsupportedError struct{ status int }

func (e *unsupportedError) Error() string {
	return fmt.Sprintf("HTTP %d without an answer of the service", e.status)
}

// RetryableError keeps the SDK from trying again.
func (*unsupportedError) RetryableError() bool { return false }
