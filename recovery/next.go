package recovery

import (
	"fmt"
	"slices"
	"strings"

	"github.com/understudy-ha/understudy/api"
	"github.com/understudy-ha/understudy/mutant"
)

// next gives what an allowed operation intends. What v holds is not changed.
func (v View) next(o *api.Operation) *api.MachineAssignment {
	m := *v.machine()
	if m.Drill != nil {
		d := *m.Drill
		m.Drill = &d
	}
	switch o.Operation {
	case api.OpTestFailover:
		m.Drill = v.drill(&m, o)
	case api.OpTestFailoverCleanup:
		m.Drill.Cleanup = &api.DrillResult{Passed: m.Drill.Passed, Notes: o.Notes}
		if v.Request != nil {
			m.Drill.Cleanup.By = v.Request.By
		}
		if p := m.Drill.Point; p != nil {
			m.Drill.Cleanup.Point = p.ID
		}
	case api.OpFailover, api.OpFailback:
		v.move(&m, o)
	case api.OpChangePoint:
		v.rename(&m)
		r := *m.Run
		r.Instance, r.Choice, r.Point = v.instance(), choice(o), nil
		m.Run, m.Epoch = &r, v.Generation
	case api.OpCommit:
		m.Stage = api.StageCommitted
	case api.OpCancelFailover:
		return v.back(m)
	case api.OpReprotect:
		m.Stage, m.ShipBase, m.Yield = api.StageProtected, "disk", fmt.Sprintf("%s-b%d", m.UID, m.Named)
	case api.OpReEnable:
		v.reEnable(&m)
	case api.OpResync:
		m.Restart = fmt.Sprintf("resync-%d", v.Generation)
	case api.OpPause, api.OpResume:
		m.Paused = o.Operation == api.OpPause
	case api.OpShutdown, api.OpStart:
		m.Stopped = o.Operation == api.OpShutdown
	case api.OpDisable:
		m.Stage, m.Paused = api.StageDisabled, false
	}
	return &m
}

// reEnable ships to the recovery site again: only what was written since the point that the recovery site once started from, if
// the machine came home from there.
func (v View) reEnable(m *api.MachineAssignment) {
	m.Stage = api.StageProtected
	if m.Run != nil && m.ShipBase != "" {
		return // it was disabled: its stream goes on, on what it stands on
	}
	m.ShipBase = "none"
	if m.Run == nil {
		v.rename(m)
		return
	}
	b := m.Before
	if b != nil && b.Run != nil && b.Run.Point != nil && b.Location == api.Recovery && b.Run.Vault == v.vault(m.Location).Metadata.Name {
		m.ShipBase, m.BaseStream, m.BaseSeq = "stream", b.Run.Point.Stream, b.Run.Point.Seq
		if mutant.On(mutant.WrongBase) {
			m.BaseSeq = m.Run.Point.Seq
		}
	}
}

// first is what a new machine starts with. A generation that an older machine of the name had is not used again.
func (v View) first() *api.MachineAssignment {
	m := &api.MachineAssignment{UID: v.Machine.Spec.UID, Stage: api.StageProtected, Location: api.Primary, Epoch: v.Generation, First: v.Generation}
	v.rename(m)
	return m
}

// rename gives the active side's writes a new stream.
func (v View) rename(m *api.MachineAssignment) {
	m.Named++
	m.Stream = fmt.Sprintf("%s-%d", m.UID, m.Named)
}

// instance names a run from a point.
func (v View) instance() string { return fmt.Sprintf("r%d", v.Generation) }

func choice(o *api.Operation) api.PointChoice {
	if o.Point == nil {
		return api.PointChoice{Kind: api.PointLatest}
	}
	return *o.Point
}

// left is what remains of an assignment that is left behind.
func left(m api.MachineAssignment) *api.MachineAssignment {
	m.Before, m.Drill, m.LastDrill = nil, nil, nil
	return &m
}

