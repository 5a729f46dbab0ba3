package disk

import (
	"cmp"
	"fmt"

	"github.com/understudy-ha/understudy/capture"
)

// DirtyRanges gives what may differ from what is stored: the blocks of all bitmaps that still answer for something. After a
// power loss the extents that were hot are among them. In order, whole granules.
func (m *Machine) DirtyRanges() (ranges []capture.Range) {
	m.files.RLock()
	defer m.files.RUnlock()
	m.mu.Lock()
	var gens []*generation
	for i, g := range m.gens {
		last := g.last
		if i == len(m.gens)-1 {
			last = m.next - 1
		}
		if g.lossy || g.pins > 0 || last > m.stored {
			gens = append(gens, g)
		}
	}
	m.mu.Unlock()
	for d, size := range m.sizes {
		blocks := m.blocks(uint16(d))
		word := func(w int64) (v uint64) {
			for _, g := range gens {
				v |= g.disks[d].word(w)
			}
			return v
		}
		for at := int64(0); ; {
			first, n := next(at, blocks, blocks, word)
			if n == 0 {
				break
			}
			off := first * m.granule
			ranges = append(ranges, capture.Range{Disk: uint16(d), Off: off, Len: min(n*m.granule, size-off)})
			at = first + n
		}
	}
	return ranges
}

// SetSame gives a function that knows what the far side has where the stream has written nothing yet: it answers true if
// that is the data, and then the block is not sent. It is asked for blocks of Config.Initial, AddDirty and StartStream without
// ZeroBase, whole granules, from one goroutine, while the range is locked: it must not block. nil: everything is sent.
func (m *Machine) SetSame(same func(disk uint16, off int64, data []byte) bool) {
	m.pauseReading()
	defer m.resumeReading()
	m.same = same
}

// AddDirty says that ranges differ from what the stream is based on. nil means everything. The stream has a gap until they
// were read.
func (m *Machine) AddDirty(ranges []capture.Range) error {
	m.pauseReading()
	defer m.resumeReading()
	b, err := m.freshBitmap(true, false)
	if err != nil {
		return err
	}
	if err := m.markRanges(b, ranges); err != nil {
		b.file.close()
		m.dir.remove(b.name) // what is left of it marks too much, which is harmless
		return err
	}
	if err := b.file.sync(); err != nil {
		b.file.close()
		return fmt.Errorf("bitmap %s: %w", b.name, err)
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	g := initialGeneration(b, m.next-1)
	k := len(m.gens) - 1
	m.gens = append(m.gens[:k:k], g, m.gens[k])
	lossy := m.gens[k+1].lossy
	m.openGap(m.next)
	m.gens[k+1].lossy = lossy
	return nil
}

// Start is how a stream begins.
type Start struct {
	// ID of the stream, not the one that the machine has. Epoch of the assignment that writes it, not older than the machine's.
	ID    string
	Epoch uint64
	// Initial and ZeroBase as in Config.
	Initial  []capture.Range
	ZeroBase bool
}

// StartStream ends the stream that the machine has and begins another at position 1, with a gap in which the initial ranges
// are read. What was dirty in the old one is forgotten: ask DirtyRanges before. Changes are held up while the state is
// written; a Next that waits goes on with the new stream. On an error the old stream goes on.
func (m *Machine) StartStream(s Start) error {
	m.mu.Lock()
	err := m.checkStart(s)
	shipping := m.gap.shipping
	if err == nil {
		m.gap.shipping = false // what reads again stops
		m.openGap(m.next)
	}
	m.mu.Unlock()
	if err != nil {
		return err
	}
	m.reading.Lock()
	defer m.reading.Unlock()
	err = m.switchStream(s)
	m.SetShipping(shipping)
	return err
}

func (m *Machine) checkStart(s Start) error {
	switch {
	case m.closed:
		return capture.ErrClosed
	case s.ID == "" || len(s.ID) > maxName || s.ID == m.stream:
		return fmt.Errorf("stream id: %q; want a new one of 1 to %d bytes", s.ID, maxName)
	case s.Epoch < m.epoch:
		return fmt.Errorf("epoch: %w: %d; asked for %d", ErrStale, m.epoch, s.Epoch)
	}
	return nil
}

// switchStream holds changes up by the gate, so that none has bits in the old bitmaps and its number in the new stream.
func (m *Machine) switchStream(s Start) error {
	m.rotating.Lock()
	defer m.rotating.Unlock()
	access := m.Access()
	m.SetAccess(Unconfirmed)
	defer m.reopen(access)

	old := m.stream
	m.mu.Lock()
	gens, spare := m.gens, m.spare
	m.stream, m.spare = s.ID, nil // bitmaps that are made now are the new stream's; the old one's count until the state is written
	m.mu.Unlock()
	if spare != nil {
		gens = append(gens[:len(gens)-1:len(gens)-1], newGeneration(spare), gens[len(gens)-1])
	}
	fresh, err := m.initialBitmaps(s)
	if err == nil {
		m.state.put(liveStored, 0) // also right for the old stream: it only makes a crash just now cost more
		m.state.put(liveStoredRecords, 0)
		m.state.put(liveGapFrom, 1)
		err = m.writeState(func(i *identity) {
			i.Stream, i.Epoch, i.Stored, i.Reserved = s.ID, s.Epoch, 0, max(i.Reserved, 1+reserveAhead)
			m.trustIfMended(i)
		})
	}
	if err != nil {
		m.mu.Lock()
		m.stream, m.gens = old, gens
		m.mu.Unlock()
		return fmt.Errorf("stream %s: %w", s.ID, err)
	}
	m.mu.Lock()
	m.gens, m.epoch = fresh, s.Epoch
	m.resetStream()
	m.mu.Unlock()
	m.discard(gens)
	return nil
}

// initialBitmaps makes a new stream's bitmaps, without m.gens.
func (m *Machine) initialBitmaps(s Start) ([]*generation, error) {
	b, err := m.freshBitmap(true, s.ZeroBase)
	if err != nil {
		return nil, err
	}
	err = m.markRanges(b, s.Initial)
	if err == nil {
		err = b.file.sync()
	}
	var current *bitmap
	if err == nil {
		current, err = m.freshBitmap(false, false)
	}
	if err != nil {
		b.file.close()
		m.dir.remove(b.name) // if it stays, the next start removes it: it is of another stream
		return nil, err
	}
	return []*generation{initialGeneration(b, 0), newGeneration(current)}, nil
}

// resetStream begins to number anew. mu is held, nothing is inside the gate.
func (m *Machine) resetStream() {
	m.queue.drop(0)
	m.queue = queue{
		maxBytes: m.queue.maxBytes, maxRecords: m.queue.maxRecords, bytes: m.queue.bytes, records: m.queue.records, wake: m.queue.wake,
	}
	m.next, m.stored, m.captured, m.clears = 1, 0, 0, nil
	m.gap = gap{shipping: m.gap.shipping, paused: m.gap.paused, since: m.now()}
	for word, v := range []uint64{liveNext: 1, liveStored: 0, liveStoredRecords: 0} {
		m.state.put(word, v)
	}
	m.openInitialGap()
}

// reopen gives back the access that the machine had, unless it was changed meanwhile.
func (m *Machine) reopen(access Access) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.gate.access = cmp.Or(m.gate.access, access)
	m.gate.announce()
}
