package live

import (
	"time"

	"github.com/understudy-ha/understudy/api"
	"github.com/understudy-ha/understudy/capture"
	"github.com/understudy-ha/understudy/capture/disk"
	"github.com/understudy-ha/understudy/journal"
)

// Describe adds how the machine lives.
func (m *Machine) Describe(s *api.EngineState) {
	p := m.capture.Position()
	done := m.marks.Get("point") // before what is known of the points: who reads that one is done reads its position too, or a later one
	m.mu.Lock()
	sender, points, yieldNo, vmGone := m.sender, m.points, m.yieldNo, m.vmGone
	protection := m.protection(p)
	m.mu.Unlock()
	s.Phase, s.Percent = phaseOf(m.capture.Access(), p, protection)
	s.Done = done
	last, asked := m.lost(points)
	if asked {
		s.Done = "" // it is made again
	}
	if y := m.marks.Get("yield"); y != "" && m.capture.Access() == disk.ReadOnly {
		s.Phase, s.Done = "yielded", y // whatever became of a point
	}
	if last {
		points.last, points.seq = journal.PointInfo{}, 0
	}
	s.Stream, s.Captured, s.Stored, s.Dirty = p.Stream, p.Captured, p.Stored, p.Counters.Dirty
	s.Changes = api.ChangeCount(p.Counters)
	s.DifferingBytes = p.Resync.SentBytes + p.Resync.ZeroBytes
	s.ResyncBytes = s.DifferingBytes + p.Resync.SkippedBytes
	s.Address = "unix:" + m.disks.Socket()
	s.LastPoint, s.LastPointSeq, s.LastPointAt = points.last.ID, points.seq, points.last.At
	for _, c := range p.Conditions {
		s.Conditions = append(s.Conditions, api.Condition{Code: c.Code, Severity: api.Warning, Message: c.Text, Impacts: "recovery points", Since: c.Since})
	}
	if c := points.appCondition(); c != nil {
		s.Conditions = append(s.Conditions, *c)
	}
	if yieldNo != nil {
		s.Conditions = append(s.Conditions, api.Condition{Code: "NotHandedOver", Severity: api.Warning, Message: yieldNo.Error(), Impacts: "reprotect"})
	}
	if m.vm != nil {
		if c := m.vm.Condition(); c != nil {
			s.Conditions = append(s.Conditions, *c)
		}
	}
	if vmGone {
		s.Conditions = append(s.Conditions, api.Condition{Code: "VirtualMachineDown", Severity: api.Critical, Impacts: "the machine does not run",
			Message: "the virtual machine was up and is not any more: its guest shut down or crashed"})
	}
	if sender == nil {
		return
	}
	s.Protection = protection
	st := sender.Status()
	s.RPO, s.RPOp50, s.RPOp99 = api.Duration(st.RPO), api.Duration(st.RPOp50), api.Duration(st.RPOp99)
	if !st.Connected { // nobody measures it: it grows with what was captured and not stored
		s.RPO = 0
		if !p.OldestUnsent.IsZero() {
			s.RPO = api.Duration(time.Since(p.OldestUnsent))
		}
	}
	s.Conditions = append(s.Conditions, st.Conditions...)
}

// phaseOf says in a word how the machine's protection is.
func phaseOf(a disk.Access, p capture.Position, protection string) (phase string, percent float64) {
	percent = 100
	if p.InGap && p.Resync.TotalBytes > 0 {
		percent = 100 * float64(p.Resync.TotalBytes-p.Resync.RemainingBytes) / float64(p.Resync.TotalBytes)
	}
	switch a {
	case disk.ReadOnly:
		return "readonly", 0
	case disk.Unconfirmed:
		return "waiting", percent
	}
	return protection, percent
}

// protection says in a word whether the far side could recover the machine; under mu. After a gap it can once everything that
// closed the gap is stored.
func (m *Machine) protection(p capture.Position) string {
	switch {
	case p.InGap:
		m.wholeAt = 0
	case m.wholeAt == 0:
		m.wholeAt = max(1, p.Captured)
	}
	if m.wholeAt > 0 && p.Stored >= m.wholeAt {
		m.stored = true
		return "protected"
	}
	if m.stored || p.InGap && p.GapFrom > 1 {
		return "gap"
	}
	return "initial"
}
