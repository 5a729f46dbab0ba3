package volume

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"sync"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

var errPower = errors.New("the power is gone")

// memFile is a file that loses power: what was not synced is on the disk or not, sector by sector.
type memFile struct {
	mu       sync.Mutex
	now, old []byte         // as the process sees it, and as it was synced last
	dirty    map[int64]bool // sectors
	fuse     *int           // operations until the power goes; nil for never
	room     *int64         // sectors that may become data; nil for no bound
	data     []bool
}

func newMemFile(size int64) *memFile {
	return &memFile{now: make([]byte, size), old: make([]byte, size), dirty: map[int64]bool{}, data: make([]bool, size/sector+1)}
}

func (f *memFile) burn() error {
	if f.fuse == nil {
		return nil
	}
	if *f.fuse--; *f.fuse < 0 {
		return errPower
	}
	return nil
}

func (f *memFile) ReadAt(p []byte, off int64) (int, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.fuse != nil && *f.fuse < 0 {
		return 0, errPower
	}
	return copy(p, f.now[off:]), nil
}

func (f *memFile) WriteAt(p []byte, off int64) (int, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if err := f.burn(); err != nil {
		return 0, err
	}
	for done := 0; done < len(p); { // sector by sector, so that it may be full in the middle
		s := (off + int64(done)) / sector
		if f.room != nil && !f.data[s] {
			if *f.room == 0 {
				return done, unix.ENOSPC
			}
			*f.room--
		}
		n := copy(f.now[off+int64(done):min((s+1)*sector, off+int64(len(p)))], p[done:])
		f.dirty[s], f.data[s] = true, true
		done += n
	}
	return len(p), nil
}

func (f *memFile) Punch(off, n int64) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	if err := f.burn(); err != nil {
		return err
	}
	clear(f.now[off : off+n])
	for s := off / sector; s < (off+n)/sector; s++ {
		f.dirty[s] = true
		if f.data[s] && f.room != nil {
			*f.room++
		}
		f.data[s] = false
	}
	return nil
}

func (f *memFile) Data(off, end int64) (int64, int64, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	s := off / sector
	for s*sector < end && !f.data[s] {
		s++
	}
	at := s * sector
	for s*sector < end && f.data[s] {
		s++
	}
	return max(off, at), max(0, min(end, s*sector)-max(off, at)), nil
}

func (f *memFile) Sync() error {
	f.mu.Lock()
	defer f.mu.Unlock()
	if err := f.burn(); err != nil {
		return err
	}
	for s := range f.dirty {
		lo, hi := s*sector, min((s+1)*sector, int64(len(f.now)))
		copy(f.old[lo:hi], f.now[lo:hi])
	}
	clear(f.dirty)
	return nil
}

func (f *memFile) Close() error { return nil }

// crash is the file after the end of the process, or after a power cut.
func (f *memFile) crash(r *rand.Rand, power bool) *memFile {
	g := newMemFile(int64(len(f.now)))
	copy(g.now, f.now)
	copy(g.old, f.old)
	g.data = slices.Clone(f.data)
	for s := range f.dirty {
		lo, hi := s*sector, min((s+1)*sector, int64(len(f.now)))
		switch {
		case !power:
			g.dirty[s] = true
		case r.IntN(2) == 0:
			copy(g.old[lo:hi], f.now[lo:hi])
			g.data[s] = true
		default:
			copy(g.now[lo:hi], f.old[lo:hi])
			g.data[s] = true
		}
	}
	return g
}

// fill sectors with a tag; tag 0 is zeroes.
func fill(p []byte, tag uint64) {
	for i := 0; i < len(p); i += 8 {
		binary.LittleEndian.PutUint64(p[i:], tag)
	}
}

func tagOf(p []byte) (uint64, bool) {
	tag := binary.LittleEndian.Uint64(p)
	for i := 8; i < len(p); i += 8 {
		if binary.LittleEndian.Uint64(p[i:]) != tag {
			return 0, false
		}
	}
	return tag, true
}

// memBase holds a tag a sector. lacking, if set, tells which sectors it has; asking it for others is an error.
type memBase struct {
	tags    []uint64
	lacking []bool
	slow    time.Duration // from reading to answering
	t       *testing.T
}

func (b *memBase) Size() int64 { return int64(len(b.tags)) * sector }

