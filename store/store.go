// Package store is where desired state and status live: small JSON documents under
// slash-separated keys, changed only by compare-and-swap.
//
// store/etcd, store/zookeeper and store/memory implement it and pass one suite,
// store/storetest. Either of the first two alone carries the whole control plane.
package store

import (
	"context"
	"errors"
	"fmt"
)

// Limits that every implementation enforces, so that what works on one works on all.
const (
	MaxValue   = 512 << 10 // bytes in one value
	MaxTxnKeys = 64        // distinct keys in one transaction, conditions and writes together
	MaxKey     = 512       // bytes in a key
	// MaxTxnBytes is the most that the keys and values of one transaction may add up to. A ZooKeeper
	// server refuses a request of 1 MiB, which also carries node names, some of them twice.
	MaxTxnBytes = 896 << 10
)

// Rev is the revision of a key's last change. Of two revisions of one key the later
// is the greater, also across delete and create; nothing else may be read from it.
// 0 means "the key does not exist".
type Rev int64

// Entry is one key with its value.
type Entry struct {
	Key   string
	Value []byte
	Rev   Rev
}

// Cond holds when Key is exactly at Rev (0: does not exist).
type Cond struct {
	Key string
	Rev Rev
}

// Op writes Value at Key, or deletes it. Deleting a key that is not there is no error.
type Op struct {
	Key    string
	Value  []byte
	Delete bool
}

// Change is what a watch tells of a key: its current state, which may have
// skipped states in between.
type Change struct {
	Entry
	Deleted bool // Value is nil and Rev 0
}

// Batch is one delivery of a watch.
type Batch struct {
	Changes []Change
	// Complete is set on a delivery that holds, by itself, everything under the prefix: the first one, and
	// the first after a gap (lost session, compacted history). Keys that are not in it do not exist.
	Complete bool
}

// Store is safe for concurrent use. Every call honours ctx; one that ctx ends says so by an error
// that is also ErrUnavailable or, in Txn, ErrUnknown. A store does not keep the Value it is given;
// a Value that it gives is shared and must not be changed. An empty Value comes back empty, nil or not.
//
// A key is 1 to MaxKey bytes of segments separated by single slashes, each segment
// of [A-Za-z0-9._~%:@+=-]; "." and ".." are no segments. A key may be both a
// value and a prefix of others. A prefix is "" (everything) or ends in "/".
type Store interface {
	// Get reads one key, seeing every write that was acknowledged before the call. ErrNotFound if absent.
	Get(ctx context.Context, key string) (Entry, error)
	// List reads all keys under prefix, sorted by key. It sees every write that was acknowledged before the call;
	// writes during the call may be in it in part, so what must agree is compared in a Txn.
	List(ctx context.Context, prefix string) ([]Entry, error)
	// Txn makes all ops happen, or none: none if a condition fails (ErrConflict). It returns the new revision
	// of each op's key, in order (0 for a delete). ErrUnknown says that the connection broke and the transaction may or may
	// not have happened, or may yet happen; whoever gets it reads before it acts. Conditions without ops are a check.
	Txn(ctx context.Context, conds []Cond, ops []Op) ([]Rev, error)
	// Watch delivers the state under prefix, and then what changes, until ctx ends or the store is closed; then the
	// channel is closed. It returns at once, also when the store cannot be reached. It may coalesce states of one key,
	// repeat a state, split a transaction, and tell of the deletion of a key it never told of; but the states of a key
	// come in order, and its last state is always delivered. A reader that is slow costs memory for one state a key, no more.
	// While the store cannot be reached nothing is delivered; after that either the changes follow or a Complete batch does.
	Watch(ctx context.Context, prefix string) (<-chan Batch, error)
	// Close lets go of the connection, and of the server where it is embedded. Calls under way fail. Close twice is safe.
	Close() error
}

