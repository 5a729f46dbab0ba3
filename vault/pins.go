package vault

import (
	"context"
	"encoding/json"
	"errors"
	"time"

	"github.com/understudy-ha/understudy/journal"
	"github.com/understudy-ha/understudy/mutant"
	"github.com/understudy-ha/understudy/objstore"
)

// pin keeps the objects under a position from being collected while somebody reads them.
type pin struct {
	Format  int       `json:"format"`
	Stream  string    `json:"stream"`
	Seq     uint64    `json:"seq"`
	Expires time.Time `json:"expires"`
	Keys    []string  `json:"keys"` // of objects; one that ends with a slash stands for all under it
}

func decodePin(key string, b []byte) (*pin, error) {
	p := &pin{}
	if err := decodeJSON(key, b, p); err != nil {
		return nil, err
	}
	if p.Format != format {
		return nil, damaged(key, journal.ErrVersion, "format %d; this program reads %d", p.Format, format)
	}
	return p, nil
}

// putPin writes a pin under a key of its own, whatever is there: only its owner writes it.
func (v *Vault) putPin(ctx context.Context, key string, p *pin) error {
	p.Expires = v.opt.Now().Add(v.tune.PinFor).UTC()
	b, err := json.Marshal(p)
	if err != nil {
		return err
	}
	_, err = v.store.Put(ctx, key, b, objstore.Always)
	return err
}

// keysOf lists what a path through a stream reads.
func (s *state) keysOf(steps []span) []string {
	var keys []string
	for _, sp := range steps {
		if sp.isLayer() {
			keys = append(keys, layerKey(s.Stream, s.layers[sp.layer].Name))
		} else {
			keys = append(keys, segmentKey(s.Stream, &s.segments[sp.segment]))
		}
	}
	return keys
}

// pinned finds a path to a position and pins it. The pin comes first, then the head is read again: a path that the newest head still
// names after its pin is there cannot be collected any more.
func (v *Vault) pinned(ctx context.Context, stream string, seq uint64, key string) (*state, []span, *pin, error) {
	for range swapTries {
		s, steps, err := v.pathTo(ctx, stream, seq)
		if err != nil {
			return nil, nil, nil, err
		}
		p := &pin{Format: format, Stream: stream, Seq: seq, Keys: s.keysOf(steps)}
		if err := v.putPin(ctx, key, p); err != nil {
			return nil, nil, nil, err
		}
		again, err := v.load(ctx, stream)
		if err != nil {
			return nil, nil, nil, err
		}
		if again.tag == s.tag || again.names(p.Keys) {
			return s, steps, p, nil
		}
	}
	return nil, nil, nil, fail("pin", stream, ErrBusy, "try again")
}

// names tells whether the state names all of these keys.
func (s *state) names(keys []string) bool {
	have := map[string]bool{}
	for i := range s.segments {
		have[segmentKey(s.Stream, &s.segments[i])] = true
	}
	for i := range s.layers {
		have[layerKey(s.Stream, s.layers[i].Name)] = true
	}
	for _, k := range keys {
		if !have[k] {
			return false
		}
	}
	return true
}

func (v *Vault) pathTo(ctx context.Context, stream string, seq uint64) (*state, []span, error) {
	s, err := v.load(ctx, stream)
	if err != nil {
		return nil, nil, err
	}
	if seq > s.Seq {
		return nil, nil, fail("read", stream, ErrNotKept, "position %d; its end is %d", seq, s.Seq)
	}
	if inGap(s.gaps, seq) {
		return nil, nil, fail("read", stream, ErrInGap, "position %d; take a recovery point", seq)
	}
	steps, ok := s.paths().to(seq)
	if !ok {
		return nil, nil, fail("read", stream, ErrNotKept, "position %d; recovery points and the end are kept", seq)
	}
	return s, steps, nil
}

// pinned is what live pins keep. Pins that ran out more than grace ago are deleted. A pin that cannot be read stops the collection.
func (c *collection) pinned(ctx context.Context) (map[string]bool, error) {
	var keys []string
	err := c.v.store.List(ctx, streamKey(c.stream, "pins/"), "", func(i objstore.Info) bool {
		keys = append(keys, i.Key)
		return true
	})
	if err != nil {
		return nil, err
	}
	pinned := map[string]bool{}
	for _, key := range keys {
		b, _, err := c.v.store.Get(ctx, key)
		if errors.Is(err, objstore.ErrNotFound) {
			continue
		}
		if err != nil {
			return nil, err
		}
		p, err := decodePin(key, b)
		if err != nil {
			return nil, err
		}
		if p.Expires.Add(c.grace).Before(c.now) {
			if err := c.v.store.Delete(ctx, key); err != nil {
				return nil, err
			}
			continue
		}
		c.r.Pins++
		for _, k := range p.Keys {
			pinned[k] = !mutant.On(mutant.CollectPinned)
		}
	}
	return pinned, nil
}
