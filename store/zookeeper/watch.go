package zookeeper

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/go-zookeeper/zk"

	"github.com/understudy-ha/understudy/store"
	"github.com/understudy-ha/understudy/store/internal/feed"
)

// mirror is a copy of everything below the root, kept up to date by watches on the buckets and
// on every znode, for all watches of the store. A watch of ZooKeeper fires once and says where, not
// what: the mirror reads that place again, which sets the next watch. What changes twice
// before it is read is read once. On a new link everything is read again.
type mirror struct {
	wake chan struct{} // holds a value when dirty or joining may hold something

	mu      sync.Mutex
	started bool
	dirty   map[string]bool // paths to be read
	joining []*feed.Feed
	feeds   map[*feed.Feed]bool

	// What follows belongs to the goroutine of follow.
	nodes map[string]store.Entry // by path; Rev 0 is a tombstone
}

func newMirror() *mirror {
	return &mirror{wake: make(chan struct{}, 1), dirty: map[string]bool{}, feeds: map[*feed.Feed]bool{}}
}

// touch notes that a path is to be read.
func (m *mirror) touch(path string) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.dirty[path] = true
	m.signal()
}

func (m *mirror) signal() {
	select {
	case m.wake <- struct{}{}:
	default:
	}
}

// Watch implements store.Store. The first watch makes the store keep a copy of all its data in memory.
func (s *Store) Watch(ctx context.Context, prefix string) (<-chan store.Batch, error) {
	if err := store.ValidPrefix(prefix); err != nil {
		return nil, err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closed {
		return nil, fmt.Errorf("%w: the store is closed", store.ErrUnavailable)
	}
	m := s.mirror
	m.mu.Lock()
	defer m.mu.Unlock()
	if !m.started {
		m.started = true
		s.running.Go(s.follow)
	}
	f := feed.New(prefix)
	m.joining = append(m.joining, f)
	m.signal()
	ctx, stop := context.WithCancel(ctx)
	unlink := context.AfterFunc(s.done, stop)
	s.running.Go(func() {
		defer stop()
		defer unlink()
		f.Run(ctx)
		m.leave(f)
	})
	return f.Batches(), nil
}

func (m *mirror) leave(f *feed.Feed) {
	m.mu.Lock()
	defer m.mu.Unlock()
	delete(m.feeds, f)
	for i, j := range m.joining {
		if j == f {
			m.joining = append(m.joining[:i], m.joining[i+1:]...)
			return
		}
	}
}

// follow keeps the mirror, link after link.
func (s *Store) follow() {
	for s.done.Err() == nil {
		l, err := s.current(s.done)
		if err != nil {
			return
		}
		if err := s.followLink(l); err != nil {
			pause(s.done, retry)
		}
	}
}

// followLink reads everything, and then what changes, until the link breaks.
func (s *Store) followLink(l *link) error {
	m := s.mirror
	m.mu.Lock()
	m.nodes = map[string]store.Entry{}
	clear(m.dirty)
	for i := range buckets {
		m.dirty[s.bucket(i)] = true
	}
	for f := range m.feeds { // they all get everything
		m.joining = append(m.joining, f)
	}
	clear(m.feeds)
	m.signal()
	m.mu.Unlock()
	for {
		select {
		case <-s.done.Done():
			return nil
		case <-l.lost:
			return errLost
		case <-m.wake:
		}
		if err := s.round(l); err != nil {
			return err
		}
	}
}

// round reads what is dirty and tells the feeds. Who joins gets everything, also what was
// acknowledged before it joined: after a barrier, every watch that had to fire has.
func (s *Store) round(l *link) error {
	m := s.mirror
	m.mu.Lock()
	joining := len(m.joining) > 0
	m.mu.Unlock()
	if joining {
		ctx, cancel := context.WithTimeout(s.done, s.cfg.Timeout)
		_, err := do(ctx, s, l, func(l *link) (bool, error) { return true, l.barrier(s.barrier()) })
		cancel()
		if err != nil {
			return err
		}
	}
	m.mu.Lock()
	dirty := m.dirty
	m.dirty = map[string]bool{}
	m.mu.Unlock()
	changes, err := s.reread(l, dirty)
	if err != nil {
		return err
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	for f := range m.feeds {
		f.Put(changes...)
	}
	if !joining {
		return nil
	}
	var entries []store.Entry
	for _, e := range m.nodes {
		if e.Rev != 0 {
			entries = append(entries, e)
		}
	}
	for _, f := range m.joining {
		f.Reset(entries)
		m.feeds[f] = true
	}
	m.joining = nil
	return nil
}

// reread brings the mirror up to date at the given paths and gives what differs. It leaves the mirror
// alone if it fails.
func (s *Store) reread(l *link, dirty map[string]bool) ([]store.Change, error) {
	ctx, cancel := context.WithTimeout(s.done, bulkTimeout)
	defer cancel()
	nodes := s.mirror.nodes
	found, err := do(ctx, s, l, func(l *link) (map[string]store.Entry, error) { return s.fetch(ctx, l.conn, dirty, nodes) })
	if err != nil {
		return nil, err
	}
	var changes []store.Change
	for path, now := range found {
		old := nodes[path]
		switch {
		case now.Key == "":
			delete(nodes, path)
		default:
			nodes[path] = now
		}
		switch {
		case now.Rev == 0 && old.Rev != 0:
			changes = append(changes, store.Change{Entry: store.Entry{Key: old.Key}, Deleted: true})
		case now.Rev != old.Rev:
			changes = append(changes, store.Change{Entry: now})
		}
	}
	return changes, nil
}

// bulkTimeout bounds the reading of everything; a link that breaks ends it earlier.
const bulkTimeout = 5 * time.Minute

// fetch reads dirty znodes, and those that dirty buckets list and nodes does not have, and sets
// watches. Each path found maps to its entry: Rev 0 is a tombstone, Key "" is no znode. It may outlive a
// caller who gave up; nodes is not changed any more then.
func (s *Store) fetch(ctx context.Context, c *zk.Conn, dirty map[string]bool, nodes map[string]store.Entry) (map[string]store.Entry, error) {
	var paths, listed []string
	for path := range dirty {
		if s.isBucket(path) {
			listed = append(listed, path)
		} else if s.key(path) != "" {
			paths = append(paths, path)
		}
	}
	var mu sync.Mutex
	err := each(len(listed), func(i int) error {
		names, _, _, err := c.ChildrenW(listed[i])
		if err != nil {
			return err
		}
		mu.Lock()
		defer mu.Unlock()
		for _, name := range names {
			path := listed[i] + "/" + name
			if _, known := nodes[path]; !known && !dirty[path] && s.key(name) != "" {
				paths = append(paths, path)
			}
		}
		return ctx.Err()
	})
	if err != nil {
		return nil, err
	}
	found := make(map[string]store.Entry, len(paths))
	err = each(len(paths), func(i int) error {
		key := s.key(paths[i])
		data, stat, _, err := c.GetW(paths[i])
		if err != nil && !errors.Is(err, zk.ErrNoNode) {
			return err
		}
		e := store.Entry{}
		if err == nil {
			if e, _ = s.entry(key, data, stat); e.Key == "" {
				e = store.Entry{Key: key}
			}
		}
		mu.Lock()
		defer mu.Unlock()
		found[paths[i]] = e
		return ctx.Err()
	})
	return found, err
}

// isBucket tells the path of a bucket from that of a key's znode.
func (s *Store) isBucket(path string) bool {
	return len(path) == len(s.cfg.Root)+len("/00")
}