var (
	// ErrNotFound says that a key does not exist.
	ErrNotFound = errors.New("store: not found")
	// ErrConflict says that a condition of a transaction did not hold; nothing was changed.
	ErrConflict = errors.New("store: conflict")
	// ErrUnknown says that it is not known whether a transaction happened.
	ErrUnknown = errors.New("store: outcome unknown")
	// ErrUnavailable says that the store did not answer, and that the call changed nothing.
	ErrUnavailable = errors.New("store: unavailable")
	// ErrInvalid says that a key, value or transaction is outside the limits.
	ErrInvalid = errors.New("store: invalid")
)

// ValidKey gives nil or an ErrInvalid that says what is wrong with key.
func ValidKey(key string) error {
	if key == "" || len(key) > MaxKey {
		return fmt.Errorf("%w: key %q has %d bytes, want 1 to %d", ErrInvalid, key, len(key), MaxKey)
	}
	start := 0
	for i := 0; i <= len(key); i++ {
		if i < len(key) && key[i] != '/' {
			if !keyByte(key[i]) {
				return fmt.Errorf("%w: key %q has %q at byte %d", ErrInvalid, key, key[i], i)
			}
			continue
		}
		if seg := key[start:i]; seg == "" || seg == "." || seg == ".." {
			return fmt.Errorf("%w: key %q has a segment %q", ErrInvalid, key, seg)
		}
		start = i + 1
	}
	return nil
}

func keyByte(c byte) bool {
	switch {
	case c >= 'a' && c <= 'z', c >= 'A' && c <= 'Z', c >= '0' && c <= '9':
		return true
	}
	switch c {
	case '.', '_', '~', '%', ':', '@', '+', '=', '-':
		return true
	}
	return false
}

// ValidPrefix gives nil or an ErrInvalid.
func ValidPrefix(prefix string) error {
	if prefix == "" {
		return nil
	}
	if prefix[len(prefix)-1] != '/' {
		return fmt.Errorf("%w: prefix %q does not end in a slash", ErrInvalid, prefix)
	}
	return ValidKey(prefix[:len(prefix)-1])
}

// ValidTxn checks a transaction against the limits. A key may be written once.
func ValidTxn(conds []Cond, ops []Op) error {
	keys := map[string]bool{}
	size := 0
	for _, c := range conds {
		if err := ValidKey(c.Key); err != nil {
			return err
		}
		if !keys[c.Key] {
			size += len(c.Key)
		}
		keys[c.Key] = true
	}
	written := map[string]bool{}
	for _, o := range ops {
		if err := ValidKey(o.Key); err != nil {
			return err
		}
		if len(o.Value) > MaxValue {
			return fmt.Errorf("%w: value of %q has %d bytes, want at most %d", ErrInvalid, o.Key, len(o.Value), MaxValue)
		}
		if written[o.Key] {
			return fmt.Errorf("%w: key %q is written twice", ErrInvalid, o.Key)
		}
		if !keys[o.Key] {
			size += len(o.Key)
		}
		size += len(o.Value)
		written[o.Key], keys[o.Key] = true, true
	}
	if len(keys) > MaxTxnKeys {
		return fmt.Errorf("%w: transaction of %d keys, want at most %d", ErrInvalid, len(keys), MaxTxnKeys)
	}
	if size > MaxTxnBytes {
		return fmt.Errorf("%w: transaction of %d bytes, want at most %d", ErrInvalid, size, MaxTxnBytes)
	}
	return nil
}

// FoldConds gives the conditions by key: a condition said twice counts once, and two that contradict
// each other are an ErrConflict.
func FoldConds(conds []Cond) (map[string]Rev, error) {
	want := make(map[string]Rev, len(conds))
	for _, c := range conds {
		if rev, ok := want[c.Key]; ok && rev != c.Rev {
			return nil, fmt.Errorf("%w: %q cannot be at revisions %d and %d", ErrConflict, c.Key, rev, c.Rev)
		}
		want[c.Key] = c.Rev
	}
	return want, nil
}
