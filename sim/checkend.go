package sim

import (
	"fmt"
	"slices"
	"time"

	"github.com/understudy-ha/understudy/api"
	"github.com/understudy-ha/understudy/lead"
)

// applies looks at a section that an agent gives its engine for the first time: nobody may have led after its sender,
// and nothing older may follow anything newer. What it gives again, after a failure or a crash, it had let in before.
func (c *checker) applies(n *node, s api.Section) {
	section := lead.SectionKey(s.Engine, s.Owner)
	t := n.seen.Sections[section].Token
	key := n.name + " " + section
	if last, ok := c.begun[key]; ok && last == t {
		return
	}
	c.begun[key] = t
	e := decode[lead.EpochDoc](c.w.store.get(lead.EpochKey).Value)
	if last := c.newest[n.name]; lead.CompareClusters(t.ClusterID, last.ClusterID) == 0 && t.Epoch < last.Epoch {
		c.w.violate(1, fmt.Sprintf("%s applies epoch %d after %d", n.name, t.Epoch, last.Epoch))
	}
	c.newest[n.name] = t
	if e.Epoch > t.Epoch && n.misled < c.w.now {
		c.w.violate(1, fmt.Sprintf("%s applies epoch %d while %s leads with %d", n.name, t.Epoch, e.Holder, e.Epoch))
	}
	if s.Generation < c.sections[key] {
		c.w.violate(1, fmt.Sprintf("%s applies generation %d of %s after %d", n.name, s.Generation, s.Owner, c.sections[key]))
	}
}

// resumed notes what a new life of an agent finds on its disk: it was let in before.
func (c *checker) resumed(n *node) {
	for section, k := range n.seen.Sections {
		c.begun[n.name+" "+section] = k.Token
	}
}

// applied notes what took effect.
func (c *checker) applied(n *node, s api.Section) {
	key := n.name + " " + lead.SectionKey(s.Engine, s.Owner)
	c.sections[key] = max(c.sections[key], s.Generation)
}

// holders: at most one machine answers for an address.
func (c *checker) holders() {
	for _, g := range c.w.groups {
		if g.flavour != byLease {
			continue
		}
		for _, a := range g.spec.Spec.PublicAddresses {
			var who []string
			for _, n := range c.w.nodes {
				if n.holding(a.Address) && !n.waking && n.misled < c.w.now {
					who = append(who, n.name)
				}
			}
			if len(who) > 1 {
				c.w.violate(4, fmt.Sprintf("%s is held by %v", a.Address, who))
			}
		}
	}
}

// bound is how long after the last fault everything must have come right:
//
//	sessions and watches    keepalive + 3 s to notice, 1.2 s to dial again, 0.5 s to list again
//	a leader                ttl + margin to wait, one more ttl for renewals whose answer is missing
//	verdicts                rise or fall probes, and the time an old opinion counts
//	grants                  a new leader waits ttl + margin; a promise stands for one ttl
//	damping and failback    the group's holds, in one chain: a failover, then a failback; damping counts by the times
//	                        of day of different controllers
//	jobs                    what is under way in the cloud ends (30 s after the calm), three moves of
//	                        the longest plan, each blocked once and tried again after 30 s
//
// all of it by the slowest clock.
func bound(w *world) time.Duration {
	d := w.keepalive + 5*time.Second + 2*(w.timing.TTL+w.timing.Margin) + 2*w.timing.TTL
	var slowest time.Duration
	for _, g := range w.groups {
		s := g.spec.Spec
		t := w.detection(g) + s.Failover.Damping.Hold.D() + 2*w.skew.wall + s.Failback.Hold.D() + 3*(longest(g)+30*time.Second)
		slowest = max(slowest, t)
	}
	if w.estate != nil {
		slowest = estateSettles
	}
	return time.Duration(float64(d+slowest) / (1 - w.skew.rate))
}

