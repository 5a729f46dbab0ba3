package lab

import (
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"sync"
	"time"
)

// A history is what a guest did to its disks, and judges images of them. Every sector that is written tells who wrote it:
//
//	0  "uPathKil"  8  number of the write   16  place on the disks   24  watermark   32  CRC-32C of the rest   36  noise
//
// Writes are numbered from 1 when they are first sent, over all disks. A watermark says that every write up to it was
// answered before this one was sent. So an image that holds a write must hold all writes up to its watermark, whatever else
// was under way: that makes an image a prefix. No two writes that overlap are under way at once.
type history struct {
	sectors int // of all disks together

	mu     sync.Mutex
	ops    []op
	places [][]uint32 // by sector: the numbers of the writes to it
	active map[uint32]bool
}

// op is one write. Times are unix nanoseconds.
type op struct {
	place     uint32 // first sector
	n         uint32 // sectors
	watermark uint32
	zero      bool
	torn      bool  // sent again: for some time the disk may have had a part of it
	sent      int64 // first
	answered  int64 // 0: not yet
}

const (
	sectorSize  = 512
	sectorMagic = "uPathKil"
)

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

func newHistory(sectors int) *history {
	return &history{sectors: sectors, places: make([][]uint32, sectors), active: map[uint32]bool{}}
}

// begin numbers a write that is about to be sent.
func (h *history) begin(place, n uint32, zero bool) uint32 {
	h.mu.Lock()
	defer h.mu.Unlock()
	q := uint32(len(h.ops) + 1)
	mark := q - 1
	for a := range h.active {
		mark = min(mark, a-1)
	}
	h.ops = append(h.ops, op{place: place, n: n, watermark: mark, zero: zero, sent: time.Now().UnixNano()})
	h.active[q] = true
	for s := place; s < place+n; s++ {
		h.places[s] = append(h.places[s], q)
	}
	return q
}

// again says that a write is sent once more.
func (h *history) again(q uint32) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.ops[q-1].torn = true
}

// end says that a write was answered.
func (h *history) end(q uint32) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.ops[q-1].answered = time.Now().UnixNano()
	delete(h.active, q)
}

func (h *history) writes() int {
	h.mu.Lock()
	defer h.mu.Unlock()
	return len(h.ops)
}

// data makes what a write puts on the disk.
func (h *history) data(q uint32) []byte {
	h.mu.Lock()
	o := h.ops[q-1]
	h.mu.Unlock()
	p := make([]byte, o.n*sectorSize)
	noise := uint64(q)*0x9e3779b97f4a7c15 + 1
	for i := range o.n {
		s := p[i*sectorSize:][:sectorSize]
		copy(s, sectorMagic)
		binary.LittleEndian.PutUint64(s[8:], uint64(q))
		binary.LittleEndian.PutUint64(s[16:], uint64(o.place+i))
		binary.LittleEndian.PutUint64(s[24:], uint64(o.watermark))
		for at := 36; at+8 <= sectorSize; at += 16 { // half of it can be compressed
			noise ^= noise << 13
			noise ^= noise >> 7
			noise ^= noise << 17
			binary.LittleEndian.PutUint64(s[at:], noise)
		}
		binary.LittleEndian.PutUint32(s[32:], sectorSum(s))
	}
	return p
}

func sectorSum(s []byte) uint32 {
	return crc32.Update(crc32.Checksum(s[:32], castagnoli), castagnoli, s[36:])
}

// errImage says that an image is not what its disks were at any moment it may show.
var errImage = errors.New("the image is not a prefix of the writes")

// bounds say what an image must and must not hold, by time; 0 is no bound.
type bounds struct {
	// answeredBy: it holds every write that was answered before.
	answeredBy int64
	// sentBy: it holds no write that was first sent later.
	sentBy int64
}

