package vault

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"

	"github.com/understudy-ha/understudy/journal"
	"github.com/understudy-ha/understudy/mutant"
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
	dropped := 0
	_, err := v.update(ctx, stream, func(s *state) (*head, error) {
		if slices.ContainsFunc(s.layers, func(o layerRef) bool { return o.Name == l.Name }) {
			return nil, nil
		}
		if s.Swept != swept {
			return nil, errOvertaken
		}
		s.layers = append(slices.Clone(s.layers), l)
		slices.SortStableFunc(s.layers, func(a, b layerRef) int { return cmp.Or(cmp.Compare(a.To, b.To), cmp.Compare(a.From, b.From)) })
		dropped = r.drop(s)
		return v.fold(ctx, s)
	})
	if err == nil {
		r.Made++
		r.Dropped += dropped
		r.Written += l.Size
	}
	return err
}

// drop drops what nothing needs from s, and tells how much that was.
func (r *CompactReport) drop(s *state) (dropped int) {
	needs := s.needs()
	if mutant.On(mutant.MergeAcross) {
		needs = []uint64{s.Seq}
	}
	before := len(s.layers) + len(s.segments)
	r.Unreachable = s.dropUnused(needs)
	dropped = before - len(s.layers) - len(s.segments)
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
	dropped := 0
	_, err := v.update(ctx, stream, func(s *state) (*head, error) {
		n := r.drop(s)
		if n == 0 {
			return nil, nil
		}
		dropped = n
		return v.fold(ctx, s)
	})
	r.Dropped += dropped
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
