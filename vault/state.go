package vault

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"slices"

	"github.com/understudy-ha/understudy/journal"
	"github.com/understudy-ha/understudy/mutant"
	"github.com/understudy-ha/understudy/objstore"
)

// swapTries is how often an update begins anew because others were faster or an answer was lost.
const swapTries = 12

// state is one state of a stream, as a reader found it. The parts that the head and the manifest share are one list each here.
type state struct {
	head
	tag      objstore.Tag
	layers   []layerRef
	segments []segmentRef
	points   []PointInfo
	gaps     []Gap
}

// load reads the newest state of a stream.
func (v *Vault) load(ctx context.Context, stream string) (*state, error) {
	for range swapTries {
		h, tag, err := v.loadHead(ctx, stream)
		if err != nil {
			return nil, err
		}
		st, err := v.withManifest(ctx, h, tag)
		if !errors.Is(err, ErrMissing) {
			return st, err
		}
		// The manifest may have been replaced and collected since the head was read: that is no damage.
		again, _, err2 := v.loadHead(ctx, stream)
		if err2 != nil {
			return nil, err2
		}
		if again.Manifest == h.Manifest {
			return nil, err
		}
	}
	return nil, fail("read", headKey(stream), ErrBusy, "")
}

func (v *Vault) loadHead(ctx context.Context, stream string) (*head, objstore.Tag, error) {
	if err := validStream(stream); err != nil {
		return nil, "", err
	}
	b, tag, err := v.store.Get(ctx, headKey(stream))
	if errors.Is(err, objstore.ErrNotFound) {
		return nil, "", fail("read", stream, ErrNoStream, "")
	}
	if err != nil {
		return nil, "", err
	}
	h, err := v.decodeHead(stream, b)
	return h, tag, err
}

func (v *Vault) withManifest(ctx context.Context, h *head, tag objstore.Tag) (*state, error) {
	st := &state{head: *h, tag: tag}
	m := &manifest{}
	if h.Manifest != "" {
		b, _, err := v.store.Get(ctx, h.Manifest)
		if err != nil {
			return nil, referred("read", h.Manifest, err)
		}
		if journal.Sum(b) != h.Sum {
			return nil, damaged(h.Manifest, journal.ErrCorrupt, "its hash is not the one in the head")
		}
		if m, err = decodeManifest(h.Manifest, h.Stream, b, h.Seq); err != nil {
			return nil, err
		}
	}
	st.layers = m.Layers
	st.segments = append(m.Segments, h.Tail...)
	st.points = append(m.Points, h.Points...)
	st.gaps = mergeGaps(append(m.Gaps, h.Gaps...))
	return st, nil
}

// mergeGaps makes one gap of each open one and what follows it: the end that a later entry tells closes all before.
func mergeGaps(gaps []Gap) []Gap {
	var out []Gap
	for _, g := range gaps {
		if n := len(out); n > 0 && out[n-1].To == 0 {
			out[n-1] = Gap{From: min(out[n-1].From, g.From), To: g.To}
			continue
		}
		out = append(out, g)
	}
	return out
}

// inGap tells whether a position lies in a gap.
func inGap(gaps []Gap, seq uint64) bool {
	return slices.ContainsFunc(gaps, func(g Gap) bool { return g.holds(seq) })
}

// validPoints are the points outside gaps.
func (s *state) validPoints() []PointInfo {
	return slices.DeleteFunc(slices.Clone(s.points), func(p PointInfo) bool { return inGap(s.gaps, p.Seq) })
}

// next is a copy of the head that the next swap may put.
func (s *state) next() *head {
	h := s.head
	h.Version++
	h.Tail, h.Points, h.Gaps = slices.Clone(h.Tail), slices.Clone(h.Points), slices.Clone(h.Gaps)
	h.Holds = maps.Clone(h.Holds)
	return &h
}

// fold puts a manifest of the state's lists and gives the head that names it. The manifest's key is new at each call.
func (v *Vault) fold(ctx context.Context, s *state) (*head, error) {
	m := manifest{Format: format, Stream: s.Stream, Layers: s.layers, Segments: s.segments, Points: s.points, Gaps: s.gaps}
	b, err := json.Marshal(m)
	if err != nil {
		return nil, err
	}
	h := s.next()
	h.Manifest, h.Sum = streamKey(s.Stream, fmt.Sprintf("manifests/%020d-%s", h.Version, v.opt.Nonce())), journal.Sum(b)
	if _, err := objstore.PutOnce(ctx, v.store, h.Manifest, b); err != nil {
		return nil, err
	}
	h.Tail, h.Points, h.Gaps = nil, nil, nil
	return h, nil
}

// swap puts h in the place of the state that it was made from. Only nil and ErrUnknown may have changed the head; the latter may even do
// so later, as long as nobody else swaps.
func (v *Vault) swap(ctx context.Context, s *state, h *head) (objstore.Tag, error) {
	b, err := json.Marshal(h)
	if err != nil {
		return "", err
	}
	cond := objstore.IfMatch(s.tag)
	if s.tag == "" {
		cond = objstore.IfAbsent
	}
	if mutant.On(mutant.BlindSwap) {
		cond = objstore.Always
	}
	return v.store.Put(ctx, headKey(h.Stream), b, cond)
}

// update reads the newest state, lets edit make the next head of it, and swaps, until a swap is certain. edit gives nil when there is
// nothing to do (any more): it may be called again after a swap of its own whose answer was lost. It returns the state edit saw last.
func (v *Vault) update(ctx context.Context, stream string, edit func(*state) (*head, error)) (*state, error) {
	var lost error
	for range swapTries {
		s, err := v.load(ctx, stream)
		if err != nil {
			return nil, err
		}
		h, err := edit(s)
		if err != nil || h == nil {
			return s, err
		}
		switch _, err = v.swap(ctx, s, h); {
		case err == nil:
			return s, nil
		case errors.Is(err, objstore.ErrChanged), errors.Is(err, objstore.ErrUnknown) && ctx.Err() == nil:
			lost = err
		default:
			return nil, err
		}
	}
	return nil, &Error{Op: "swap", Object: headKey(stream), Kind: ErrBusy, Cause: lost, Hint: "try again"}
}
