package vault

import (
	"context"
	"fmt"
	"io"
)

// ViewDisk is one disk of a view.
type ViewDisk struct {
	w    *View
	disk uint16
	spec Disk
}

// Range is a range of bytes of a disk.
type Range struct {
	Off int64 `json:"off"`
	Len int64 `json:"len"`
}

// piece is a part of a disk and where its bytes are.
type piece struct {
	off, n    int64
	unwritten bool  // the stream never wrote it
	from      found // unless unwritten; Off and Len are those of the whole extent
}

// scope says which sources of a view a walk looks at.
type scope struct {
	since uint64 // only those of the stream itself with records after this position
	own   bool   // none of what the stream stands on
}

var everything = scope{}

// zero tells whether the piece reads as zeroes, as far as the vault knows.
func (p *piece) zero() bool { return p.unwritten || p.from.Zero }

// Size is the disk's size in bytes.
func (d *ViewDisk) Size() int64 { return d.spec.Size }

// ID is the disk's name in the stream.
func (d *ViewDisk) ID() string { return d.spec.ID }

// ReadAt fills p from off. Like io.ReaderAt it gives io.EOF with the bytes that there are when the disk ends before p does. What the
// stream never wrote reads as zeroes, also on a base of kind "disk"; ask InStream there.
func (d *ViewDisk) ReadAt(ctx context.Context, p []byte, off int64) (int, error) {
	if off < 0 {
		return 0, fmt.Errorf("read at %d of disk %s: the offset is negative", off, d.spec.ID)
	}
	d, err := d.standing(ctx)
	if err != nil {
		return 0, err
	}
	end := min(off+int64(len(p)), d.spec.Size)
	var failed error
	err = d.pieces(ctx, off, end, everything, func(c piece) bool {
		dst := p[c.off-off : c.off-off+c.n]
		if c.zero() {
			clear(dst)
			return true
		}
		failed = d.w.block(ctx, c.from, dst, int64(c.from.Pos)+c.off-c.from.Off)
		return failed == nil
	})
	if err == nil {
		err = failed
	}
	if err != nil {
		return 0, fmt.Errorf("read %d bytes at %d of disk %s: %w", len(p), off, d.spec.ID, err)
	}
	if n := max(0, end-off); n < int64(len(p)) {
		return int(n), io.EOF
	}
	return len(p), nil
}

// standing is the disk in the view that is to be read from.
func (d *ViewDisk) standing(ctx context.Context) (*ViewDisk, error) {
	w, err := d.w.standing(ctx)
	return &ViewDisk{w: w, disk: d.disk, spec: d.spec}, err
}

// Extents tells which parts of [off, off+n) read as zeroes, in order and without holes, until yield gives false.
func (d *ViewDisk) Extents(ctx context.Context, off, n int64, yield func(off, n int64, zero bool) bool) error {
	return d.runs(ctx, off, n, everything, func(c *piece) bool { return c.zero() }, yield)
}

// InStream gives the ranges of [off, off+n) that the stream wrote, in order. On a base of kind "disk" the others are on that disk.
func (d *ViewDisk) InStream(ctx context.Context, off, n int64, yield func(off, n int64) bool) error {
	return d.runs(ctx, off, n, everything, func(c *piece) bool { return c.unwritten }, func(off, n int64, unwritten bool) bool {
		return unwritten || yield(off, n)
	})
}

// Changed gives the ranges that were written after position since, in order; a neighbour of one may be among them. It looks only at what
// can have such records.
func (d *ViewDisk) Changed(ctx context.Context, since uint64, yield func(off, n int64) bool) error {
	same := func(c *piece) bool { return c.unwritten || c.from.Seq <= since }
	return d.runs(ctx, 0, d.spec.Size, scope{since: since, own: true}, same, func(off, n int64, same bool) bool {
		return same || yield(off, n)
	})
}

// runs joins neighbouring pieces of one kind.
func (d *ViewDisk) runs(ctx context.Context, off, n int64, in scope, kind func(*piece) bool, yield func(off, n int64, kind bool) bool) error {
	d, err := d.standing(ctx)
	if err != nil {
		return err
	}
	var open Range
	var openKind bool
	going := true
	err = d.pieces(ctx, max(0, off), min(off+n, d.spec.Size), in, func(c piece) bool {
		k := kind(&c)
		if open.Len > 0 && k != openKind {
			going = yield(open.Off, open.Len, openKind)
			open.Len = 0
		}
		if open.Len == 0 {
			open.Off, openKind = c.off, k
		}
		open.Len += c.n
		return going
	})
	if err == nil && going && open.Len > 0 {
		yield(open.Off, open.Len, openKind)
	}
	return err
}

// pieces walks [off, end) in order. Sources outside the scope count as empty.
func (d *ViewDisk) pieces(ctx context.Context, off, end int64, in scope, yield func(piece) bool) error {
	_, err := d.under(ctx, 0, off, end, in, yield)
	return err
}

// under walks [off, end) as the sources from number i on see it. It tells whether to go on.
func (d *ViewDisk) under(ctx context.Context, i int, off, end int64, in scope, yield func(piece) bool) (bool, error) {
	if off >= end {
		return true, nil
	}
	if i == len(d.w.sources) {
		return yield(piece{off: off, n: end - off, unwritten: true}), nil
	}
	if own := i < d.w.own; own && d.w.sources[i].to() > in.since || !own && !in.own {
		return d.through(ctx, i, off, end, in, yield)
	}
	return d.under(ctx, i+1, off, end, in, yield)
}

func (d *ViewDisk) through(ctx context.Context, i int, off, end int64, in scope, yield func(piece) bool) (bool, error) {
	going, at := true, off
	var failed error
	err := d.w.sources[i].each(ctx, d.disk, off, end, func(f found) bool {
		if f.Off > at {
			if going, failed = d.under(ctx, i+1, at, f.Off, in, yield); !going || failed != nil {
				return false
			}
			at = f.Off
		}
		to := min(f.End(), end)
		going = yield(piece{off: at, n: to - at, from: f})
		at = to
		return going && at < end
	})
	if err == nil {
		err = failed
	}
	if err != nil || !going {
		return false, err
	}
	return d.under(ctx, i+1, at, end, in, yield)
}
