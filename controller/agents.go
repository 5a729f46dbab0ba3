package controller

import (
	"maps"
	"slices"

	"github.com/understudy-ha/understudy/api"
	"github.com/understudy-ha/understudy/clock"
	"github.com/understudy-ha/understudy/lead"
)

// agent is one node's session with this controller.
type agent struct {
	name     string // tenant/name
	session  uint64
	life     string
	peer     string
	version  string
	drivers  []string
	sections map[string]api.SectionStatus // by lead.SectionKey
	holds    []string
	echoes   lead.Echoes
	gone     bool
	since    clock.Instant
	ticked   clock.Instant // when it was last heard of
	// renewed says, by owner, when this leadership last renewed or gave a grant.
	renewed map[string]clock.Instant
}

func sectionMap(list []api.SectionStatus) map[string]api.SectionStatus {
	m := map[string]api.SectionStatus{}
	for _, s := range list {
		m[lead.SectionKey(s.Engine, s.Owner)] = s
	}
	return m
}

func (c *Core) agentHello(e AgentHello) {
	old := c.agents[e.Node]
	if old != nil && old.session > e.Session {
		return
	}
	a := &agent{name: e.Node, session: e.Session, life: e.Life, peer: e.PeerAddress, version: e.Version, drivers: e.Drivers,
		sections: sectionMap(e.Sections), holds: e.Holds, since: c.now, ticked: c.now, renewed: map[string]clock.Instant{}}
	if old != nil {
		a.renewed = old.renewed
	}
	c.agents[e.Node] = a
	c.standing.heard(a.name)
	for _, d := range c.order {
		if d.concerns(e.Node) {
			d.base().retryAt, d.base().dirty = c.now.Wall, true
		}
	}
}

// at gives the agent if the session is its present one.
func (c *Core) at(node string, session uint64) *agent {
	if a := c.agents[node]; a != nil && a.session == session && !a.gone {
		return a
	}
	return nil
}

func (c *Core) agentReport(e AgentReport) {
	a := c.at(e.Node, e.Session)
	if a == nil {
		return
	}
	a.sections, a.holds = sectionMap(e.Sections), e.Holds
	c.standing.heard(a.name)
	for _, d := range c.order {
		d.base().dirty = d.base().dirty || d.concerns(e.Node)
	}
}

func (c *Core) agentGone(e AgentGone) {
	a := c.at(e.Node, e.Session)
	if a == nil {
		return
	}
	a.gone, a.since = true, c.now
	a.echoes.Reset()
	for _, d := range c.order {
		s := d.base()
		s.dirty = s.dirty || d.concerns(e.Node)
		for _, id := range slices.Sorted(maps.Keys(s.runs)) {
			if r := s.runs[id]; r.node == e.Node {
				r.push = 0 // unanswered; pushed again to the next session
			}
		}
	}
}

func (c *Core) agentTick(e AgentTick) {
	a := c.at(e.Node, e.Session)
	if a == nil || a.life != e.Life {
		return
	}
	a.ticked = c.now
	if c.leading {
		a.echoes.Arrived(c.now, e.Seq)
	}
}

// renewed follows a successful lease renewal: ticks that arrived before it began are echoed, grants with them, and
// pushes that waited for a tick go out.
func (c *Core) renewed() {
	began := c.elector.Renewed()
	for _, name := range slices.Sorted(maps.Keys(c.agents)) {
		a := c.agents[name]
		if a.gone || !a.echoes.Renewed(began) {
			continue
		}
		seq, _ := a.echoes.Proven()
		renews := c.renews(a)
		for _, owner := range renews {
			a.renewed[owner] = c.now
		}
		c.do(Echo{Node: a.name, Session: a.session, Life: a.life, Seq: seq, Epoch: c.elector.Epoch(), Renews: renews})
		for _, d := range c.order {
			c.pushWaiting(d, a)
		}
	}
}

// renews lists the owners whose hold on something this agent is to keep: groups by lease whose active member runs on it, and
// machines that it runs.
func (c *Core) renews(a *agent) []string {
	var out []string
	if !c.fresh {
		return nil
	}
	for _, d := range c.order {
		out = append(out, d.renews(c, a)...)
	}
	return out
}

func (g *group) renews(c *Core, a *agent) []string {
	if g.spec == nil || g.assign == nil || !c.byLease(g) {
		return nil
	}
	if m := g.member(g.assign.Active); m == nil || m.Node == "" || g.nodeName(m.Node) != a.name {
		return nil
	}
	return []string{g.ref.String()}
}

// byLease tells whether the group's effects are held by its members under a grant.
func (c *Core) byLease(g *group) bool {
	p := c.provider(g)
	return p != nil && p.Spec.Linux != nil && p.Spec.Linux.Effects == api.EffectsLease
}

// concerns tells whether the node has, or should have, sections of this group.
func (g *group) concerns(node string) bool {
	if g.spec == nil {
		return false
	}
	for _, m := range g.spec.Spec.Members {
		if m.Node != "" && g.nodeName(m.Node) == node {
			return true
		}
	}
	for _, a := range g.spec.Spec.PublicAddresses {
		if a.ID != "" && g.nodeName(a.ID) == node {
			return true
		}
	}
	for _, t := range g.spec.Spec.RouteTables {
		if g.nodeName(routerOf(t.ID)) == node {
			return true
		}
	}
	return false
}

// grantFree is when a grant that this agent may have has run out for sure.
func (c *Core) grantFree(node, owner string) clock.Instant {
	last, _ := c.elector.Acquired()
	if a := c.agents[node]; a != nil {
		if t, ok := a.renewed[owner]; ok && last.Before(t) {
			last = t
		}
	}
	return last.Add(c.cfg.Timing.Wait())
}
