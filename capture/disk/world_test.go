package disk

import (
	"context"
	"errors"
	"io/fs"
	"maps"
	"math/rand/v2"
	"sync"
	"sync/atomic"
	"syscall"
	"unsafe"

	"github.com/understudy-ha/understudy/nbd"
)

// world is everything that a power cut or a kill leaves behind: the directory and the lower disks. Its operations hold it
// for reading, so that a crash sees a state between two of them.
type world struct {
	sync.RWMutex
	dir   *memDir
	disks []*memDisk
	// pause, if set, is called before each operation, outside the lock.
	pause atomic.Pointer[func()]
}

func newWorld(sizes ...int64) *world {
	w := &world{}
	w.dir = &memDir{w: w, files: map[string]*memFile{}, durable: map[string]*memFile{}}
	for _, n := range sizes {
		w.disks = append(w.disks, &memDisk{w: w, cur: make([]byte, n), durable: make([]byte, n), dirty: map[int64]bool{}})
	}
	return w
}

func (w *world) enter() func() {
	if f := w.pause.Load(); f != nil {
		(*f)()
	}
	w.RLock()
	return w.RUnlock
}

// crash gives the world after a power cut (some of what was not synced is there, some is not), or after a kill (all is).
// also is called at the same instant.
func (w *world) crash(r *rand.Rand, power bool, also func()) *world {
	w.Lock()
	defer w.Unlock()
	also()
	c := &world{}
	c.dir = &memDir{w: c, files: map[string]*memFile{}, durable: map[string]*memFile{}}
	names := maps.Clone(w.dir.files)
	if power {
		names = maps.Clone(w.dir.durable)
		for n, f := range w.dir.files { // the kernel may have written the directory by itself
			if r.IntN(2) == 0 {
				names[n] = f
			}
		}
		for n := range w.dir.durable {
			if w.dir.files[n] == nil && r.IntN(2) == 0 {
				delete(names, n)
			}
		}
	}
	for n, f := range names {
		cur := f.bytes()
		if power {
			cur = torn(r, f.synced, cur)
		}
		g := newMemFile(c, cur)
		c.dir.files[n], c.dir.durable[n] = g, g
	}
	for _, d := range w.disks {
		n := &memDisk{w: c, dirty: map[int64]bool{}, cur: append([]byte(nil), d.cur...)}
		if power {
			n.cur = torn(r, d.durable, d.cur)
		}
		n.durable = append([]byte(nil), n.cur...)
		c.disks = append(c.disks, n)
	}
	return c
}

// torn mixes sectors of what was synced with what was written later.
func torn(r *rand.Rand, synced, cur []byte) []byte {
	out := append([]byte(nil), cur...)
	for i := 0; i < len(out); i += 512 {
		if r.IntN(2) == 0 {
			copy(out[i:min(i+512, len(out))], synced[i:])
		}
	}
	return out
}

type memDir struct {
	w              *world
	mu             sync.Mutex
	files, durable map[string]*memFile
	locked         bool
	full, broken   atomic.Bool
}

func (d *memDir) create(name string, size int64) (file, error) {
	defer d.w.enter()()
	d.mu.Lock()
	defer d.mu.Unlock()
	switch {
	case d.full.Load():
		return nil, syscall.ENOSPC
	case d.broken.Load():
		return nil, syscall.EIO
	case d.files[name] != nil:
		return nil, fs.ErrExist
	}
	f := newMemFile(d.w, make([]byte, size))
	d.files[name] = f
	return f, nil
}

func (d *memDir) open(name string) (file, error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if f := d.files[name]; f != nil {
		return f, nil
	}
	return nil, fs.ErrNotExist
}

func (d *memDir) remove(name string) error {
	defer d.w.enter()()
	d.mu.Lock()
	defer d.mu.Unlock()
	delete(d.files, name)
	return nil
}

func (d *memDir) list() (names []string, err error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	for n := range d.files {
		names = append(names, n)
	}
	return names, nil
}

func (d *memDir) sync() error {
	defer d.w.enter()()
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.broken.Load() {
		return syscall.EIO
	}
	d.durable = maps.Clone(d.files)
	return nil
}

func (d *memDir) lock() (func(), error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.locked {
		return nil, ErrBusy
	}
	d.locked = true
	return func() { d.mu.Lock(); d.locked = false; d.mu.Unlock() }, nil
}

// memFile is memory that others store into by atomic words while it is read.
type memFile struct {
	w      *world
	mu     sync.Mutex
	words  []uint64
	synced []byte
}

