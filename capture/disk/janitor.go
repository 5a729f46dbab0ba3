package disk

import (
	"time"

	"github.com/understudy-ha/understudy/capture"
)

const (
	// reserveAhead is how many positions are reserved at a time: after a power loss numbering goes on behind them.
	reserveAhead = 1 << 22
	// maxGenerations bounds the bitmaps that are kept while the far side stores nothing.
	maxGenerations = 8
	// rememberStored is how often the far side's word is made durable.
	rememberStored = 30 * time.Second
)

// runJanitor does what must not make a write wait: it reserves positions, rotates and drops bitmaps, and tries again what
// failed.
func (m *Machine) runJanitor() {
	for {
		m.recoverMetadata()
		m.renewState()
		m.refreshBitmaps()
		m.pruneGenerations()
		select {
		case <-m.janitor:
		case <-time.After(time.Second):
		case <-m.ctx.Done():
			return
		}
	}
}

func (m *Machine) writeState(change func(*identity)) error {
	m.stateMu.Lock()
	defer m.stateMu.Unlock()
	return m.state.write(change)
}

// renewState reserves positions before they are needed, and remembers what is stored.
func (m *Machine) renewState() {
	m.mu.Lock()
	next, stored := m.next, m.stored
	m.mu.Unlock()
	m.stateMu.Lock()
	short := next+reserveAhead/2 > m.state.Reserved
	old := m.state.Stored != stored && m.now().Sub(m.stateWritten) >= rememberStored
	m.stateMu.Unlock()
	if !short && !old {
		return
	}
	err := m.writeState(func(s *identity) { s.Reserved, s.Stored = max(s.Reserved, next+reserveAhead), stored })
	if err != nil {
		m.mu.Lock()
		failing := m.failing()
		m.mu.Unlock()
		if !failing {
			m.metadataFailed(err)
		}
		return
	}
	m.stateWritten = m.now()
}

// recoverMetadata ends failing: first it tries to write down that everything is dirty; when bits and log are durable again,
// the bits say so.
func (m *Machine) recoverMetadata() {
	m.mu.Lock()
	failing, seen := m.failing(), m.failures
	m.mu.Unlock()
	if !failing {
		return
	}
	if err := m.writeState(func(s *identity) { s.Suspect = true }); err != nil {
		return
	}
	all := map[uint16]bool{}
	for i := range m.disks {
		all[uint16(i)] = true
	}
	if m.activity.recover(all) != nil || m.syncBitmaps() != nil {
		return
	}
	m.mu.Lock()
	m.mended = seen
	m.mu.Unlock()
	if err := m.writeState(m.trustIfMended); err != nil {
		m.metadataFailed(err)
		return
	}
	m.mu.Lock()
	if !m.failing() { // else it has failed again
		m.clearCondition(capture.MetadataFailing)
	}
	m.mu.Unlock()
	kick(m.gapKick)
}

// refreshBitmaps keeps a bitmap ready, and makes it current when the old one has been for long enough.
func (m *Machine) refreshBitmaps() {
	m.rotating.Lock()
	defer m.rotating.Unlock()
	m.mu.Lock()
	ready := m.spare != nil
	m.mu.Unlock()
	if !ready {
		fresh, err := m.freshBitmap(false, false)
		m.mu.Lock()
		defer m.mu.Unlock()
		if err != nil {
			m.setCondition(capture.MetadataFull, "no bitmap can be made: %v", err)
			return
		}
		m.spare = fresh
		m.clearCondition(capture.MetadataFull)
		m.rotateIfDue()
		return
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	m.rotateIfDue()
}

// rotateIfDue makes the spare bitmap current if the current one marks something, so that it can be dropped. mu is held.
func (m *Machine) rotateIfDue() {
	if m.gap.phase == dropping || len(m.gens) >= maxGenerations || m.now().Sub(m.rotated) < m.cfg.RotateEvery {
		return
	}
	if m.current().used && m.spare != nil {
		m.rotate(m.spare)
		m.spare = nil
		kick(m.janitor)
	}
}

// takeSpare gives the next bitmap; rotating is held.
func (m *Machine) takeSpare() (*bitmap, error) {
	m.mu.Lock()
	spare := m.spare
	m.spare = nil
	m.mu.Unlock()
	kick(m.janitor)
	if spare != nil {
		return spare, nil
	}
	return m.freshBitmap(false, false)
}
