package controller

import (
	"fmt"
	"maps"
	"slices"
	"time"

	"github.com/understudy-ha/understudy/api"
	"github.com/understudy-ha/understudy/job"
	"github.com/understudy-ha/understudy/lead"
)

// repush is how long a push may stay unanswered on a living session before it is sent again.
const repush = time.Second

// push sends a step's sections to its node, if the node has a session and a tick that may be echoed; else the run
// waits for them.
func (c *Core) push(d driven, r *run) {
	a := c.agents[r.node]
	if a == nil || a.gone || r.push != 0 || r.resting || r.awaiting || r.step.Node == nil {
		return
	}
	seq, ok := a.echoes.Proven()
	if !ok {
		return
	}
	s := d.base()
	r.push, r.pushed = c.nextID(), c.now
	c.dropUnanswered()
	c.unanswered[r.push] = c.now
	sections := d.sections(r.step)
	for _, sec := range sections {
		if sec.Engine == api.EngineAddresses && len(sec.Addresses.Addresses) > 0 {
			a.renewed[sec.Owner] = c.now
		}
	}
	c.do(Push{Node: a.name, Session: a.session, ID: r.push, Life: a.life, Tick: seq, Token: c.token(s), Sections: sections})
	id := r.push
	c.after(repush, func() {
		if s.runs[r.step.ID] == r && r.push == id {
			r.push = 0
			c.push(d, r)
		}
	})
}

// pushWaiting pushes what waited for this agent.
func (c *Core) pushWaiting(d driven, a *agent) {
	s := d.base()
	for _, id := range slices.Sorted(maps.Keys(s.runs)) {
		if r := s.runs[id]; r.node == a.name {
			c.push(d, r)
		}
	}
}

func (c *Core) agentApplied(e AgentApplied) {
	delete(c.unanswered, e.Push)
	a := c.at(e.Node, e.Session)
	if a == nil {
		return
	}
	if c.orderAnswered(a, e) {
		return
	}
	for _, d := range c.order {
		s := d.base()
		for _, id := range slices.Sorted(maps.Keys(s.runs)) {
			if r := s.runs[id]; r.node == e.Node && r.push == e.Push {
				r.push = 0
				c.pushAnswered(d, r, a, e)
				return
			}
		}
	}
}

func (c *Core) pushAnswered(d driven, r *run, a *agent, e AgentApplied) {
	switch e.Code {
	case "ok":
		for _, s := range d.sections(r.step) {
			t := c.token(d.base())
			t.Generation = s.Generation
			a.sections[lead.SectionKey(s.Engine, s.Owner)] = api.SectionStatus{Engine: s.Engine, Owner: s.Owner, Applied: t}
			a.setHolds(s)
		}
		if r.step.Await != nil {
			r.awaiting = true
			c.lookAt(d, r)
			return
		}
		c.finish(d, r, job.Result{Outcome: "applied by " + e.Node})
	case "stale-tick":
		// The next tick that may be echoed brings another attempt.
	default:
		c.finish(d, r, job.Result{Err: fmt.Errorf("%s: %s: %s", e.Node, e.Code, e.Detail), Permanent: e.Code == "invalid"})
	}
}

func (a *agent) setHolds(s api.Section) {
	if s.Engine != api.EngineAddresses {
		return
	}
	a.holds = slices.DeleteFunc(slices.Clone(a.holds), func(o string) bool { return o == s.Owner })
	if len(s.Addresses.Addresses) > 0 {
		a.holds = append(a.holds, s.Owner)
	}
}