func newMemFile(w *world, content []byte) *memFile {
	f := &memFile{w: w, words: make([]uint64, (len(content)+7)/8), synced: append([]byte(nil), content...)}
	copy(unsafe.Slice((*byte)(unsafe.Pointer(&f.words[0])), len(content)), content)
	return f
}

func (f *memFile) mem() []byte {
	return unsafe.Slice((*byte)(unsafe.Pointer(&f.words[0])), len(f.synced))
}

func (f *memFile) bytes() []byte {
	f.mu.Lock()
	defer f.mu.Unlock()
	out := make([]byte, len(f.words)*8)
	for i := range f.words {
		le.PutUint64(out[i*8:], atomic.LoadUint64(&f.words[i]))
	}
	return out[:len(f.synced)]
}

func (f *memFile) ReadAt(p []byte, off int64) (int, error) {
	return copy(p, f.bytes()[off:]), nil
}

func (f *memFile) WriteAt(p []byte, off int64) (int, error) {
	defer f.w.enter()()
	if f.w.dir.broken.Load() {
		return 0, syscall.EIO
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	return copy(f.mem()[off:], p), nil
}

func (f *memFile) size() int64             { return int64(len(f.synced)) }
func (f *memFile) mapped() ([]byte, error) { return f.mem(), nil }
func (f *memFile) close() error            { return nil }

func (f *memFile) sync() error {
	defer f.w.enter()()
	if f.w.dir.broken.Load() {
		return syscall.EIO
	}
	b := f.bytes()
	f.mu.Lock()
	defer f.mu.Unlock()
	f.synced = b
	return nil
}

// memDisk is a lower disk with a volatile cache.
type memDisk struct {
	w     *world
	mu    sync.Mutex
	cur   []byte
	fail  atomic.Int64 // this many of the next changes fail half way
	flaky atomic.Int64 // this many of the next flushes fail

	durable []byte
	dirty   map[int64]bool // sectors that differ between the two
	reads   atomic.Int64
}

var errDisk = errors.New("the disk failed")

func (d *memDisk) Size() int64 { return int64(len(d.cur)) }

func (d *memDisk) ReadAt(_ context.Context, p []byte, off int64) error {
	defer d.w.enter()()
	d.mu.Lock()
	defer d.mu.Unlock()
	d.reads.Add(1)
	copy(p, d.cur[off:])
	return nil
}

func (d *memDisk) change(off, n int64, fua bool, put func(b []byte)) error {
	defer d.w.enter()()
	d.mu.Lock()
	defer d.mu.Unlock()
	var err error
	if d.fail.Load() > 0 {
		d.fail.Add(-1)
		n, err = n/1024*512, errDisk
	}
	put(d.cur[off : off+n])
	for s := off; s < off+n; s += 512 {
		d.dirty[s] = true
		if fua {
			copy(d.durable[s:s+512], d.cur[s:])
			delete(d.dirty, s)
		}
	}
	return err
}

func (d *memDisk) WriteAt(_ context.Context, p []byte, off int64, fua bool) error {
	return d.change(off, int64(len(p)), fua, func(b []byte) { copy(b, p) })
}

func (d *memDisk) Zero(_ context.Context, off, n int64, _, fua bool) error {
	return d.change(off, n, fua, func(b []byte) { clear(b) })
}

func (d *memDisk) Trim(ctx context.Context, off, n int64, fua bool) error {
	return d.Zero(ctx, off, n, true, fua)
}

func (d *memDisk) Flush(context.Context) error {
	defer d.w.enter()()
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.flaky.Load() > 0 {
		d.flaky.Add(-1)
		for s := range d.dirty { // what it had not written is gone
			copy(d.cur[s:s+512], d.durable[s:])
		}
		clear(d.dirty)
		return errDisk
	}
	for s := range d.dirty {
		copy(d.durable[s:s+512], d.cur[s:])
	}
	clear(d.dirty)
	return nil
}

// Extents knows zeroes by reading, in pieces of 4 KiB.
func (d *memDisk) Extents(_ context.Context, off, n int64, yield func(off, n int64, e nbd.Extent) bool) error {
	d.mu.Lock()
	defer d.mu.Unlock()
	for at := off; at < off+n; {
		end := min(off+n, at/4096*4096+4096)
		e := nbd.Extent(0)
		if isZero(d.cur[at:end]) {
			e = nbd.Zeros | nbd.Hole
		}
		d.mu.Unlock()
		more := yield(at, end-at, e)
		d.mu.Lock()
		if !more {
			return nil
		}
		at = end
	}
	return nil
}

func (d *memDisk) content() []byte {
	d.mu.Lock()
	defer d.mu.Unlock()
	return append([]byte(nil), d.cur...)
}
