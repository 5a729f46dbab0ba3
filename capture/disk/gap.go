package disk

import (
	"context"
	"errors"
	"time"

	"github.com/understudy-ha/understudy/capture"
	"github.com/understudy-ha/understudy/journal"
)

// phase of the stream.
//
//	            queue full, write failed,                    queue half empty, a fresh
//	            far side lost records, restart               bitmap, shipping, healthy
//	streaming ───────────────────────────────► dropping ───────────────────────────────► closing
//	    ▲                                          ▲    number GapBegin                     │  │
//	    │                                          └────────────────────────────────────────┘  │
//	    │                                            queue full again                          │
//	    └──────────────────────────────────────────────────────────────────────────────────────┘
//	                                 everything dirty was read again: number GapEnd
//
// Dropping: changes take numbers and set bits, payloads are dropped, flushes take no number. Closing: the bitmaps that lost
// something are closed, changes are queued again and mark a fresh one, while the blocks of the closed ones are read again
// under a range lock and numbered. If the queue overflows meanwhile, the fresh one has lost something too.
type phase int

const (
	streaming phase = iota
	dropping
	closing
)

// maxLost bounds what is remembered of points that were lost.
const maxLost = 32

// gap is what is known of the gap that is open. It is under the order lock.
type gap struct {
	phase    phase
	shipping bool
	paused   int    // who needs that nothing is read again just now
	from     uint64 // the first position that may be missing
	since    time.Time
	before   time.Time   // since when an earlier process had something unsent, until the sender says what the far side has
	unsure   bool        // after a restart: what the far side has is not known until the sender says or asks
	begin    uint64      // the number of the newest GapBegin
	lost     [][2]uint64 // positions whose points were lost, first and last; the newest maxLost
	suspect  bool        // everything is dirty because bitmaps could not be trusted
	began    time.Time
	total    int64 // blocks dirty when closing began
	left     int64 // blocks not read again
	sent     int64 // bytes
	zeroes   int64
	skipped  int64
}

// openGap says that the change with this number, or one that nobody will ever see, is lost. mu is held.
func (m *Machine) openGap(from uint64) {
	m.current().lossy = true
	if m.gap.phase == streaming || from < m.gap.from {
		m.losePoints(from)
	}
	if m.gap.phase == streaming {
		m.gap.from, m.gap.since, m.gap.total = from, m.now(), 0
		m.gap.since = m.unsentSince()
		m.log.Info("capture: the stream has a gap", "stream", m.stream, "from", from)
	} else {
		m.gap.from = min(m.gap.from, from)
	}
	m.gap.phase = dropping
	m.state.put(liveGapFrom, m.gap.from+1)
	m.noteUnsent()
	kick(m.gapKick)
}

// distrustHot says that a flush of a disk failed: what the disk holds where it was written lately is not known any more. The flush began when so many
// evictions were over. If extents were evicted since, their flush may have come after this one and found nothing wrong, so anything may be
// lost.
func (m *Machine) distrustHot(disk uint16, evictions uint64) {
	hot, now := m.activity.list()
	m.mu.Lock()
	defer m.mu.Unlock()
	if now != evictions {
		m.current().set(disk, 0, m.sizes[disk])
	}
	m.markHot(hot, func(d uint16) bool { return d == disk })
	m.openGap(m.next)
}

// markHot sets the bits of extents in the current bitmap. mu is held.
func (m *Machine) markHot(hot []extent, of func(disk uint16) bool) {
	for _, e := range hot {
		d, off := e.disk(), e.off(m.activity.size)
		if int(d) < len(m.sizes) && off < m.sizes[d] && of(d) {
			m.current().set(d, off, min(m.activity.size, m.sizes[d]-off))
		}
	}
}

// distrustAll says that bitmaps or log failed: every block is dirty. mu is held.
func (m *Machine) distrustAll(from uint64) {
	m.current().setAll()
	m.gap.suspect = true
	m.openGap(from)
}

// metadataFailed says that the activity log, bitmaps or the state could not be written. The disks work on, and the log does not track what is
// changed, so a power cut must find it written down that everything is dirty. If even that cannot be written, the janitor tries again.
func (m *Machine) metadataFailed(err error) {
	m.mu.Lock()
	m.failures++
	m.distrustAll(m.next)
	m.mu.Unlock()
	unsaid := m.writeState(func(s *identity) { s.Suspect = true })
	m.mu.Lock()
	switch {
	case !m.failing(): // mended meanwhile
	case unsaid == nil:
		m.setCondition(capture.MetadataFailing, "bitmaps and logs cannot be written, everything is taken as dirty: %v", err)
	default:
		m.setCondition(capture.MetadataFailing, "bitmaps and logs cannot be written, everything is taken as dirty; if the host restarts before they can, resynchronise the machine: %v", err)
	}
	m.mu.Unlock()
	kick(m.janitor)
}

// failing tells whether metadata failed and has not been made good. mu is held.
func (m *Machine) failing() bool { return m.failures != m.mended }

