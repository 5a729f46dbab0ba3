package volume

import (
	"context"
	"sync"
)

// granules that are being made present, each by one request at a time. The zero value has none.
type granules struct {
	mu   sync.Mutex
	busy map[int64]chan struct{}
}

// acquire some of the granules from first to before end: those in front of the next that is busy, or that stop says no of. If the first
// is busy it waits, and then answers n = 0 if stop says no of it. Nothing is held while it waits, so that no two requests wait for each other.
func (g *granules) acquire(ctx context.Context, first, end int64, want func(int64) bool) (n int64, err error) {
	for {
		g.mu.Lock()
		if g.busy == nil {
			g.busy = map[int64]chan struct{}{}
		}
		if !want(first) {
			g.mu.Unlock()
			return 0, nil
		}
		wait := g.busy[first]
		if wait == nil {
			break
		}
		g.mu.Unlock()
		select {
		case <-ctx.Done():
			return 0, ctx.Err()
		case <-wait:
		}
	}
	done := make(chan struct{})
	for first+n < end && g.busy[first+n] == nil && want(first+n) {
		g.busy[first+n] = done
		n++
	}
	g.mu.Unlock()
	return n, nil
}

// release what acquire gave.
func (g *granules) release(first, n int64) {
	g.mu.Lock()
	defer g.mu.Unlock()
	if n > 0 {
		close(g.busy[first])
	}
	for i := range n {
		delete(g.busy, first+i)
	}
}
