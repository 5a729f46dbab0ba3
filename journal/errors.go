package journal

import (
	"errors"
	"fmt"
)

// What can be wrong with bytes. Test for them by errors.Is; the error itself names the object. ErrCorrupt is also true of
// ErrTruncated: both mean that the bytes are not what was written, and that trying again does not help.
var (
	ErrCorrupt   = errors.New("corrupt")
	ErrTruncated = fmt.Errorf("%w: cut short", ErrCorrupt)
	ErrVersion   = errors.New("unknown version")
	ErrWrongKey  = errors.New("wrong key")
	ErrReplayed  = errors.New("bound to another place")
)

// Error says what is wrong with which object. Nothing but the named object is affected.
type Error struct {
	Object string // name of the object; "" when the bytes have none
	Class  error  // one of the sentinels above
	Detail string // what was found, and what would be right
}

// Error is one line.
func (e *Error) Error() string {
	if e.Object == "" {
		return e.Class.Error() + ": " + e.Detail
	}
	return e.Object + ": " + e.Class.Error() + ": " + e.Detail
}

// Unwrap gives the class.
func (e *Error) Unwrap() error { return e.Class }

func wrong(object string, class error, format string, args ...any) error {
	return &Error{Object: object, Class: class, Detail: fmt.Sprintf(format, args...)}
}
