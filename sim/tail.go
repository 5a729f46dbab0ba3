package sim

import (
	"fmt"
	"slices"
	"time"

	"github.com/understudy-ha/understudy/api"
)

// stays is how long the end state must last.
const stays = time.Minute

// finished tells that the quiet tail is over: everything came right within the bound and stayed so, or did not. In
// some seeds a last examination follows.
func (c *checker) finished() bool {
	if c.w.now < c.next {
		return false
	}
	c.next = c.w.now + 10*time.Second
	wrong, invariant := c.unsettled()
	switch {
	case wrong == "" && c.right == 0:
		c.right = c.w.now
	case wrong == "":
		return c.w.now-c.right >= stays && !c.w.examines()
	case c.w.now > c.from+bound(c.w):
		c.w.violate(invariant, wrong)
		return true
	default:
		c.right = 0
	}
	return false
}

// examines starts the last examination, in some seeds: a planned move is under way, for long, when its target dies.
// The job must be superseded, not finished. It tells whether there is something to wait for.
func (w *world) examines() bool {
	i := slices.IndexFunc(w.groups, func(g *group) bool { return g.flavour != byLease && w.healthy(g) > 1 })
	if !w.check.examine || w.check.examined || i < 0 {
		return false
	}
	g, a := w.groups[i], w.assignment(w.groups[i].ref)
	if a == nil || !g.boxes[a.Active].up() || w.check.jobs[a.Job].Status.Phase != api.Succeeded {
		return false
	}
	if w.now-w.check.moved[g.ref] < g.spec.Spec.Failover.Damping.Window.D()+3*w.skew.wall {
		return true // an automatic move could still be damped, by controllers whose times of day differ
	}
	w.check.examined = true
	to := slices.IndexFunc(g.spec.Spec.Members, func(m api.Member) bool { return m.Name != a.Active && g.boxes[m.Name].up() })
	w.note("world", "examines", g.ref.Name)
	w.cloud.slow++
	for _, n := range w.nodes[:2] {
		n.crash()
	}
	w.request(g, api.Request{Kind: api.RequestFailover, To: g.spec.Spec.Members[to].Name})
	w.after(5*time.Second, func() { w.killTarget(g, a.Generation) })
	return true
}

// killTarget kills the member that the examined group moves to.
func (w *world) killTarget(g *group, before int64) {
	a := w.assignment(g.ref)
	if a.Generation == before {
		w.violate(2, fmt.Sprintf("%s: a planned move was not even begun within 5s", g.ref))
		return
	}
	if j := w.check.jobs[a.Job]; j.Status.Phase != api.Running {
		w.violate(0, "the examined job is not under way")
		return
	}
	g.boxes[a.Active].kill()
	// The verdict, one round of opinions, and a second for the store.
	p := g.spec.Spec.Probe
	limit := p.Interval.D()*time.Duration(p.Fall+1) + p.Timeout.D() + 2*time.Second
	w.after(time.Duration(float64(limit)/(1-w.skew.rate)), func() {
		// Damping counts by times of day of controllers whose clocks, after half an hour at different rates, lie minutes apart.
		if now := w.assignment(g.ref); now.Active == a.Active && !w.says(g, "FailoverDamped") {
			w.violate(2, fmt.Sprintf("%s still moves to %s, which died %v ago", g.ref, a.Active, limit))
		}
		w.cloud.slow--
		for _, n := range w.nodes[:2] {
			n.start()
		}
	})
	w.check.from, w.check.right = w.now+limit+slowest, 0
}

// healthy counts the members that are up.
func (w *world) healthy(g *group) int {
	n := 0
	for _, m := range g.spec.Spec.Members {
		if g.boxes[m.Name].up() {
			n++
		}
	}
	return n
}

// says tells whether the group's status has the condition.
func (w *world) says(g *group, code string) bool {
	s := decode[api.GroupStatus](w.store.get(api.StatusKey(g.ref)).Value)
	return s != nil && slices.ContainsFunc(s.Conditions, func(c api.Condition) bool { return c.Code == code })
}