// longest is how long a move of the group takes without faults.
func longest(g *group) time.Duration {
	d := g.spec.Spec.Drain.Period.D() + 4*time.Second // hooks
	if g.flavour == byAzure {
		return d + 90*time.Second // a detach and an attach of up to 30 s each, read back, with the driver's pauses
	}
	return d + 10*time.Second
}

// unsettled says what is not as it must be in the end: everything on one healthy member, if there is one, and every
// job ended.
func (c *checker) unsettled() (wrong string, invariant int) {
	for _, name := range c.running {
		if e := c.w.estate; e != nil && e.pointless(c.w.assignment(c.jobs[name].Spec.Subject)) {
			continue
		}
		return fmt.Sprintf("job %s, made at %v, has not ended: %s", name, c.since[name], states(c.jobs[name])), 3
	}
	for _, g := range c.w.groups {
		if wrong := c.unsettledGroup(g); wrong != "" {
			return wrong, 2
		}
	}
	if c.w.estate != nil {
		return c.w.estate.unsettled()
	}
	return "", 0
}

func (c *checker) unsettledGroup(g *group) string {
	a := c.w.assignment(g.ref)
	healthy := slices.ContainsFunc(g.spec.Spec.Members, func(m api.Member) bool { return g.boxes[m.Name].up() })
	switch {
	case g.spec.Spec.Paused || !healthy:
		return ""
	case a == nil:
		return fmt.Sprintf("%s is assigned to nobody", g.ref)
	case !g.boxes[a.Active].up() && g.spec.Spec.Failover.Policy == api.Manual:
		return ""
	case !g.boxes[a.Active].up():
		return fmt.Sprintf("%s stays on %s, which is down", g.ref, a.Active)
	}
	if j := c.jobs[a.Job]; j == nil || j.Status.Phase == api.Cancelled {
		return "" // the operator wanted it to stay as it was
	}
	if wrong := c.w.astray(g, a.Active); wrong != "" {
		return fmt.Sprintf("%s is assigned to %s, but %s", g.ref, a.Active, wrong)
	}
	return ""
}

// astray tells what is not on the member, by the truth.
func (w *world) astray(g *group, member string) string {
	owner := g.ref.String()
	switch g.flavour {
	case byAzure:
		if s := w.cloud.state(g.spec); s.On() != member {
			return fmt.Sprintf("the cloud has %v elsewhere", s.Astray(member))
		}
	case byFabric:
		for _, n := range w.nodes {
			want := 0
			for _, a := range g.spec.Spec.PublicAddresses {
				if "default/"+a.ID == n.name {
					want++
				}
			}
			for _, t := range g.spec.Spec.RouteTables {
				if "default/"+t.ID == n.name {
					want += len(t.Routes)
				}
			}
			has := n.routesOf(owner)
			if len(has) != want {
				return fmt.Sprintf("%s has %d routes of it, want %d", n.name, len(has), want)
			}
			for _, r := range has {
				if !g.owns(member, r.Via) {
					return fmt.Sprintf("%s sends %s to %s", n.name, r.Prefix, r.Via)
				}
			}
		}
	case byLease:
		for _, n := range w.nodes {
			for _, a := range g.spec.Spec.PublicAddresses {
				if n.holding(a.Address) != (g.node(member) == n.name) {
					return fmt.Sprintf("%s holds %s: %v", n.name, a.Address, n.holding(a.Address))
				}
			}
		}
	}
	return ""
}

// owns tells whether an address is the member's.
func (g *group) owns(member, address string) bool {
	for _, m := range g.spec.Spec.Members {
		if m.Name == member {
			return slices.ContainsFunc(m.NICs, func(n api.NIC) bool { return n.Address == address })
		}
	}
	return false
}

// node gives the name of the member's node.
func (g *group) node(member string) string {
	for _, m := range g.spec.Spec.Members {
		if m.Name == member {
			return "default/" + m.Node
		}
	}
	return ""
}

func (w *world) group(ref api.Ref) *group {
	for _, g := range w.groups {
		if g.ref == ref {
			return g
		}
	}
	return nil
}
