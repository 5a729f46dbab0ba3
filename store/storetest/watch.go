package storetest

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/understudy-ha/understudy/store"
)

// follower reads a watch into a view, and checks what every batch must keep.
type follower struct {
	t        *testing.T
	prefix   string
	in       <-chan store.Batch
	view     store.View
	batches  int
	complete int // batches
}

func follow(t *testing.T, s store.Store, prefix string) *follower {
	t.Helper()
	ctx, cancel := context.WithCancel(t.Context())
	t.Cleanup(cancel)
	in, err := s.Watch(ctx, prefix)
	if err != nil {
		t.Fatalf("Watch(%q): %v", prefix, err)
	}
	return &follower{t: t, prefix: prefix, in: in, view: store.View{}}
}

// step applies the next batch.
func (f *follower) step(patience time.Duration) bool {
	f.t.Helper()
	select {
	case b, ok := <-f.in:
		if !ok {
			f.t.Fatalf("watch of %q ended by itself after %d batches", f.prefix, f.batches)
		}
		f.apply(b)
		return true
	case <-time.After(patience):
		return false
	}
}

func (f *follower) apply(b store.Batch) {
	f.t.Helper()
	if f.batches == 0 && !b.Complete {
		f.t.Fatalf("the first batch of %q is not Complete", f.prefix)
	}
	f.batches++
	if b.Complete {
		f.complete++
	}
	for _, c := range b.Changes {
		if !strings.HasPrefix(c.Key, f.prefix) {
			f.t.Fatalf("watch of %q tells of %q", f.prefix, c.Key)
		}
		if c.Deleted != (c.Rev == 0) || c.Deleted && c.Value != nil {
			f.t.Fatalf("watch of %q: bad change %+v", f.prefix, c)
		}
	}
	f.view.Apply(b)
}

// until reads batches until what the watch told equals what List says, and done agrees (nil: does).
func (f *follower) until(s store.Store, done func() bool) {
	f.t.Helper()
	deadline := time.Now().Add(patience)
	for {
		if diff := f.diff(s); diff == "" && f.batches > 0 && (done == nil || done()) {
			return
		} else if time.Now().After(deadline) {
			f.t.Fatalf("watch of %q, after %d batches and %v: %s", f.prefix, f.batches, patience, diff)
		}
		for wait := 200 * time.Millisecond; f.step(wait); wait = 0 {
		}
	}
}

func (f *follower) diff(s store.Store) string {
	f.t.Helper()
	entries, err := s.List(soon(f.t), f.prefix)
	if err != nil {
		if errors.Is(err, store.ErrUnavailable) {
			return err.Error()
		}
		f.t.Fatalf("List(%q): %v", f.prefix, err)
	}
	for _, e := range entries {
		if got, ok := f.view[e.Key]; !ok || got.Rev != e.Rev || string(got.Value) != string(e.Value) {
			return fmt.Sprintf("%q is %.40q at %d, but the watch told %.40q at %d", e.Key, e.Value, e.Rev, got.Value, got.Rev)
		}
	}
	if len(f.view) != len(entries) {
		return fmt.Sprintf("the watch told of %d keys, there are %d", len(f.view), len(entries))
	}
	return ""
}

func testWatchFirst(t *testing.T, h Harness) {
	empty := follow(t, h.Store, "a/")
	empty.until(h.Peer, nil)
	txn(t, h.Peer, put("a/1", "1"), put("a/2", "2"), put("b", "b"))
	txn(t, h.Peer, del("a/2"))
	late := follow(t, h.Store, "a/")
	if !late.step(patience) || late.complete != 1 || late.diff(h.Peer) != "" {
		t.Errorf("after %d batches: %s", late.batches, late.diff(h.Peer))
	}
	empty.until(h.Peer, nil)
	all := follow(t, h.Store, "")
	all.until(h.Peer, nil)
}

func testWatchFollows(t *testing.T, h Harness) {
	f := follow(t, h.Store, "")
	f.until(h.Peer, nil)
	for i, ops := range [][]store.Op{
		{put("a", "1")},
		{put("a", "2")},
		{put("b/x", "1"), put("c", "1")},
		{del("a")},
		{put("a", "2")},
		{del("a"), put("b/x", "2"), del("c")},
		{put("c", "")},
		{del("none"), del("b/x")},
	} {
		txn(t, []store.Store{h.Store, h.Peer}[i%2], ops...)
		f.until(h.Peer, nil)
	}
}

func testWatchPrefix(t *testing.T, h Harness) {
	deep, wide := follow(t, h.Store, "a/b/"), follow(t, h.Store, "a/")
	deep.until(h.Peer, nil)
	wide.until(h.Peer, nil)
	txn(t, h.Peer, put("a/b", "x"), put("a/b/c", "1"), put("a/bc/d", "x"), put("ab/c", "x"), put("b", "x"))
	wide.until(h.Peer, nil)
	deep.until(h.Peer, nil)
	txn(t, h.Peer, del("a/b"), del("b"), del("ab/c"))
	wide.until(h.Peer, nil)
	deep.until(h.Peer, nil)
	if len(deep.view) != 1 || len(wide.view) != 2 {
		t.Errorf("the watches told %v and %v", deep.view, wide.view)
	}
}

