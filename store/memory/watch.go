package memory

import (
	"context"
	"fmt"

	"github.com/understudy-ha/understudy/store"
	"github.com/understudy-ha/understudy/store/internal/feed"
)

// Watch implements store.Store. Batches are sorted by key.
func (s *Store) Watch(ctx context.Context, prefix string) (<-chan store.Batch, error) {
	if err := store.ValidPrefix(prefix); err != nil {
		return nil, err
	}
	s.data.mu.Lock()
	defer s.data.mu.Unlock()
	if s.closed {
		return nil, fmt.Errorf("%w: the store is closed", store.ErrUnavailable)
	}
	f := feed.New(prefix)
	s.feeds[f] = struct{}{}
	if !s.cut {
		f.Reset(s.data.list(prefix))
	}
	ctx, stop := context.WithCancel(ctx)
	unlink := context.AfterFunc(s.done, stop)
	s.running.Go(func() {
		defer stop()
		defer unlink()
		f.Run(ctx)
		s.data.mu.Lock()
		defer s.data.mu.Unlock()
		delete(s.feeds, f)
	})
	return f.Batches(), nil
}

// tell passes a change on to the watches, unless s is cut off: then Heal tells everything. The lock is held.
func (s *Store) tell(c store.Change) {
	for f := range s.feeds {
		if !s.cut {
			f.Put(c)
		}
	}
}

// relist makes every watch deliver everything. The lock is held.
func (s *Store) relist() {
	entries := s.data.list("")
	for f := range s.feeds {
		if !s.cut {
			f.Reset(entries)
		}
	}
}
