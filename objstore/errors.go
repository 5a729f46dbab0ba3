package objstore

import (
	"context"
	"errors"
	"strings"
)

// What a call can end with. Test with errors.Is.
var (
	// ErrNotFound says that there is no object under the key.
	ErrNotFound = errors.New("not found")
	// ErrRange says that the object ends before the asked range does.
	ErrRange = errors.New("range beyond the object's end")
	// ErrExists says that IfAbsent did not hold; nothing was changed.
	ErrExists = errors.New("exists already")
	// ErrChanged says that IfMatch did not hold; nothing was changed.
	ErrChanged = errors.New("changed since it was read")
	// ErrUnknown says that a write may or may not have happened, or may yet happen: its answer was lost. Read to settle it.
	ErrUnknown = errors.New("outcome unknown")
	// ErrUnavailable says that the store did not answer or is busy, and that the call changed nothing.
	ErrUnavailable = errors.New("unavailable")
	// ErrNoSpace says that the store is full or over its quota; nothing was changed.
	ErrNoSpace = errors.New("no space")
	// ErrDenied says that the store does not know or does not trust us, or that the bucket or directory is not there.
	ErrDenied = errors.New("denied")
	// ErrInvalid says that a key, size, range or condition is outside what a Store takes.
	ErrInvalid = errors.New("invalid")
	// ErrClosed is the cause of an ErrUnavailable after Close.
	ErrClosed = errors.New("the store was closed")
)

// Error is what every call of a Store fails with.
type Error struct {
	// Op is the call, like "put".
	Op string
	// Key is the object's, or the prefix of a list.
	Key string
	// Kind is one of the sentinels.
	Kind error
	// Cause is what the store or the connection said; nil if Kind says it all. It carries no secret.
	Cause error
	// Hint says what would be right; it may be empty.
	Hint string
}

// Error implements error.
func (e *Error) Error() string {
	var b strings.Builder
	b.WriteString(e.Op)
	if e.Key != "" {
		b.WriteString(" " + e.Key)
	}
	b.WriteString(": " + e.Kind.Error())
	if e.Cause != nil {
		b.WriteString(": " + e.Cause.Error())
	}
	if e.Hint != "" {
		b.WriteString("; " + e.Hint)
	}
	return b.String()
}

// Unwrap gives the kind and the cause.
func (e *Error) Unwrap() []error {
	if e.Cause == nil {
		return []error{e.Kind}
	}
	return []error{e.Kind, e.Cause}
}

// Retryable tells whether the failed call changed nothing and may succeed later as it is: ErrUnavailable, ErrNoSpace. ErrUnknown is not
// among them, because a read must come first. A call that its own context ended is not either, nor one after Close.
func Retryable(err error) bool {
	if errors.Is(err, context.Canceled) || errors.Is(err, context.DeadlineExceeded) || errors.Is(err, ErrClosed) {
		return false
	}
	return errors.Is(err, ErrUnavailable) || errors.Is(err, ErrNoSpace)
}
