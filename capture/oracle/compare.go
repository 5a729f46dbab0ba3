package oracle

import (
	"bytes"
	"cmp"
	"encoding/binary"
	"fmt"
	"hash/maphash"
	"slices"
)

// Mode says how much two logs of the same disk must agree.
type Mode int

const (
	// Exact: requests came one at a time: every prefix is equal, flushes and FUA included.
	Exact Mode = iota
	// Flushed: several requests were under way at a time, but none across a flush. Between two flushes the multisets are
	// equal, and every sector saw the same writes in the same order; so at each flush both replay to the same image.
	Flushed
	// Overlapped: requests were under way across flushes too. As Flushed, but a write may stand on the other side of one flush.
	Overlapped
)

// Report of a comparison.
type Report struct {
	Entries, Flushes int // of the first log
	// Differences are the first few, in words. None: the logs agree.
	Differences []string
	// Total counts all of them.
	Total int
}

func (r *Report) differ(format string, args ...any) {
	r.Total++
	if len(r.Differences) < 10 {
		r.Differences = append(r.Differences, fmt.Sprintf(format, args...))
	}
}

// item is an entry without its data. Zeroes written and zeroes discarded are the same.
type item struct {
	off, n int64
	sum    uint64
}

func (i item) String() string { return fmt.Sprintf("[%d, +%d) of content %016x", i.off, i.n, i.sum) }

// epoch is what lies between two flushes.
type epoch struct {
	items []item
	fua   []bool
}

type comparer struct {
	seed maphash.Seed
	mode Mode
	size int64
	rep  Report
}

// Compare compares the log of a witness (want) with that of a capture (got). Size is the disk's, in bytes; eight bytes of
// memory a sector are used for each log.
func Compare(want, got Entries, size int64, mode Mode) (Report, error) {
	c := &comparer{seed: maphash.MakeSeed(), mode: mode, size: size}
	a, err := c.epochs(want)
	if err != nil {
		return c.rep, fmt.Errorf("witness: %w", err)
	}
	b, err := c.epochs(got)
	if err != nil {
		return c.rep, fmt.Errorf("capture: %w", err)
	}
	for _, e := range a {
		c.rep.Entries += len(e.items)
	}
	c.rep.Flushes = len(a) - 1
	b = align(a, b)
	if mode == Exact {
		c.exact(a, b)
	} else {
		c.sets(a, b)
	}
	return c.rep, nil
}

func (c *comparer) epochs(log Entries) ([]epoch, error) {
	all := []epoch{{}}
	for e, err := range log {
		if err != nil {
			return nil, err
		}
		last := &all[len(all)-1]
		if e.Flush {
			if len(last.items) > 0 { // flushes in a row are one: QEMU sends more of them than it logs
				all = append(all, epoch{})
			}
			continue
		}
		if e.Off < 0 || e.Len <= 0 || e.Off%512 != 0 || e.Len%512 != 0 || e.Off+e.Len > c.size {
			return nil, fmt.Errorf("%v is not inside %d bytes", e, c.size)
		}
		for _, part := range e.split() {
			last.items = append(last.items, item{off: part.Off, n: part.Len, sum: c.hash(part)})
			last.fua = append(last.fua, part.FUA)
		}
	}
	return all, nil
}

// longest is what a client of NBD sends in one request, in bytes: longer ones come in parts.
const longest = 32 << 20

func (e Entry) split() (parts []Entry) {
	for e.Len > longest {
		part := e
		part.Len = longest
		if e.Data != nil {
			part.Data, e.Data = e.Data[:longest], e.Data[longest:]
		}
		parts = append(parts, part)
		e.Off, e.Len = e.Off+longest, e.Len-longest
	}
	return append(parts, e)
}

// align joins epochs of the capture so that there are as many as the witness has: QEMU sends flushes that it does not log (it
// makes FUA out of them where a driver lacks it). A flush of the witness is that of the capture with about as many changes
// before it; if none has exactly as many, the comparison says what is wrong.
func align(a, b []epoch) []epoch {
	out := make([]epoch, len(a))
	wanted, had, k := 0, 0, 0
	for i := range a {
		wanted += len(a[i].items)
		for k < len(b) && (i == len(a)-1 || len(out[i].items) == 0 || closer(wanted, had, had+len(b[k].items))) {
			out[i].items = append(out[i].items, b[k].items...)
			out[i].fua = append(out[i].fua, b[k].fua...)
			had += len(b[k].items)
			k++
		}
	}
	return out
}

// closer tells whether next is nearer to wanted than had is.
func closer(wanted, had, next int) bool {
	return max(wanted-next, next-wanted) < max(wanted-had, had-wanted)
}

var zeroes [64 << 10]byte

func (c *comparer) hash(e Entry) uint64 {
	data := e.Data
	zero := true
	for rest := data; len(rest) > 0 && zero; {
		n := min(len(rest), len(zeroes))
		zero = bytes.Equal(rest[:n], zeroes[:n])
		rest = rest[n:]
	}
	if zero {
		return 0
	}
	return max(1, maphash.Bytes(c.seed, data))
}

