package disk

// fold makes one bitmap of two that have lost something, when there are many. Each time that a gap cannot close because the queue
// overflows, and each restart in a gap, leaves one more, and none is dropped before a gap has closed: over a slow link that would
// have no end. It answers true if it made them fewer. Only what closes gaps calls it, while nothing is read again.
func (m *Machine) fold() bool {
	m.files.RLock()
	older, newer := m.unite()
	var err error
	if older != nil {
		err = older.file.sync() // before the other is removed: a power cut must not take bits that were durable
	}
	m.files.RUnlock()
	if older == nil || err != nil {
		return false // what has been united says more than it must, which is harmless
	}
	m.mu.Lock()
	older.holds.append(newer.holds)
	older.lost += newer.lost
	older.setHeld(older.heldNow())
	keep := m.gens[:0:0]
	for _, g := range m.gens {
		if g != newer {
			keep = append(keep, g)
		}
	}
	m.gens = keep
	m.mu.Unlock()
	m.discard([]*generation{newer})
	return true
}

// unite makes the older of two bitmaps answer for what the newer one marks. Their counts stay where they are.
func (m *Machine) unite() (older, newer *generation) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if len(m.gens) < maxGenerations {
		return nil, nil
	}
	for _, g := range m.gens[:len(m.gens)-1] {
		if !g.lossy || g.pins > 0 || g.Initial {
			older = nil // what lies between two keeps them apart: they are in the order of their positions
			continue
		}
		if older != nil {
			older.take(g)
			return older, g
		}
		older = g
	}
	return nil, nil
}

// take marks what a newer one marks, and lasts as long. What is still to be read again of either is to be read again.
func (g *generation) take(newer *generation) {
	for d := range g.disks {
		disk := uint16(d)
		for w := range g.disks[d] {
			todo := g.dirtyWord(disk, int64(w)) | newer.dirtyWord(disk, int64(w))
			all := g.disks[d].word(int64(w)) | newer.disks[d].word(int64(w))
			if all == 0 {
				continue
			}
			g.disks[d].or(int64(w), all)
			if done := all &^ todo; done != 0 {
				g.makeDone()
				g.done[d].or(int64(w), done)
			}
			if g.done != nil {
				g.done[d].and(int64(w), ^todo)
			}
		}
	}
	g.last, g.closed = newer.last, newer.closed
}
