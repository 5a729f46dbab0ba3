package api

import "fmt"

// Code says what kind of refusal an Error is. Codes are stable.
type Code string

// The codes, with the HTTP status that goes with each.
const (
	CodeInvalid            Code = "Invalid"              // 400: Fields says what is wrong
	CodeUnauthenticated    Code = "Unauthenticated"      // 401: no credential, or one that is not known
	CodeForbidden          Code = "Forbidden"            // 403: the role does not allow it
	CodeNotFound           Code = "NotFound"             // 404: not there, or another tenant's
	CodeReadOnly           Code = "ReadOnly"             // 405: only controllers write this kind
	CodeAlreadyExists      Code = "AlreadyExists"        // 409
	CodeConflict           Code = "Conflict"             // 409: something else stands in the way; Message says what
	CodePreconditionFailed Code = "PreconditionFailed"   // 412: it has changed since it was read
	CodeTooLarge           Code = "TooLarge"             // 413
	CodeNeedsMatch         Code = "PreconditionRequired" // 428: send If-Match
	CodeInternal           Code = "Internal"             // 500
	CodeUnavailable        Code = "Unavailable"          // 503: the store did not answer; nothing was changed
	CodeOutcomeUnknown     Code = "OutcomeUnknown"       // 503: the write may or may not have happened; read before trying again
)

// HTTPStatus gives the status of a code.
func (c Code) HTTPStatus() int {
	switch c {
	case CodeInvalid:
		return 400
	case CodeUnauthenticated:
		return 401
	case CodeForbidden:
		return 403
	case CodeNotFound:
		return 404
	case CodeReadOnly:
		return 405
	case CodeAlreadyExists, CodeConflict:
		return 409
	case CodePreconditionFailed:
		return 412
	case CodeTooLarge:
		return 413
	case CodeNeedsMatch:
		return 428
	case CodeUnavailable, CodeOutcomeUnknown:
		return 503
	}
	return 500
}

// Error is a refusal as the API answers it.
type Error struct {
	Code    Code   `json:"code"`
	Message string `json:"message"`
	// Fields is set with CodeInvalid.
	Fields []FieldError `json:"fields,omitempty"`
}

func (e *Error) Error() string { return e.Message }

// Errorf makes an Error.
func Errorf(c Code, format string, args ...any) *Error {
	return &Error{Code: c, Message: fmt.Sprintf(format, args...)}
}
