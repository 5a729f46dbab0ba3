package disk

import (
	"context"
	"fmt"
	"slices"
	"time"

	"github.com/understudy-ha/understudy/capture"
	"github.com/understudy-ha/understudy/journal"
)

// begin lets a change in: it pins the current bitmap and reserves room for the payload.
func (m *Machine) begin(ctx context.Context, o *op, payload int64) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	if err := m.admit(ctx); err != nil {
		return err
	}
	m.gate.inside++
	o.ctx = m.contextOf(ctx)
	o.gen = m.current()
	o.gen.pins++
	o.gen.used = true
	o.room = m.gap.phase != dropping && m.queue.reserve(payload)
	return nil
}

// finish numbers a change that the lower disk has carried out, or failed to, and queues it. Without room, in a gap, or
// after a failure it is lost to the stream: its block is dirty, and the gap makes it good. payload is the caller's; it is copied
// here only for a change that found no room when it began and finds some now. Without that, changes that are under way when a
// gap begins to close would open it again, and under load there always are some.
func (m *Machine) finish(o *op, payload []byte, failed bool) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if !o.room && !failed && m.gap.phase != dropping && m.queue.reserve(int64(len(payload))) {
		o.room = true
		if len(payload) > 0 {
			o.rec.Data = buffer(len(payload))
			copy(o.rec.Data, payload)
		}
	}
	m.number(&o.rec)
	m.captured++
	g := m.current()
	if g != o.gen { // the bitmap was rotated meanwhile: this number is the new one's
		g.set(o.rec.Disk, o.rec.Off, o.rec.Len)
		g.used = true
	}
	if o.room && !failed && m.gap.phase != dropping {
		g.holds.add(o.rec.Seq)
		m.queue.push(o.rec, true)
	} else {
		if o.room {
			m.queue.unreserve(int64(len(payload)))
			giveBack(o.rec.Data)
		}
		g.lost++
		m.queue.lost++
		m.openGap(o.rec.Seq)
	}
	g.setHeld(g.heldNow())
	m.noteUnsent()
	o.gen.pins--
	m.gate.leave()
}

// number gives the next position. mu is held.
func (m *Machine) number(rec *journal.Record) {
	rec.Seq = m.next
	rec.Time = m.now().UnixNano()
	m.next++
	m.state.put(liveNext, m.next)
}

// emit numbers and queues a record that is no change of the machine, if there is room. mu is held.
func (m *Machine) emit(rec journal.Record) (uint64, bool) {
	if !m.queue.reserve(int64(len(rec.Data))) {
		return 0, false
	}
	m.number(&rec)
	m.queue.push(rec, false)
	m.noteUnsent()
	return rec.Seq, true
}

// flushed queues a flush. Where it would not be seen it takes no number.
func (m *Machine) flushed(disk uint16) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.gap.phase != dropping && m.gate.access == Writable && !m.closed {
		m.emit(journal.Record{Kind: journal.Flush, Disk: disk})
	}
}

// Point makes a recovery point of everything that has a number, and gives the point's own. In a gap it is refused with
// capture.ErrInGap. An app-consistent point's caller has frozen the machine around it. A zero time means now.
func (m *Machine) Point(_ context.Context, p journal.PointInfo) (uint64, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.closed {
		return 0, capture.ErrClosed
	}
	if m.gap.phase != streaming {
		return 0, capture.ErrInGap
	}
	if p.At.IsZero() {
		p.At = m.now()
	}
	rec := journal.Record{Kind: journal.Point, Seq: m.next, Point: &p}
	if err := rec.Validate(); err != nil {
		return 0, err
	}
	seq, ok := m.emit(rec)
	if !ok {
		return 0, fmt.Errorf("the queue is full: %w", capture.ErrInGap)
	}
	return seq, nil
}

// PointLost tells whether a gap has come over a point that this process made: it is not valid any more.
func (m *Machine) PointLost(seq uint64) bool {
	m.mu.Lock()
	defer m.mu.Unlock()
	return slices.ContainsFunc(m.gap.lost, func(r [2]uint64) bool { return r[0] <= seq && seq <= r[1] })
}

// losePoints says that the points from a position on, as far as there are any, lie in a gap. mu is held.
func (m *Machine) losePoints(from uint64) {
	if len(m.gap.lost) == maxLost {
		m.gap.lost = slices.Delete(m.gap.lost, 0, 1)
	}
	m.gap.lost = append(m.gap.lost, [2]uint64{from, m.next - 1})
}

// Position tells how far everything is.
func (m *Machine) Position() capture.Position {
	m.mu.Lock()
	defer m.mu.Unlock()
	p := capture.Position{
		Stream: m.stream, Epoch: m.epoch,
		Captured: m.next - 1, Released: min(m.queue.released, m.next-1), Stored: m.stored,
		QueueBytes: m.queue.bytes, QueueRecords: m.queue.records,
		OldestUnsent: m.unsentSince(),
		InGap:        m.gap.phase != streaming, GapFrom: m.gap.from, Shipping: m.gap.shipping,
		Counters: m.counters(),
		Resync:   m.progress(),
	}
	for _, c := range m.conditions {
		p.Conditions = append(p.Conditions, c)
	}
	return p
}

// unsentSince is when the oldest record that is not released was captured, as far as that is known; in a gap not later than
// its beginning, also if that was in an earlier process. mu is held.
func (m *Machine) unsentSince() time.Time {
	t := m.queue.oldest()
	for _, other := range []time.Time{m.gap.since, m.gap.before} {
		if !other.IsZero() && (t.IsZero() || other.Before(t)) {
			t = other
		}
	}
	return t
}

// noteUnsent remembers it for the next process, should this one be killed. mu is held.
func (m *Machine) noteUnsent() {
	if t := m.unsentSince(); t.IsZero() {
		m.state.put(liveUnsent, 0)
	} else {
		m.state.put(liveUnsent, uint64(t.UnixNano()))
	}
}

// Counters are read together.
func (m *Machine) Counters() capture.Counters {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.counters()
}

func (m *Machine) counters() capture.Counters {
	c := capture.Counters{Captured: m.captured, Stored: m.queue.stored}
	for _, g := range m.gens {
		c.Dirty += g.heldNow()
	}
	return c
}

// setCondition says that something is wrong; mu is held.
func (m *Machine) setCondition(code, format string, args ...any) {
	if _, known := m.conditions[code]; !known {
		c := capture.Condition{Code: code, Text: fmt.Sprintf(format, args...), Since: m.now().Round(time.Millisecond)}
		m.conditions[code] = c
		m.log.Warn("capture: "+c.Text, "code", code, "stream", m.stream)
	}
}

func (m *Machine) clearCondition(code string) { delete(m.conditions, code) }
