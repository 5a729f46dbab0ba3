package memory

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/understudy-ha/understudy/store"
)

// watcher collects what one watch has yet to deliver: at most one state a key.
// data.mu guards pending and relist; a value in wake says that there is something.
type watcher struct {
	store   *Store
	prefix  string
	pending map[string]store.Change
	relist  bool // deliver everything, in a Complete batch
	wake    chan struct{}
	stop    context.CancelFunc
	out     chan store.Batch
}

// Watch implements store.Store.
func (s *Store) Watch(ctx context.Context, prefix string) (<-chan store.Batch, error) {
	if err := store.ValidPrefix(prefix); err != nil {
		return nil, err
	}
	s.data.mu.Lock()
	defer s.data.mu.Unlock()
	if s.closed {
		return nil, fmt.Errorf("%w: the store is closed", store.ErrUnavailable)
	}
	ctx, stop := context.WithCancel(ctx)
	w := &watcher{
		store:   s,
		prefix:  prefix,
		pending: map[string]store.Change{},
		relist:  true,
		wake:    make(chan struct{}, 1),
		stop:    stop,
		out:     make(chan store.Batch),
	}
	s.watchers[w] = struct{}{}
	w.signal()
	s.running.Go(func() { w.run(ctx) })
	return w.out, nil
}

// tell notes a change. The lock is held.
func (w *watcher) tell(c store.Change) {
	if strings.HasPrefix(c.Key, w.prefix) {
		w.pending[c.Key] = c
		w.signal()
	}
}

func (w *watcher) signal() {
	select {
	case w.wake <- struct{}{}:
	default:
	}
}

// run delivers until ctx ends.
func (w *watcher) run(ctx context.Context) {
	defer close(w.out)
	defer w.forget()
	for {
		select {
		case <-ctx.Done():
			return
		case <-w.wake:
		}
		b, ok := w.take()
		if !ok {
			continue
		}
		select {
		case <-ctx.Done():
			return
		case w.out <- b:
		}
	}
}

// take gives what is to be delivered now, sorted by key, and clears it.
func (w *watcher) take() (store.Batch, bool) {
	d := w.store.data
	d.mu.Lock()
	defer d.mu.Unlock()
	if w.store.cut || !w.relist && len(w.pending) == 0 {
		return store.Batch{}, false
	}
	b := store.Batch{Complete: w.relist}
	if w.relist {
		for _, e := range d.list(w.prefix) {
			b.Changes = append(b.Changes, store.Change{Entry: e})
		}
	} else {
		for _, k := range slices.Sorted(maps.Keys(w.pending)) {
			b.Changes = append(b.Changes, w.pending[k])
		}
	}
	w.relist = false
	clear(w.pending)
	return b, true
}

func (w *watcher) forget() {
	w.stop()
	w.store.data.mu.Lock()
	defer w.store.data.mu.Unlock()
	delete(w.store.watchers, w)
}
