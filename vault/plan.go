package vault

import (
	"cmp"
	"slices"
)

// span is one step of a path through a stream: a layer or a segment.
type span struct {
	from, to uint64
	layer    int // index into state.layers, or -1
	segment  int // index into state.segments, or -1
}

func (s span) isLayer() bool { return s.layer >= 0 }

// paths knows the cheapest way to every position of a stream.
type paths struct {
	s     *state
	spans []span
	cost  map[uint64]int // fewest layers and segments up to a position
	last  map[uint64]int // the last of them, an index into spans
}

func (s *state) paths() *paths {
	p := &paths{s: s, cost: map[uint64]int{0: 0}, last: map[uint64]int{}}
	for i, l := range s.layers {
		p.spans = append(p.spans, span{from: l.From, to: l.To, layer: i, segment: -1})
	}
	for i, g := range s.segments {
		p.spans = append(p.spans, span{from: g.After, to: g.Last, layer: -1, segment: i})
	}
	slices.SortStableFunc(p.spans, func(a, b span) int {
		if c := cmp.Compare(a.to, b.to); c != 0 {
			return c
		}
		return cmp.Compare(a.from, b.from)
	})
	for i, sp := range p.spans {
		c, known := p.cost[sp.from]
		if !known {
			continue
		}
		if old, there := p.cost[sp.to]; !there || c+1 < old {
			p.cost[sp.to], p.last[sp.to] = c+1, i
		}
	}
	return p
}

// to gives the fewest layers and segments, oldest first, that together hold everything up to position seq. The last may be a segment that
// goes on after seq. ok is false if the position is not kept.
func (p *paths) to(seq uint64) (steps []span, ok bool) {
	at := seq
	if _, exact := p.cost[seq]; !exact {
		i, _ := slices.BinarySearchFunc(p.s.segments, seq, func(g segmentRef, seq uint64) int { return cmp.Compare(g.Last, seq) })
		if i == len(p.s.segments) || p.s.segments[i].First > seq {
			return nil, false
		}
		g := p.s.segments[i]
		if _, known := p.cost[g.After]; !known {
			return nil, false
		}
		steps, at = append(steps, span{from: g.After, to: g.Last, layer: -1, segment: i}), g.After
	}
	for at > 0 {
		sp := p.spans[p.last[at]]
		steps, at = append(steps, sp), sp.from
	}
	slices.Reverse(steps)
	return steps, true
}

// needs are the positions that must stay readable: valid points, positions that other streams stand on, and the end.
func (s *state) needs() []uint64 {
	seqs := []uint64{s.Seq}
	for _, p := range s.validPoints() {
		seqs = append(seqs, p.Seq)
	}
	for _, seq := range s.Holds {
		seqs = append(seqs, seq)
	}
	slices.Sort(seqs)
	return slices.Compact(seqs)
}

// dropUnused removes the layers and segments that are on no path to a needed position. A position that cannot be reached
// any more keeps nothing and is reported.
func (s *state) dropUnused(needs []uint64) (unreachable []uint64) {
	layers, segments := make([]bool, len(s.layers)), make([]bool, len(s.segments))
	all := s.paths()
	for _, seq := range needs {
		steps, ok := all.to(seq)
		if !ok {
			unreachable = append(unreachable, seq)
		}
		for _, sp := range steps {
			if sp.isLayer() {
				layers[sp.layer] = true
			} else {
				segments[sp.segment] = true
			}
		}
	}
	s.layers, s.segments = kept(s.layers, layers), kept(s.segments, segments)
	return unreachable
}

func kept[T any](list []T, keep []bool) []T {
	var out []T
	for i, k := range keep {
		if k {
			out = append(out, list[i])
		}
	}
	return out
}

// nextMerge gives the run of steps that Compact makes a layer of next, or nil. Either the segments after the newest layer have become
// many, large, or hold many records; or more than MaxLayers layers lie under the end, and the newest of them, down to the first that is
// more than twice as large as all after it, become one. Sizes of what is left then fall by halves, so that a byte is rewritten a few times
// in its life.
func (s *state) nextMerge(t *Tuning) []span {
	steps, ok := s.paths().to(s.Seq)
	if !ok {
		return nil
	}
	n := 0 // layers
	for n < len(steps) && steps[n].isLayer() {
		n++
	}
	raw, recs := int64(0), uint64(0)
	for _, sp := range steps[n:] {
		raw, recs = raw+s.size(sp), recs+sp.to-sp.from
	}
	if tail := len(steps) - n; tail > 1 && (tail >= t.CheckpointSegs || raw >= t.CheckpointRaw || recs >= uint64(t.CheckpointRecs)) {
		return steps[n:]
	}
	if n <= t.MaxLayers {
		return nil
	}
	first, newer := n-1, s.size(steps[n-1])
	for first > 0 && (s.size(steps[first-1]) <= 2*newer || first == n-1) {
		first--
		newer += s.size(steps[first])
	}
	return steps[first:n]
}

func (s *state) size(sp span) int64 {
	if sp.isLayer() {
		return s.layers[sp.layer].Size
	}
	return s.segments[sp.segment].Size
}
