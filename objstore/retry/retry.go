// Package retry adds bounded retries, and a limit of time for each try, to an object store at the far end of a network.
//
// It repeats what is the same when done twice: reads, lists (going on after the last key that was yielded), deletes, and puts without a
// condition. A put with a condition is repeated only while it is known not to have happened; its ErrUnknown is the caller's to settle.
//
// What it cannot undo: a put without a condition that seemed lost and was repeated may arrive once more, late. A key whose bytes change
// must be written under a condition.
package retry

import (
	"cmp"
	"context"
	"errors"
	"math/rand/v2"
	"time"

	"github.com/understudy-ha/understudy/objstore"
)

// Config of the retries. Zero fields take the defaults.
type Config struct {
	// Tries of one call, the first included. Default 5.
	Tries int
	// Pause before the second try; it doubles with each, up to 5 s, and is shortened by up to a half at random. Default 200 ms.
	Pause time.Duration
	// TryTimeout bounds one try, apart from a second for each 256 KiB that it carries. Default 30 s.
	TryTimeout time.Duration
}

const (
	maxPause = 5 * time.Second
	slowest  = 256 << 10 // bytes a second that a try is given time for
)

// Store adds retries to a store.
type Store struct {
	inner objstore.Store
	cfg   Config
}

var _ objstore.Store = (*Store)(nil)

// New wraps inner, which Close closes too.
func New(inner objstore.Store, cfg Config) *Store {
	cfg.Tries = cmp.Or(cfg.Tries, 5)
	cfg.Pause = cmp.Or(cfg.Pause, 200*time.Millisecond)
	cfg.TryTimeout = cmp.Or(cfg.TryTimeout, 30*time.Second)
	return &Store{inner, cfg}
}

// do calls try until it succeeds, fails for good, or the tries are used up. again says whether a try of unknown outcome may be repeated.
// Once one outcome was unknown, a later failure does not make it known.
func (s *Store) do(ctx context.Context, size int64, again bool, try func(context.Context) error) error {
	var unknown error
	pause := s.cfg.Pause
	for n := 1; ; n++ {
		err := s.once(ctx, size, try)
		if err == nil {
			return nil
		}
		if errors.Is(err, objstore.ErrUnknown) {
			unknown = err
		}
		passing := errors.Is(err, objstore.ErrUnavailable) && !errors.Is(err, objstore.ErrClosed) || errors.Is(err, objstore.ErrUnknown) && again
		if !passing || n == s.cfg.Tries || !sleep(ctx, pause/2+rand.N(pause/2+1)) {
			return cmp.Or(unknown, err)
		}
		pause = min(2*pause, maxPause)
	}
}

func (s *Store) once(ctx context.Context, size int64, try func(context.Context) error) error {
	bounded, cancel := context.WithTimeout(ctx, s.cfg.TryTimeout+time.Duration(size/slowest)*time.Second)
	defer cancel()
	return try(bounded)
}

// sleep gives false when ctx ends first.
func sleep(ctx context.Context, d time.Duration) bool {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-ctx.Done():
		return false
	case <-t.C:
		return true
	}
}

// Get implements objstore.Store.
func (s *Store) Get(ctx context.Context, key string) (data []byte, tag objstore.Tag, err error) {
	err = s.do(ctx, objstore.MaxObject, true, func(ctx context.Context) (err error) {
		data, tag, err = s.inner.Get(ctx, key)
		return err
	})
	return data, tag, err
}

// GetRange implements objstore.Store.
func (s *Store) GetRange(ctx context.Context, key string, off, n int64) (data []byte, err error) {
	err = s.do(ctx, n, true, func(ctx context.Context) (err error) {
		data, err = s.inner.GetRange(ctx, key, off, n)
		return err
	})
	return data, err
}

// Head implements objstore.Store.
func (s *Store) Head(ctx context.Context, key string) (info objstore.Info, err error) {
	err = s.do(ctx, 0, true, func(ctx context.Context) (err error) {
		info, err = s.inner.Head(ctx, key)
		return err
	})
	return info, err
}

// Put implements objstore.Store.
func (s *Store) Put(ctx context.Context, key string, data []byte, cond objstore.Cond) (tag objstore.Tag, err error) {
	err = s.do(ctx, int64(len(data)), cond == objstore.Always, func(ctx context.Context) (err error) {
		tag, err = s.inner.Put(ctx, key, data, cond)
		return err
	})
	return tag, err
}

// Delete implements objstore.Store.
func (s *Store) Delete(ctx context.Context, key string) error {
	return s.do(ctx, 0, true, func(ctx context.Context) error { return s.inner.Delete(ctx, key) })
}

// pageSize is how many objects one try of List asks for.
const pageSize = 1000

// List implements objstore.Store. It lists by pages, so that a try's limit of time does not run while yield works.
func (s *Store) List(ctx context.Context, prefix, after string, yield func(objstore.Info) bool) error {
	for {
		var page []objstore.Info
		err := s.do(ctx, 0, true, func(ctx context.Context) error {
			page = page[:0]
			return s.inner.List(ctx, prefix, after, func(i objstore.Info) bool {
				page = append(page, i)
				return len(page) < pageSize
			})
		})
		if err != nil {
			return err
		}
		for _, i := range page {
			if !yield(i) {
				return nil
			}
		}
		if len(page) < pageSize {
			return nil
		}
		after = page[len(page)-1].Key
	}
}

// Close implements objstore.Store.
func (s *Store) Close() error { return s.inner.Close() }
