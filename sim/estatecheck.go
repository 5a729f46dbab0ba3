package sim

import (
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/understudy-ha/understudy/api"
	"github.com/understudy-ha/understudy/controller"
	"github.com/understudy-ha/understudy/job"
	"github.com/understudy-ha/understudy/lead"
	"github.com/understudy-ha/understudy/steward"
)

// What machines are promised, beyond the invariants of DESIGN.md; ARCHITECTURE.md says it in words.
const (
	pinned   = 7 // what a run, a drill or a stream stands on stays readable
	accepted = 8 // what the status lists as allowed is accepted
)

// told is the newest generation that a node was told to write under.
type told struct {
	generation int64
	node       string
	at         time.Duration
}

// spot is a place where a machine's disks are open, or its virtual machine runs, other than in a drill.
type spot struct {
	c          *child
	generation int64
	writes     bool // its disks may be written
	runs       bool // the machine runs
}

// spots lists them, for a moment.
func (e *estate) spots(g *guest) []spot {
	e.seen = e.seen[:0]
	for _, n := range e.w.nodes {
		for _, c := range n.house.kids {
			if c.guest != g || c.drill {
				continue
			}
			s := spot{c: c, runs: c.vm}
			if c.home != nil {
				s.generation = c.home.config.section.Generation
			}
			if p := c.proc; p != nil && p.live != nil {
				s.generation, s.writes = p.live.spec.epoch, p.live.access == writable
				s.runs = p.live.runs()
			}
			if s.writes || s.runs {
				e.seen = append(e.seen, s)
			} else {
				c.old = 0
			}
		}
	}
	return e.seen
}

// inTouch is how long a node that runs what is old may be in touch with a leader before it has stopped: the leader's step or
// repair, the push and its answer, the process taking it up, and the guest going down.
const inTouch = 90 * time.Second

// assert looks at the whole estate after every event.
func (e *estate) assert() {
	for _, g := range e.guests {
		all := e.spots(g)
		newest := int64(0)
		for _, s := range all {
			if s.writes {
				newest = max(newest, s.generation)
			}
		}
		for i, s := range all {
			for _, o := range all[:i] {
				if s.writes && o.writes && s.generation == o.generation {
					e.w.violate(4, fmt.Sprintf("%s may be written at %s and at %s under generation %d", g.ref, o.c.where(), s.c.where(), s.generation))
				}
				if s.writes && o.writes && s.c.proc.live.disk == o.c.proc.live.disk {
					e.w.violate(4, fmt.Sprintf("%s and %s write the same disk of %s", o.c.where(), s.c.where(), g.ref))
				}
			}
			e.watchOld(g, s, newest)
		}
	}
}

// watchOld: a node that can be told does not run what is old for long.
func (e *estate) watchOld(g *guest, s spot, newest int64) {
	switch {
	case s.generation >= newest || !e.reachable(s.c.h.n):
		s.c.old = 0
	case s.c.old == 0:
		s.c.old = e.w.now
	case e.w.now-s.c.old > inTouch:
		e.w.violate(4, fmt.Sprintf("%s runs at %s under generation %d, which has been in touch for %v, while generation %d runs elsewhere",
			g.ref, s.c.where(), s.generation, e.w.now-s.c.old, newest))
	}
}

// reachable tells whether a leader can tell a node something.
func (e *estate) reachable(n *node) bool {
	l := e.w.leader()
	return l != nil && l.m.power == running && n.m.power == running && n.house.on && n.sessions[l.index] != nil && !n.sessions[l.index].impaired() &&
		e.w.net.open(l.at, e.w.store.at) && e.w.net.open(e.w.store.at, l.at) && !e.w.store.down
}

func (c *child) where() string { return c.h.n.m.name + " (" + c.key + ")" }

// opened looks at disks that begin to be written: on a leader's word, in this life of the agent.
func (e *estate) opened(p *process) {
	if !p.c.drill && !p.cfg.confirmed {
		e.w.violate(4, fmt.Sprintf("%s is opened for writing at %s without a word", p.c.guest.ref, p.c.where()))
	}
}