// judge checks an image of all disks, one behind the other. It gives errImage with the first thing that is wrong.
func (h *history) judge(image []byte, b bounds) error {
	if len(image) != h.sectors*sectorSize {
		return fmt.Errorf("%w: %d bytes, want %d", errImage, len(image), h.sectors*sectorSize)
	}
	h.mu.Lock()
	defer h.mu.Unlock()
	j := judgement{h: h, held: make([]uint32, h.sectors), zero: make([]bool, h.sectors)}
	for s := range j.held {
		if err := j.read(uint32(s), image[s*sectorSize:][:sectorSize], b.sentBy); err != nil {
			return err
		}
	}
	for s := range j.held {
		if need, why := j.need(uint32(s), b.answeredBy); !j.has(uint32(s), need) {
			return fmt.Errorf("%w: sector %d has %s, without write %d, which was %s", errImage, s, j.describe(uint32(s)), need, why)
		}
	}
	return j.whole()
}

// judgement of one image; under history.mu.
type judgement struct {
	h         *history
	held      []uint32 // by sector: the write that it is from
	zero      []bool   // by sector: it is all zeroes, from any write of zeroes, or from none
	watermark uint32   // the highest of all that is held
}

// read finds out which write a sector is from.
func (j *judgement) read(place uint32, s []byte, sentBy int64) error {
	if allZero(s) {
		j.zero[place] = true
		return nil
	}
	q, at := binary.LittleEndian.Uint64(s[8:]), binary.LittleEndian.Uint64(s[16:])
	switch {
	case string(s[:8]) != sectorMagic || binary.LittleEndian.Uint32(s[32:]) != sectorSum(s):
		return fmt.Errorf("%w: sector %d is torn or nobody's: % x…", errImage, place, s[:40])
	case at != uint64(place):
		return fmt.Errorf("%w: sector %d has what belongs to sector %d, of write %d", errImage, place, at, q)
	case q == 0 || q > uint64(len(j.h.ops)):
		return fmt.Errorf("%w: sector %d is from write %d, there are %d", errImage, place, q, len(j.h.ops))
	}
	o := j.h.ops[q-1]
	if sentBy != 0 && o.sent > sentBy {
		return fmt.Errorf("%w: sector %d is from write %d, which was sent %v too late", errImage, place, q, time.Duration(o.sent-sentBy))
	}
	j.held[place], j.watermark = uint32(q), max(j.watermark, o.watermark)
	return nil
}

// need gives the newest write to a sector that the image must hold; 0 for none.
func (j *judgement) need(place uint32, answeredBy int64) (q uint32, why string) {
	all := j.h.places[place]
	for i := len(all) - 1; i >= 0; i-- {
		switch o := j.h.ops[all[i]-1]; {
		case all[i] <= j.watermark:
			return all[i], "answered before another was sent that is there"
		case answeredBy != 0 && o.answered != 0 && o.answered < answeredBy:
			return all[i], "answered in time"
		}
	}
	return 0, ""
}

// has tells whether a sector holds a write or a later one.
func (j *judgement) has(place, q uint32) bool {
	if !j.zero[place] {
		return j.held[place] >= q
	}
	if q == 0 {
		return true
	}
	all := j.h.places[place]
	for i := len(all) - 1; i >= 0 && all[i] >= q; i-- {
		if j.h.ops[all[i]-1].zero {
			return true
		}
	}
	return false
}

// whole checks that no write is there in part.
func (j *judgement) whole() error {
	seen := map[uint32]bool{0: true}
	for _, q := range j.held {
		if seen[q] || j.h.ops[q-1].torn {
			continue
		}
		seen[q] = true
		for o, s := j.h.ops[q-1], j.h.ops[q-1].place; s < o.place+o.n; s++ {
			if !j.has(s, q) {
				return fmt.Errorf("%w: sector %d has %s, but write %d is there in part", errImage, s, j.describe(s), q)
			}
		}
	}
	return nil
}

func (j *judgement) describe(place uint32) string {
	if j.zero[place] {
		return "zeroes"
	}
	return fmt.Sprintf("write %d", j.held[place])
}

func allZero(s []byte) bool {
	for ; len(s) >= 8; s = s[8:] {
		if binary.LittleEndian.Uint64(s) != 0 {
			return false
		}
	}
	return true
}
