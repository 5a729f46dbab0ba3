package disk

import (
	"math/bits"
	"sync/atomic"
)

// bitset is one bit a granule of a disk. Bits may be set and cleared concurrently.
type bitset []uint64

func bitsetWords(blocks int64) int64 { return (blocks + 63) / 64 }

// masks calls f for each word that holds bits of [first, first+n).
func masks(first, n int64, f func(word int64, mask uint64)) {
	for n > 0 {
		bit := first % 64
		k := min(n, 64-bit)
		f(first/64, ^uint64(0)>>(64-k)<<bit)
		first, n = first+k, n-k
	}
}

func (s bitset) set(first, n int64) {
	masks(first, n, func(w int64, mask uint64) {
		if atomic.LoadUint64(&s[w])&mask != mask { // mostly set already: leave the cache line alone
			atomic.OrUint64(&s[w], mask)
		}
	})
}

func (s bitset) clear(first, n int64) {
	masks(first, n, func(w int64, mask uint64) { atomic.AndUint64(&s[w], ^mask) })
}

func (s bitset) or(w int64, mask uint64)  { atomic.OrUint64(&s[w], mask) }
func (s bitset) and(w int64, mask uint64) { atomic.AndUint64(&s[w], mask) }

func (s bitset) has(block int64) bool {
	return atomic.LoadUint64(&s[block/64])&(1<<(block%64)) != 0
}

func (s bitset) word(w int64) uint64 { return atomic.LoadUint64(&s[w]) }

func (s bitset) count() (n int64) {
	for w := range s {
		n += int64(bits.OnesCount64(atomic.LoadUint64(&s[w])))
	}
	return n
}

// next finds the first bit set in [from, blocks) of the words that f gives, and how many follow it, at most limit.
func next(from, blocks, limit int64, f func(word int64) uint64) (first, n int64) {
	first = from
	for first < blocks {
		w := f(first/64) >> (first % 64)
		if w != 0 {
			first += int64(bits.TrailingZeros64(w))
			break
		}
		first = (first/64 + 1) * 64
	}
	for first+n < blocks && n < limit {
		at := first + n
		ones := min(int64(bits.TrailingZeros64(^(f(at/64) >> (at % 64)))), 64-at%64)
		if ones == 0 {
			break
		}
		n += ones
	}
	return first, min(n, limit, max(0, blocks-first))
}
