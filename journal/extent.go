package journal

import (
	"cmp"
	"container/heap"
	"slices"
	"sort"
)

// Extent says where the newest bytes of a range lie inside one segment or layer part.
type Extent struct {
	Off, Len int64  // bytes on the disk; multiples of Sector
	Seq      uint64 // position of the last write in it
	Block    uint32 // number of the block that holds the bytes
	Pos      uint32 // their offset in the unpacked block
	Disk     uint16
	Zero     bool // the range reads as zeroes; Block and Pos mean nothing
}

// End is the first byte after the range.
func (e Extent) End() int64 { return e.Off + e.Len }

// Cut is the part of e inside [from, to), which must overlap it.
func (e Extent) Cut(from, to int64) Extent {
	if from > e.Off {
		if !e.Zero {
			e.Pos += uint32(from - e.Off)
		}
		e.Off, e.Len = from, e.End()-from
	}
	if to < e.End() {
		e.Len = to - e.Off
	}
	return e
}

// Before orders extents by disk and offset.
func (e Extent) Before(o Extent) int {
	if c := cmp.Compare(e.Disk, o.Disk); c != 0 {
		return c
	}
	return cmp.Compare(e.Off, o.Off)
}

// Find is the place of the first extent of a sorted list that ends after off on disk.
func Find(list []Extent, disk uint16, off int64) int {
	return sort.Search(len(list), func(i int) bool { return list[i].Disk > disk || list[i].Disk == disk && list[i].End() > off })
}

// NewestWins turns extents, oldest first, into a sorted list without overlaps in which only the newest bytes are left.
func NewestWins(extents []Extent) []Extent {
	byStart := make([]int, len(extents))
	for i := range byStart {
		byStart[i] = i
	}
	slices.SortStableFunc(byStart, func(a, b int) int { return extents[a].Before(extents[b]) })
	out := make([]Extent, 0, len(extents))
	var open newestFirst // what covers the sweep's position; a larger index is newer
	var at int64         // the sweep's position on the disk of what is open
	last := -1           // whose piece was put out last
	for next := 0; ; {
		for len(open) > 0 && extents[open[0]].End() <= at {
			heap.Pop(&open)
		}
		if len(open) == 0 {
			if next == len(byStart) {
				return out
			}
			at, last = extents[byStart[next]].Off, -1
			heap.Push(&open, byStart[next])
			next++
		}
		disk := extents[open[0]].Disk
		for next < len(byStart) && extents[byStart[next]].Disk == disk && extents[byStart[next]].Off <= at {
			heap.Push(&open, byStart[next])
			next++
		}
		top := open[0]
		to := extents[top].End()
		if next < len(byStart) && extents[byStart[next]].Disk == disk {
			to = min(to, extents[byStart[next]].Off)
		}
		if n := len(out); top == last && out[n-1].End() == at {
			out[n-1].Len = to - out[n-1].Off
		} else {
			out = append(out, extents[top].Cut(at, to))
		}
		at, last = to, top
	}
}

// newestFirst is a heap of indices, the largest on top.
type newestFirst []int

func (h newestFirst) Len() int           { return len(h) }
func (h newestFirst) Less(i, j int) bool { return h[i] > h[j] }
func (h newestFirst) Swap(i, j int)      { h[i], h[j] = h[j], h[i] }
func (h *newestFirst) Push(x any)        { *h = append(*h, x.(int)) }
func (h *newestFirst) Pop() any {
	old := *h
	x := old[len(old)-1]
	*h = old[:len(old)-1]
	return x
}
