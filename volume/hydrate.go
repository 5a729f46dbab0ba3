package volume

import (
	"context"
	"time"
)

// While it hydrates, a volume flushes so often that little is fetched again after a power cut.
const (
	flushBytes = 64 << 20
	flushEvery = 5 * time.Second
)

// Hydrate fetches what is absent, in order of its place on the disk, at most bytesPerSecond from the base (0: as fast as it goes), until
// the volume is complete or ctx ends. It calls progress, which may be nil, now and then. It may be called again after an error, and goes
// on where it was. One runs at a time.
func (v *Volume) Hydrate(ctx context.Context, bytesPerSecond int64, progress func(present, size int64)) error {
	v.hydrating.Lock()
	defer v.hydrating.Unlock()
	h := hydration{v: v, rate: bytesPerSecond, start: time.Now(), flushed: time.Now()}
	if progress == nil {
		progress = func(_, _ int64) {}
	}
	for g := int64(0); g < v.present.n; {
		if v.present.get(g) {
			g = v.present.run(g, v.present.n)
			continue
		}
		n, err := h.step(ctx, g)
		if err != nil {
			return err
		}
		g += n
		if err := h.pace(ctx); err != nil {
			return err
		}
		s := v.Status()
		progress(s.PresentBytes, s.SizeBytes)
	}
	return v.Flush(ctx)
}

type hydration struct {
	v              *Volume
	rate           int64
	start, flushed time.Time
	read, unsynced int64
}

// step fetches some granules from g on, which was absent.
func (h *hydration) step(ctx context.Context, g int64) (int64, error) {
	v := h.v
	if err := v.begin(0, 0); err != nil {
		return 0, err
	}
	defer v.end()
	end, err := h.reach(ctx, g)
	if err != nil {
		return 0, err
	}
	before := v.fetched.Load()
	n, err := v.obtain(ctx, g, end)
	if err != nil {
		return 0, v.space.wait(ctx, err)
	}
	if v.fetched.Load() > before { // by us or by others: the base and the network serve both
		h.read, h.unsynced = h.read+n*Granule, h.unsynced+n*Granule
	}
	if h.unsynced >= flushBytes || h.unsynced > 0 && time.Since(h.flushed) > flushEvery {
		err = v.flush()
		h.unsynced, h.flushed = 0, time.Now()
	}
	return n, err
}

// reach is up to where one step may go: far over zeroes, else as much as is read at once.
func (h *hydration) reach(ctx context.Context, g int64) (int64, error) {
	v := h.v
	end := min(g+fetchGranules, v.present.n)
	if v.base == nil {
		return 0, ErrNoBase
	}
	if v.inPlace {
		return end, nil
	}
	off, far := g*Granule, v.byteEnd(min(g+zeroGranules, v.present.n))
	err := v.base.Extents(ctx, off, far-off, func(o, n int64, zero bool) bool {
		if zero {
			end = max(end, (o+n)/Granule)
		}
		return false
	})
	return min(end, v.present.n), err
}

// pace waits as long as the rate demands.
func (h *hydration) pace(ctx context.Context) error {
	if h.rate <= 0 {
		return ctx.Err()
	}
	due := h.start.Add(time.Duration(float64(h.read) / float64(h.rate) * float64(time.Second)))
	t := time.NewTimer(time.Until(due))
	defer t.Stop()
	select {
	case <-ctx.Done():
		return ctx.Err()
	case <-t.C:
		return nil
	}
}
