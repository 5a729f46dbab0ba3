package vault

import (
	"errors"
	"fmt"

	"github.com/understudy-ha/understudy/journal"
	"github.com/understudy-ha/understudy/objstore"
)

// What a call can end with, besides the store's own errors and the classes of package journal. Test with errors.Is.
var (
	ErrFenced     = errors.New("fenced")               // a newer writer has the stream; this one can never extend it again
	ErrNoVault    = errors.New("no vault")             // the store holds none
	ErrExists     = errors.New("exists already")       // a vault where one was to be created
	ErrNoStream   = errors.New("no such stream")       //
	ErrNotKept    = errors.New("position not kept")    // it was pruned, or was never stored
	ErrInGap      = errors.New("position in a gap")    // records are missing there
	ErrMissing    = errors.New("missing object")       // what a head refers to is not in the store
	ErrNoIdentity = errors.New("no key to open it")    // the call decrypts, and the vault was opened without an identity
	ErrPinLost    = errors.New("pin lost")             // a view could not renew its pin; what it reads may be collected
	ErrMismatch   = errors.New("does not match")       // a stream is asked for with other disks or another base than it has
	ErrBusy       = errors.New("changed all the time") // others swapped the head each time; trying again is right
)

// Error says what was tried on what, and what would be right.
type Error struct {
	Op     string // like "append to"
	Object string // stream, or key in the store
	Kind   error  // a sentinel
	Cause  error  // may be nil
	Hint   string // may be empty
}

// Error implements error.
func (e *Error) Error() string {
	s := e.Op + " " + e.Object + ": " + e.Kind.Error()
	if e.Cause != nil {
		s += ": " + e.Cause.Error()
	}
	if e.Hint != "" {
		s += "; " + e.Hint
	}
	return s
}

// Unwrap gives the kind and the cause.
func (e *Error) Unwrap() []error {
	if e.Cause == nil {
		return []error{e.Kind}
	}
	return []error{e.Kind, e.Cause}
}

// Fenced tells whether a newer writer has the stream; package replication asks for it.
func (e *Error) Fenced() bool { return e.Kind == ErrFenced }

func fail(op, object string, kind error, hint string, args ...any) error {
	return &Error{Op: op, Object: object, Kind: kind, Hint: fmt.Sprintf(hint, args...)}
}

// Damage tells whether an error means that an object is not what it should be (corrupt, missing, replayed, under another key or of
// an unknown version), so that trying again does not help. Everything that does not need the object still works.
func Damage(err error) bool {
	for _, class := range []error{journal.ErrCorrupt, journal.ErrVersion, journal.ErrWrongKey, journal.ErrReplayed, ErrMissing} {
		if errors.Is(err, class) {
			return true
		}
	}
	return false
}

// referred says what "not found" and "too short" mean of an object that something refers to.
func referred(op, key string, err error) error {
	if errors.Is(err, objstore.ErrNotFound) {
		return &Error{Op: op, Object: key, Kind: ErrMissing, Cause: err}
	}
	if errors.Is(err, objstore.ErrRange) {
		return damaged(key, journal.ErrTruncated, "%v", err)
	}
	return err
}
