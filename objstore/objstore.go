// Package objstore keeps objects: whole byte strings under slash-separated keys, written in one piece and
// changed only on stated conditions. Bulk data lives here: segments, layers, heads and points of a vault.
//
// objstore/dir, objstore/azblob, objstore/s3 and objstore/memory implement Store and pass one suite, objstore/objtest.
// objstore/retry adds bounded retries to any of them; objstore/faulty takes answers away from them, under a seed.
// objstore/open makes one from a URL.
package objstore

import (
	"context"
	"time"
)

// Limits that every implementation enforces, so that what works on one works on all.
const (
	MaxKey     = 512      // bytes in a key
	MaxSegment = 200      // bytes between two slashes of a key
	MaxObject  = 64 << 20 // bytes in an object
)

// Tag names one state of an object's bytes. A write that changes the bytes changes the tag; a write of the same bytes may or
// may not. It means something to the store that gave it only, and only for the key it was given for. "" is no tag.
type Tag string

// Info describes an object.
type Info struct {
	Key  string
	Size int64 // bytes
	// Tag is empty in what List yields where the store would have to read the object to know it.
	Tag Tag
	// Modified is when the object was last written, by the store's clock, to the second or finer.
	Modified time.Time
}

// Store keeps objects. It is safe for concurrent use, also by several processes.
//
// A write is seen by every call that begins after it was acknowledged, in Get, Head, GetRange and List alike. An object is
// never seen in part: a reader gets the bytes of one write, whole. What was acknowledged survives a crash of the store.
//
// Every call honours ctx; one that ctx ends says so by an error that is also ErrUnavailable or, where it may have changed
// something, ErrUnknown. A Store does not keep the data it is given after the call; data that it gives is the caller's.
//
// Errors are *Error and wrap one of the sentinels below.
type Store interface {
	// Get reads a whole object, and the tag of what it read. ErrNotFound if there is none.
	Get(ctx context.Context, key string) ([]byte, Tag, error)
	// GetRange reads exactly n ≥ 1 bytes from off ≥ 0. ErrNotFound if there is no object, ErrRange if it is too short.
	GetRange(ctx context.Context, key string, off, n int64) ([]byte, error)
	// Head describes an object without giving its bytes. ErrNotFound if there is none.
	Head(ctx context.Context, key string) (Info, error)
	// Put writes an object of 0 to MaxObject bytes if cond holds: ErrExists if IfAbsent does not, ErrChanged if IfMatch does
	// not (also when there is no object any more). ErrUnknown says that it may have happened, or may yet happen until it is
	// overwritten; whoever gets it reads before it acts. After any other error nothing was changed.
	Put(ctx context.Context, key string, data []byte, cond Cond) (Tag, error)
	// Delete removes an object. That there is none is no error. ErrUnknown as for Put.
	Delete(ctx context.Context, key string) error
	// List yields the objects whose keys begin with prefix and are greater than after, in the order of their bytes, until yield
	// gives false; then List gives nil. prefix is "" or any beginning of a key; after is "" or any string. Objects written or deleted
	// during the call may or may not be in it. An error may come after some objects; going on after the last of them is right.
	List(ctx context.Context, prefix, after string, yield func(Info) bool) error
	// Close lets go of connections and files. Close twice is safe; calls after it fail with ErrUnavailable.
	Close() error
}

// Cond says when a Put may happen. The zero Cond is always.
type Cond struct {
	mode condMode
	tag  Tag
}

type condMode uint8

const (
	always condMode = iota
	ifAbsent
	ifMatch
)

// Always is the condition that always holds.
var Always = Cond{}

// IfAbsent holds while there is no object under the key. Of several who put so at once, one succeeds.
var IfAbsent = Cond{mode: ifAbsent}

// IfMatch holds while the object has tag, which is not "".
func IfMatch(tag Tag) Cond { return Cond{mode: ifMatch, tag: tag} }

// Absent tells whether c is IfAbsent.
func (c Cond) Absent() bool { return c.mode == ifAbsent }

// Match gives the tag of an IfMatch.
func (c Cond) Match() (Tag, bool) { return c.tag, c.mode == ifMatch }

// String describes c for errors and traces.
func (c Cond) String() string {
	switch c.mode {
	case ifAbsent:
		return "if absent"
	case ifMatch:
		return "if match " + string(c.tag)
	}
	return "always"
}

// Holds decides c for an object with tag; "" stands for no object. It gives nil, ErrExists or ErrChanged.
func (c Cond) Holds(tag Tag) error {
	switch {
	case c.mode == ifAbsent && tag != "":
		return ErrExists
	case c.mode == ifMatch && tag != c.tag:
		return ErrChanged
	}
	return nil
}