// word looks at a leader's word that an agent takes: it is not given once a newer generation was told to run elsewhere, and
// one that was on its way counts no longer than a tick does.
func (e *estate) word(n *node, a steward.Apply) {
	g, drill := e.guest(a.Section.Owner)
	if g == nil || drill || !a.Confirmed || !writes(a.Section) {
		return
	}
	late := e.w.now - e.told[g.ref].at
	if t := e.told[g.ref]; a.Section.Generation < t.generation && n.misled < e.w.now &&
		float64(late) > float64(e.w.timing.Hold())/(1-e.w.skew.rate) {
		e.w.violate(4, fmt.Sprintf("%s takes the word that generation %d of %s holds, %v after %s was told to run %d", n.name, a.Section.Generation, g.ref, late, t.node, t.generation))
	}
}

// writes tells whether a section has disks written.
func writes(s api.Section) bool {
	return s.Protect != nil && s.Protect.Mode == "writable" || s.Site != nil && s.Site.Mode == "writable"
}

// echoed looks at an echo as it is given.
func (e *estate) echoed(h *host, x controller.Echo) {
	for _, owner := range x.Renews {
		g, drill := e.guest(owner)
		if g == nil || drill {
			continue
		}
		if t := e.told[g.ref]; t.node != x.Node && e.under(x.Node, owner) < t.generation {
			e.w.violate(4, fmt.Sprintf("%s tells %s that it still runs %s, and %s was told to run it", h.m.name, x.Node, g.ref, t.node))
		}
	}
}

// under gives the newest generation of a machine that a node was told of.
func (e *estate) under(node, owner string) (newest int64) {
	n := e.w.nodeNamed(node)
	for _, engine := range []string{api.EngineProtect, api.EngineSite} {
		newest = max(newest, n.seen.Sections[lead.SectionKey(engine, owner)].Section.Generation)
	}
	return newest
}

// pushed looks at a push as it is given: what an agent is told follows a stored intent, and nobody is told to run what is old.
func (e *estate) pushed(h *host, x controller.Push) {
	for _, s := range x.Sections {
		g, drill := e.guest(s.Owner)
		if g == nil {
			continue // of a process server or a keeper
		}
		if !e.epochs[generation{g.ref, s.Generation}] {
			e.w.violate(3, fmt.Sprintf("%s is told of generation %d of %s, which is not stored", x.Node, s.Generation, s.Owner))
		}
		if !e.intended(g, x.Node, s) {
			e.w.violate(3, fmt.Sprintf("%s is told %s of %s, and no stored step intends it", x.Node, s.Engine, s.Owner))
		}
		t := e.told[g.ref]
		switch {
		case drill || !writes(s):
		case s.Generation < t.generation:
			e.w.violate(4, fmt.Sprintf("%s tells %s to run generation %d of %s after %s was told to run %d", h.m.name, x.Node, s.Generation, g.ref, t.node, t.generation))
		case s.Generation == t.generation && x.Node != t.node:
			e.w.violate(4, fmt.Sprintf("%s and %s are told to run generation %d of %s", t.node, x.Node, s.Generation, g.ref))
		case s.Generation > t.generation:
			e.told[g.ref] = told{s.Generation, x.Node, e.w.now}
		}
	}
}

func (e *estate) intended(g *guest, node string, s api.Section) bool {
	for _, j := range e.w.check.jobs {
		if j.Spec.Subject != g.ref {
			continue
		}
		for i := range j.Status.Steps {
			if st := &j.Status.Steps[i]; st.State != api.StepPending && st.Node != nil && "default/"+st.Node.Node == node &&
				slices.ContainsFunc(st.Node.Sections, func(o api.Section) bool {
					return o.Engine == s.Engine && o.Owner == s.Owner && o.Generation == s.Generation
				}) {
				return true
			}
		}
	}
	return false
}

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

// knew tells whether the keeper was told of the point that the job of a generation found.
func (e *estate) knew(g *guest, generation int64) bool {
	for _, j := range e.w.check.jobs {
		if j.Spec.Subject != g.ref || j.Spec.Generation != generation {
			continue
		}
		if slices.ContainsFunc(j.Status.Steps, func(s api.Step) bool { return strings.HasPrefix(s.ID, "pin:") && s.State == api.StepDone }) {
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
		if s := e.vaults["vault"].streams[m.Yield]; s == nil {
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
