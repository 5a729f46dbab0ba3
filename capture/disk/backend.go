package disk

import (
	"context"
	"fmt"
	"sync"

	"github.com/understudy-ha/understudy/journal"
	"github.com/understudy-ha/understudy/nbd"
)

// Disk is one of the machine's disks, captured: an nbd.Backend.
type Disk struct {
	m     *Machine
	index uint16
	id    string
	lower nbd.Backend
	spans spans
}

var _ nbd.Backend = (*Disk)(nil)

// Size of the disk in bytes.
func (d *Disk) Size() int64 { return d.lower.Size() }

// ReadAt fills p; reads are not captured.
func (d *Disk) ReadAt(ctx context.Context, p []byte, off int64) error {
	return d.lower.ReadAt(ctx, p, off)
}

// Extents are those of the lower disk.
func (d *Disk) Extents(ctx context.Context, off, n int64, yield func(off, n int64, e nbd.Extent) bool) error {
	return d.lower.Extents(ctx, off, n, yield)
}

// op is a change under way.
type op struct {
	rec   journal.Record
	span  *span
	visit visit
	gen   *generation // pinned: the bits are set in it
	room  bool        // reserved in the queue
	ctx   *underWay   // what the lower disk is handed
}

var ops = sync.Pool{New: func() any { return new(op) }}

// WriteAt writes p and captures it.
func (d *Disk) WriteAt(ctx context.Context, p []byte, off int64, fua bool) error {
	for len(p) > journal.MaxWrite {
		if err := d.WriteAt(ctx, p[:journal.MaxWrite], off, fua); err != nil {
			return err
		}
		p, off = p[journal.MaxWrite:], off+journal.MaxWrite
	}
	return d.change(ctx, journal.Write, off, int64(len(p)), fua, p, func(ctx context.Context) error {
		return d.lower.WriteAt(ctx, p, off, fua)
	})
}

// Zero makes a range read as zeroes and captures it, in parts if it is longer than the activity log allows.
func (d *Disk) Zero(ctx context.Context, off, n int64, mayTrim, fua bool) error {
	for n > 0 {
		part := min(n, d.m.activity.longest(), journal.MaxZero)
		err := d.change(ctx, journal.Zero, off, part, fua, nil, func(ctx context.Context) error {
			return d.lower.Zero(ctx, off, part, mayTrim, fua)
		})
		if err != nil {
			return err
		}
		off, n = off+part, n-part
	}
	return nil
}

// Trim zeroes a range: the journal's content and the disk's must be the same, and a trimmed range of some disks is not zero.
func (d *Disk) Trim(ctx context.Context, off, n int64, fua bool) error {
	return d.Zero(ctx, off, n, true, fua)
}

// change carries out one change in the order that the package's comment tells. A lower disk's error is the machine's to
// see; what is on the disk is then unknown, so the range counts as lost and is read again. That is also what becomes of a change that is given
// up while the lower disk waits.
func (d *Disk) change(ctx context.Context, kind journal.Kind, off, n int64, fua bool, p []byte, issue func(context.Context) error) error {
	if off < 0 || n < 0 || off%journal.Sector != 0 || n%journal.Sector != 0 || off+n > d.Size() {
		return fmt.Errorf("disk %s: %s of [%d, +%d): %w: want multiples of 512 inside %d bytes", d.id, kind, off, n, nbd.ErrInvalid, d.Size())
	}
	if n == 0 {
		return nil
	}
	o := ops.Get().(*op)
	*o = op{rec: journal.Record{Kind: kind, Disk: d.index, Off: off, Len: n}}
	if fua {
		o.rec.Flags = journal.FUA
	}
	defer ops.Put(o)
	var err error
	if o.span, err = d.spans.lock(ctx, off, n); err != nil {
		return err
	}
	defer d.spans.unlock(o.span)
	if err := d.m.begin(ctx, o, int64(len(p))); err != nil {
		return err
	}
	d.m.activity.enter(&o.visit, d.index, off, n)
	o.gen.set(d.index, off, n)
	if o.room && len(p) > 0 {
		o.rec.Data = buffer(len(p))
		copy(o.rec.Data, p)
	}
	err = issue(o.ctx)
	o.ctx.over()
	d.m.finish(o, p, err != nil)
	d.m.activity.leave(&o.visit)
	return err
}

// Flush promises the lower disk only. It is numbered after that has flushed, so every write that was answered before the
// flush came has a smaller number.
func (d *Disk) Flush(ctx context.Context) error {
	evictions := d.m.activity.evicted()
	if err := d.lower.Flush(ctx); err != nil {
		d.m.distrustHot(d.index, evictions)
		return err
	}
	d.m.flushed(d.index)
	return nil
}