// trustIfMended is for who writes the state: everything is dirty unless metadata is whole.
func (m *Machine) trustIfMended(s *identity) {
	m.mu.Lock()
	defer m.mu.Unlock()
	s.Suspect = m.failing()
}

// SetShipping says whether records are meant to be sent. While they are not, the stream has a gap, and only dirty bits are
// kept.
func (m *Machine) SetShipping(yes bool) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.gap.shipping = yes
	if !yes && m.gap.phase != dropping {
		m.openGap(m.next)
	}
	kick(m.gapKick)
}

// runGaps closes gaps until the machine is closed.
func (m *Machine) runGaps() {
	for m.ctx.Err() == nil {
		m.reading.Lock()
		if m.mayClose() {
			for m.fold() {
			}
			m.beginClosing()
		}
		if m.inPhase(closing) {
			m.readAgain(m.ctx)
		}
		m.reading.Unlock()
		select {
		case <-m.gapKick:
		case <-time.After(200 * time.Millisecond):
		case <-m.ctx.Done():
		}
	}
}

// pauseReading has what is read again stop, and returns when it has; until resumeReading nothing is. A gap takes as long to close as
// the far side likes, and nobody may have to wait for that.
func (m *Machine) pauseReading() {
	m.mu.Lock()
	m.gap.paused++
	m.mu.Unlock()
	m.reading.Lock()
}

func (m *Machine) resumeReading() {
	m.mu.Lock()
	m.gap.paused--
	m.mu.Unlock()
	m.reading.Unlock()
	kick(m.gapKick)
}

// mayRead tells whether a gap is closing and nobody needs it to stop. mu is held.
func (m *Machine) mayRead() bool { return m.gap.phase == closing && m.gap.paused == 0 }

func (m *Machine) inPhase(p phase) bool {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.gap.phase == p
}

// mayClose tells whether a gap may begin to close: half of the queue is free for blocks and changes.
func (m *Machine) mayClose() bool {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.gap.phase == dropping && m.gap.shipping && m.gap.paused == 0 && !m.gap.unsure && !m.failing() && m.queue.roomy(2, recordOverhead, 1)
}

// beginClosing closes the bitmaps that lost something, and numbers the GapBegin.
func (m *Machine) beginClosing() {
	m.rotating.Lock()
	defer m.rotating.Unlock()
	fresh, err := m.takeSpare()
	m.mu.Lock()
	defer m.mu.Unlock()
	if err != nil {
		m.setCondition(capture.MetadataFull, "no bitmap can be made, the gap stays open: %v", err)
		return
	}
	if m.gap.phase != dropping || !m.gap.shipping || m.failing() {
		m.spare = fresh
		return
	}
	m.rotate(fresh)
	seq, ok := m.emit(journal.Record{Kind: journal.GapBegin, From: m.gap.from})
	if !ok {
		m.current().lossy = true // nothing is lost but time: it is tried again
		return
	}
	m.gap.phase, m.gap.begin, m.gap.began = closing, seq, m.now()
	m.gap.left = m.leftToRead()
	m.gap.total = max(m.gap.total, m.gap.left)
	m.clearCondition(capture.MetadataFull)
}

// endGap numbers the GapEnd, if nothing was lost since everything was read again.
func (m *Machine) endGap() error {
	m.mu.Lock()
	defer m.mu.Unlock()
	if !m.mayRead() {
		return errInterrupted
	}
	seq, ok := m.emit(journal.Record{Kind: journal.GapEnd})
	if !ok {
		return errNoRoom
	}
	m.queue.endGap(seq)
	for _, g := range m.gens {
		if g.lossy {
			g.lossy, g.last, g.end, g.done = false, seq, seq, nil
		}
	}
	m.gap.phase, m.gap.from, m.gap.since, m.gap.left, m.gap.began = streaming, 0, time.Time{}, 0, time.Time{}
	m.gap.suspect = false
	m.state.put(liveGapFrom, 0)
	m.noteUnsent()
	for _, code := range []string{capture.ReadFailing, capture.PowerLost, capture.HistoryMismatch} {
		m.clearCondition(code)
	}
	m.log.Info("capture: the gap is closed", "stream", m.stream, "at", seq)
	return nil
}

var (
	errInterrupted = errors.New("the gap does not close just now")
	errNoRoom      = errors.New("no room in the queue")
)

// sleep waits until room may have come.
func (m *Machine) sleep(ctx context.Context, d time.Duration) {
	select {
	case <-m.gapKick:
	case <-time.After(d):
	case <-ctx.Done():
	}
}

// progress tells how far reading again is. mu is held.
func (m *Machine) progress() capture.Progress {
	g := &m.gap
	return capture.Progress{
		TotalBytes: g.total * m.granule, RemainingBytes: g.left * m.granule,
		SentBytes: g.sent, ZeroBytes: g.zeroes, SkippedBytes: g.skipped, Started: g.began,
	}
}