// testWatchSlow writes many states that nobody reads: the writers are not held up, and what is read
// later ends with the last state.
func testWatchSlow(t *testing.T, h Harness) {
	f := follow(t, h.Store, "")
	for i := range 300 {
		txn(t, h.Peer, put(fmt.Sprint("k", i%3), fmt.Sprint(i)))
	}
	txn(t, h.Peer, del("k0"))
	f.until(h.Peer, nil)
	if len(f.view) != 2 {
		t.Errorf("the watch told %v", f.view)
	}
}

func testWatchEnds(t *testing.T, h Harness) {
	for _, read := range []bool{true, false} {
		ctx, cancel := context.WithCancel(t.Context())
		in, err := h.Store.Watch(ctx, "")
		if err != nil {
			t.Fatal(err)
		}
		if read {
			<-in
		}
		txn(t, h.Peer, put("a", fmt.Sprint(read)))
		cancel()
		drain(t, in)
	}
}

// drain waits until the channel is closed.
func drain(t *testing.T, in <-chan store.Batch) {
	t.Helper()
	end := time.After(patience)
	for {
		select {
		case _, ok := <-in:
			if !ok {
				return
			}
		case <-end:
			t.Fatalf("the channel is not closed after %v", patience)
		}
	}
}

func testWatchManyWriters(t *testing.T, h Harness) {
	f := follow(t, h.Store, "k/")
	var wg sync.WaitGroup
	for w := range 6 {
		s := []store.Store{h.Store, h.Peer}[w%2]
		wg.Go(func() {
			for i := range 30 {
				ops := []store.Op{put(fmt.Sprint("k/", i%7), fmt.Sprint(w, i)), put(fmt.Sprint("other/", w), "x")}
				if (i+w)%4 == 0 {
					ops[0] = del(ops[0].Key)
				}
				if _, err := s.Txn(soon(t), nil, ops); err != nil {
					t.Errorf("writer %d: %v", w, err)
					return
				}
			}
		})
	}
	wg.Wait()
	f.until(h.Peer, nil)
}

// testWatchManyEnd ends many watches at once, several times: all end, and another goes on.
func testWatchManyEnd(t *testing.T, h Harness) {
	f := follow(t, h.Store, "")
	for round := range 4 {
		ctx, cancel := context.WithCancel(t.Context())
		defer cancel()
		var all []<-chan store.Batch
		for range 100 {
			in, err := h.Store.Watch(ctx, "k/")
			if err != nil {
				t.Fatal(err)
			}
			all = append(all, in)
		}
		for _, in := range all {
			<-in
		}
		txn(t, h.Peer, put("k/1", fmt.Sprint(round)))
		cancel()
		for _, in := range all {
			drain(t, in)
		}
		txn(t, h.Peer, put("k/2", fmt.Sprint(round)))
		f.until(h.Peer, nil)
	}
}

func testContext(t *testing.T, h Harness) {
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := h.Store.Get(ctx, "a"); !errors.Is(err, store.ErrUnavailable) || !errors.Is(err, context.Canceled) {
		t.Errorf("Get: %v", err)
	}
	if _, err := h.Store.List(ctx, ""); !errors.Is(err, store.ErrUnavailable) || !errors.Is(err, context.Canceled) {
		t.Errorf("List: %v", err)
	}
	_, err := h.Store.Txn(ctx, nil, []store.Op{put("a", "1")})
	if !errors.Is(err, context.Canceled) || !errors.Is(err, store.ErrUnavailable) && !errors.Is(err, store.ErrUnknown) {
		t.Errorf("Txn: %v", err)
	}
}

func testClose(t *testing.T, h Harness) {
	txn(t, h.Store, put("a", "1"))
	in, err := h.Store.Watch(t.Context(), "")
	if err != nil {
		t.Fatal(err)
	}
	for range 2 {
		if err := h.Store.Close(); err != nil {
			t.Errorf("Close: %v", err)
		}
	}
	drain(t, in)
	if _, err := h.Store.Get(soon(t), "a"); !errors.Is(err, store.ErrUnavailable) {
		t.Errorf("Get after Close: %v", err)
	}
	if _, err := h.Store.List(soon(t), ""); !errors.Is(err, store.ErrUnavailable) {
		t.Errorf("List after Close: %v", err)
	}
	if _, err := h.Store.Txn(soon(t), nil, []store.Op{put("a", "2")}); !errors.Is(err, store.ErrUnavailable) {
		t.Errorf("Txn after Close: %v", err)
	}
	if _, err := h.Store.Watch(t.Context(), ""); !errors.Is(err, store.ErrUnavailable) {
		t.Errorf("Watch after Close: %v", err)
	}
}