func (b *memBase) ReadAt(_ context.Context, p []byte, off int64) error {
	for i := 0; i < len(p); i += sector {
		s := (off + int64(i)) / sector
		if b.lacking != nil && !b.lacking[s] {
			b.t.Errorf("the base was asked for sector %d, which it does not have", s)
		}
		fill(p[i:i+sector], b.tags[s])
	}
	time.Sleep(b.slow)
	return nil
}

func (b *memBase) Extents(_ context.Context, off, n int64, yield func(off, n int64, zero bool) bool) error {
	for at := off; at < off+n; {
		zero, end := b.tags[at/sector] == 0, at+sector
		for end < off+n && (b.tags[end/sector] == 0) == zero {
			end += sector
		}
		if !yield(at, end-at, zero) {
			return nil
		}
		at = end
	}
	return nil
}

// world is a volume, its files, and what is known of every sector.
type world struct {
	t          *testing.T
	r          *rand.Rand
	base       *memBase
	data, meta *memFile
	boot       int
	v          *Volume
	next       uint64 // tag
	// now is what a sector must hold; maybe are the values that it may hold after a power cut: the flushed one and all since.
	now    []uint64
	maybe  [][]uint64
	torn   Range    // of the request that the crash cut off, in sectors,
	tag    uint64   // and what it would have left
	origin []uint64 // what it was when the volume was made
}

func newWorld(t *testing.T, r *rand.Rand, inPlace bool) *world {
	sectors := 20*Granule/sector + r.Int64N(300) + 1
	w := &world{t: t, r: r, next: 1 << 40, base: &memBase{t: t, tags: make([]uint64, sectors)}}
	for s := int64(0); s < sectors; { // runs of zeroes and of data
		run, zero := 1+r.Int64N(200), r.IntN(2) == 0
		for end := min(sectors, s+run); s < end; s++ {
			if !zero {
				w.base.tags[s] = uint64(s) + 1
			}
		}
	}
	size := sectors * sector
	w.data = newMemFile(size)
	w.origin = slices.Clone(w.base.tags)
	var missing []Range
	if inPlace {
		w.base.lacking = make([]bool, sectors)
		for range 10 {
			off := r.Int64N(sectors)
			n := min(sectors-off, 1+r.Int64N(300))
			missing = append(missing, Range{off * sector, n * sector})
			for s := off; s < off+n; s++ {
				w.base.lacking[s] = true
			}
		}
		for s := range w.origin {
			if !w.base.lacking[s] {
				w.origin[s] = 1<<30 + uint64(s)
			}
			old := make([]byte, sector) // the old disk holds something everywhere
			fill(old, 1<<30+uint64(s))
			_, _ = w.data.WriteAt(old, int64(s)*sector)
		}
		_ = w.data.Sync()
	}
	w.now = slices.Clone(w.origin)
	for _, tag := range w.now {
		w.maybe = append(w.maybe, []uint64{tag})
	}
	merged, err := normalise(missing, size)
	if err != nil {
		t.Fatal(err)
	}
	w.meta = newMemFile(mapSize(size, int64(len(merged))))
	if err := writeMap(w.meta, size, inPlace, merged); err != nil {
		t.Fatal(err)
	}
	_ = w.meta.Sync()
	w.open()
	return w
}

func (w *world) open() {
	w.t.Helper()
	v, err := load(Config{Base: w.base}, w.data, w.meta, fmt.Sprintf("boot %d", w.boot))
	if err != nil {
		w.t.Fatal(err)
	}
	w.v = v
}

// crash ends the process, or the power, and opens what is left.
func (w *world) crash(power bool) {
	w.data, w.meta = w.data.crash(w.r, power), w.meta.crash(w.r, power)
	if power {
		w.boot++
	}
	w.open()
}

// step does one random request. It answers what the request may have changed if it failed.
func (w *world) step() error {
	ctx := context.Background()
	sectors := int64(len(w.now))
	off := w.r.Int64N(sectors)
	n := min(sectors-off, 1+w.r.Int64N([]int64{1, 8, 128, 600}[w.r.IntN(4)]))
	if w.r.IntN(4) == 0 { // whole granules
		off = off * sector / Granule * Granule / sector
		n = min(sectors-off, (1+w.r.Int64N(4))*Granule/sector)
	}
	fua := w.r.IntN(10) == 0
	var err error
	switch w.r.IntN(6) {
	case 0, 1:
		tag := w.next
		w.next++
		p := make([]byte, n*sector)
		fill(p, tag)
		w.may(off, n, tag)
		if err = w.v.WriteAt(ctx, p, off*sector, fua); err == nil {
			w.did(off, n, tag, fua)
		}
	case 2:
		w.may(off, n, 0)
		if err = w.v.Zero(ctx, off*sector, n*sector, true, fua); err == nil {
			w.did(off, n, 0, fua)
		}
	case 3:
		err = w.check(off, n, func(s int64, tag uint64) bool { return tag == w.now[s] })
	case 4:
		if err = w.v.Flush(ctx); err == nil {
			w.flushed()
		}
	case 5:
		stop, cancel := context.WithCancel(ctx)
		err = w.v.Hydrate(stop, 0, func(present, _ int64) {
			if w.r.IntN(3) == 0 {
				cancel()
			}
		})
		if errors.Is(err, context.Canceled) {
			err = nil
		}
		cancel()
	}
	return err
}

