package disk

import (
	"fmt"
	"sync/atomic"
	"unsafe"
)

const bitmapMagic = "USCB"

// bitmapHead is the sealed first page of a bitmap file.
type bitmapHead struct {
	Generation uint64 // from 1, in order of creation
	Stream     string
	Granule    int64 // bytes a bit stands for
	// Initial bitmaps hold what was dirty before the stream began: a block that is in no other one has had no record yet.
	Initial bool
	// ZeroBase: blocks that had no record yet read as zeroes at the far side.
	ZeroBase bool
	Sizes    []int64 // of the disks in bytes, in the machine's order
}

func (h *bitmapHead) blocks(disk uint16) int64 { return (h.Sizes[disk] + h.Granule - 1) / h.Granule }

// layout gives where each disk's words begin, and the file's size. Each disk begins on a page.
func (h *bitmapHead) layout() (starts []int64, size int64) {
	size = 2 * pageSize
	for i := range h.Sizes {
		starts = append(starts, size)
		size += (bitsetWords(h.blocks(uint16(i)))*8 + pageSize - 1) / pageSize * pageSize
	}
	return starts, size
}

func (h *bitmapHead) encode() []byte {
	b := make([]byte, 8, pageSize)
	b = le.AppendUint64(b, h.Generation)
	b = le.AppendUint32(b, uint32(h.Granule))
	flags := uint16(0)
	if h.Initial {
		flags |= 1
	}
	if h.ZeroBase {
		flags |= 2
	}
	b = le.AppendUint16(b, flags)
	b = le.AppendUint16(b, uint16(len(h.Sizes)))
	for _, n := range h.Sizes {
		b = le.AppendUint64(b, uint64(n))
	}
	b = putText(b, h.Stream)[:pageSize]
	seal(b, bitmapMagic)
	return b
}

func decodeBitmapHead(b []byte) (h bitmapHead, err error) {
	if err := unseal(b, bitmapMagic); err != nil {
		return h, err
	}
	c := cursor{b: b[8 : len(b)-4]}
	h.Generation = c.u64()
	h.Granule = int64(c.u32())
	flags := c.u16()
	h.Initial, h.ZeroBase = flags&1 != 0, flags&2 != 0
	n := int(c.u16())
	if h.Granule < 512 || h.Granule&(h.Granule-1) != 0 || n == 0 || n > maxDisks {
		return h, fmt.Errorf("%w: granule of %d bytes, %d disks", ErrCorrupt, h.Granule, n)
	}
	for range n {
		size := int64(c.u64())
		if size < 0 || size > 1<<50 {
			return h, fmt.Errorf("%w: a disk of %d bytes", ErrCorrupt, size)
		}
		h.Sizes = append(h.Sizes, size)
	}
	h.Stream = c.text()
	if c.failed {
		return h, fmt.Errorf("%w: fields end early", ErrCorrupt)
	}
	return h, nil
}

// bitmap is a file of dirty bits, in memory that outlives the process. Stores into it cannot fail.
type bitmap struct {
	bitmapHead
	name  string
	file  file
	disks []bitset
	held  *uint64 // page 1, word 0: records that count on this bitmap, for Counters after a restart
}

func bitmapName(generation uint64) string { return fmt.Sprintf("bitmap-%016x", generation) }

func createBitmap(d directory, h bitmapHead) (*bitmap, error) {
	name := bitmapName(h.Generation)
	_, size := h.layout()
	f, err := d.create(name, size)
	if err != nil {
		return nil, err
	}
	b, err := func() (*bitmap, error) {
		if _, err := f.WriteAt(h.encode(), 0); err != nil {
			return nil, err
		}
		if err := f.sync(); err != nil {
			return nil, err
		}
		if err := d.sync(); err != nil {
			return nil, err
		}
		return mapBitmap(name, f, h)
	}()
	if err != nil {
		f.close()
		d.remove(name) // best effort: a file without a good head is ignored and removed by the next start
		return nil, fmt.Errorf("bitmap %s: %w", name, err)
	}
	return b, nil
}

func openBitmap(d directory, name string) (*bitmap, error) {
	f, err := d.open(name)
	if err != nil {
		return nil, err
	}
	b, err := func() (*bitmap, error) {
		page := make([]byte, pageSize)
		if _, err := f.ReadAt(page, 0); err != nil {
			return nil, err
		}
		h, err := decodeBitmapHead(page)
		if err != nil {
			return nil, err
		}
		if _, size := h.layout(); size != f.size() {
			return nil, fmt.Errorf("%w: %d bytes long; its head says %d", ErrCorrupt, f.size(), size)
		}
		return mapBitmap(name, f, h)
	}()
	if err != nil {
		f.close()
		return nil, fmt.Errorf("bitmap %s: %w", name, err)
	}
	return b, nil
}

func mapBitmap(name string, f file, h bitmapHead) (*bitmap, error) {
	mem, err := f.mapped()
	if err != nil {
		return nil, err
	}
	b := &bitmap{bitmapHead: h, name: name, file: f, held: &wordsOf(mem[pageSize:])[0]}
	starts, _ := h.layout()
	for i, at := range starts {
		b.disks = append(b.disks, wordsOf(mem[at:])[:bitsetWords(h.blocks(uint16(i)))])
	}
	return b, nil
}

// wordsOf sees mapped bytes as little-endian words; this program runs on little-endian machines only.
func wordsOf(mem []byte) bitset {
	return unsafe.Slice((*uint64)(unsafe.Pointer(unsafe.SliceData(mem))), len(mem)/8)
}

// span gives the bits that a range of bytes touches.
func (b *bitmap) span(off, n int64) (first, count int64) {
	first = off / b.Granule
	return first, (off+n-1)/b.Granule - first + 1
}

// set marks a range of bytes; n > 0.
func (b *bitmap) set(disk uint16, off, n int64) {
	first, count := b.span(off, n)
	b.disks[disk].set(first, count)
}

// setAll marks everything, and stores into every page: one whose writing failed counts as written for the kernel until it is touched again.
func (b *bitmap) setAll() {
	for i := range b.disks {
		masks(0, b.blocks(uint16(i)), b.disks[i].or)
	}
}

func (b *bitmap) count() (blocks int64) {
	for _, s := range b.disks {
		blocks += s.count()
	}
	return blocks
}

func (b *bitmap) setHeld(n uint64)   { atomic.StoreUint64(b.held, n) }
func (b *bitmap) heldAtOpen() uint64 { return atomic.LoadUint64(b.held) }
