package faulty

import (
	"context"
	"fmt"

	"github.com/understudy-ha/understudy/objstore"
)

// Damage is done to what is stored, past all conditions, as a broken disk or an intruder would. Each kind fails with the store's error, or
// with ErrInvalid where the object cannot be damaged so.

// Corrupt flips one bit of an object.
func (s *Store) Corrupt(ctx context.Context, key string) error {
	return s.change(ctx, key, func(data []byte) ([]byte, error) {
		if len(data) == 0 {
			return nil, fmt.Errorf("an empty object has no bit")
		}
		i := s.rng.IntN(len(data) * 8)
		data[i/8] ^= 1 << (i % 8)
		return data, nil
	})
}

// Truncate cuts off the end of an object, at least one byte of it.
func (s *Store) Truncate(ctx context.Context, key string) error {
	return s.change(ctx, key, func(data []byte) ([]byte, error) {
		if len(data) == 0 {
			return nil, fmt.Errorf("an empty object has no end")
		}
		return data[:s.rng.IntN(len(data))], nil
	})
}

// Swap exchanges the bytes of two objects.
func (s *Store) Swap(ctx context.Context, a, b string) error {
	first, _, err := s.inner.Get(ctx, a)
	if err != nil {
		return err
	}
	second, _, err := s.inner.Get(ctx, b)
	if err != nil {
		return err
	}
	if _, err := s.inner.Put(ctx, a, second, objstore.Always); err != nil {
		return err
	}
	_, err = s.inner.Put(ctx, b, first, objstore.Always)
	return err
}

// Drop removes an object.
func (s *Store) Drop(ctx context.Context, key string) error { return s.inner.Delete(ctx, key) }

// Replay brings back what an earlier put through this store made of an object: the newest of them that differs from what is there, or that
// was deleted.
func (s *Store) Replay(ctx context.Context, key string) error {
	there, _, err := s.inner.Get(ctx, key)
	absent := err != nil
	s.mu.Lock()
	defer s.mu.Unlock()
	for i := len(s.past[key]) - 1; i >= 0; i-- {
		if old := s.past[key][i]; absent || string(old) != string(there) {
			_, err := s.inner.Put(ctx, key, old, objstore.Always)
			return err
		}
	}
	return &objstore.Error{Op: "replay", Key: key, Kind: objstore.ErrInvalid, Hint: "it must have held something else before"}
}

func (s *Store) change(ctx context.Context, key string, to func([]byte) ([]byte, error)) error {
	data, _, err := s.inner.Get(ctx, key)
	if err != nil {
		return err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if data, err = to(data); err != nil {
		return &objstore.Error{Op: "damage", Key: key, Kind: objstore.ErrInvalid, Cause: err}
	}
	_, err = s.inner.Put(ctx, key, data, objstore.Always)
	return err
}
