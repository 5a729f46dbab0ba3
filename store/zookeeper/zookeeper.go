package zookeeper

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/go-zookeeper/zk"

	"github.com/understudy-ha/understudy/store"
)

// width is how many requests of a bulk read are under way at once.
const width = 64

// retry is the pause before what failed is tried again; between attempts to connect it grows to maxRetry.
const (
	retry    = 50 * time.Millisecond
	maxRetry = 500 * time.Millisecond
)

// Store is a client of the ensemble. Open gives one.
type Store struct {
	cfg    Config
	mirror *mirror

	done    context.Context // ends when Close is called
	stop    context.CancelFunc
	running sync.WaitGroup // raised from zero under mu only, so that Close can wait

	mu      sync.Mutex
	closed  bool
	link    *link         // nil: not connected
	changed chan struct{} // closed and replaced when link changes
	why     error         // of the last try to connect
}

var _ store.Store = (*Store)(nil)

// Open connects. It does not wait until a server answers: until one does, calls fail with ErrUnavailable.
// An error is one of the configuration.
func Open(ctx context.Context, cfg Config) (*Store, error) {
	cfg, err := cfg.check()
	if err != nil {
		return nil, err
	}
	if ctx.Err() != nil {
		return nil, fmt.Errorf("%w: %w", store.ErrUnavailable, ctx.Err())
	}
	s := &Store{cfg: cfg, mirror: newMirror(), changed: make(chan struct{})}
	s.done, s.stop = context.WithCancel(context.Background())
	s.running.Go(s.connected)
	s.running.Go(s.sweep)
	return s, nil
}

// connected keeps a link until Close.
func (s *Store) connected() {
	wait := retry
	for s.done.Err() == nil {
		l, err := s.connect()
		s.publish(l, err)
		if err != nil {
			pause(s.done, wait)
			wait = min(2*wait, maxRetry)
			continue
		}
		wait = retry
		select {
		case <-l.lost:
		case <-s.done.Done():
		}
		s.publish(nil, errLost)
		s.running.Go(l.close)
	}
}

// connect tries every server once, in random order.
func (s *Store) connect() (*link, error) {
	var errs []error
	for _, i := range rand.Perm(len(s.cfg.Servers)) {
		ctx, cancel := context.WithTimeout(s.done, min(s.cfg.SessionTimeout*2/3, s.cfg.Timeout))
		l, err := newLink(ctx, s.cfg, s.cfg.Servers[i], s.mirror.touch)
		if err == nil {
			if err = s.prepare(l.conn); err == nil {
				cancel()
				return l, nil
			}
			s.running.Go(l.close)
		}
		cancel()
		errs = append(errs, err)
	}
	return nil, errors.Join(errs...)
}

func (s *Store) publish(l *link, err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.link, s.why = l, err
	close(s.changed)
	s.changed = make(chan struct{})
}

// current waits for a link.
func (s *Store) current(ctx context.Context) (*link, error) {
	for {
		s.mu.Lock()
		l, changed, why := s.link, s.changed, s.why
		s.mu.Unlock()
		if l != nil {
			return l, nil
		}
		select {
		case <-ctx.Done():
			return nil, fmt.Errorf("%w: %w, last: %w", store.ErrUnavailable, context.Cause(ctx), orNone(why))
		case <-changed:
		}
	}
}

func orNone(err error) error {
	if err == nil {
		return errors.New("no attempt yet")
	}
	return err
}

func pause(ctx context.Context, d time.Duration) {
	select {
	case <-ctx.Done():
	case <-time.After(d):
	}
}

// begin gives the context of one call, and counts the call until end.
func (s *Store) begin(ctx context.Context) (_ context.Context, end func(), err error) {
	return s.beginFor(ctx, s.cfg.Timeout)
}

