package vault

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"

	"golang.org/x/sync/errgroup"

	"github.com/understudy-ha/understudy/journal"
)

// Problem is one object that is not what it should be, and what it costs.
type Problem struct {
	Object string   `json:"object"`
	Class  string   `json:"class"` // corrupt, truncated, missing, replayed, wrong-key, version
	Detail string   `json:"detail"`
	Points []uint64 `json:"points,omitempty"` // kept positions that need the object; all others still read
}

// VerifyReport tells what a Verify read and found.
type VerifyReport struct {
	Stream   string    `json:"stream"`
	Objects  int       `json:"objects"`
	Bytes    int64     `json:"bytes"`
	Points   int       `json:"points"` // valid recovery points
	Problems []Problem `json:"problems"`
}

// Verify reads every object that a stream's head refers to and checks it: that it is there, its hash, its place, its chain, its records and
// its index. Damage is reported and does not end the call; the error is for what could not be found out. progress, if not nil, is told the bytes
// done and to do, by one goroutine at a time.
func (v *Vault) Verify(ctx context.Context, stream string, progress func(done, total int64)) (VerifyReport, error) {
	if _, err := v.identities("verify", stream); err != nil {
		return VerifyReport{}, err
	}
	s, err := v.load(ctx, stream)
	if Damage(err) {
		p := Problem{Object: headKey(stream), Class: class(err), Detail: err.Error()}
		return VerifyReport{Stream: stream, Problems: []Problem{p}}, nil
	}
	if err != nil {
		return VerifyReport{}, err
	}
	c := &verifier{v: v, s: s, progress: progress, users: s.users()}
	c.r = VerifyReport{Stream: stream, Points: len(s.validPoints()), Problems: []Problem{}}
	c.links()
	g, ctx := errgroup.WithContext(ctx)
	g.SetLimit(v.tune.Parallel)
	for i := range s.segments {
		c.total += s.segments[i].Size
		g.Go(func() error { return c.segment(ctx, &s.segments[i]) })
	}
	for i := range s.layers {
		c.total += s.layers[i].Size
		g.Go(func() error { return c.layer(ctx, &s.layers[i]) })
	}
	err = g.Wait()
	slices.SortFunc(c.r.Problems, func(a, b Problem) int {
		if a.Object < b.Object {
			return -1
		}
		return 1
	})
	return c.r, err
}

// class names what is wrong, for machines.
func class(err error) string {
	for _, c := range []struct {
		is   error
		name string
	}{{ErrMissing, "missing"}, {journal.ErrTruncated, "truncated"}, {journal.ErrCorrupt, "corrupt"}, {journal.ErrReplayed, "replayed"},
		{journal.ErrWrongKey, "wrong-key"}, {journal.ErrVersion, "version"}} {
		if errors.Is(err, c.is) {
			return c.name
		}
	}
	return "unreadable"
}

// users tells which needed positions each layer and segment serves.
func (s *state) users() map[string][]uint64 {
	users := map[string][]uint64{}
	all := s.paths()
	for _, seq := range s.needs() {
		steps, _ := all.to(seq)
		for _, key := range s.keysOf(steps) {
			users[key] = append(users[key], seq)
		}
	}
	return users
}

type verifier struct {
	v        *Vault
	s        *state
	users    map[string][]uint64
	progress func(done, total int64)
	total    int64

	mu   sync.Mutex
	done int64
	r    VerifyReport
}

// links checks what the head says about itself: chains of neighbouring segments, and that every needed position can be reached.
func (c *verifier) links() {
	segs := c.s.segments
	for i := 1; i < len(segs); i++ {
		if segs[i].After == segs[i-1].Last && segs[i].Prev != segs[i-1].chain() {
			c.note(segmentKey(c.s.Stream, &segs[i]), segmentKey(c.s.Stream, &segs[i]),
				damaged(segmentKey(c.s.Stream, &segs[i]), journal.ErrReplayed, "the chain before it is not that of the segment before it"))
		}
	}
	all := c.s.paths()
	for _, seq := range c.s.needs() {
		if _, ok := all.to(seq); !ok {
			c.r.Problems = append(c.r.Problems, Problem{Object: headKey(c.s.Stream), Class: "missing",
				Detail: fmt.Sprintf("nothing leads to position %d", seq), Points: []uint64{seq}})
		}
	}
}

// note notes damage; any other error is given back.
func (c *verifier) note(key, group string, err error) error {
	if err == nil || !Damage(err) {
		return err
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	c.r.Problems = append(c.r.Problems, Problem{Object: key, Class: class(err), Detail: err.Error(), Points: c.users[group]})
	return nil
}

func (c *verifier) read(bytes int64) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.done += bytes
	c.r.Objects++
	c.r.Bytes += bytes
	if c.progress != nil {
		c.progress(c.done, c.total)
	}
}

func (c *verifier) segment(ctx context.Context, g *segmentRef) error {
	key := segmentKey(c.s.Stream, g)
	return c.note(key, key, c.object(ctx, key, g.Hash, c.v.segmentBinding(c.s.Stream, g)))
}

func (c *verifier) object(ctx context.Context, key string, hash journal.Hash, b journal.Binding) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	object, _, err := c.v.store.Get(ctx, key)
	if err != nil {
		return referred("verify", key, err)
	}
	c.read(int64(len(object)))
	return journal.Verify(key, object, hash, b, c.v.opt.Identity)
}

func (c *verifier) layer(ctx context.Context, l *layerRef) error {
	group := layerKey(c.s.Stream, l.Name)
	parts, err := c.v.openParts(ctx, c.s.Stream, l)
	if err != nil {
		return c.note(indexKey(c.s.Stream, l.Name), group, err)
	}
	size := l.Size
	for i, p := range parts {
		key := partKey(c.s.Stream, l.Name, i)
		if err := c.note(key, group, c.object(ctx, key, p.hash, c.v.layerBinding(c.s.Stream, l, journal.LayerObject, i))); err != nil {
			return err
		}
		size -= p.size
	}
	c.read(size)
	return nil
}