func (c *comparer) exact(a, b []epoch) {
	for k := range min(len(a), len(b)) {
		for i := range max(len(a[k].items), len(b[k].items)) {
			switch {
			case i >= len(a[k].items):
				c.rep.differ("after flush %d, entry %d: the capture alone has %v", k, i, b[k].items[i])
			case i >= len(b[k].items):
				c.rep.differ("after flush %d, entry %d: the witness alone has %v", k, i, a[k].items[i])
			case a[k].items[i] != b[k].items[i]:
				c.rep.differ("after flush %d, entry %d: the witness has %v, the capture %v", k, i, a[k].items[i], b[k].items[i])
			case a[k].fua[i] != b[k].fua[i]:
				c.rep.differ("after flush %d, entry %d: FUA is %t at the witness, %t at the capture", k, i, a[k].fua[i], b[k].fua[i])
			}
		}
	}
}

// sets compares multisets between flushes, and histories of sectors.
func (c *comparer) sets(a, b []epoch) {
	sides := [2]*side{newSide(c.size), newSide(c.size)}
	for k := range min(len(a), len(b)) {
		sides[0].run(c, a[k].items)
		sides[1].run(c, b[k].items)
		c.settle(k, sides)
	}
	for s, x := range sides {
		for it, n := range x.pending {
			c.rep.differ("the %s alone has %d of %v, in the end", [2]string{"witness", "capture"}[s], n, it)
		}
	}
	c.histories(len(a)-1, sides, nil)
}

// side is how far one log was played.
type side struct {
	history []uint64     // by sector: a hash of all that was written there
	touched []int64      // sectors since the last comparison
	pending map[item]int // seen here, not yet at the other side
	late    map[item]int // of pending: those that were there at the flush before
}

func newSide(size int64) *side {
	return &side{history: make([]uint64, size/512), pending: map[item]int{}}
}

func (s *side) run(c *comparer, items []item) {
	for _, it := range items {
		s.pending[it]++
		var b [32]byte
		binary.LittleEndian.PutUint64(b[8:], uint64(it.off))
		binary.LittleEndian.PutUint64(b[16:], uint64(it.n))
		binary.LittleEndian.PutUint64(b[24:], it.sum)
		for sector := it.off / 512; sector < (it.off+it.n)/512; sector++ {
			binary.LittleEndian.PutUint64(b[:], s.history[sector])
			s.history[sector] = maphash.Bytes(c.seed, b[:])
			s.touched = append(s.touched, sector)
		}
	}
}

// settle compares at a flush.
func (c *comparer) settle(k int, sides [2]*side) {
	for it, n := range sides[0].pending {
		both := min(n, sides[1].pending[it])
		for _, s := range sides {
			if s.pending[it] -= both; s.pending[it] <= 0 {
				delete(s.pending, it)
			}
		}
	}
	for i, s := range sides {
		for _, it := range sorted(s.pending) {
			switch n := s.pending[it]; {
			case c.mode == Overlapped && s.late[it] == 0:
				continue // the flush overtook it, perhaps
			default:
				c.rep.differ("at flush %d the %s alone has %d of %v", k+1, [2]string{"witness", "capture"}[i], n, it)
				delete(s.pending, it)
			}
		}
		s.late = map[item]int{}
		for it, n := range s.pending {
			s.late[it] = n
		}
	}
	c.histories(k, sides, func(sector int64) bool {
		for _, s := range sides {
			for it := range s.pending {
				if it.off/512 <= sector && sector < (it.off+it.n)/512 {
					return true
				}
			}
		}
		return false
	})
}

// histories compares the sectors that were touched, but for those that are to be looked at later.
func (c *comparer) histories(k int, sides [2]*side, later func(sector int64) bool) {
	all := append(sides[0].touched, sides[1].touched...)
	slices.Sort(all)
	all = slices.Compact(all)
	sides[0].touched, sides[1].touched = nil, nil
	first, n := int64(-1), 0
	for _, sector := range all {
		if later != nil && later(sector) {
			sides[0].touched = append(sides[0].touched, sector)
			continue
		}
		if sides[0].history[sector] != sides[1].history[sector] {
			if first < 0 {
				first = sector
			}
			n++
			sides[1].history[sector] = sides[0].history[sector] // said once
		}
	}
	if n > 0 {
		c.rep.differ("at flush %d: %d sectors, from byte %d on, saw other writes, or in another order", k+1, n, first*512)
	}
}

func sorted(m map[item]int) (items []item) {
	for it := range m {
		items = append(items, it)
	}
	slices.SortFunc(items, func(a, b item) int { return cmp.Or(cmp.Compare(a.off, b.off), cmp.Compare(a.n, b.n)) })
	return items
}
