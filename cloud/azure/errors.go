package azure

import (
	"crypto/tls"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"regexp"
	"strings"
	"time"

	"github.com/Azure/azure-sdk-for-go/sdk/azidentity"

	"github.com/understudy-ha/understudy/cloud"
)

// Error is an answer of ARM that is not what was asked for. It says nothing of headers and carries no secret.
type Error struct {
	// Op is what was tried, like "write route table core".
	Op string
	// Status is the HTTP status; 200 for an operation that failed later.
	Status int
	// Code and Message are ARM's.
	Code, Message string
	// RetryAfter is what ARM asks to wait; 0 if it does not say.
	RetryAfter time.Duration
}

// Error implements error.
func (e *Error) Error() string {
	return fmt.Sprintf("%s: ARM answers %d %s: %s", e.Op, e.Status, e.Code, e.Message)
}

// Unwrap makes errors.Is(err, cloud.ErrPermanent) tell whether trying again is vain.
func (e *Error) Unwrap() error {
	if e.class() == permanent {
		return cloud.ErrPermanent
	}
	return nil
}

type class int

const (
	transient class = iota // try again after a while
	changed                // somebody wrote since we read
	inUse                  // the address is not free yet
	permanent
)

// class says what to do about the error.
func (e *Error) class() class {
	switch {
	case e.Code == "PublicIPAddressInUse":
		return inUse
	case e.Status == http.StatusPreconditionFailed:
		return changed
	case strings.HasPrefix(e.Code, "Retryable"), e.Code == "AnotherOperationInProgress":
		return transient
	case e.Code == "ScopeLocked", e.Code == "ReadOnlyDisabledSubscription":
		return permanent
	}
	switch e.Status {
	case http.StatusBadRequest, http.StatusUnauthorized, http.StatusForbidden, http.StatusNotFound, http.StatusMethodNotAllowed, http.StatusGone:
		return permanent
	}
	return transient
}

// maxMessage is how much of ARM's message is kept.
const maxMessage = 600

// refusal makes an Error of an answer. Bodies that are not ARM's own are cut short.
func (c *client) refusal(op string, status int, body []byte, after time.Duration) *Error {
	e := &Error{Op: op, Status: status, RetryAfter: after}
	e.Code, e.Message = parseRefusal(body)
	if e.Code == "" {
		e.Code, e.Message = http.StatusText(status), string(body)
	}
	e.Code, e.Message = c.redact.text(cut(e.Code, 100)), c.redact.text(cut(e.Message, maxMessage))
	return e
}

// parseRefusal finds code and message of an error body; the most telling code of the details goes before a mere
// "RetryableError" or "PreconditionFailed".
func parseRefusal(body []byte) (code, message string) {
	var b struct {
		Error struct {
			Code    string `json:"code"`
			Message string `json:"message"`
			Details []struct {
				Code    string `json:"code"`
				Message string `json:"message"`
			} `json:"details"`
		} `json:"error"`
	}
	if json.Unmarshal(body, &b) != nil {
		return "", ""
	}
	code, message = b.Error.Code, b.Error.Message
	for _, d := range b.Error.Details {
		if d.Message != "" {
			message += " (" + d.Code + ": " + d.Message + ")"
		}
	}
	return code, message
}

func cut(s string, n int) string {
	if len(s) <= n {
		return s
	}
	return strings.ToValidUTF8(s[:n], "") + "…"
}

// signIn classifies errors of getting a token.
func (c *client) signIn(op string, err error) error {
	var failed *azidentity.AuthenticationFailedError
	if errors.As(err, &failed) && failed.RawResponse != nil {
		if s := failed.RawResponse.StatusCode; s >= 400 && s < 500 && s != http.StatusTooManyRequests && s != http.StatusRequestTimeout {
			return fmt.Errorf("%s: sign in: %w: %s", op, cloud.ErrPermanent, c.redact.text(cut(err.Error(), maxMessage)))
		}
	}
	return fmt.Errorf("%s: %w", op, c.redact.wrap(err))
}

// redactor takes secrets out of text.
type redactor struct{ secrets []string }

var bearerish = regexp.MustCompile(`(?i)bearer\s+[A-Za-z0-9._~+/=-]+|eyJ[A-Za-z0-9_-]{8,}(\.[A-Za-z0-9_-]*){0,2}|client_secret=[^&\s"]+`)

func (r redactor) text(s string) string {
	for _, secret := range r.secrets {
		s = strings.ReplaceAll(s, secret, "REDACTED")
	}
	return bearerish.ReplaceAllString(s, "REDACTED")
}

// quiet takes secrets out of a transport's errors before the SDK, which may log, sees them. A certificate that does not
// verify is for good.
type quiet struct {
	next   http.RoundTripper
	redact redactor
}

// RoundTrip implements http.RoundTripper.
func (q quiet) RoundTrip(r *http.Request) (*http.Response, error) {
	a, err := q.next.RoundTrip(r)
	if err == nil {
		return a, nil
	}
	var bad *tls.CertificateVerificationError
	if errors.As(err, &bad) {
		return nil, fmt.Errorf("%w: %w; name its CA in caFile", cloud.ErrPermanent, q.redact.wrap(err))
	}
	return nil, q.redact.wrap(err)
}

// CloseIdleConnections lets http.Client reach the transport's.
func (q quiet) CloseIdleConnections() {
	if c, ok := q.next.(interface{ CloseIdleConnections() }); ok {
		c.CloseIdleConnections()
	}
}

// redacted shows an error without its secrets and keeps it testable.
type redacted struct {
	text  string
	cause error
}

func (e *redacted) Error() string { return e.text }

// Is finds sentinels of the cause, which itself stays hidden from errors.As so that its text cannot get out.
func (e *redacted) Is(target error) bool { return errors.Is(e.cause, target) }

func (r redactor) wrap(err error) error { return &redacted{r.text(err.Error()), err} }
