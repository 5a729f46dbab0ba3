package sim

import (
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/understudy-ha/understudy/api"
	"github.com/understudy-ha/understudy/job"
	"github.com/understudy-ha/understudy/lead"
)

// What machines are promised, beyond the invariants of DESIGN.md; ARCHITECTURE.md says it in words.
const (
	pinned   = 7 // what a run, a drill or a stream stands on stays readable
	accepted = 8 // what the status lists as allowed is accepted
)

// assigned notes an assignment.
func (e *estate) assigned(g *guest, a *api.Assignment) {
	c, m := e.w.check, a.Machine
	e.w.note("store", "assigned", g.ref.Name, string(m.Stage), string(m.Location), fmt.Sprint(a.Generation), fmt.Sprint(m.Epoch), m.Stream, a.Job, a.Reason)
	if c.active[generation{g.ref, a.Generation}] == "" {
		if was := c.active[generation{g.ref, a.Generation - 1}]; was != "" && was != string(m.Location) {
			c.moves++
		}
	}
	c.active[generation{g.ref, a.Generation}] = string(m.Location)
	e.epochs[generation{g.ref, m.Epoch}] = true
	if m.Drill != nil {
		e.epochs[generation{g.ref, m.Drill.Generation}] = true
	}
}

// happened tells whether what a step waited for has been there.
func (e *estate) happened(j *api.Job, s *api.Step) bool {
	c := e.w.check
	switch s.Kind {
	case api.StepNode:
		for _, sec := range s.Node.Sections {
			if c.sections["default/"+s.Node.Node+" "+lead.SectionKey(sec.Engine, sec.Owner)] < sec.Generation {
				return false
			}
		}
		return true
	case api.StepAwait:
		if strings.HasPrefix(s.ID, "pin:") {
			e.pins[j.Metadata.Name] = e.w.now
		}
		return true
	}
	return c.succeeded[j.Metadata.Name+" "+s.ID]
}

// begun looks at what a run from a point begins with: what the machine's disks held when the point was made.
func (e *estate) begun(p *process, c *api.SiteConfig, has image) {
	e.same(p.c.guest, e.vaults[c.Vault.Name], c.Stream, c.Seq, has, p.c.where()+" begins "+c.Instance)
}

func (e *estate) same(g *guest, v *vaultModel, id string, seq uint64, has image, what string) {
	for _, r := range v.streams[id].recs {
		if r.point != nil && r.seq == seq {
			e.w.note(v.name, "point", r.point.id, fmt.Sprint(has))
			if want := g.points[r.point.id]; want != has {
				e.w.violate(6, fmt.Sprintf("%s from point %s (%s@%d) with %v, the machine's disks held %v", what, r.point.id, id, seq, has, want))
			}
			return
		}
	}
	e.w.violate(6, fmt.Sprintf("%s from %s@%d, which is no point", what, id, seq))
}

// pointStored looks at a point once it is stored: reading there gives what the machine's disks held.
func (e *estate) pointStored(v *vaultModel, id string, p point) {
	g := e.owner(id)
	has, err := v.view(id, p.seq)
	if err != nil {
		e.w.violate(6, fmt.Sprintf("point %s of %s: %v", p.id, id, err))
		return
	}
	disk := *e.source.house.disks[g.spec.Spec.UID]
	for b, cell := range has {
		if cell.has {
			disk[b] = cell.value
		}
	}
	e.same(g, v, id, p.seq, disk, "reading")
}

// owner of a stream.
func (e *estate) owner(id string) *guest {
	i := slices.IndexFunc(e.guests, func(g *guest) bool { return strings.HasPrefix(id, g.spec.Spec.UID+"-") })
	return e.guests[i]
}