func (s *Store) beginFor(ctx context.Context, limit time.Duration) (_ context.Context, end func(), err error) {
	if ctx.Err() != nil {
		return nil, nil, fmt.Errorf("%w: %w", store.ErrUnavailable, ctx.Err())
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closed {
		return nil, nil, fmt.Errorf("%w: the store is closed", store.ErrUnavailable)
	}
	s.running.Add(1)
	ctx, cancel := context.WithTimeout(ctx, limit)
	unlink := context.AfterFunc(s.done, cancel)
	return ctx, func() { unlink(); cancel(); s.running.Done() }, nil
}

// do runs requests on a link and waits for them, but not longer than ctx or the link last. The caller's call
// is counted, so that Close waits for what do leaves behind.
func do[T any](ctx context.Context, s *Store, l *link, requests func(l *link) (T, error)) (T, error) {
	type answer struct {
		value T
		err   error
	}
	answers := make(chan answer, 1)
	s.running.Go(func() {
		v, err := requests(l)
		answers <- answer{v, err}
	})
	var none T
	select {
	case a := <-answers:
		return a.value, a.err
	case <-l.lost:
		return none, errLost
	case <-ctx.Done():
		return none, context.Cause(ctx)
	}
}

// read is do for requests that change nothing: they are repeated on the next link if theirs breaks.
func read[T any](ctx context.Context, s *Store, requests func(l *link) (T, error)) (T, error) {
	for {
		l, err := s.current(ctx)
		if err != nil {
			var none T
			return none, err
		}
		v, err := do(ctx, s, l, requests)
		switch {
		case err == nil || errors.Is(err, zk.ErrNoNode):
			return v, err
		case ctx.Err() != nil && !errors.Is(err, context.Cause(ctx)):
			return v, fmt.Errorf("%w: %w: %w", store.ErrUnavailable, context.Cause(ctx), err)
		case ctx.Err() != nil || answered(err):
			return v, fmt.Errorf("%w: %w", store.ErrUnavailable, err)
		}
		pause(ctx, retry)
	}
}

// answered says that err is a server's refusal, after which nothing was changed; any other error leaves
// it open what became of the request.
func answered(err error) bool {
	for _, e := range []error{
		zk.ErrNoNode, zk.ErrNodeExists, zk.ErrBadVersion, zk.ErrNotEmpty, zk.ErrNoAuth,
		zk.ErrAuthFailed, zk.ErrInvalidACL, zk.ErrBadArguments, zk.ErrInvalidPath,
	} {
		if errors.Is(err, e) {
			return true
		}
	}
	return false
}

// each runs f for 0 to n−1, width at a time, and gives the first error.
func each(n int, f func(i int) error) error {
	var mu sync.Mutex
	var first error
	next := 0
	var wg sync.WaitGroup
	for range min(n, width) {
		wg.Go(func() {
			for {
				mu.Lock()
				i := next
				next++
				stop := first != nil
				mu.Unlock()
				if stop || i >= n {
					return
				}
				if err := f(i); err != nil {
					mu.Lock()
					first = cmpErr(first, err)
					mu.Unlock()
				}
			}
		})
	}
	wg.Wait()
	return first
}

func cmpErr(first, err error) error {
	if first != nil {
		return first
	}
	return err
}

// Get implements store.Store.
func (s *Store) Get(ctx context.Context, key string) (store.Entry, error) {
	if err := store.ValidKey(key); err != nil {
		return store.Entry{}, err
	}
	ctx, end, err := s.begin(ctx)
	if err != nil {
		return store.Entry{}, err
	}
	defer end()
	e, err := read(ctx, s, func(l *link) (store.Entry, error) {
		if err := l.barrier(s.barrier()); err != nil {
			return store.Entry{}, err
		}
		data, stat, err := l.conn.Get(s.node(key))
		if err != nil {
			return store.Entry{}, err
		}
		e, ok := s.entry(key, data, stat)
		if !ok {
			return e, zk.ErrNoNode
		}
		return e, nil
	})
	if errors.Is(err, zk.ErrNoNode) {
		return store.Entry{}, fmt.Errorf("%w: %q", store.ErrNotFound, key)
	}
	return e, err
}

// List implements store.Store. What it gives is no snapshot: each entry is as of a moment during the call. It takes as long as there are
// entries, and ends when the servers answer nothing for Config.Timeout.
func (s *Store) List(ctx context.Context, prefix string) ([]store.Entry, error) {
	if err := store.ValidPrefix(prefix); err != nil {
		return nil, err
	}
	ctx, end, err := s.beginFor(ctx, bulkTimeout)
	if err != nil {
		return nil, err
	}
	defer end()
	ctx, heard, stop := whileAnswered(ctx, s.cfg.Timeout)
	defer stop()
	entries, err := read(ctx, s, func(l *link) ([]store.Entry, error) { return s.list(ctx, l, prefix, heard) })
	if err != nil {
		return nil, fmt.Errorf("list %q: %w", prefix, err)
	}
	return entries, nil
}

// whileAnswered gives a context that ends when heard was not called for d.
func whileAnswered(ctx context.Context, d time.Duration) (_ context.Context, heard, stop func()) {
	ctx, cancel := context.WithCancelCause(ctx)
	silence := time.AfterFunc(d, func() { cancel(fmt.Errorf("no answer for %v: %w", d, context.DeadlineExceeded)) })
	return ctx, func() { silence.Reset(d) }, func() { silence.Stop(); cancel(nil) }
}

// list reads all entries; it calls heard at each answer.
func (s *Store) list(ctx context.Context, l *link, prefix string, heard func()) ([]store.Entry, error) {
	if err := l.barrier(s.barrier()); err != nil {
		return nil, err
	}
	names := make([][]string, buckets)
	err := each(buckets, func(i int) (err error) {
		if names[i], _, err = l.conn.Children(s.bucket(i)); err == nil {
			heard()
		}
		return cmpErr(ctx.Err(), err)
	})
	if err != nil {
		return nil, err
	}
	var keys []string
	for _, name := range slices.Concat(names...) {
		if key := s.key(name); key != "" && strings.HasPrefix(key, prefix) {
			keys = append(keys, key)
		}
	}
	slices.Sort(keys)
	found := make([]store.Entry, len(keys))
	err = each(len(keys), func(i int) error {
		data, stat, err := l.conn.Get(s.node(keys[i]))
		if errors.Is(err, zk.ErrNoNode) {
			return ctx.Err()
		}
		if err == nil {
			heard()
			found[i], _ = s.entry(keys[i], data, stat)
		}
		return cmpErr(ctx.Err(), err)
	})
	if err != nil {
		return nil, err
	}
	return slices.DeleteFunc(found, func(e store.Entry) bool { return e.Key == "" }), nil
}

// Close ends the watches and the session. It takes up to a second when the servers do not answer.
func (s *Store) Close() error {
	s.mu.Lock()
	s.closed = true
	s.mu.Unlock()
	s.stop()
	s.running.Wait()
	return nil
}
