package volume

import (
	"math/bits"
	"sync/atomic"
)

// bitmap of n bits, set one after the other and never cleared but by tests and where said. Safe for concurrent use.
type bitmap struct {
	n     int64
	words []uint64
}

func newBitmap(n int64) bitmap { return bitmap{n: n, words: make([]uint64, (n+63)/64)} }

func (b *bitmap) get(i int64) bool { return atomic.LoadUint64(&b.words[i/64])>>(i%64)&1 != 0 }

// set answers whether the bit was clear.
func (b *bitmap) set(i int64) bool {
	bit := uint64(1) << (i % 64)
	return atomic.OrUint64(&b.words[i/64], bit)&bit == 0
}

func (b *bitmap) clear(i int64) bool {
	bit := uint64(1) << (i % 64)
	return atomic.AndUint64(&b.words[i/64], ^bit)&bit != 0
}

// run is the end of the run of equal bits that starts at i, at most end.
func (b *bitmap) run(i, end int64) int64 {
	var flip uint64
	if b.get(i) {
		flip = ^uint64(0)
	}
	for i < end {
		w := (atomic.LoadUint64(&b.words[i/64]) ^ flip) >> (i % 64)
		if w != 0 {
			return min(end, i+int64(bits.TrailingZeros64(w)))
		}
		i += 64 - i%64
	}
	return end
}

// all tells whether bits i to end-1 are set.
func (b *bitmap) all(i, end int64) bool { return b.get(i) && b.run(i, end) == end }

// count the set bits.
func (b *bitmap) count() (n int64) {
	for i := range b.words {
		n += int64(bits.OnesCount64(atomic.LoadUint64(&b.words[i])))
	}
	return n
}

func loadWord(b *bitmap, i int64) uint64 { return atomic.LoadUint64(&b.words[i]) }

// orWord does not touch memory that it leaves as it is: the bitmaps of a large and empty disk take none.
func orWord(b *bitmap, i int64, bits uint64) {
	if bits != 0 {
		atomic.OrUint64(&b.words[i], bits)
	}
}
