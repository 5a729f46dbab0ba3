package controller

import (
	"slices"
	"time"

	"github.com/understudy-ha/understudy/api"
	"github.com/understudy-ha/understudy/lead"
	"github.com/understudy-ha/understudy/mutant"
	"github.com/understudy-ha/understudy/recovery"
	"github.com/understudy-ha/understudy/store"
)

// machine is what a controller knows of one protected machine.
type machine struct {
	subject
	spec *api.ProtectedMachine // nil: deleted, or not seen yet
	core *Core
	told map[string]api.Severity // conditions that events were written of
}

func newMachine(c *Core, ref api.Ref) *machine {
	return &machine{subject: newSubject(ref, "m", api.PlanVersionMachines), core: c, told: map[string]api.Severity{}}
}

func (m *machine) learn(value []byte, rev store.Rev) {
	if s := parse[api.ProtectedMachine](value); s != nil && rev >= m.specRev {
		s.Default()
		m.spec, m.specRev, m.dirty = s, rev, true
		m.core.unsettle()
	}
}

func (m *machine) forget() {
	m.spec = nil
	m.core.unsettle()
}

func (m *machine) reassigned() {}

func (m *machine) abandon() { m.letGo() }

// view is what a decision about the machine looks at. The spec must be known.
func (m *machine) view() recovery.View {
	c := m.core
	return recovery.View{Machine: m.spec, Assignment: m.assign, Job: c.job(&m.subject), Request: m.request, Resources: c.resources(m.spec),
		Generation: m.subject.generation(""), RetryAt: m.retryAt, Now: c.now.Wall,
		Silent: func(node string) time.Duration { return c.silent(m.nodeName(node)) },
		Report: func(node, engine, owner string) (api.SectionStatus, bool) {
			return c.report(m.nodeName(node), engine, owner)
		}}
}

// silent is how long a node has had no session, as far as this leadership knows; 0 while it has one.
func (c *Core) silent(node string) time.Duration {
	since, _ := c.elector.Acquired()
	if a := c.agents[node]; a != nil {
		if !a.gone {
			return 0
		}
		since = a.since
	}
	return max(c.now.Since(since), 1)
}

// report is what a connected node last said of a section.
func (c *Core) report(node, engine, owner string) (api.SectionStatus, bool) {
	a := c.agents[node]
	if a == nil || a.gone {
		return api.SectionStatus{}, false
	}
	s, ok := a.sections[lead.SectionKey(engine, owner)]
	return s, ok
}

// drive decides about the machine and takes the next step.
func (m *machine) drive(c *Core) {
	if m.spec == nil || m.writing {
		return
	}
	v := m.view()
	v.Astray = m.astray(v)
	d := recovery.Decide(v)
	m.show(c, d.Status)
	if d.Again > 0 {
		c.after(d.Again.D(), func() { m.dirty = true })
	}
	switch {
	case c.stopping:
		c.advance(m)
	case d.Refused != "":
		c.refuse(m, d.Refused)
	case d.CancelJob:
		c.cancel(m)
	case d.Kind != "":
		m.begin(c, v, d)
	default:
		c.advance(m)
	}
}

// begin writes what was decided, and the job that works towards it.
func (m *machine) begin(c *Core, v recovery.View, d recovery.Decision) {
	from := ""
	next := api.Assignment{Active: m.site(d.Next.Location), SpecGeneration: m.spec.Metadata.Generation, Machine: d.Next, Wanted: d.Wanted}
	if m.assign != nil {
		from, next.Previous = m.assign.Active, m.assign.Active
		if next.Active == m.assign.Active {
			from, next.Previous = "", m.assign.Previous
		}
	}
	c.resolve(m, intent{next: next, kind: d.Kind, from: from, steps: d.Steps, reason: d.Reason, answered: d.Answered})
}

func (m *machine) site(l api.Location) string {
	if l == api.Recovery {
		return m.spec.Spec.Recovery.Site
	}
	return m.spec.Spec.Source.Site
}

