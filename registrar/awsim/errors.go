package awsim

import (
	"fmt"
	"net/http"
)

// apiError is an answer that says no, in AWS's words.
type apiError struct {
	code    string // as "ResourceNotFoundException"
	status  int    // HTTP
	message string
	more    map[string]string // further members of the body (W-03)
}

func (e *apiError) Error() string { return e.code + ": " + e.message }

func refuse(status int, code, format string, args ...any) *apiError {
	return &apiError{code: code, status: status, message: fmt.Sprintf(format, args...)}
}

// The errors of AWS IoT with their HTTP status (rules section 1.1).

func invalidRequest(format string, args ...any) error {
	return refuse(http.StatusBadRequest, "InvalidRequestException", format, args...)
}

func badCertificate(format string, args ...any) error {
	return refuse(http.StatusBadRequest, "CertificateValidationException", format, args...)
}

func notFound(format string, args ...any) error {
	return refuse(http.StatusNotFound, "ResourceNotFoundException", format, args...)
}

func badState(format string, args ...any) error {
	return refuse(http.StatusNotAcceptable, "CertificateStateException", format, args...)
}

func deleteConflict(format string, args ...any) error {
	return refuse(http.StatusConflict, "DeleteConflictException", format, args...)
}

// limitExceeded is a quota: HTTP 410, and the SDK for Go takes it for a throttle (K-03).
func limitExceeded(format string, args ...any) error {
	return refuse(http.StatusGone, "LimitExceededException", format, args...)
}

// alreadyExists tells id and ARN of the one that is there (W-03).
func alreadyExists(id, arn, format string, args ...any) error {
	e := refuse(http.StatusConflict, "ResourceAlreadyExistsException", format, args...)
	e.more = map[string]string{"resourceId": id, "resourceArn": arn}
	return e
}
