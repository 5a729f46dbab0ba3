package sim

import "time"

// point is a recovery point of a stream.
type point struct {
	id  string
	tag string
	seq uint64
	at  time.Time
	app bool
	// made is when, truly.
	made time.Duration
}

// record of a stream: a block's new value, or a point.
type record struct {
	seq   uint64
	block int
	value int
	point *point
}

// capture numbers a machine's writes, as package capture/disk does. It lies in the home; its queue is in memory.
type capture struct {
	stream   string
	epoch    int64
	zeroBase bool
	seq      uint64
	released uint64 // the process server has it
	stored   uint64 // the vault has it, as far as is known
	queue    []record
	last     [blocks]uint64 // position of what a block holds
	marked   [blocks]bool   // to be read again
	touched  [blocks]bool   // the stream has something of it
	gap      bool
	gapFrom  uint64
	gapTo    uint64 // of the latest that was closed
}

// write numbers a change, and queues it while somebody ships.
func (k *capture) write(b, v int, shipping bool) {
	k.seq++
	k.last[b] = k.seq
	if !shipping || k.gap {
		k.mark(only(b))
		return
	}
	k.touched[b] = true
	k.queue = append(k.queue, record{seq: k.seq, block: b, value: v})
}

// mark opens a gap in which the blocks are read again.
func (k *capture) mark(where [blocks]bool) {
	if !k.gap {
		k.gap, k.gapFrom = true, max(k.released, k.stored)+1
		if len(k.queue) > 0 { // what is queued is still sent
			k.gapFrom = k.queue[len(k.queue)-1].seq + 1
		}
	}
	for b, yes := range where {
		k.marked[b] = k.marked[b] || yes
	}
}

// interrupted: the queue is lost. What is not surely stored is read again.
func (k *capture) interrupted() {
	k.queue = nil
	var where [blocks]bool
	for b := range where {
		where[b] = k.last[b] > k.stored
	}
	if k.seq > k.stored || !none(where) {
		k.gap, k.gapFrom = true, k.stored+1
		k.mark(where)
	}
	k.released = k.stored
}

// reread closes the gap: every marked block gets a number of its own. What the far side has already is left out.
func (k *capture) reread(disk image, far map[int]int) {
	for b, yes := range k.marked {
		k.marked[b] = false
		if !yes {
			continue
		}
		has, known := far[b]
		if !k.touched[b] && (k.zeroBase && disk[b] == 0 || !k.zeroBase && known && has == disk[b]) {
			k.last[b] = 0
			continue
		}
		k.seq++
		k.last[b], k.touched[b] = k.seq, true
		k.queue = append(k.queue, record{seq: k.seq, block: b, value: disk[b]})
	}
	k.gap, k.gapTo = false, k.seq
}

// point takes a position.
func (k *capture) point(p point) uint64 {
	k.seq++
	p.seq = k.seq
	k.queue = append(k.queue, record{seq: k.seq, point: &p})
	return k.seq
}

// lost tells whether a gap has taken a position.
func (k *capture) lost(seq uint64) bool {
	switch {
	case seq <= k.stored:
		return false
	case k.gap:
		return seq >= k.gapFrom
	}
	return seq >= k.gapFrom && seq <= k.gapTo
}

// dirty are the blocks that may differ from what is stored.
func (k *capture) dirty() (where [blocks]bool) {
	for b := range where {
		where[b] = k.marked[b] || k.last[b] > k.stored
	}
	return where
}

// taken: the process server has everything up to a position, the vault up to another.
func (k *capture) taken(spooled, stored uint64) {
	for len(k.queue) > 0 && k.queue[0].seq <= spooled {
		k.queue = k.queue[1:]
	}
	k.released = max(k.released, spooled)
	k.stored = max(k.stored, stored)
}

func only(b int) (where [blocks]bool) {
	where[b] = true
	return where
}
