package disk

import (
	"context"
	"time"

	"github.com/understudy-ha/understudy/capture"
	"github.com/understudy-ha/understudy/journal"
)

// Next implements capture.Source.
func (m *Machine) Next(ctx context.Context) ([]journal.Record, error) {
	for {
		m.mu.Lock()
		batch, wake := m.queue.take(), m.queue.wake
		if m.gap.unsure {
			m.gap.unsure = false
			kick(m.gapKick)
		}
		m.mu.Unlock()
		if len(batch) > 0 {
			return batch, nil
		}
		select {
		case <-wake:
		case <-ctx.Done():
			return nil, ctx.Err()
		case <-m.ctx.Done():
			return nil, capture.ErrClosed
		}
	}
}

// Release implements capture.Source.
func (m *Machine) Release(upTo uint64) {
	m.mu.Lock()
	m.queue.release(min(upTo, m.next-1))
	m.noteUnsent()
	m.mu.Unlock()
	kick(m.gapKick)
}

// Stored implements capture.Source. What is stored need not be kept either, so it releases too.
func (m *Machine) Stored(upTo uint64) {
	m.mu.Lock()
	upTo = min(upTo, m.next-1)
	if upTo <= m.stored {
		m.mu.Unlock()
		return
	}
	m.queue.release(upTo)
	m.noteUnsent()
	m.stored = upTo
	m.state.put(liveStored, upTo)
	m.queue.store(upTo)
	m.state.put(liveStoredRecords, m.queue.stored)
	droppable := false
	for i, g := range m.gens {
		g.setHeld(g.store(upTo))
		droppable = droppable || i < len(m.gens)-1 && g.droppable(upTo)
	}
	m.clearStored()
	m.mu.Unlock()
	kick(m.gapKick)
	if droppable {
		kick(m.janitor)
	}
}

// Rewind implements capture.Source.
func (m *Machine) Rewind(from uint64) bool {
	from = max(from, 1)
	m.mu.Lock()
	foreign := from > m.next || from <= m.stored
	m.mu.Unlock()
	if !foreign {
		return m.rewind(from)
	}
	// That everything is dirty must outlive a power cut from here on: after that the two pasts may look like one.
	err := m.writeState(func(s *identity) { s.Suspect = true })
	whole := m.rewind(from)
	if err == nil {
		err = m.syncBitmaps()
	}
	if err == nil {
		err = m.writeState(m.trustIfMended)
	}
	if err != nil {
		m.metadataFailed(err)
	}
	return whole
}

func (m *Machine) rewind(from uint64) bool {
	m.mu.Lock()
	defer m.mu.Unlock()
	defer kick(m.gapKick)
	unsure := m.gap.unsure
	m.gap.unsure = false
	defer func() {
		m.gap.before = time.Time{}
		m.noteUnsent()
	}()
	switch {
	case from > m.next: // it knows positions that this directory never gave: they must not be given again
		m.setCondition(capture.HistoryMismatch, "the far side has positions up to %d, the last given here was %d: everything is sent again", from-1, m.next-1)
		m.loseFrom(m.stored + 1)
		m.next = from
		m.queue.drop(from - 1)
		m.state.put(liveNext, from)
		kick(m.janitor)
		m.distrustAll(from)
		return false
	case from > m.queue.released:
		m.queue.rewind(from)
		if unsure {
			m.setGapFrom(from)
		}
		return true
	case from <= m.stored:
		m.setCondition(capture.HistoryMismatch, "the far side lost what it had stored from position %d on: everything is sent again", from)
		m.loseFrom(from)
		m.stored = from - 1
		m.state.put(liveStored, m.stored)
		m.distrustAll(from)
		return false
	}
	m.loseFrom(from)
	m.openGap(from)
	if unsure {
		m.setGapFrom(from)
	}
	return false
}

// setGapFrom says exactly from where positions may be missing. mu is held.
func (m *Machine) setGapFrom(from uint64) {
	m.gap.from = from
	m.losePoints(from)
	m.state.put(liveGapFrom, from+1)
}

// loseFrom says that nothing from a position on will be delivered: what is in memory is dropped, and bitmaps that answer
// for such positions have lost them. mu is held.
func (m *Machine) loseFrom(from uint64) {
	m.queue.loseFrom(from)
	m.queue.drop(m.next - 1)
	for i, g := range m.gens {
		if i == len(m.gens)-1 || g.last >= from || g.lossy {
			g.lose(from)
			g.setHeld(g.heldNow())
		}
	}
	k := len(m.clears)
	for k > 0 && m.clears[k-1].seq >= from {
		k--
	}
	m.clears = m.clears[:k]
}
