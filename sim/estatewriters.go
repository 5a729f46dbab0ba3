package sim

import (
	"fmt"
	"slices"
	"time"

	"github.com/understudy-ha/understudy/api"
	"github.com/understudy-ha/understudy/controller"
	"github.com/understudy-ha/understudy/lead"
	"github.com/understudy-ha/understudy/steward"
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
	case s.generation >= newest || !e.reachable(s.c.h.n) || e.busy(g):
		s.c.old = 0
	case s.c.old == 0:
		s.c.old = e.w.now
	case e.w.now-s.c.old > inTouch:
		e.w.violate(4, fmt.Sprintf("%s runs at %s under generation %d, which has been in touch for %v, while generation %d runs elsewhere",
			g.ref, s.c.where(), s.generation, e.w.now-s.c.old, newest))
	}
}

// busy tells whether a job of the machine runs: what could not be told when it began is told after it.
func (e *estate) busy(g *guest) bool {
	a := e.w.assignment(g.ref)
	return a != nil && e.w.check.jobs[a.Job].Status.Phase == api.Running
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