// pruned looks at a point that a keeper forgets: it is not one that is in use, and that the keeper was told of.
func (e *estate) pruned(v *vaultModel, k api.KeptStream, p point) {
	g := e.owner(k.Stream)
	m := g.machine(e.w)
	if m == nil {
		return
	}
	in := func(r *api.MachineRun, generation int64) {
		if r.Point != nil && r.Vault == v.name && r.Point.Stream == k.Stream && r.Point.Seq == p.seq && e.knew(g, generation) {
			e.w.violate(pinned, fmt.Sprintf("%s forgets point %s of %s, in use by %s", v.name, p.id, k.Stream, r.Instance))
		}
	}
	if m.Run != nil && m.Stage == api.StagePending {
		in(m.Run, m.Epoch)
	}
	if m.Drill != nil {
		in(&m.Drill.MachineRun, m.Drill.Generation)
	}
}

// takesUp is how long a keeper's process may take to go by what its agent took for it.
const takesUp = 2 * time.Minute

// knew tells whether the keeper was told of the point that the job of a generation found.
func (e *estate) knew(g *guest, generation int64) bool {
	for _, j := range e.w.check.jobs {
		if j.Spec.Subject != g.ref || j.Spec.Generation != generation {
			continue
		}
		if at, ok := e.pins[j.Metadata.Name]; ok && e.w.now-at > takesUp {
			return true
		}
	}
	return false
}

// cameUp notes that a run from a point is up.
func (e *estate) cameUp(c *child, instance string) { e.up[c.guest.ref.Name+" "+instance] = true }

// ended looks at a job that has ended: one that succeeded had its effect.
func (e *estate) ended(g *guest, j *api.Job) {
	if j.Status.Phase != api.Succeeded {
		return
	}
	op, m := api.OperationKind(j.Spec.Kind), g.machine(e.w)
	e.ops[op]++
	wrong := ""
	switch op {
	case api.OpFailover, api.OpFailback, api.OpChangePoint:
		e.w.check.failovers++
		if m.Run == nil || m.Run.Point == nil || !m.Stopped && !e.up[g.ref.Name+" "+m.Run.Instance] {
			wrong = "its run was never up"
		} else {
			wrong = e.lost(g, m, j)
		}
	case api.OpTestFailover:
		if m.Drill == nil || !e.up[g.ref.Name+" "+m.Drill.Instance] {
			wrong = "its drill was never up"
		}
	case api.OpTestFailoverCleanup:
		if c := e.target.house.kid(lead.SectionKey(api.EngineSite, g.ref.String()+":drill")); c != nil && (c.vm || c.proc != nil && c.proc.live != nil) {
			wrong = "its drill is still there"
		}
	case api.OpReprotect:
		if s := e.vaults["vault"].streams[m.Yield]; s == nil && !e.unbegun[m.Yield] {
			wrong = "there is no branch " + m.Yield
		}
	}
	if wrong != "" {
		e.w.violate(3, fmt.Sprintf("job %s (%s) of %s has succeeded, and %s", j.Metadata.Name, op, g.ref, wrong))
	}
}

// lost says what a move lost although its source was shut down for it.
func (e *estate) lost(g *guest, m *api.MachineAssignment, j *api.Job) string {
	down := slices.ContainsFunc(j.Status.Steps, func(s api.Step) bool { return strings.HasPrefix(s.ID, "shutdown:") && s.State == api.StepDone })
	if !down || m.Run.Choice.Kind != api.PointLatest || g.spec.Spec.VM == nil || job.Find(j, "choose") == nil || m.Before.Stage != api.StageProtected || m.Before.Paused {
		return ""
	}
	h, engine := e.source.house, api.EngineProtect
	if m.Before.Run != nil {
		engine = api.EngineSite
	}
	if m.Before.Location == api.Recovery {
		h = e.target.house
	}
	c := h.kid(lead.SectionKey(engine, g.ref.String()))
	if c == nil || c.home == nil {
		return ""
	}
	disk := &c.home.disk
	if m.Before.Location == api.Primary {
		disk = h.disks[g.spec.Spec.UID]
	}
	if want := g.points[m.Run.Point.ID]; want != *disk {
		return fmt.Sprintf("its source, shut down for it, holds %v, the point has %v", *disk, want)
	}
	return ""
}
