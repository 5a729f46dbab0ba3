// Package memory is a store inside one process: for tests, for the simulator and for trying things out.
// It keeps nothing when the process ends.
//
// Several Stores may share one set of data, as clients share a server. Each can be cut off from the
// data, to see what its user does when the store is away.
package memory

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"sync"

	"github.com/understudy-ha/understudy/store"
	"github.com/understudy-ha/understudy/store/internal/feed"
)

// Config says what Open connects to.
type Config struct {
	// Peer is a store whose data the new one shares; nil means new, empty data.
	Peer *Store
}

// Store is one client of the data. Cut, Heal, LoseAnswers and Relist inject faults.
type Store struct {
	data *data

	// What follows is guarded by data.mu.
	closed, cut, lose bool
	feeds             map[*feed.Feed]struct{}

	done    context.Context // ends when the store is closed
	stop    context.CancelFunc
	running sync.WaitGroup
}

var _ store.Store = (*Store)(nil)

// data is what the clients share. One lock guards everything, so that transactions have one order
// and every watcher is told in that order.
type data struct {
	mu      sync.Mutex
	rev     store.Rev // of the last write, of any key
	entries map[string]store.Entry
	clients map[*Store]struct{}
}

// New gives a store with its own empty data.
func New() *Store {
	return (&data{entries: map[string]store.Entry{}, clients: map[*Store]struct{}{}}).connect()
}

// Open gives a store as cfg says. It cannot fail.
func Open(_ context.Context, cfg Config) (*Store, error) {
	if cfg.Peer != nil {
		return cfg.Peer.data.connect(), nil
	}
	return New(), nil
}

func (d *data) connect() *Store {
	d.mu.Lock()
	defer d.mu.Unlock()
	s := &Store{data: d, feeds: map[*feed.Feed]struct{}{}}
	s.done, s.stop = context.WithCancel(context.Background())
	d.clients[s] = struct{}{}
	return s
}

// ready says why a call cannot be served, or nil. The lock is held.
func (s *Store) ready(ctx context.Context) error {
	switch {
	case ctx.Err() != nil:
		return fmt.Errorf("%w: %w", store.ErrUnavailable, ctx.Err())
	case s.closed:
		return fmt.Errorf("%w: the store is closed", store.ErrUnavailable)
	case s.cut:
		return fmt.Errorf("%w: cut off", store.ErrUnavailable)
	}
	return nil
}

// Get implements store.Store.
func (s *Store) Get(ctx context.Context, key string) (store.Entry, error) {
	if err := store.ValidKey(key); err != nil {
		return store.Entry{}, err
	}
	s.data.mu.Lock()
	defer s.data.mu.Unlock()
	if err := s.ready(ctx); err != nil {
		return store.Entry{}, err
	}
	e, ok := s.data.entries[key]
	if !ok {
		return store.Entry{}, fmt.Errorf("%w: %q", store.ErrNotFound, key)
	}
	return e, nil
}

// List implements store.Store. What it gives is a snapshot.
func (s *Store) List(ctx context.Context, prefix string) ([]store.Entry, error) {
	if err := store.ValidPrefix(prefix); err != nil {
		return nil, err
	}
	s.data.mu.Lock()
	defer s.data.mu.Unlock()
	if err := s.ready(ctx); err != nil {
		return nil, err
	}
	return s.data.list(prefix), nil
}

func (d *data) list(prefix string) []store.Entry {
	var out []store.Entry
	for k, e := range d.entries {
		if strings.HasPrefix(k, prefix) {
			out = append(out, e)
		}
	}
	slices.SortFunc(out, func(a, b store.Entry) int { return strings.Compare(a.Key, b.Key) })
	return out
}

// Txn implements store.Store.
func (s *Store) Txn(ctx context.Context, conds []store.Cond, ops []store.Op) ([]store.Rev, error) {
	if err := store.ValidTxn(conds, ops); err != nil {
		return nil, err
	}
	s.data.mu.Lock()
	defer s.data.mu.Unlock()
	if err := s.ready(ctx); err != nil {
		return nil, err
	}
	for _, c := range conds {
		if have := s.data.entries[c.Key].Rev; have != c.Rev {
			return nil, fmt.Errorf("%w: %q is at revision %d, want %d", store.ErrConflict, c.Key, have, c.Rev)
		}
	}
	revs := s.data.write(ops)
	if s.lose {
		return nil, fmt.Errorf("%w: the answer was lost", store.ErrUnknown)
	}
	return revs, nil
}

// write makes ops happen under one new revision, and tells every watcher.
func (d *data) write(ops []store.Op) []store.Rev {
	revs := make([]store.Rev, len(ops))
	if len(ops) == 0 {
		return revs
	}
	d.rev++
	for i, o := range ops {
		c := store.Change{Entry: store.Entry{Key: o.Key}, Deleted: o.Delete}
		if o.Delete {
			if _, ok := d.entries[o.Key]; !ok {
				continue
			}
			delete(d.entries, o.Key)
		} else {
			c.Value, c.Rev = slices.Clone(o.Value), d.rev
			d.entries[o.Key] = c.Entry
			revs[i] = d.rev
		}
		for s := range d.clients {
			s.tell(c)
		}
	}
	return revs
}

// Close ends the watches of s and waits for them. The data lives on in its peers.
func (s *Store) Close() error {
	s.data.mu.Lock()
	s.closed = true
	delete(s.data.clients, s)
	s.data.mu.Unlock()
	s.stop()
	s.running.Wait()
	return nil
}
