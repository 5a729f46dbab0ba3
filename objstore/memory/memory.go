// Package memory is an object store inside one process: for tests and for the simulator. It keeps nothing when the process ends,
// starts no goroutine, never waits, and gives the same answers, times included, to the same calls.
package memory

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/understudy-ha/understudy/objstore"
)

// Store is one set of objects.
type Store struct {
	mu      sync.Mutex
	objects map[string]object
	keys    []string // sorted
	writes  int64
	now     func() time.Time
	closed  bool
}

type object struct {
	data     []byte
	tag      objstore.Tag
	modified time.Time
}

var _ objstore.Store = (*Store)(nil)

// New gives an empty store. now is its clock; nil means one that advances a second with every write, from 2000-01-01.
func New(now func() time.Time) *Store {
	s := &Store{objects: map[string]object{}, now: now}
	if now == nil {
		s.now = func() time.Time { return time.Unix(946684800+s.writes, 0).UTC() }
	}
	return s
}

// Get implements objstore.Store.
func (s *Store) Get(ctx context.Context, key string) ([]byte, objstore.Tag, error) {
	o, err := s.find(ctx, "get", key)
	if err != nil {
		return nil, "", err
	}
	return slices.Clone(o.data), o.tag, nil
}

// GetRange implements objstore.Store.
func (s *Store) GetRange(ctx context.Context, key string, off, n int64) ([]byte, error) {
	if err := objstore.ValidRange("get range of", key, off, n); err != nil {
		return nil, err
	}
	o, err := s.find(ctx, "get range of", key)
	if err != nil {
		return nil, err
	}
	if off+n > int64(len(o.data)) {
		return nil, &objstore.Error{Op: "get range of", Key: key, Kind: objstore.ErrRange,
			Cause: fmt.Errorf("offset %d, length %d, object %d bytes", off, n, len(o.data))}
	}
	return slices.Clone(o.data[off : off+n]), nil
}

// Head implements objstore.Store.
func (s *Store) Head(ctx context.Context, key string) (objstore.Info, error) {
	o, err := s.find(ctx, "head", key)
	return objstore.Info{Key: key, Size: int64(len(o.data)), Tag: o.tag, Modified: o.modified}, err
}

func (s *Store) find(ctx context.Context, op, key string) (object, error) {
	if err := objstore.ValidKey(op, key); err != nil {
		return object{}, err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if err := s.usable(ctx, op, key); err != nil {
		return object{}, err
	}
	o, ok := s.objects[key]
	if !ok {
		return object{}, &objstore.Error{Op: op, Key: key, Kind: objstore.ErrNotFound}
	}
	return o, nil
}

// Put implements objstore.Store.
func (s *Store) Put(ctx context.Context, key string, data []byte, cond objstore.Cond) (objstore.Tag, error) {
	if err := objstore.ValidPut("put", key, len(data), cond); err != nil {
		return "", err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if err := s.usable(ctx, "put", key); err != nil {
		return "", err
	}
	if err := cond.Holds(s.objects[key].tag); err != nil {
		return "", &objstore.Error{Op: "put", Key: key, Kind: err}
	}
	if i, ok := slices.BinarySearch(s.keys, key); !ok {
		s.keys = slices.Insert(s.keys, i, key)
	}
	s.writes++
	tag := objstore.Tag(fmt.Sprintf("w%d", s.writes))
	s.objects[key] = object{append([]byte{}, data...), tag, s.now()}
	return tag, nil
}

// Delete implements objstore.Store.
func (s *Store) Delete(ctx context.Context, key string) error {
	if err := objstore.ValidKey("delete", key); err != nil {
		return err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if err := s.usable(ctx, "delete", key); err != nil {
		return err
	}
	if i, ok := slices.BinarySearch(s.keys, key); ok {
		s.keys = slices.Delete(s.keys, i, i+1)
		delete(s.objects, key)
	}
	return nil
}

// List implements objstore.Store. It holds no lock while it yields, and yields what was there when it began.
func (s *Store) List(ctx context.Context, prefix, after string, yield func(objstore.Info) bool) error {
	found, err := s.under(ctx, prefix, after)
	if err != nil {
		return err
	}
	for _, info := range found {
		if !yield(info) {
			return nil
		}
	}
	return nil
}

func (s *Store) under(ctx context.Context, prefix, after string) ([]objstore.Info, error) {
	if err := objstore.ValidPrefix("list", prefix); err != nil {
		return nil, err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if err := s.usable(ctx, "list", prefix); err != nil {
		return nil, err
	}
	var out []objstore.Info
	i, _ := slices.BinarySearch(s.keys, max(prefix, after))
	for ; i < len(s.keys) && strings.HasPrefix(s.keys[i], prefix); i++ {
		if k := s.keys[i]; k > after {
			o := s.objects[k]
			out = append(out, objstore.Info{Key: k, Size: int64(len(o.data)), Tag: o.tag, Modified: o.modified})
		}
	}
	return out, nil
}

func (s *Store) usable(ctx context.Context, op, key string) error {
	if s.closed {
		return &objstore.Error{Op: op, Key: key, Kind: objstore.ErrUnavailable, Cause: objstore.ErrClosed}
	}
	if err := ctx.Err(); err != nil {
		return &objstore.Error{Op: op, Key: key, Kind: objstore.ErrUnavailable, Cause: err}
	}
	return nil
}

// Close implements objstore.Store.
func (s *Store) Close() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.closed = true
	return nil
}
