package disk

import (
	"math/bits"
	"sync"
)

// Payloads are copied once, into buffers of powers of two from 512 B to 32 MiB, which are used again.
const (
	smallestClass = 9
	classes       = 25 - smallestClass + 1
)

var pools [classes]sync.Pool

func classOf(n int) int {
	return max(0, bits.Len(uint(n-1))-smallestClass)
}

// buffer gives n bytes, 0 < n <= 32 MiB, with old content.
func buffer(n int) []byte {
	c := classOf(n)
	if b, ok := pools[c].Get().(*[]byte); ok {
		return (*b)[:n]
	}
	return make([]byte, n, 1<<(c+smallestClass))
}

// giveBack takes a buffer that nobody reads any more.
func giveBack(b []byte) {
	if cap(b) == 0 {
		return
	}
	b = b[:cap(b)]
	pools[classOf(cap(b))].Put(&b)
}
