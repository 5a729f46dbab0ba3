package vault

import (
	"context"
	"encoding/json"
	"errors"
	"slices"
	"strings"
	"time"

	"github.com/understudy-ha/understudy/journal"
	"github.com/understudy-ha/understudy/mutant"
	"github.com/understudy-ha/understudy/objstore"
)

// Grace is how long Collect leaves alone what nobody refers to, unless it is told otherwise.
const Grace = 24 * time.Hour

// CollectReport tells what a Collect did.
type CollectReport struct {
	Deleted int   `json:"deleted"` // objects
	Bytes   int64 `json:"bytes"`   // of them
	Waiting int   `json:"waiting"` // objects that nobody refers to, not yet for long enough
	Pinned  int   `json:"pinned"`  // objects that only a pin keeps
	Pins    int   `json:"pins"`    // live ones
}

// Collect deletes the objects of a stream that, for at least grace, neither its head nor a pin has referred to. now is compared with the
// store's clock and with what earlier collections saw, so that it takes two calls to delete anything; grace 0 is safe for whoever pins, and
// for writers of any slowness, because a collection first swaps the head: a segment or layer put before that can be named no more.
func (v *Vault) Collect(ctx context.Context, stream string, now time.Time, grace time.Duration) (CollectReport, error) {
	c := &collection{v: v, stream: stream, now: now, grace: grace}
	if err := c.find(ctx); err != nil {
		return c.r, err
	}
	if len(c.ready) > 0 {
		if err := c.sweep(ctx); err != nil {
			return c.r, err
		}
	} else if _, err := c.pinned(ctx); err != nil { // takes away pins that ran out
		return c.r, err
	}
	return c.r, c.remember(ctx)
}

// garbage is what earlier collections saw: since when nobody refers to an object.
type garbage struct {
	Format int                  `json:"format"`
	Seen   map[string]time.Time `json:"seen"` // by key, or prefix of a layer
}

type collection struct {
	v      *Vault
	stream string
	now    time.Time
	grace  time.Duration
	seen   garbage
	tag    objstore.Tag
	groups map[string][]objstore.Info // unreferred objects, by what they are referred to as
	ready  []string
	r      CollectReport
}

// find lists what nobody refers to, and which of it has waited long enough.
func (c *collection) find(ctx context.Context) error {
	if err := c.recall(ctx); err != nil {
		return err
	}
	s, err := c.v.load(ctx, c.stream)
	if err != nil {
		return err
	}
	named := s.named()
	c.groups = map[string][]objstore.Info{}
	young := map[string]bool{}
	for _, kind := range []string{"layers/", "manifests/", "segments/"} {
		err := c.v.store.List(ctx, streamKey(c.stream, kind), "", func(i objstore.Info) bool {
			if g := group(c.stream, i.Key); !named[g] {
				c.groups[g] = append(c.groups[g], i)
				young[g] = young[g] || i.Modified.After(c.now.Add(-c.grace))
			}
			return true
		})
		if err != nil {
			return err
		}
	}
	next := map[string]time.Time{}
	for g, objects := range c.groups {
		since, known := c.seen.Seen[g]
		if !known {
			since = c.now
		}
		next[g] = since
		if known && !young[g] && !since.After(c.now.Add(-c.grace)) {
			c.ready = append(c.ready, g)
		} else {
			c.r.Waiting += len(objects)
		}
	}
	slices.Sort(c.ready)
	c.seen.Seen = next
	return nil
}

// named is what the head and its manifest refer to.
func (s *state) named() map[string]bool {
	named := map[string]bool{}
	if s.Manifest != "" {
		named[s.Manifest] = true
	}
	for i := range s.segments {
		named[segmentKey(s.Stream, &s.segments[i])] = true
	}
	for i := range s.layers {
		named[layerKey(s.Stream, s.layers[i].Name)] = true
	}
	return named
}

// group is what an object is referred to as: a layer's objects by the layer's prefix, others by their key.
func group(stream, key string) string {
	if rest, ok := strings.CutPrefix(key, streamKey(stream, "layers/")); ok {
		if i := strings.IndexByte(rest, '/'); i >= 0 {
			return key[:len(key)-len(rest)+i+1]
		}
	}
	return key
}

// sweep swaps the head, so that nothing put before can be named after, and deletes what is still not referred to.
func (c *collection) sweep(ctx context.Context) error {
	var named map[string]bool
	_, err := c.v.update(ctx, c.stream, func(s *state) (*head, error) {
		named = s.named()
		if mutant.On(mutant.CollectInFlight) {
			return nil, nil
		}
		h := s.next()
		h.Swept++
		return h, nil
	})
	if err != nil {
		return err
	}
	pinned, err := c.pinned(ctx)
	if err != nil {
		return err
	}
	for _, g := range c.ready {
		switch {
		case named[g]:
			delete(c.seen.Seen, g)
		case pinned[g]:
			c.r.Pinned += len(c.groups[g])
		default:
			if err := c.delete(ctx, g); err != nil {
				return err
			}
		}
	}
	return nil
}

func (c *collection) delete(ctx context.Context, group string) error {
	for _, i := range c.groups[group] {
		if err := c.v.store.Delete(ctx, i.Key); err != nil {
			return err
		}
		c.r.Deleted++
		c.r.Bytes += i.Size
	}
	delete(c.seen.Seen, group)
	return nil
}

func (c *collection) key() string { return streamKey(c.stream, "garbage") }

func (c *collection) recall(ctx context.Context) error {
	b, tag, err := c.v.store.Get(ctx, c.key())
	if errors.Is(err, objstore.ErrNotFound) {
		return nil
	}
	if err != nil {
		return err
	}
	c.tag = tag
	if err := decodeJSON(c.key(), b, &c.seen); err != nil {
		return err
	}
	if c.seen.Format != format {
		return damaged(c.key(), journal.ErrVersion, "format %d; this program reads %d", c.seen.Format, format)
	}
	return nil
}

// remember notes what was seen. If another collector was faster, its notes stand.
func (c *collection) remember(ctx context.Context) error {
	c.seen.Format = format
	b, err := json.Marshal(c.seen)
	if err != nil {
		return err
	}
	cond := objstore.IfAbsent
	if c.tag != "" {
		cond = objstore.IfMatch(c.tag)
	}
	_, err = c.v.store.Put(ctx, c.key(), b, cond)
	if errors.Is(err, objstore.ErrChanged) || errors.Is(err, objstore.ErrExists) || errors.Is(err, objstore.ErrUnknown) {
		return nil
	}
	return err
}
