package volume

import (
	"encoding/binary"
	"fmt"
	"hash/crc32"
	"slices"
	"sync"
)

// The map's file, see docs/formats/volume.md: a header, four bitmaps, the list of what was missing.
const (
	mapMagic   = "USVOLUME"
	mapVersion = 1
	headerSize = 512
	page       = 4096
	bootSize   = 36
	flagPlace  = 1 // made in place
	maxMissing = 1 << 30
)

// MapError is a map that cannot be used.
type MapError struct {
	What string // what is wrong, and what would be right
}

func (e *MapError) Error() string { return "volume map: " + e.What }

// header of a map's file.
type header struct {
	size    int64
	inPlace bool
	// boot of the host in which the current bitmaps are good.
	boot    string
	missing int64 // how many ranges
}

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

func (h header) encode() []byte {
	b := make([]byte, headerSize)
	le := binary.LittleEndian
	copy(b, mapMagic)
	le.PutUint32(b[8:], mapVersion)
	le.PutUint32(b[12:], Granule)
	le.PutUint64(b[16:], uint64(h.size))
	if h.inPlace {
		le.PutUint32(b[24:], flagPlace)
	}
	copy(b[28:28+bootSize], h.boot)
	le.PutUint64(b[64:], uint64(h.missing))
	le.PutUint32(b[headerSize-4:], crc32.Checksum(b[:headerSize-4], castagnoli))
	return b
}

func decodeHeader(b []byte) (header, error) {
	le := binary.LittleEndian
	switch {
	case len(b) < headerSize || string(b[:8]) != mapMagic:
		return header{}, &MapError{"this is no map of a volume"}
	case le.Uint32(b[8:]) != mapVersion:
		return header{}, &MapError{fmt.Sprintf("version %d: this program knows %d", le.Uint32(b[8:]), mapVersion)}
	case le.Uint32(b[headerSize-4:]) != crc32.Checksum(b[:headerSize-4], castagnoli):
		return header{}, &MapError{"the header's checksum is wrong"}
	case le.Uint32(b[12:]) != Granule:
		return header{}, &MapError{fmt.Sprintf("granule of %d bytes: want %d", le.Uint32(b[12:]), Granule)}
	}
	if flags := le.Uint32(b[24:]); flags&^flagPlace != 0 {
		return header{}, &MapError{fmt.Sprintf("flags %#x: this program knows %#x", flags, flagPlace)}
	}
	h := header{size: int64(le.Uint64(b[16:])), inPlace: le.Uint32(b[24:])&flagPlace != 0, missing: int64(le.Uint64(b[64:]))}
	if err := checkSize(h.size); err != nil {
		return header{}, &MapError{err.Error()}
	}
	if h.missing < 0 || h.missing > maxMissing {
		return header{}, &MapError{fmt.Sprintf("%d missing ranges: want at most %d", h.missing, maxMissing)}
	}
	end := slices.Index(b[28:28+bootSize], 0)
	if end < 0 {
		end = bootSize
	}
	h.boot = string(b[28 : 28+end])
	return h, nil
}

func checkSize(size int64) error {
	if size <= 0 || size%sector != 0 || size > 1<<50 {
		return fmt.Errorf("size of %d bytes: want a multiple of %d, at most 1 PiB", size, sector)
	}
	return nil
}

// The bitmaps, in the order of the file. The durable ones are what is left after a power cut, the current ones after the end of a process.
const (
	durablePresent = iota
	durableWritten
	currentPresent
	currentWritten
	bitmaps
)

// bitmapSize in bytes, for so many granules.
func bitmapSize(n int64) int64 { return ((n+7)/8 + page - 1) / page * page }

func granulesOf(size int64) int64 { return (size + Granule - 1) / Granule }

// mapFile is the map's file, open.
type mapFile struct {
	f    file
	head header
	n    int64 // granules

	mu sync.Mutex // guards everything below, and the order of writes to the file
	// durable bitmaps, as they are in the file, though perhaps not synced yet; what is present may be on its way there. Numbered like the bitmaps.
	durable [2]bitmap
	// kept are the written bits that no power cut takes away.
	kept bitmap
	// changed pages of the current bitmaps, which the next sync makes durable; numbered like the durable ones.
	changed [2]pages
}

// pages of a bitmap's part of the file, by number.
type pages map[int64]bool

func (m *mapFile) offset(which int, word int64) int64 {
	return page + int64(which)*bitmapSize(m.n) + word*8
}

// writeWords first to before end of a bitmap. The caller has mu.
func (m *mapFile) writeWords(which int, b *bitmap, first, end int64) error {
	buf := make([]byte, 0, (end-first)*8)
	for i := first; i < end; i++ {
		buf = binary.LittleEndian.AppendUint64(buf, loadWord(b, i))
	}
	_, err := m.f.WriteAt(buf, m.offset(which, first))
	return err
}

func (m *mapFile) readBitmap(which int) (bitmap, error) {
	b := newBitmap(m.n)
	buf := make([]byte, min(bitmapSize(m.n), 64<<10))
	for i := range b.words {
		at := i * 8 % len(buf)
		if at == 0 {
			part := buf[:min(int64(len(buf)), bitmapSize(m.n)-int64(i)*8)]
			if _, err := m.f.ReadAt(part, m.offset(which, int64(i))); err != nil {
				return b, err
			}
		}
		orWord(&b, int64(i), binary.LittleEndian.Uint64(buf[at:]))
	}
	if extra := m.n % 64; extra != 0 { // bits behind the end mean nothing
		b.words[len(b.words)-1] &= 1<<extra - 1
	}
	return b, nil
}

// mark bits first to before end of a current bitmap, in memory and in the file. Answers how many were clear.
func (m *mapFile) mark(which int, b *bitmap, first, end int64) (int64, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	n, from, to := int64(0), int64(-1), int64(0)
	for i := first; i < end; i++ {
		if b.get(i) {
			continue
		}
		n++
		if from < 0 {
			from = i / 64
		}
		to = i/64 + 1
	}
	if n == 0 {
		return 0, nil
	}
	// The file first: a reader that sees the bit in memory may acknowledge what depends on it.
	buf := make([]byte, 0, (to-from)*8)
	for w := from; w < to; w++ {
		buf = binary.LittleEndian.AppendUint64(buf, loadWord(b, w)|wordMask(w, first, end))
	}
	if _, err := m.f.WriteAt(buf, m.offset(which, from)); err != nil {
		return 0, fmt.Errorf("volume map: %w", err)
	}
	for i := first; i < end; i++ {
		b.set(i)
	}
	for w := from; w < to; w++ {
		m.changed[which-currentPresent][w*8/page] = true
	}
	return n, nil
}

// wordMask has the bits of word w that lie from first to before end.
func wordMask(w, first, end int64) uint64 {
	lo, hi := max(first-w*64, 0), min(end-w*64, 64)
	if lo >= hi {
		return 0
	}
	return ^uint64(0) << lo & (^uint64(0) >> (64 - hi))
}
