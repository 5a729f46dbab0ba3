// Package feed is the delivering half of a watch: it takes changes as fast as they come, keeps one
// state a key, and hands them out as fast as the reader reads.
package feed

import (
	"context"
	"maps"
	"slices"
	"strings"
	"sync"

	"github.com/understudy-ha/understudy/store"
)

// Feed is safe for concurrent use. Its memory is bounded by one state a key.
type Feed struct {
	prefix string
	out    chan store.Batch
	wake   chan struct{} // holds a value when there may be something to deliver

	mu       sync.Mutex
	pending  map[string]store.Change
	complete bool // pending is everything there is
}

// New gives a feed of what is under prefix.
func New(prefix string) *Feed {
	return &Feed{
		prefix:  prefix,
		out:     make(chan store.Batch),
		wake:    make(chan struct{}, 1),
		pending: map[string]store.Change{},
	}
}

// Batches is what the reader of the watch gets.
func (f *Feed) Batches() <-chan store.Batch { return f.out }

// Put takes changes for delivery, in order. It never blocks.
func (f *Feed) Put(changes ...store.Change) {
	f.mu.Lock()
	defer f.mu.Unlock()
	for _, c := range changes {
		switch {
		case !strings.HasPrefix(c.Key, f.prefix):
			continue
		case f.complete && c.Deleted:
			delete(f.pending, c.Key) // what a Complete batch leaves out does not exist
		default:
			f.pending[c.Key] = c
		}
		f.signal()
	}
}

// Reset takes everything that exists, for delivery in a Complete batch. What was not delivered yet is dropped.
func (f *Feed) Reset(entries []store.Entry) {
	f.mu.Lock()
	defer f.mu.Unlock()
	clear(f.pending)
	f.complete = true
	for _, e := range entries {
		if strings.HasPrefix(e.Key, f.prefix) {
			f.pending[e.Key] = store.Change{Entry: e}
		}
	}
	f.signal()
}

func (f *Feed) signal() {
	select {
	case f.wake <- struct{}{}:
	default:
	}
}

// Run delivers until ctx ends, and then closes the channel of Batches.
func (f *Feed) Run(ctx context.Context) {
	defer close(f.out)
	for {
		select {
		case <-ctx.Done():
			return
		case <-f.wake:
		}
		b, ok := f.take()
		if !ok {
			continue
		}
		select {
		case <-ctx.Done():
			return
		case f.out <- b:
		}
	}
}

// take gives what is to be delivered, sorted by key.
func (f *Feed) take() (store.Batch, bool) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if len(f.pending) == 0 && !f.complete {
		return store.Batch{}, false
	}
	b := store.Batch{Complete: f.complete, Changes: make([]store.Change, 0, len(f.pending))}
	for _, k := range slices.Sorted(maps.Keys(f.pending)) {
		b.Changes = append(b.Changes, f.pending[k])
	}
	clear(f.pending)
	f.complete = false
	return b, true
}
