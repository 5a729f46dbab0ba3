package volume

import (
	"context"
	"errors"
)

// fetchGranules is how many granules are read from the base at once, at most.
const fetchGranules = 16

// zeroGranules is how many absent granules are made zero at once, at most.
const zeroGranules = 1 << 14

func (v *Volume) isAbsent(g int64) bool { return !v.present.get(g) }

// span of granules that a range touches: from first to before end.
func span(off, n int64) (first, end int64) { return off / Granule, (off + n + Granule - 1) / Granule }

// byteEnd is where granule end begins, or the disk ends.
func (v *Volume) byteEnd(end int64) int64 { return min(end*Granule, v.size) }

// ReadAt implements nbd.Backend. What is absent is fetched and kept; when there is no space for it, it is served from the base alone.
func (v *Volume) ReadAt(ctx context.Context, p []byte, off int64) error {
	if err := v.begin(off, int64(len(p))); err != nil {
		return err
	}
	defer v.end()
	if v.complete.Load() {
		_, err := v.data.ReadAt(p, off)
		return err
	}
	for len(p) > 0 {
		g, end := span(off, int64(len(p)))
		if v.present.get(g) {
			n := v.byteEnd(v.present.run(g, end)) - off
			n = min(n, int64(len(p)))
			if _, err := v.data.ReadAt(p[:n], off); err != nil {
				return err
			}
			p, off = p[n:], off+n
			continue
		}
		n, err := v.obtain(ctx, g, min(end, g+fetchGranules))
		if full := fullError(""); errors.As(err, &full) {
			n = min(v.byteEnd(g+n)-off, int64(len(p)))
			if err := v.peek(ctx, p[:n], off); err != nil {
				return err
			}
			p, off = p[n:], off+n
		} else if err != nil {
			return err
		}
	}
	return nil
}

// obtain makes some granules from first on present: how many, or for how many there is no space. 0 without an error: first was present.
func (v *Volume) obtain(ctx context.Context, first, end int64) (int64, error) {
	n, err := v.busy.acquire(ctx, first, end, v.isAbsent)
	if err != nil || n == 0 {
		return 0, err
	}
	defer v.busy.release(first, n)
	if err := v.fetch(ctx, first, first+n); err != nil {
		return n, err
	}
	return n, v.arrive(first, first+n)
}

// arrive makes granules present. The caller has acquired them, and the file holds them.
func (v *Volume) arrive(first, end int64) error {
	n, err := v.meta.mark(currentPresent, &v.present, first, end)
	v.nPresent.Add(n)
	return err
}

// WriteAt implements nbd.Backend.
func (v *Volume) WriteAt(ctx context.Context, p []byte, off int64, fua bool) error {
	if err := v.begin(off, int64(len(p))); err != nil {
		return err
	}
	defer v.end()
	if len(p) == 0 {
		return nil
	}
	v.wrote.Add(int64(len(p)))
	if err := v.prepare(span(off, int64(len(p)))); err != nil {
		return err
	}
	err := v.change(ctx, off, int64(len(p)), fetchGranules, func(o, n int64) error { return v.put(p[o-off:o-off+n], o) })
	if err == nil && fua {
		err = v.flush()
	}
	return err
}

// Zero implements nbd.Backend. The space is given back in any case.
func (v *Volume) Zero(ctx context.Context, off, n int64, _, fua bool) error {
	if err := v.begin(off, n); err != nil {
		return err
	}
	defer v.end()
	if n == 0 {
		return nil
	}
	if err := v.prepare(span(off, n)); err != nil {
		return err
	}
	err := v.change(ctx, off, n, zeroGranules, v.clear)
	if err == nil && fua {
		err = v.flush()
	}
	return err
}

// Trim implements nbd.Backend: the range reads as zeroes after it.
func (v *Volume) Trim(ctx context.Context, off, n int64, fua bool) error {
	return v.Zero(ctx, off, n, true, fua)
}

// change a range by do, which is called for its parts in order, for some again after there was no space. The granules of each part are
// present after it, at most limit absent ones at once; what a part leaves of a granule is fetched before.
func (v *Volume) change(ctx context.Context, off, n, limit int64, do func(off, n int64) error) error {
	for stop := off + n; off < stop; {
		to, err := v.changeSome(ctx, off, stop, limit, do)
		if err == nil {
			off = to
		} else if err = v.space.wait(ctx, err); err != nil {
			return err
		}
	}
	return nil
}

// changeSome changes a range from off on, and answers up to where.
func (v *Volume) changeSome(ctx context.Context, off, stop, limit int64, do func(off, n int64) error) (int64, error) {
	g, end := span(off, stop-off)
	if v.present.get(g) {
		to := min(v.byteEnd(v.present.run(g, end)), stop)
		return to, do(off, to-off)
	}
	n, err := v.busy.acquire(ctx, g, min(end, g+limit), v.isAbsent)
	if err != nil || n == 0 {
		return off, err
	}
	defer v.busy.release(g, n)
	to := min(v.byteEnd(g+n), stop)
	return to, v.changeAbsent(ctx, g, g+n, off, to, do)
}

// changeAbsent changes bytes off to before to, which touch all of the acquired granules first to before end.
func (v *Volume) changeAbsent(ctx context.Context, first, end, off, to int64, do func(off, n int64) error) error {
	if off > first*Granule {
		if err := v.fetch(ctx, first, first+1); err != nil {
			return err
		}
	}
	if last := end - 1; to < v.byteEnd(end) && (last > first || off == first*Granule) {
		if err := v.fetch(ctx, last, end); err != nil {
			return err
		}
	}
	if err := do(off, to-off); err != nil {
		return err
	}
	return v.arrive(first, end)
}

// put writes p to the file. After a fullError it is repeated; what space it took it has.
func (v *Volume) put(p []byte, off int64) error {
	for len(p) > 0 {
		first, end := span(off, int64(len(p)))
		to, err := v.fillSome(first, end)
		if err != nil {
			return err
		}
		n := min(v.byteEnd(to)-off, int64(len(p)))
		if err := v.store(p[:n], off); err != nil {
			return err
		}
		p, off = p[n:], off+n
	}
	return nil
}

// clear makes a range of the file zero, and frees the granules that are wholly in it.
func (v *Volume) clear(off, n int64) error {
	first, end := span(off, n)
	for g := first; g < end; {
		to := v.filled.run(g, end)
		if v.filled.get(g) {
			from, stop := max(off, g*Granule), min(off+n, v.byteEnd(to))
			if err := v.data.Punch(from, stop-from); err != nil {
				return err
			}
			v.unfill(from, stop)
		}
		g = to
	}
	return nil
}

// unfill gives back the space of the granules that lie wholly in a range.
func (v *Volume) unfill(from, stop int64) {
	var n int64
	for g := (from + Granule - 1) / Granule; g < v.present.n && v.byteEnd(g+1) <= stop; g++ {
		if v.filled.clear(g) {
			n++
		}
	}
	v.space.free(n)
}