func (w *world) may(off, n int64, tag uint64) {
	w.torn, w.tag = Range{off, n}, tag
	for s := off; s < off+n; s++ {
		w.maybe[s] = append(w.maybe[s], tag)
	}
}

func (w *world) did(off, n int64, tag uint64, fua bool) {
	w.torn = Range{}
	for s := off; s < off+n; s++ {
		w.now[s] = tag
		if fua {
			w.maybe[s] = []uint64{tag}
		}
	}
}

func (w *world) flushed() {
	for s := range w.now {
		w.maybe[s] = []uint64{w.now[s]}
	}
}

// check what a range reads as.
func (w *world) check(off, n int64, right func(s int64, tag uint64) bool) error {
	w.t.Helper()
	p := make([]byte, n*sector)
	if err := w.v.ReadAt(context.Background(), p, off*sector); err != nil {
		return err
	}
	for i := range n {
		tag, whole := tagOf(p[i*sector : (i+1)*sector])
		if s := off + i; !whole || !right(s, tag) {
			w.t.Fatalf("sector %d reads %#x (whole %v), want %#x; may be %#x", s, tag, whole, w.now[s], w.maybe[s])
		}
	}
	return nil
}

// live does requests until the files fail.
func (w *world) live() {
	w.t.Helper()
	fuse := w.r.IntN(80)
	w.data.fuse, w.meta.fuse = &fuse, &fuse
	for range 60 {
		if err := w.step(); errors.Is(err, errPower) {
			return
		} else if err != nil {
			w.t.Fatal(err)
		}
	}
}

// settle learns what every sector holds after a crash, which must be among what it may.
func (w *world) settle(power bool) {
	w.t.Helper()
	found := make([]uint64, len(w.now))
	err := w.check(0, int64(len(w.now)), func(s int64, tag uint64) bool {
		found[s] = tag
		if power {
			return slices.Contains(w.maybe[s], tag)
		}
		return tag == w.now[s] || tag == w.tag && s >= w.torn.Off && s < w.torn.Off+w.torn.Len
	})
	if err != nil {
		w.t.Fatal(err)
	}
	copy(w.now, found)
	w.torn = Range{}
	if power {
		w.flushed() // what is found after a power cut is on the disk
	}
	w.checkWritten()
}

// finish hydrates the volume, after which the file alone holds the disk.
func (w *world) finish() {
	w.t.Helper()
	if err := w.v.Hydrate(context.Background(), 0, nil); err != nil {
		w.t.Fatal(err)
	}
	if !w.v.Complete() {
		w.t.Fatalf("hydrated and not complete: %+v", w.v.Status())
	}
	for s, want := range w.now {
		if tag, whole := tagOf(w.data.now[s*sector : (s+1)*sector]); tag != want || !whole {
			w.t.Fatalf("the file's sector %d holds %#x, want %#x", s, tag, want)
		}
	}
	w.base = nil
	w.flushed()
	w.data, w.meta, w.boot = w.data.crash(w.r, true), w.meta.crash(w.r, true), w.boot+1
	v, err := load(Config{}, w.data, w.meta, "later")
	if err != nil || !v.Complete() {
		w.t.Fatalf("a complete volume after a power cut: complete %v, %v", v.Complete(), err)
	}
	w.v = v
	w.settle(true)
}

// checkWritten: what differs from the origin was written.
func (w *world) checkWritten() {
	w.t.Helper()
	written := make([]bool, len(w.now))
	w.v.Written(func(r Range) bool {
		for s := r.Off / sector; s < (r.Off+r.Len)/sector; s++ {
			written[s] = true
		}
		return true
	})
	for s := range w.now {
		if w.now[s] != w.origin[s] && !written[s] {
			w.t.Fatalf("sector %d holds %#x, was made as %#x, and was not written", s, w.now[s], w.origin[s])
		}
	}
}