// move makes the other side the active one, from a point of what this one shipped.
func (v View) move(m *api.MachineAssignment, o *api.Operation) {
	before := left(*m)
	m.Before = before
	m.Location, m.Stage, m.Epoch = other(before.Location), api.StagePending, v.Generation
	if mutant.On(mutant.EpochKept) {
		m.Epoch = before.Epoch
	}
	m.Run = &api.MachineRun{Instance: v.instance(), Vault: v.vault(before.Location).Metadata.Name, Stream: before.Stream, Choice: choice(o),
		InPlace: before.ShipBase == "disk"}
	v.rename(m)
	m.ShipBase, m.BaseStream, m.BaseSeq, m.Yield, m.Restart, m.Paused, m.Stopped, m.Via = "", "", 0, "", "", false, false, nil
}

// back undoes a move: the side that was active before goes on with its own stream, under a new epoch. If the machine may have run
// on the old primary's disks meanwhile, they are not what that stream stands on any more: it is protected anew, by Reprotect.
func (v View) back(m api.MachineAssignment) *api.MachineAssignment {
	b := *m.Before
	b.Before = left(m)
	b.Epoch, b.Named, b.Stopped = v.Generation, m.Named, false
	b.Drill, b.LastDrill = m.Drill, m.LastDrill
	if r := m.Run; r.InPlace && r.Point != nil {
		b.Stage, b.ShipBase, b.Yield, b.Paused = api.StageCommitted, "", "", false
		v.rename(&b)
	}
	return &b
}

func (v View) drill(m *api.MachineAssignment, o *api.Operation) *api.MachineDrill {
	d := &api.MachineDrill{Generation: v.Generation, Started: v.Now}
	d.MachineRun = api.MachineRun{Instance: fmt.Sprintf("t%d", v.Generation), Vault: v.vault(m.Location).Metadata.Name, Stream: m.Stream, Choice: choice(o)}
	if v.Request != nil {
		d.By = v.Request.By
	}
	return d
}

// Bind gives the assignment as the outcomes of its job change it: the point that was found, a drill that passed, a drill
// that is gone. Nil if they change nothing.
func (v View) Bind(j *api.Job) *api.Assignment {
	m := v.machine()
	if m == nil {
		return nil
	}
	next, changed := *m, false
	if m.Drill != nil {
		d := *m.Drill
		next.Drill = &d
	}
	if m.Run != nil {
		r := *m.Run
		next.Run = &r
	}
	for i := range j.Status.Steps {
		s := &j.Status.Steps[i]
		if s.State != api.StepDone {
			continue
		}
		if via, told := shipsTo(s); told && !slices.Equal(via, next.Via) {
			next.Via, changed = via, true
		}
		switch {
		case s.ID == stepChoose && next.Run != nil && next.Run.Point == nil:
			next.Run.Point, changed = s.Point, true
		case s.ID == stepChooseDrill && next.Drill != nil && next.Drill.Point == nil:
			next.Drill.Point, changed = s.Point, true
		case s.ID == stepDrill && next.Drill != nil && !next.Drill.Passed:
			next.Drill.Passed, changed = true, true
		case s.ID == stepCleanup && next.Drill != nil && next.Drill.Cleanup != nil:
			result := *next.Drill.Cleanup
			result.At = s.DoneAt
			next.Drill, next.LastDrill, changed = nil, &result, true
		}
	}
	if !changed {
		return nil
	}
	a := *v.Assignment
	a.Machine = &next
	if v.missing() == "" && a.Wanted == v.Digest(m) { // else something has changed since, and nodes are told of it afterwards
		a.Wanted = v.Digest(&next)
	}
	return &a
}

// shipsTo gives the process servers that a step has told the active side of; told is false if the step is another.
func shipsTo(s *api.Step) (via []string, told bool) {
	if s.Node == nil || !strings.HasPrefix(s.ID, stepStart) {
		return nil, false
	}
	for _, sec := range s.Node.Sections {
		switch {
		case sec.Protect != nil:
			return sec.Protect.ProcessServers, true
		case sec.Site != nil && sec.Site.Ship != nil:
			return sec.Site.Ship.ProcessServers, true
		case sec.Site != nil:
			return nil, true
		}
	}
	return nil, false
}
