package vault

import (
	"context"

	"golang.org/x/sync/errgroup"

	"github.com/understudy-ha/understudy/journal"
)

// open adds the sources of a stream, and of what it stands on, below those that are there.
func (w *View) open(ctx context.Context, stream string, seq uint64, top bool) error {
	key := streamKey(stream, "pins/"+w.v.opt.Nonce())
	w.pins[key] = nil
	s, steps, p, err := w.v.pinned(ctx, stream, seq, key)
	if err != nil {
		return err
	}
	w.pins[key] = p
	if top {
		w.info = StreamInfo{ID: s.Stream, Epoch: s.Epoch, Machine: s.Machine, Base: s.Base, Disks: s.Disks, Seq: s.Seq, Chain: s.Chain.String(), Time: s.Time}
	}
	if err := w.addSteps(ctx, s, steps, seq); err != nil {
		return err
	}
	if top {
		w.own = len(w.sources)
	}
	if w.base = s.Base; s.Base.Kind == "stream" {
		return w.open(ctx, s.Base.Stream, s.Base.Seq, false)
	}
	return nil
}

// addSteps makes sources of a path, newest first; runs of segments become one.
func (w *View) addSteps(ctx context.Context, s *state, steps []span, seq uint64) error {
	for end := len(steps); end > 0; {
		start := end - 1
		if !steps[start].isLayer() {
			for start > 0 && !steps[start-1].isLayer() {
				start--
			}
		}
		src, err := w.source(ctx, s, steps[start:end], seq)
		if err != nil {
			return err
		}
		w.sources, end = append(w.sources, src), start
	}
	return nil
}

func (w *View) source(ctx context.Context, s *state, steps []span, seq uint64) (source, error) {
	if steps[0].isLayer() {
		l := s.layers[steps[0].layer]
		parts, err := w.v.openParts(ctx, s.Stream, &l)
		if err != nil {
			return nil, err
		}
		src := &layerSource{v: w, stream: s.Stream, ref: l, parts: parts, id: w.objects}
		w.objects += uint32(len(parts))
		return src, nil
	}
	segs := make([]*journal.Segment, len(steps))
	indexes := make([][]journal.Extent, len(steps))
	g, gctx := errgroup.WithContext(ctx)
	g.SetLimit(w.v.tune.Parallel)
	for i, sp := range steps {
		g.Go(func() error {
			if gctx.Err() != nil {
				return gctx.Err()
			}
			seg, r, err := w.v.openSegment(w.ctx, s.Stream, &s.segments[sp.segment], w.whole)
			if err != nil {
				return err
			}
			index, err := seg.IndexAt(seq)
			segs[i], indexes[i] = seg, index
			if !w.whole {
				r.forget()
			}
			return err
		})
	}
	if err := g.Wait(); err != nil {
		return nil, err
	}
	src := &tailSource{segments: segs, id: w.objects, last: min(seq, steps[len(steps)-1].to)}
	w.objects += uint32(len(segs))
	var all []journal.Extent
	blocks := uint32(0)
	for i, index := range indexes {
		src.first = append(src.first, blocks)
		for _, e := range index {
			if e.Zero {
				e.Block, e.Pos = 0, 0
			}
			e.Block += blocks
			all = append(all, e)
		}
		blocks += uint32(max(1, segs[i].Blocks()))
	}
	src.index = journal.NewestWins(all)
	return src, nil
}
