package controller

import (
	"cmp"
	"maps"
	"slices"
	"strings"

	"github.com/understudy-ha/understudy/api"
	"github.com/understudy-ha/understudy/lead"
	"github.com/understudy-ha/understudy/recovery"
)

// What nodes have of machines that were deleted, and of process servers and keepers that are elsewhere now, is taken away: it would hold
// disks and ports, or prune by what was true once. Only what this very cluster has told them: a store that was restored from a backup knows
// less than its nodes.

// heard has a node looked at.
func (s *standing) heard(node string) {
	if s.said == nil {
		s.said = map[string]bool{}
	}
	s.said[node] = true
}

// hearAll has every node looked at: what is wanted may have changed.
func (c *Core) hearAll() {
	for name := range c.agents {
		c.standing.heard(name)
	}
}

// lookForLeftovers looks at the nodes that have said something.
func (c *Core) lookForLeftovers() {
	for _, name := range slices.Sorted(maps.Keys(c.standing.said)) {
		delete(c.standing.said, name)
		if a := c.agents[name]; a != nil && !a.gone {
			c.lookForLeftoversAt(a)
		}
	}
}

func (c *Core) lookForLeftoversAt(a *agent) {
	had := map[string]*order{}
	c.standing.leftover = slices.DeleteFunc(c.standing.leftover, func(o *order) bool {
		if o.node == a.name {
			had[lead.SectionKey(o.section.Engine, o.section.Owner)] = o
		}
		return o.node == a.name
	})
	for _, key := range slices.Sorted(maps.Keys(a.sections)) {
		s, ok := c.leftover(a, a.sections[key])
		if !ok {
			continue
		}
		o := cmp.Or(had[key], &order{node: a.name})
		o.section, o.doc = s, encode(s)
		c.standing.leftover = append(c.standing.leftover, o)
	}
}

// leftover gives the section that takes away what a node has; ok is false if that is to stay.
func (c *Core) leftover(a *agent, has api.SectionStatus) (s api.Section, ok bool) {
	if has.Applied.ClusterID != c.cfg.ClusterID {
		return s, false
	}
	tenant, node, _ := strings.Cut(a.name, "/")
	ref, ok := api.ParseRef(strings.TrimSuffix(has.Owner, ":drill"))
	if !ok || ref.Tenant != tenant {
		return s, false
	}
	switch has.Engine {
	case api.EngineProcessServer, api.EngineKeeper:
		if c.ordered(a.name, has) || c.shippedThrough(ref) {
			return s, false
		}
		return recovery.Retired(has)
	case api.EngineProtect, api.EngineSite:
		m, known := c.subjects[ref].(*machine)
		if !known {
			return s, false
		}
		if m.spec == nil {
			return recovery.Leftover(ref, nil, m.assign, node, has)
		}
		v := m.view()
		return recovery.Leftover(ref, &v, m.assign, node, has)
	}
	return s, false
}

// ordered tells whether a node is to have a section of a process server or a keeper.
func (c *Core) ordered(node string, has api.SectionStatus) bool {
	return slices.ContainsFunc(c.standing.orders, func(o *order) bool {
		return o.node == node && o.section.Engine == has.Engine && o.section.Owner == has.Owner
	})
}

// shippedThrough tells whether a machine may not know yet where its process server is now.
func (c *Core) shippedThrough(ps api.Ref) bool {
	if ps.Kind != api.KindProcessServer {
		return false
	}
	return slices.ContainsFunc(c.order, func(d driven) bool {
		m, ok := d.(*machine)
		return ok && m.spec != nil && m.ref.Tenant == ps.Tenant && m.view().ShipsThrough(ps.Name)
	})
}
