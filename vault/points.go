package vault

import (
	"context"
	"errors"
	"slices"
	"time"

	"github.com/understudy-ha/understudy/mutant"
	"github.com/understudy-ha/understudy/objstore"
)

// StreamInfo describes a stream as its head does.
type StreamInfo struct {
	ID       string      `json:"id"`
	Epoch    uint64      `json:"epoch"`
	Machine  Machine     `json:"machine"`
	Base     Base        `json:"base"`
	Disks    []Disk      `json:"disks"`
	Seq      uint64      `json:"seq"`   // last committed position
	Chain    string      `json:"chain"` // at Seq
	Time     time.Time   `json:"time"`  // when the stream was last extended, by the writer's clock
	Points   []PointInfo `json:"points,omitempty"`
	Gaps     []Gap       `json:"gaps,omitempty"` // those that points lie after
	Layers   int         `json:"layers"`
	Segments int         `json:"segments"`
	Bytes    int64       `json:"bytes"` // stored, of what the head names
	Holds    []string    `json:"holds,omitempty"`
}

// InGap tells whether the stream's end lies in a gap.
func (i *StreamInfo) InGap() bool { return len(i.Gaps) > 0 && i.Gaps[len(i.Gaps)-1].To == 0 }

// Streams gives the ids of all streams, sorted by their bytes.
func (v *Vault) Streams(ctx context.Context) ([]string, error) {
	var ids []string
	const prefix = "streams/"
	for after := prefix; ; {
		id := ""
		err := v.store.List(ctx, prefix, after, func(i objstore.Info) bool {
			rest := i.Key[len(prefix):]
			if n := slices.Index([]byte(rest), '/'); n > 0 {
				id = rest[:n]
			}
			return false
		})
		if err != nil || id == "" {
			return ids, err
		}
		if _, err := v.store.Head(ctx, headKey(id)); err == nil {
			ids = append(ids, id)
		} else if !errors.Is(err, objstore.ErrNotFound) {
			return nil, err
		}
		after = prefix + id + "/\xff"
	}
}

// Stream describes a stream; its points are the valid ones.
func (v *Vault) Stream(ctx context.Context, stream string) (StreamInfo, error) {
	s, err := v.load(ctx, stream)
	if err != nil {
		return StreamInfo{}, err
	}
	info := StreamInfo{ID: s.Stream, Epoch: s.Epoch, Machine: s.Machine, Base: s.Base, Disks: s.Disks, Seq: s.Seq, Chain: s.Chain.String(),
		Time: s.Time, Points: s.offered(), Gaps: s.gaps, Layers: len(s.layers), Segments: len(s.segments)}
	for _, l := range s.layers {
		info.Bytes += l.Size
	}
	for _, g := range s.segments {
		info.Bytes += g.Size
	}
	for h := range s.Holds {
		info.Holds = append(info.Holds, h)
	}
	slices.Sort(info.Holds)
	return info, nil
}

// Points gives the recovery points of a stream, oldest first: only those outside gaps.
func (v *Vault) Points(ctx context.Context, stream string) ([]PointInfo, error) {
	s, err := v.load(ctx, stream)
	if err != nil {
		return nil, err
	}
	return s.offered(), nil
}

// offered are the points that may be recovered to.
func (s *state) offered() []PointInfo {
	if mutant.On(mutant.PointInGap) {
		return s.points
	}
	return s.validPoints()
}

// Prune forgets the points for which keep says false; keep is handed the valid ones, oldest first, and may be called again. Invalid ones
// go too. What only they needed is dropped by the next Compact. It returns how many went.
func (v *Vault) Prune(ctx context.Context, stream string, keep func([]PointInfo) []bool) (int, error) {
	gone := 0
	_, err := v.update(ctx, stream, func(s *state) (*head, error) {
		valid := s.validPoints()
		next := kept(valid, keep(slices.Clone(valid)))
		n := len(s.points) - len(next)
		if n == 0 {
			return nil, nil
		}
		gone = n
		s.points = next
		s.gaps = slices.DeleteFunc(s.gaps, func(g Gap) bool { return g.To != 0 && (len(next) == 0 || g.To < next[0].Seq) })
		return v.fold(ctx, s)
	})
	return gone, err
}

// hold notes in the head of a branch's base that the branch stands on it, so that its position is kept.
func (v *Vault) hold(ctx context.Context, base Base, branch string) error {
	_, err := v.update(ctx, base.Stream, func(s *state) (*head, error) {
		if seq, held := s.Holds[branch]; held && seq == base.Seq {
			return nil, nil
		}
		if _, ok := s.paths().to(base.Seq); !ok || base.Seq > s.Seq {
			return nil, fail("stand on", base.Stream, ErrNotKept, "position %d; its end is %d", base.Seq, s.Seq)
		}
		h := s.next()
		if h.Holds == nil {
			h.Holds = map[string]uint64{}
		}
		h.Holds[branch] = base.Seq
		return h, nil
	})
	return err
}

// Release lets a base stream forget that a branch stands on it; the branch cannot be read after the base was compacted.
func (v *Vault) Release(ctx context.Context, base, branch string) error {
	_, err := v.update(ctx, base, func(s *state) (*head, error) {
		if _, held := s.Holds[branch]; !held {
			return nil, nil
		}
		h := s.next()
		delete(h.Holds, branch)
		return h, nil
	})
	return err
}
