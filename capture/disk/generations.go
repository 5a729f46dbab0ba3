package disk

import (
	"math"
	"slices"
)

// generation is a bitmap and what it answers for. The newest one is current: every change has its bits set there when it
// takes its number, and in the one that was current when the change began (which it pins until then). A generation is dropped
// when Stored has passed its last position, nobody pins it, and nothing that it answers for was lost.
type generation struct {
	*bitmap
	last   uint64 // the last position it answers for; unset while it is current
	closed uint64 // the last position when it ceased to be current; until then greater than all
	pins   int
	used   bool // something was marked in it
	// lossy: a record that it answers for will never be delivered. Its blocks are read again when the gap closes; then last is
	// the GapEnd, and it is not lossy any more.
	lossy bool
	// done marks blocks that were read again since it became lossy; their bits are cleared when that is stored. nil: none.
	done []bitset

	// The marking side of Counters.
	holds runs
	lost  uint64
	end   uint64 // the GapEnd that makes good what was lost; 0: none yet
}

func newGeneration(b *bitmap) *generation { return &generation{bitmap: b, closed: math.MaxUint64} }

// initialGeneration is a closed one that marks what no record was made for. last is the last position given.
func initialGeneration(b *bitmap, last uint64) *generation {
	return &generation{bitmap: b, last: last, closed: last, used: true, lossy: true}
}

// dirtyWord gives the bits of a word that are still to be read again.
func (g *generation) dirtyWord(disk uint16, w int64) uint64 {
	v := g.disks[disk].word(w)
	if g.done != nil {
		v &^= g.done[disk].word(w)
	}
	return v
}

func (g *generation) markDone(disk uint16, first, n int64) {
	g.makeDone()
	g.done[disk].set(first, n)
}

func (g *generation) makeDone() {
	if g.done != nil {
		return
	}
	for i := range g.Sizes {
		g.done = append(g.done, make(bitset, bitsetWords(g.blocks(uint16(i)))))
	}
}

// lose says that what it answers for from a position on is not going to be delivered.
func (g *generation) lose(from uint64) {
	g.lossy = true
	g.done = nil
	g.lost += g.holds.takeFrom(from)
	g.end = 0
}

// store counts what is stored, and gives the number of records that it still holds.
func (g *generation) store(upTo uint64) (held uint64) {
	g.holds.takeUpTo(upTo)
	if g.end != 0 && g.end <= upTo {
		g.lost, g.end = 0, 0
	}
	return g.heldNow()
}

func (g *generation) heldNow() uint64 { return g.holds.total + g.lost }

// droppable tells whether nothing depends on it.
func (g *generation) droppable(stored uint64) bool {
	return !g.lossy && g.pins == 0 && g.last <= stored
}

func (m *Machine) current() *generation { return m.gens[len(m.gens)-1] }

// rotate makes a fresh bitmap current. mu is held.
func (m *Machine) rotate(fresh *bitmap) {
	m.current().last, m.current().closed = m.next-1, m.next-1
	m.gens = append(m.gens, newGeneration(fresh))
	m.rotated = m.now()
}

// freshBitmap makes the bitmap of the next generation. Only the janitor and Open call it, mu is not held.
func (m *Machine) freshBitmap(initial, zeroBase bool) (*bitmap, error) {
	m.mu.Lock()
	m.lastGeneration++
	h := bitmapHead{Generation: m.lastGeneration, Stream: m.stream, Granule: m.granule, Initial: initial, ZeroBase: zeroBase, Sizes: m.sizes}
	m.mu.Unlock()
	return createBitmap(m.dir, h)
}

// pruneGenerations drops what can be dropped, files included.
func (m *Machine) pruneGenerations() {
	m.mu.Lock()
	var gone []*generation
	keep := m.gens[:0:0]
	for i, g := range m.gens {
		if i < len(m.gens)-1 && g.droppable(m.stored) {
			gone = append(gone, g)
		} else {
			keep = append(keep, g)
		}
	}
	m.gens = keep
	m.mu.Unlock()
	m.discard(gone)
}

// discard removes bitmaps that are not in m.gens any more.
func (m *Machine) discard(gone []*generation) {
	if len(gone) == 0 {
		return
	}
	m.files.Lock() // nobody looks at a mapping
	defer m.files.Unlock()
	for _, g := range gone {
		if err := m.dir.remove(g.name); err != nil {
			m.log.Warn("cannot remove a bitmap that is not needed any more", "bitmap", g.name, "error", err)
		}
		if err := g.file.close(); err != nil {
			m.log.Warn("cannot close a bitmap", "bitmap", g.name, "error", err)
		}
	}
}

// snapshot gives the generations; their mappings stay as long as files is held for reading.
func (m *Machine) snapshot() []*generation {
	m.mu.Lock()
	defer m.mu.Unlock()
	return slices.Clone(m.gens)
}

// syncBitmaps makes all bits durable.
func (m *Machine) syncBitmaps() error {
	m.files.RLock()
	defer m.files.RUnlock()
	for _, g := range m.snapshot() {
		if err := g.file.sync(); err != nil {
			return err
		}
	}
	return nil
}
