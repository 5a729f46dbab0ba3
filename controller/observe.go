package controller

import (
	"cmp"
	"maps"
	"net"
	"slices"
	"strconv"

	"github.com/understudy-ha/understudy/api"
	"github.com/understudy-ha/understudy/health"
)

// retarget makes probing follow the specs, if anything about it changed.
func (c *Core) retarget() {
	changed := false
	for _, g := range c.sortedGroups() {
		want := targets(g)
		if maps.Equal(want, g.targets) && g.tracker != nil {
			continue
		}
		changed = true
		quorum := 0
		if g.spec != nil {
			quorum = g.spec.Spec.Observers.Quorum
		}
		g.tracker = health.NewTracker(quorum, len(c.cfg.Controllers))
		for name, t := range want {
			if old, ok := g.targets[name]; !ok || old != t {
				g.judges[name] = health.NewJudge(g.ref, name, t.Probe.Rise, t.Probe.Fall)
			}
		}
		maps.DeleteFunc(g.judges, func(name string, _ *health.Judge) bool { _, ok := want[name]; return !ok })
		g.targets = want
	}
	if !changed {
		return
	}
	var all []Target
	for _, g := range c.sortedGroups() {
		for _, name := range slices.Sorted(maps.Keys(g.targets)) {
			all = append(all, g.targets[name])
		}
	}
	c.do(Probe{Targets: all})
	c.tellAll()
}

func targets(g *group) map[string]Target {
	out := map[string]Target{}
	if g.spec == nil {
		return out
	}
	for _, m := range g.spec.Spec.Members {
		addr := m.Probe
		if _, _, err := net.SplitHostPort(addr); err != nil {
			addr = net.JoinHostPort(addr, strconv.Itoa(g.spec.Spec.Probe.Port))
		}
		out[m.Name] = Target{Group: g.ref, Member: m.Name, Address: addr, Probe: g.spec.Spec.Probe}
	}
	return out
}

func (c *Core) probed(e Probed) {
	g := c.groups[e.Group]
	if g == nil || g.judges[e.Member] == nil {
		return
	}
	j := g.judges[e.Member]
	changed := j.Result(c.now.Wall, e.Outcome, e.Detail)
	if !changed && (!g.toldDoubt[e.Member] || j.Opinion().Doubt) {
		return
	}
	// With every change goes what is thought of the other members now: they may be about to change too.
	g.dirty = true
	c.do(Tell{Opinions: c.opinions(g)})
}

// opinions are what this controller thinks of a group's members now. Doubts that were told are told again once they end.
func (c *Core) opinions(g *group) (all []health.Opinion) {
	for _, name := range slices.Sorted(maps.Keys(g.judges)) {
		o := g.judges[name].Opinion()
		g.toldDoubt[name] = o.Doubt
		all = append(all, o)
	}
	return all
}

func (c *Core) heard(e Heard) {
	for _, o := range e.Opinions {
		g := c.groups[o.Group]
		if g == nil || g.tracker == nil || g.judges[o.Member] == nil {
			continue
		}
		before := g.tracker.Verdict(c.now, o.Member).Health
		g.tracker.Hear(c.now, e.Observer, o)
		if g.tracker.Verdict(c.now, o.Member).Health != before {
			g.dirty = true
		}
	}
}

// tellTurn repeats all opinions once in a while, and looks at every group again: opinions may have gone stale.
func (c *Core) tellTurn() {
	if !c.told.IsZero() && c.now.Since(c.told) < health.RefreshEvery {
		return
	}
	c.tellAll()
	c.dirtyAll()
	c.after(health.RefreshEvery, func() {})
}

func (c *Core) tellAll() {
	c.told = c.now
	var all []health.Opinion
	for _, g := range c.sortedGroups() {
		all = append(all, c.opinions(g)...)
	}
	slices.SortStableFunc(all, func(a, b health.Opinion) int { return cmp.Compare(a.Group.String(), b.Group.String()) })
	c.do(Tell{Opinions: all, Full: true})
}

// verdicts of a group's members now.
func (c *Core) verdicts(g *group) map[string]health.Verdict {
	out := map[string]health.Verdict{}
	for _, m := range g.spec.Spec.Members {
		if j := g.judges[m.Name]; j != nil {
			g.tracker.Hear(c.now, c.cfg.Self, j.Opinion())
		}
		out[m.Name] = g.tracker.Verdict(c.now, m.Name)
	}
	return out
}

// recordVerdicts writes an event for each verdict that changed; only a leader does.
func (c *Core) recordVerdicts(g *group, vs map[string]health.Verdict) {
	for _, m := range g.spec.Spec.Members {
		v := vs[m.Name]
		old, seen := g.shown[m.Name]
		if old == v.Health {
			continue
		}
		g.shown[m.Name] = v.Health
		switch {
		case v.Health == api.Down:
			c.record(&g.subject, api.Critical, "MemberDown", m.Name+" is down: "+v.Detail)
		case v.Health == api.Up && seen:
			c.record(&g.subject, api.Info, "MemberUp", m.Name+" is up")
		case v.Health == api.Unknown && seen:
			c.record(&g.subject, api.Warning, "MemberUnknown", m.Name+": too few observers have an opinion")
		}
	}
}
