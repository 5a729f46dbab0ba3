package vault

import (
	"fmt"
	"os"
	"sync"
)

// blockID names one unpacked block of a view's objects.
type blockID struct{ object, block uint32 }

// ring is where cached blocks lie: a file without a name, or memory.
type ring interface {
	ReadAt(p []byte, off int64) (int, error)
	WriteAt(p []byte, off int64) (int, error)
	Close() error
}

// cache keeps the newest unpacked blocks in a ring: the next block overwrites the oldest. It is safe for concurrent use.
type cache struct {
	mu     sync.RWMutex
	ring   ring
	size   int64
	at     int64 // where the next block goes
	where  map[blockID]place
	oldest []placed // in the order of their writing
}

type place struct{ off, n int64 }

type placed struct {
	id blockID
	place
}

func newCache(dir string, size int64) (*cache, error) {
	c := &cache{size: max(size, 1<<20), where: map[blockID]place{}}
	if dir == "" {
		c.ring = &inMemory{}
		return c, nil
	}
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, fmt.Errorf("block cache: %w", err)
	}
	f, err := os.CreateTemp(dir, "blocks-*") // mode 0600
	if err != nil {
		return nil, fmt.Errorf("block cache: %w", err)
	}
	if err := os.Remove(f.Name()); err != nil {
		f.Close()
		return nil, fmt.Errorf("block cache: %w", err)
	}
	c.ring = f
	return c, nil
}

// get fills p from a block's bytes at pos, if the block is here.
func (c *cache) get(id blockID, p []byte, pos int64) bool {
	c.mu.RLock()
	defer c.mu.RUnlock()
	w, ok := c.where[id]
	if !ok || pos+int64(len(p)) > w.n {
		return false
	}
	_, err := c.ring.ReadAt(p, w.off+pos)
	return err == nil
}

// put keeps a block. One that is larger than a quarter of the cache, or that the disk has no room for, is not kept.
func (c *cache) put(id blockID, b []byte) {
	n := int64(len(b))
	c.mu.Lock()
	defer c.mu.Unlock()
	if _, there := c.where[id]; there || n > c.size/4 {
		return
	}
	if c.at+n > c.size {
		c.evict(c.at, c.size)
		c.at = 0
	}
	c.evict(c.at, c.at+n)
	if _, err := c.ring.WriteAt(b, c.at); err != nil {
		return
	}
	p := place{c.at, n}
	c.where[id], c.oldest, c.at = p, append(c.oldest, placed{id, p}), c.at+n
}

// evict forgets the oldest blocks that begin in [from, to).
func (c *cache) evict(from, to int64) {
	n := 0
	for n < len(c.oldest) && c.oldest[n].off < to && c.oldest[n].off+c.oldest[n].n > from {
		delete(c.where, c.oldest[n].id)
		n++
	}
	c.oldest = c.oldest[n:]
}

// drop gives up everything, and what comes later too: nobody begins to read any more.
func (c *cache) drop() {
	c.mu.Lock()
	defer c.mu.Unlock()
	_ = c.ring.Close()
	c.ring, c.size, c.where, c.oldest = &inMemory{}, 0, map[blockID]place{}, nil
}

func (c *cache) close() error { return c.ring.Close() }

// inMemory is a ring in memory, which takes as much as was ever written to it.
type inMemory struct{ b []byte }

func (m *inMemory) ReadAt(p []byte, off int64) (int, error) { return copy(p, m.b[off:]), nil }

func (m *inMemory) WriteAt(p []byte, off int64) (int, error) {
	if end := int(off) + len(p); end > len(m.b) {
		m.b = append(m.b, make([]byte, end-len(m.b))...)
	}
	return copy(m.b[off:], p), nil
}

func (m *inMemory) Close() error { return nil }
