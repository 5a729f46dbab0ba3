package storetest

import (
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/understudy-ha/understudy/store"
)

// Scale fills the store with 20,000 objects (with -short 5,000), follows them through the death of the server that leads while
// writers go on, and checks that no final state is missed. It needs KillLeader. Figures go to the test's log. It gives the number.
func Scale(t *testing.T, h Harness) (n int) {
	n = 20_000
	if testing.Short() {
		n = 5_000
	}
	t.Cleanup(func() { h.Store.Close(); h.Peer.Close() })
	timed := func(what string, do func()) {
		begin := time.Now()
		do()
		t.Logf("%s: %v", what, time.Since(begin).Round(time.Millisecond))
	}
	timed(fmt.Sprintf("create %d objects, 50 a transaction", n), func() { fill(t, h.Peer, n) })
	timed("list", func() {
		entries, err := h.Store.List(soon(t), "object/")
		if err != nil || len(entries) != n {
			t.Fatalf("List gives %d entries, %v, want %d", len(entries), err, n)
		}
	})
	f := follow(t, h.Store, "object/")
	timed("first batch of a watch", func() {
		if !f.step(patience) || len(f.view) != n {
			t.Fatalf("%d batches, %d keys, want %d", f.batches, len(f.view), n)
		}
	})

	// Writers change, delete and create on both clients until the server is killed and back.
	var stop atomic.Bool
	var writes atomic.Int64
	var wg sync.WaitGroup
	for w := range 4 {
		s := []store.Store{h.Store, h.Peer}[w%2]
		wg.Go(func() {
			for i := 0; !stop.Load(); i++ {
				try(t, s, object((i*7919+w*31)%n), fmt.Sprint("writer ", w, " ", i))
				writes.Add(1)
			}
		})
	}
	time.Sleep(300 * time.Millisecond)
	before := writes.Load()
	restore := h.KillLeader()
	timed("writes go on after kill -9 of the leader", func() {
		for end := time.Now().Add(patience); writes.Load() < before+20 && time.Now().Before(end); {
			time.Sleep(5 * time.Millisecond)
		}
	})
	restore()
	time.Sleep(time.Second)
	stop.Store(true)
	wg.Wait()
	for i := range 50 {
		txn(t, h.Peer, del(object(i*17)), put(fmt.Sprint("object/new/", i), "new"))
	}
	timed(fmt.Sprintf("watch has the final state of all, after %d writes", writes.Load()), func() { f.until(h.Peer, nil) })
	late := follow(t, h.Store, "object/")
	timed("list again", func() { late.until(h.Peer, nil) })
	if len(late.view) != n {
		t.Errorf("%d objects at the end, want %d", len(late.view), n)
	}
	return n
}

func object(i int) string { return fmt.Sprintf("object/%05d", i) }

func fill(t *testing.T, s store.Store, n int) {
	t.Helper()
	const size, writers = 50, 8
	var wg sync.WaitGroup
	for w := range writers {
		wg.Go(func() {
			for first := w * size; first < n; first += size * writers {
				var ops []store.Op
				for i := first; i < min(first+size, n); i++ {
					ops = append(ops, put(object(i), fmt.Sprintf(`{"name":"%05d","spec":{"filler":"%0200d"}}`, i, i)))
				}
				_, err := s.Txn(soon(t), nil, ops)
				for end := time.Now().Add(patience); errors.Is(err, store.ErrUnknown) && time.Now().Before(end); {
					_, err = s.Txn(soon(t), nil, ops) // the same once more: a busy server has lost the connection
				}
				if err != nil {
					t.Errorf("fill: %v", err)
					return
				}
			}
		})
	}
	wg.Wait()
	if t.Failed() {
		t.FailNow()
	}
}
