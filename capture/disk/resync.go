package disk

import (
	"bytes"
	"context"
	"errors"
	"math/bits"
	"time"

	"github.com/understudy-ha/understudy/capture"
	"github.com/understudy-ha/understudy/journal"
	"github.com/understudy-ha/understudy/nbd"
)

// readAtOnce is how much of a disk is locked and read in one step, in bytes; at least one granule is.
const readAtOnce = 256 << 10

// clearing says which bits to clear when a position is stored: blocks read again, in bitmaps closed before a position.
type clearing struct {
	seq      uint64
	disk     uint16
	first, n int64
	begin    uint64
}

// round is one attempt to read everything that lossy bitmaps mark.
type round struct {
	gens    []*generation // closed and lossy: they are not dropped meanwhile
	begin   uint64        // the GapBegin
	scratch []byte
}

// lossyGenerations gives those that are closed. mu is held.
func (m *Machine) lossyGenerations() (list []*generation) {
	for _, g := range m.gens[:len(m.gens)-1] {
		if g.lossy {
			list = append(list, g)
		}
	}
	return list
}

func (r *round) word(disk uint16) func(int64) uint64 {
	return func(w int64) (v uint64) {
		for _, g := range r.gens {
			v |= g.dirtyWord(disk, w)
		}
		return v
	}
}

// untouched tells that a block had no record in this stream: only an initial bitmap marks it.
func (r *round) untouched(disk uint16, block int64) (yes, zeroBase bool) {
	for _, g := range r.gens {
		if !g.disks[disk].has(block) {
			continue
		}
		if !g.Initial {
			return false, false
		}
		zeroBase = g.ZeroBase
	}
	return true, zeroBase
}

// leftToRead counts the blocks that lossy bitmaps mark. mu is held.
func (m *Machine) leftToRead() (n int64) {
	r := round{gens: m.lossyGenerations()}
	for d := range m.sizes {
		word := r.word(uint16(d))
		for w := range bitsetWords(m.blocks(uint16(d))) {
			n += int64(bits.OnesCount64(word(w)))
		}
	}
	return n
}

func (m *Machine) blocks(disk uint16) int64 { return (m.sizes[disk] + m.granule - 1) / m.granule }

// readAgain reads every dirty block of the lossy bitmaps into the stream and ends the gap. It returns early when the queue
// overflows: what was read stays read.
func (m *Machine) readAgain(ctx context.Context) {
	m.mu.Lock()
	r := &round{gens: m.lossyGenerations(), begin: m.gap.begin}
	m.mu.Unlock()
	limit := max(1, min(readAtOnce/m.granule, int64(m.cfg.QueueRecords/8))) // else a short queue never has room for one step
	r.scratch = make([]byte, limit*m.granule)
	for d := range m.sizes {
		disk := uint16(d)
		for at := int64(0); ; {
			first, n := next(at, m.blocks(disk), limit, r.word(disk))
			if n == 0 {
				break
			}
			if !m.persist(ctx, func() error { return m.readBlocks(ctx, r, disk, first, n) }) {
				return
			}
			at = first + n
		}
	}
	m.persist(ctx, m.endGap)
}

// persist repeats a step until it succeeds (true) or the gap does not close any more.
func (m *Machine) persist(ctx context.Context, step func() error) bool {
	for ctx.Err() == nil {
		err := step()
		switch {
		case err == nil:
			return true
		case errors.Is(err, errInterrupted):
			return false
		case errors.Is(err, errNoRoom):
			m.sleep(ctx, 5*time.Millisecond)
		default:
			m.mu.Lock()
			m.setCondition(capture.ReadFailing, "a dirty block cannot be read, the gap stays open: %v", err)
			m.mu.Unlock()
			m.sleep(ctx, time.Second)
		}
	}
	return false
}

// readBlocks reads blocks under a range lock, and numbers them before it lets go: what was written before is in them, and
// what is written after has a greater number. Changes of the machine always have the other half of the queue for themselves.
func (m *Machine) readBlocks(ctx context.Context, r *round, disk uint16, first, n int64) error {
	off := first * m.granule
	size := min(n*m.granule, m.sizes[disk]-off)
	m.mu.Lock()
	ok, interrupted := m.queue.roomy(2, cost(size), int(n)), !m.mayRead()
	m.mu.Unlock()
	if interrupted {
		return errInterrupted
	}
	if !ok {
		return errNoRoom
	}
	d := m.disks[disk]
	span, err := d.spans.lock(ctx, off, size)
	if err != nil {
		return errInterrupted
	}
	defer d.spans.unlock(span)
	pieces, skipped, err := m.readPieces(ctx, r, d, first, off, r.scratch[:size])
	if err != nil {
		return err
	}
	return m.emitPieces(r, disk, first, n, pieces, skipped)
}

