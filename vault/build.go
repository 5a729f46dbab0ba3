package vault

import (
	"context"
	"slices"

	"github.com/understudy-ha/understudy/journal"
	"github.com/understudy-ha/understudy/objstore"
)

// granule bounds the extents of a layer: data never crosses a multiple of it on the disk.
const granule = 64 << 10

// layerBuilder turns the pieces of a view into the parts of a layer.
type layerBuilder struct {
	v      *Vault
	w      *View
	stream string
	ref    layerRef
	part   journal.PartWriter
	parts  []part
	first  journal.Record // of the open part, without data
	open   journal.Record // what the next piece may continue; Len 0: nothing
}

func (b *layerBuilder) disk(ctx context.Context, i int) error {
	d := b.w.Disk(i)
	var failed error
	err := d.pieces(ctx, 0, d.spec.Size, everything, func(c piece) bool {
		for c.n > 0 && failed == nil && !c.unwritten {
			n := c.n
			if !c.from.Zero {
				n = min(n, granule-c.off%granule)
			}
			failed = b.add(ctx, uint16(i), c, min(n, journal.MaxZero))
			c.off, c.n = c.off+min(n, journal.MaxZero), c.n-min(n, journal.MaxZero)
		}
		return failed == nil
	})
	if err == nil {
		err = failed
	}
	if err == nil {
		err = b.flush(ctx)
	}
	return err
}

// add takes the first n bytes of a piece.
func (b *layerBuilder) add(ctx context.Context, disk uint16, c piece, n int64) error {
	kind := journal.Write
	if c.from.Zero {
		kind = journal.Zero
	}
	o := &b.open
	fits := o.Len > 0 && o.Kind == kind && o.End() == c.off
	fits = fits && (kind == journal.Write && c.off%granule != 0 || kind == journal.Zero && o.Len+n <= journal.MaxZero)
	if !fits {
		if err := b.flush(ctx); err != nil {
			return err
		}
		*o = journal.Record{Kind: kind, Disk: disk, Off: c.off, Data: o.Data[:0]}
	}
	if kind == journal.Write {
		at := len(o.Data)
		o.Data = slices.Grow(o.Data, int(n))[:at+int(n)]
		if err := b.w.block(ctx, c.from, o.Data[at:], int64(c.from.Pos)+c.off-c.from.Off); err != nil {
			return err
		}
	}
	o.Len, o.Seq = o.Len+n, max(o.Seq, c.from.Seq)
	return nil
}

// flush puts the open record into the part.
func (b *layerBuilder) flush(ctx context.Context) error {
	if b.open.Len == 0 {
		return nil
	}
	if b.part.Extents() == 0 {
		b.first = b.open
	}
	if err := b.part.Add(&b.open); err != nil {
		return err
	}
	b.open.Len, b.open.Seq = 0, 0
	if b.part.Size() >= b.v.tune.PartBytes || b.part.Extents() >= b.v.tune.PartExtents {
		return b.seal(ctx)
	}
	return nil
}

// seal stores the open part.
func (b *layerBuilder) seal(ctx context.Context) error {
	if b.part.Extents() == 0 {
		return nil
	}
	p := part{disk: b.first.Disk, first: b.first.Off, extents: uint32(b.part.Extents())}
	p.last, p.end = b.part.Last()
	s, err := b.part.Seal(b.v.layerBinding(b.stream, &b.ref, journal.LayerObject, len(b.parts)), b.v.to)
	if err != nil {
		return err
	}
	if _, err := objstore.PutOnce(ctx, b.v.store, partKey(b.stream, b.ref.Name, len(b.parts)), s.Object); err != nil {
		return err
	}
	p.size, p.hash = int64(len(s.Object)), s.Hash
	b.parts = append(b.parts, p)
	b.ref.Size += p.size
	b.ref.Extents += int64(p.extents)
	return nil
}

func (b *layerBuilder) finish(ctx context.Context) (layerRef, error) {
	if err := b.seal(ctx); err != nil {
		return layerRef{}, err
	}
	b.ref.Parts = len(b.parts)
	o, err := journal.Seal(b.v.layerBinding(b.stream, &b.ref, journal.IndexObject, 0), encodeParts(b.parts), b.v.to)
	if err != nil {
		return layerRef{}, err
	}
	b.ref.Hash, b.ref.Size = journal.Sum(o), b.ref.Size+int64(len(o))
	_, err = objstore.PutOnce(ctx, b.v.store, indexKey(b.stream, b.ref.Name), o)
	return b.ref, err
}
