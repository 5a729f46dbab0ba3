package sim

import (
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/understudy-ha/understudy/api"
)

// vaultModel is a vault as package vault keeps it: streams that one epoch extends at a time, points, letters.
type vaultModel struct {
	w       *world
	name    string
	at      place
	streams map[string]*stream
	mail    map[string]*letter
	// pins are the positions that readers have open, by who reads.
	pins map[string]streamBase
}

// stream of a machine's writes.
type stream struct {
	epoch int64
	base  streamBase
	recs  []record
	seq   uint64
	// kept are the points that were not pruned; floor is the oldest position that can be read but for those.
	kept  []point
	floor uint64
}

// streamBase is what lies under a stream: nothing, the passive side's disk, or another stream.
type streamBase struct {
	kind, stream string
	seq          uint64
}

// letter is what two sides tell each other at a reprotect: the blocks that may differ, and what one side has there.
type letter struct {
	where [blocks]bool
	has   map[int]int
}

// cell is a block of a view; one that is not in the stream is the passive side's.
type cell struct {
	value int
	has   bool
}

type view [blocks]cell

var (
	errVaultGone = errors.New("the vault does not answer")
	errNoStream  = errors.New("there is no such stream")
	errFenced    = errors.New("a newer generation writes the stream")
	errPruned    = errors.New("the position is not kept any more")
	errNoLetter  = errors.New("the other side has not written yet")
)

// ask carries a request to the vault and its answer back; with an error nothing was done. What f does at the vault and with
// the answer happens in one moment.
func (v *vaultModel) ask(n *node, f func(error)) {
	w := v.w
	d := w.net.latency(n.at, v.at) + w.net.latency(v.at, n.at) + 20*time.Millisecond
	if w.cloud.slow > 0 {
		d += w.upTo(8 * time.Second)
	}
	n.house.after(d, func() {
		switch {
		case w.net.lost(n.at, v.at) || w.net.lost(v.at, n.at) || w.cloud.failing > 0 && w.chance(0.5):
			f(errVaultGone)
		default:
			f(nil)
		}
	})
}

// take lets a generation extend a stream from now on.
func (v *vaultModel) take(id string, epoch int64, base streamBase) (*stream, error) {
	s := v.streams[id]
	if s == nil {
		if base.kind == "stream" {
			if _, err := v.view(base.stream, base.seq); err != nil {
				v.w.violate(pinned, fmt.Sprintf("stream %s is to stand on %s@%d: %v", id, base.stream, base.seq, err))
				return nil, err
			}
		}
		s = &stream{epoch: epoch, base: base}
		v.streams[id] = s
	}
	if s.epoch > epoch {
		return nil, errFenced
	}
	if s.epoch < epoch {
		v.w.note(v.name, "fences", id, fmt.Sprint(epoch))
	}
	s.epoch = epoch
	return s, nil
}

// fence takes a stream from whoever wrote it under an older generation.
func (v *vaultModel) fence(id string, epoch int64) error {
	s := v.streams[id]
	if s == nil {
		return errNoStream
	}
	if s.epoch < epoch {
		_, err := v.take(id, epoch, s.base)
		return err
	}
	return nil
}

func (v *vaultModel) append(id string, epoch int64, base streamBase, recs []record) (uint64, error) {
	s, err := v.take(id, epoch, base)
	if err != nil {
		return 0, err
	}
	for _, r := range recs {
		if r.seq <= s.seq {
			continue
		}
		s.recs = append(s.recs, r)
		s.seq = r.seq
		if r.point != nil {
			s.kept = append(s.kept, *r.point)
			v.w.note(v.name, "stores", id, r.point.id)
			v.w.estate.pointStored(v, id, *r.point)
		}
	}
	return s.seq, nil
}

// view reads a stream at a position.
func (v *vaultModel) view(id string, seq uint64) (out view, err error) {
	s := v.streams[id]
	switch {
	case s == nil:
		return out, fmt.Errorf("stream %s: %w", id, errNoStream)
	case seq < s.floor && !slices.ContainsFunc(s.kept, func(p point) bool { return p.seq == seq }) && !v.held(id, seq):
		return out, fmt.Errorf("stream %s at %d: %w", id, seq, errPruned)
	}
	switch s.base.kind {
	case "none":
		for b := range out {
			out[b].has = true
		}
	case "stream":
		if out, err = v.view(s.base.stream, s.base.seq); err != nil {
			return out, err
		}
	}
	for _, r := range s.recs {
		if r.seq <= seq && r.point == nil {
			out[r.block] = cell{r.value, true}
		}
	}
	return out, nil
}

// held tells whether a reader or another stream stands on a position.
func (v *vaultModel) held(id string, seq uint64) bool {
	for _, p := range v.pins {
		if p.stream == id && p.seq == seq {
			return true
		}
	}
	for _, s := range v.streams {
		if s.base.stream == id && s.base.seq == seq {
			return true
		}
	}
	return false
}

// written tells which blocks a stream wrote from one position to another.
func (s *stream) written(from, to uint64) (where [blocks]bool) {
	for _, r := range s.recs {
		if r.seq > from && r.seq <= to && r.point == nil {
			where[r.block] = true
		}
	}
	return where
}

// points that a stream offers.
func (v *vaultModel) points(id string) ([]api.RecoveryPoint, error) {
	s := v.streams[id]
	if s == nil {
		return nil, fmt.Errorf("stream %s: %w", id, errNoStream)
	}
	var out []api.RecoveryPoint
	for _, p := range s.kept {
		c := api.CrashConsistent
		if p.app {
			c = api.AppConsistent
		}
		out = append(out, api.RecoveryPoint{ID: p.id, Stream: id, Seq: p.seq, At: p.at, Consistency: c, Tag: p.tag})
	}
	return out, nil
}

// retained is how many points the keeper keeps of a stream at least, and retention how much older than the newest the others may grow.
const (
	retained  = 5
	retention = 3 * time.Minute
)

// prune forgets points as a keeper does: it keeps the newer ones, those that are pinned, and, once a failover is committed, one.
func (v *vaultModel) prune(k api.KeptStream) {
	s := v.streams[k.Stream]
	if s == nil {
		return
	}
	only := k.Only != 0 && slices.ContainsFunc(s.kept, func(p point) bool { return p.seq == k.Only })
	kept := make([]point, 0, len(s.kept))
	for i, p := range s.kept {
		young := i >= len(s.kept)-retained || s.kept[len(s.kept)-1].made-p.made < retention
		switch {
		case slices.Contains(k.Pins, p.seq), only && p.seq == k.Only, !only && young:
			kept = append(kept, p)
		default:
			v.w.note(v.name, "prunes", k.Stream, p.id)
			v.w.estate.pruned(v, k, p)
		}
	}
	if len(kept) < len(s.kept) && len(kept) > 0 {
		s.floor = kept[len(kept)-1].seq
	}
	s.kept = kept
}