// readPieces turns a range into records without numbers: data, zeroes, and what the far side has already (skipped bytes).
func (m *Machine) readPieces(ctx context.Context, r *round, d *Disk, first, off int64, p []byte) (pieces []journal.Record, skipped int64, err error) {
	if err := readSparse(ctx, d.lower, p, off); err != nil {
		return nil, 0, err
	}
	for i := int64(0); i*m.granule < int64(len(p)); i++ {
		b := p[i*m.granule : min((i+1)*m.granule, int64(len(p)))]
		rec := journal.Record{Kind: journal.Write, Disk: d.index, Flags: journal.Resync, Off: off + i*m.granule, Len: int64(len(b)), Data: b}
		if isZero(b) {
			rec.Kind, rec.Data = journal.Zero, nil
		}
		untouched, zeroBase := r.untouched(d.index, first+i)
		if untouched && (zeroBase && rec.Kind == journal.Zero || !zeroBase && m.same != nil && m.same(d.index, rec.Off, b)) {
			skipped += rec.Len
			continue
		}
		if k := len(pieces) - 1; k >= 0 && pieces[k].Kind == rec.Kind && pieces[k].End() == rec.Off {
			pieces[k].Len += rec.Len
			if rec.Kind == journal.Write {
				pieces[k].Data = p[pieces[k].Off-off : rec.End()-off]
			}
			continue
		}
		pieces = append(pieces, rec)
	}
	for i := range pieces {
		if pieces[i].Kind == journal.Write {
			own := buffer(len(pieces[i].Data))
			copy(own, pieces[i].Data)
			pieces[i].Data = own
		}
	}
	return pieces, skipped, nil
}

// emitPieces numbers and queues what was read; all or nothing.
func (m *Machine) emitPieces(r *round, disk uint16, first, n int64, pieces []journal.Record, skipped int64) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	bytes := int64(0)
	for i := range pieces {
		bytes += cost(int64(len(pieces[i].Data)))
	}
	if m.gap.phase != closing {
		return errInterrupted
	}
	if !m.queue.roomy(1, bytes, len(pieces)) {
		return errNoRoom
	}
	for i := range pieces {
		m.emit(pieces[i])
		if pieces[i].Kind == journal.Zero {
			m.gap.zeroes += pieces[i].Len
		} else {
			m.gap.sent += pieces[i].Len
		}
	}
	for _, g := range r.gens {
		g.markDone(disk, first, n)
	}
	m.gap.left -= n
	m.gap.skipped += skipped
	m.clearWhenStored(clearing{seq: m.next - 1, disk: disk, first: first, n: n, begin: r.begin})
	return nil
}

// clearWhenStored remembers bits to clear. Neighbours that wait for the same position, since they needed no record, are remembered
// together; those of a later position are not, else what is stored would stay dirty for as long as reading is ahead. mu is held.
func (m *Machine) clearWhenStored(c clearing) {
	if k := len(m.clears) - 1; k >= 0 {
		l := &m.clears[k]
		if l.seq == c.seq && l.disk == c.disk && l.begin == c.begin && l.first+l.n == c.first {
			l.n += c.n
			return
		}
	}
	m.clears = append(m.clears, c)
}

// clearStored clears the bits of blocks that were read again and are stored now. mu is held.
func (m *Machine) clearStored() {
	k := 0
	for ; k < len(m.clears) && m.clears[k].seq <= m.stored; k++ {
		c := m.clears[k]
		for _, g := range m.gens {
			if g.closed < c.begin {
				g.disks[c.disk].clear(c.first, c.n)
			}
		}
	}
	m.clears = m.clears[k:]
}

// readSparse fills p with a range of a disk without reading its holes.
func readSparse(ctx context.Context, lower nbd.Backend, p []byte, off int64) error {
	end := off + int64(len(p))
	for at := off; at < end; {
		from := at
		var failed error
		err := lower.Extents(ctx, at, end-at, func(o, n int64, e nbd.Extent) bool {
			n = min(n, end-o)
			b := p[o-off : o-off+n]
			if e&nbd.Zeros != 0 {
				clear(b)
			} else if failed = lower.ReadAt(ctx, b, o); failed != nil {
				return false
			}
			at = o + n
			return at < end
		})
		if err := errors.Join(err, failed); err != nil {
			return err
		}
		if at == from { // extents are a hint
			return lower.ReadAt(ctx, p[at-off:], at)
		}
	}
	return nil
}

var zeroBlock [64 << 10]byte

func isZero(b []byte) bool {
	for len(b) > 0 {
		n := min(len(b), len(zeroBlock))
		if !bytes.Equal(b[:n], zeroBlock[:n]) {
			return false
		}
		b = b[n:]
	}
	return true
}
