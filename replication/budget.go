package replication

import (
	"context"
	"fmt"
	"sync"
	"time"

	"golang.org/x/sys/unix"
)

// fullPoll is how often a full spool looks for room that others made.
const fullPoll = 100 * time.Millisecond

// budget is the room that all spools of a process server share.
type budget struct {
	dir     string
	limit   int64 // bytes
	minFree int64 // bytes that the file system keeps free

	mu    sync.Mutex
	used  int64
	freed chan struct{} // closed when room may have come up
	// waiting counts who waits for room.
	waiting int
}

func newBudget(dir string, limit, minFree int64) *budget {
	return &budget{dir: dir, limit: limit, minFree: minFree, freed: make(chan struct{})}
}

// take takes n bytes if there is room. An empty spool has room for one batch of any size, as far as the file system goes.
func (b *budget) take(n int64) bool {
	free, err := diskFree(b.dir)
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.used > 0 && b.used+n > b.limit || err == nil && free-n < b.minFree {
		return false
	}
	b.used += n
	return true
}

// add counts bytes that are there whatever the limit says.
func (b *budget) add(n int64) {
	b.mu.Lock()
	b.used += n
	b.mu.Unlock()
}

// give returns room.
func (b *budget) give(n int64) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.used -= n
	close(b.freed)
	b.freed = make(chan struct{})
}

// wait returns when room may have come up, or ctx ends. Other users of the file system make room without saying so, hence
// at the latest after fullPoll.
func (b *budget) wait(ctx context.Context) error {
	b.mu.Lock()
	freed := b.freed
	b.waiting++
	b.mu.Unlock()
	defer func() {
		b.mu.Lock()
		b.waiting--
		b.mu.Unlock()
	}()
	poll := time.NewTimer(fullPoll)
	defer poll.Stop()
	select {
	case <-ctx.Done():
		return ctx.Err()
	case <-freed:
	case <-poll.C:
	}
	return nil
}

// room tells what is used, and what may still be used as the file system is now.
func (b *budget) room() (used, left int64) {
	free, err := diskFree(b.dir)
	b.mu.Lock()
	defer b.mu.Unlock()
	left = b.limit - b.used
	if err == nil {
		left = min(left, free-b.minFree)
	}
	return b.used, max(left, 0)
}

// full tells whether somebody waits for room.
func (b *budget) full() bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.waiting > 0
}

func diskFree(dir string) (int64, error) {
	s, err := statfs(dir)
	return int64(s.Bavail) * s.Bsize, err
}

func diskSize(dir string) (int64, error) {
	s, err := statfs(dir)
	return int64(s.Blocks) * s.Bsize, err
}

func statfs(dir string) (s unix.Statfs_t, err error) {
	if err := unix.Statfs(dir, &s); err != nil {
		return s, fmt.Errorf("space of %s: %w", dir, err)
	}
	return s, nil
}
