package vault

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"

	"github.com/understudy-ha/understudy/journal"
	"github.com/understudy-ha/understudy/mutant"
	"github.com/understudy-ha/understudy/objstore"
)

// CompactReport tells what a Compact did.
type CompactReport struct {
	Made        int      `json:"made"`    // layers
	Written     int64    `json:"written"` // bytes of them
	Dropped     int      `json:"dropped"` // layers and segments that nothing needs any more
	Layers      int      `json:"layers"`  // under the end of the stream, now
	Unreachable []uint64 `json:"unreachable,omitempty"`
}

// errOvertaken says that a collection began while a layer was made; it is made again.
var errOvertaken = errors.New("overtaken by a collection")

// Compact makes layers until there is nothing to do, and drops what no recovery point, no branch and not the end needs. A layer may span
// recovery points: then the finer layers and segments stay as long as a point inside needs them. It needs the identity. It may be
// stopped and repeated at any time, and several may run at once; all that can come of it is work done twice.
func (v *Vault) Compact(ctx context.Context, stream string) (CompactReport, error) {
	var r CompactReport
	if _, err := v.identities("compact", stream); err != nil {
		return r, err
	}
	for {
		s, err := v.load(ctx, stream)
		if err != nil {
			return r, err
		}
		run := s.nextMerge(&v.tune)
		if run == nil {
			return r, v.dropDead(ctx, stream, &r)
		}
		layer, err := v.merge(ctx, s, run)
		if err != nil {
			return r, err
		}
		err = v.adopt(ctx, stream, layer, s.Swept, &r)
		if err != nil && !errors.Is(err, errOvertaken) {
			return r, err
		}
	}
}

// adopt names a finished layer, and drops what it makes superfluous.
func (v *Vault) adopt(ctx context.Context, stream string, l layerRef, swept uint64, r *CompactReport) error {
	_, err := v.update(ctx, stream, func(s *state) (*head, error) {
		if slices.ContainsFunc(s.layers, func(o layerRef) bool { return o.Name == l.Name }) {
			return nil, nil
		}
		if s.Swept != swept {
			return nil, errOvertaken
		}
		s.layers = append(slices.Clone(s.layers), l)
		slices.SortStableFunc(s.layers, func(a, b layerRef) int { return cmp.Or(cmp.Compare(a.To, b.To), cmp.Compare(a.From, b.From)) })
		r.drop(s)
		return v.fold(ctx, s)
	})
	if err == nil {
		r.Made++
		r.Written += l.Size
	}
	return err
}

// drop drops what nothing needs from s.
func (r *CompactReport) drop(s *state) (dropped int) {
	needs := s.needs()
	if mutant.On(mutant.MergeAcross) {
		needs = []uint64{s.Seq}
	}
	before := len(s.layers) + len(s.segments)
	r.Unreachable = s.dropUnused(needs)
	dropped = before - len(s.layers) - len(s.segments)
	r.Dropped += dropped
	steps, _ := s.paths().to(s.Seq)
	r.Layers = 0
	for _, sp := range steps {
		if sp.isLayer() {
			r.Layers++
		}
	}
	return dropped
}

func (v *Vault) dropDead(ctx context.Context, stream string, r *CompactReport) error {
	_, err := v.update(ctx, stream, func(s *state) (*head, error) {
		if r.drop(s) == 0 {
			return nil, nil
		}
		return v.fold(ctx, s)
	})
	return err
}

// merge makes one layer of a run of steps and stores it; nothing names it yet.
func (v *Vault) merge(ctx context.Context, s *state, run []span) (layerRef, error) {
	from, to := run[0].from, run[len(run)-1].to
	w, err := v.runView(ctx, s, run, to)
	if err != nil {
		return layerRef{}, err
	}
	defer w.Close()
	b := &layerBuilder{v: v, w: w, stream: s.Stream, ref: layerRef{From: from, To: to, Chain: s.chainAt(run[len(run)-1]),
		Name: fmt.Sprintf("%020d-%020d-%s", from, to, v.opt.Nonce())}}
	for i := range s.Disks {
		if err := b.disk(ctx, i); err != nil {
			return layerRef{}, fmt.Errorf("merge %d to %d of %s: %w", from, to, s.Stream, err)
		}
	}
	return b.finish(ctx)
}

// mergeCache is how many bytes of unpacked blocks a merge keeps in memory. Segments are read in the order of the disk, which is not theirs.
const mergeCache = 256 << 20

// runView is a view of some steps of a stream alone, pinned. It reads segments whole, at one request each.
func (v *Vault) runView(ctx context.Context, s *state, run []span, to uint64) (*View, error) {
	w, err := v.newView(ctx, to, max(v.opt.CacheBytes, mergeCache))
	if err != nil {
		return w.started(err)
	}
	w.whole = true
	w.info = StreamInfo{ID: s.Stream, Disks: s.Disks}
	key := streamKey(s.Stream, "pins/"+v.opt.Nonce())
	p := &pin{Format: format, Stream: s.Stream, Seq: to, Keys: s.keysOf(run)}
	w.pins[key] = p
	if err := v.putPin(ctx, key, p); err != nil {
		return w.started(err)
	}
	again, err := v.load(ctx, s.Stream)
	if err == nil && !again.names(p.Keys) {
		err = fail("compact", s.Stream, ErrBusy, "another compactor was faster")
	}
	if err == nil {
		err = w.addSteps(ctx, s, run, to)
	}
	w.own = len(w.sources)
	return w.started(err)
}

func (s *state) chainAt(sp span) journal.Hash {
	if sp.isLayer() {
		return s.layers[sp.layer].Chain
	}
	return s.segments[sp.segment].chain()
}

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
