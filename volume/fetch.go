package volume

import (
	"context"
	"errors"
	"slices"
	"sort"

	"github.com/understudy-ha/understudy/nbd"
)

// piece of what the base has.
type piece struct {
	off, n int64
	zero   bool
}

// fetch brings the file's granules first to before end to what the base says. The caller has acquired them; at most fetchGranules, unless
// the base has zeroes only. After an error, also a fullError, they must stay absent.
func (v *Volume) fetch(ctx context.Context, first, end int64) error {
	pieces, err := v.plan(ctx, first*Granule, v.byteEnd(end))
	if err != nil {
		return err
	}
	for _, p := range pieces { // space for all that needs it, before any of it is written
		if p.zero {
			continue
		}
		f, e := span(p.off, p.n)
		if err := v.fillAll(f, e); err != nil {
			return err
		}
	}
	for _, p := range pieces {
		if err := v.bring(ctx, p); err != nil {
			return err
		}
	}
	return nil
}

// bring a piece to the file.
func (v *Volume) bring(ctx context.Context, p piece) error {
	if p.zero {
		return v.wipe(p.off, p.n)
	}
	var buf []byte
	for done := int64(0); done < p.n; {
		n := min(p.n-done, fetchGranules*Granule)
		buf = slices.Grow(buf[:0], int(n))[:n]
		if err := v.base.ReadAt(ctx, buf, p.off+done); err != nil {
			return err
		}
		v.fetched.Add(n)
		if err := v.store(buf, p.off+done); err != nil {
			return err
		}
		done += n
	}
	return nil
}

// wipe what an earlier life left in absent granules of the file.
func (v *Volume) wipe(off, n int64) error {
	first, end := span(off, n)
	for g := first; g < end; {
		to := v.filled.run(g, end)
		if v.filled.get(g) {
			from, stop := max(off, g*Granule), min(off+n, v.byteEnd(to))
			if err := v.data.Punch(from, stop-from); err != nil {
				return err
			}
			if !v.inPlace { // in place, a granule that is wiped in part may be filled by the rest
				v.unfill(from, stop)
			}
		}
		g = to
	}
	return nil
}

// plan tells what the base has of a range: all of it, or in place what was missing.
func (v *Volume) plan(ctx context.Context, off, to int64) ([]piece, error) {
	if v.base == nil {
		return nil, ErrNoBase
	}
	var out []piece
	for _, r := range v.lacking(off, to) {
		for at, stop := r.Off, r.Off+r.Len; at < stop; {
			next := at
			err := v.base.Extents(ctx, at, stop-at, func(off, n int64, zero bool) bool {
				n = min(n, stop-off)
				out = append(out, piece{off, n, zero})
				next = off + n
				return next < stop
			})
			if err != nil {
				return nil, err
			}
			if next <= at {
				return nil, errors.New("volume: the base told of no extent")
			}
			at = next
		}
	}
	return out, nil
}

// lacking is which parts of a range the file lacked when it was made.
func (v *Volume) lacking(off, to int64) []Range {
	if !v.inPlace {
		return []Range{{off, to - off}}
	}
	i := sort.Search(len(v.missing), func(i int) bool { return v.missing[i].Off+v.missing[i].Len > off })
	var out []Range
	for ; i < len(v.missing) && v.missing[i].Off < to; i++ {
		from, stop := max(off, v.missing[i].Off), min(to, v.missing[i].Off+v.missing[i].Len)
		out = append(out, Range{from, stop - from})
	}
	return out
}

// peek reads a range of absent granules without keeping anything. A granule that becomes present meanwhile has the same content, or a
// newer one that was written at the same time as this was read.
func (v *Volume) peek(ctx context.Context, p []byte, off int64) error {
	if v.inPlace {
		if _, err := v.data.ReadAt(p, off); err != nil {
			return err
		}
	}
	for _, r := range v.lacking(off, off+int64(len(p))) {
		if err := v.base.ReadAt(ctx, p[r.Off-off:r.Off-off+r.Len], r.Off); err != nil {
			return err
		}
		v.fetched.Add(r.Len)
	}
	return nil
}

// Extents implements nbd.Backend: of what is present the file tells, of the rest the base.
func (v *Volume) Extents(ctx context.Context, off, n int64, yield func(off, n int64, e nbd.Extent) bool) error {
	if err := v.begin(off, n); err != nil {
		return err
	}
	defer v.end()
	going := true
	tell := func(off, n int64, zero bool) bool {
		e := nbd.Extent(0)
		if zero {
			e = nbd.Hole | nbd.Zeros
		}
		going = yield(off, n, e)
		return going
	}
	for stop := off + n; off < stop && going; {
		g, end := span(off, stop-off)
		to := min(v.byteEnd(v.present.run(g, end)), stop)
		var err error
		switch {
		case v.present.get(g):
			err = v.fileExtents(off, to, tell)
		case v.inPlace:
			tell(off, to-off, false)
		default:
			err = v.baseExtents(ctx, off, to, tell)
		}
		if err != nil {
			return err
		}
		off = to
	}
	return nil
}

func (v *Volume) baseExtents(ctx context.Context, off, to int64, tell func(off, n int64, zero bool) bool) error {
	pieces, err := v.plan(ctx, off, to)
	if err != nil {
		return err
	}
	for _, p := range pieces {
		if !tell(p.off, p.n, p.zero) {
			return nil
		}
	}
	return nil
}

func (v *Volume) fileExtents(off, to int64, tell func(off, n int64, zero bool) bool) error {
	for off < to {
		at, n, err := v.data.Data(off, to)
		if err != nil {
			return err
		}
		// A file system counts in blocks, a disk in sectors.
		at, end := at/sector*sector, (at+n+sector-1)/sector*sector
		if at = max(at, off); n == 0 {
			at, end = to, to
		}
		if at > off && !tell(off, at-off, true) || end > at && !tell(at, min(end, to)-at, false) {
			return nil
		}
		off = min(end, to)
	}
	return nil
}