// astray lists what nodes are known to have otherwise than they should.
func (m *machine) astray(v recovery.View) []string {
	if m.assign == nil || m.assign.Machine == nil || m.assign.Machine.UID != m.spec.Spec.UID {
		return nil
	}
	var out []string
	for _, t := range v.Wanted(m.assign.Machine) {
		if s := t.Section.Site; s != nil && s.Seq == 0 && s.Mode == "writable" {
			continue // the job has not found the point yet
		}
		if t.Drill && !m.assign.Machine.Drill.Passed {
			continue
		}
		out = append(out, m.core.astraySection(m.nodeName(t.Node), t.Section)...)
	}
	return out
}

// concerns tells whether the node has, or should have, sections of the machine, or serves it.
func (m *machine) concerns(node string) bool {
	if m.spec == nil {
		return false
	}
	s := &m.spec.Spec
	r := m.core.resources(m.spec)
	nodes := []string{s.Source.Node, s.Recovery.Node}
	for _, ps := range []*api.ProcessServer{r.ProcessServer, r.BackServer} {
		if ps != nil {
			nodes = append(nodes, ps.Spec.Node)
		}
	}
	for _, v := range []*api.Vault{r.Vault, r.BackVault} {
		if v != nil {
			nodes = append(nodes, v.Spec.Keeper)
		}
	}
	return slices.ContainsFunc(nodes, func(n string) bool { return m.nodeName(n) == node })
}

func (m *machine) sections(s api.Step) []api.Section {
	out := slices.Clone(s.Node.Sections)
	if m.spec == nil {
		return out
	}
	v := m.view()
	for i := range out {
		out[i] = v.Fill(out[i])
	}
	return out
}

func (m *machine) execute(*Core, *Execute) {}

func (m *machine) bind(j *api.Job) *api.Assignment {
	if m.spec == nil {
		return nil
	}
	return m.view().Bind(j)
}

// renews lists what the agent runs of the machine, by the newest word.
func (m *machine) renews(c *Core, a *agent) []string {
	if m.spec == nil || m.assign == nil || m.assign.Machine == nil || m.assign.Machine.UID != m.spec.Spec.UID {
		return nil
	}
	am := m.assign.Machine
	node, engine := m.spec.Spec.Source.Node, api.EngineProtect
	if am.Location == api.Recovery {
		node = m.spec.Spec.Recovery.Node
	}
	if am.Run != nil {
		engine = api.EngineSite
	}
	var out []string
	holds := func(node, engine, owner string, generation int64) {
		has := a.sections[lead.SectionKey(engine, owner)]
		if a.name == m.nodeName(node) && has.Applied.ClusterID == c.cfg.ClusterID && has.Applied.Generation == generation {
			out = append(out, owner)
		}
	}
	holds(node, engine, recovery.Owner(m.ref), am.Epoch)
	if b := am.Before; b != nil && mutant.On(mutant.RenewsOld) {
		for _, n := range []string{m.spec.Spec.Source.Node, m.spec.Spec.Recovery.Node} {
			holds(n, api.EngineProtect, recovery.Owner(m.ref), b.Epoch)
			holds(n, api.EngineSite, recovery.Owner(m.ref), b.Epoch)
		}
	}
	if d := am.Drill; d != nil && d.Cleanup == nil {
		holds(m.spec.Spec.Recovery.Node, api.EngineSite, recovery.DrillOwner(m.ref), d.Generation)
	}
	return out
}

// show keeps the machine's status up to date and tells people what has become worse.
func (m *machine) show(c *Core, s api.MachineStatus) {
	s.Conditions = m.status.stamp(s.Conditions, c.now.Wall)
	now := map[string]api.Severity{}
	for _, cond := range s.Conditions {
		now[cond.Code] = cond.Severity
		if cond.Severity != api.Info && m.told[cond.Code] != cond.Severity && cond.Code != "JobBlocked" && cond.Code != "JobCancelled" {
			c.record(&m.subject, cond.Severity, cond.Code, cond.Message)
		}
	}
	switch was := m.told["RPOExceeded"]; {
	case was == "" || now["RPOExceeded"] != "":
	case s.Replication == nil: // nobody says how old the copy is
		now["RPOExceeded"] = was
	default:
		c.record(&m.subject, api.Info, "RPORestored", "the copy is as fresh as the policy wants it again")
	}
	m.told = now
	if c.writeStatus(&m.subject, encode(s)) {
		c.followers()
	}
}
