package nbd

import (
	"context"
	"sync"

	"golang.org/x/sys/unix"
)

// extentCache remembers where data lay last, so that a busy disk is not asked for every read. It only ever says "data", which is
// right of any range, if not the whole truth; so writes need not know of it.
type extentCache struct {
	mu       sync.Mutex
	from, to int64
}

func (c *extentCache) data(off int64) (to int64, ok bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.to, c.from <= off && off < c.to
}

func (c *extentCache) know(from, to int64) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.from, c.to = from, to
}

func (c *extentCache) forget() { c.know(0, 0) }

// Extents implements Backend by SEEK_DATA and SEEK_HOLE. A file system without them has data everywhere.
func (d *File) Extents(ctx context.Context, off, n int64, yield func(off, n int64, e Extent) bool) error {
	for end := off + n; off < end; {
		if err := ctx.Err(); err != nil {
			return err
		}
		to, e, err := d.extent(off)
		if err != nil {
			return err
		}
		to = min(to, end)
		if !yield(off, to-off, e) {
			return nil
		}
		off = to
	}
	return nil
}

// extent finds the extent that off lies in.
func (d *File) extent(off int64) (to int64, e Extent, err error) {
	if err := d.enter(); err != nil { // not around yield, which may use the disk
		return 0, 0, err
	}
	defer d.leave()
	if to, ok := d.known.data(off); ok {
		return to, 0, nil
	}
	data, err := unix.Seek(d.fd, off, unix.SEEK_DATA)
	switch {
	case err == unix.ENXIO: // none up to the end
		return d.size, Hole | Zeros, nil
	case err == unix.EINVAL:
		return d.size, 0, nil
	case err != nil:
		return 0, 0, d.failed("seek", off, err)
	case data-data%sectorSize > off:
		return data - data%sectorSize, Hole | Zeros, nil
	}
	hole, err := unix.Seek(d.fd, off, unix.SEEK_HOLE)
	if err != nil {
		return 0, 0, d.failed("seek", off, err)
	}
	hole = min(d.size, (hole+sectorSize-1)/sectorSize*sectorSize)
	if hole <= off { // a hole was made meanwhile
		return off + sectorSize, 0, nil
	}
	d.known.know(off, hole)
	return hole, 0, nil
}
