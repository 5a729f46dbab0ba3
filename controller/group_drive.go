package controller

import (
	"fmt"
	"time"

	"github.com/understudy-ha/understudy/api"
	"github.com/understudy-ha/understudy/appliance"
	"github.com/understudy-ha/understudy/cloud"
	"github.com/understudy-ha/understudy/health"
	"github.com/understudy-ha/understudy/mutant"
)

// drive decides about the group and takes the next step.
func (g *group) drive(c *Core) {
	if g.spec == nil || g.tracker == nil || g.writing {
		return
	}
	verdicts := c.verdicts(g)
	c.recordVerdicts(g, verdicts)
	d := appliance.Decide(c.view(g, verdicts))
	c.showStatus(g, verdicts, d.Conditions)
	if d.Again > 0 {
		c.after(d.Again, func() { g.dirty = true })
	}
	switch {
	case c.stopping:
		c.advance(g)
	case d.Refused != "":
		c.refuse(g, d.Refused)
	case d.CancelJob:
		c.cancel(g)
	case d.Kind != "":
		c.assign(g, d)
	default:
		c.advance(g)
	}
	c.lookAround(g)
}

func (c *Core) view(g *group, verdicts map[string]health.Verdict) appliance.View {
	acquired, _ := c.elector.Acquired()
	v := appliance.View{Group: g.spec, Assignment: g.assign, Verdicts: verdicts, Job: c.job(&g.subject), Request: g.request,
		Astray: c.astray(g), RetryAt: g.retryAt, Led: c.now.Since(acquired), Now: c.now.Wall}
	if mutant.On(mutant.ResumeBackward) && v.Job != nil && v.Job.Status.Phase == api.Running && g.assign.Previous != "" &&
		v.Job.Status.Epochs[len(v.Job.Status.Epochs)-1] != c.elector.Epoch() {
		v.Request = &api.Request{Kind: api.RequestFailover, To: g.assign.Previous}
		h := v.Verdicts[g.assign.Previous]
		h.Health = api.Up
		v.Verdicts[g.assign.Previous] = h
	}
	return v
}

// plan gives the steps of a move of this group; whole for a move, only what is astray for a repair where that is safe.
func (c *Core) plan(g *group, kind api.JobKind, from, to string, generation int64) ([]api.Step, error) {
	p := c.provider(g)
	if p == nil {
		return nil, fmt.Errorf("provider %q: there is none of that name in tenant %q", g.spec.Spec.Provider, g.ref.Tenant)
	}
	planner := c.cfg.Planners[p.Spec.Type]
	if planner == nil {
		return nil, fmt.Errorf("provider %q: type %q is not known to this controller", p.Metadata.Name, p.Spec.Type)
	}
	planned := kind == api.JobPlanned || kind == api.JobFailback
	m := cloud.Move{Group: g.spec, Provider: p, From: from, To: to, Generation: generation, Planned: planned, Peers: c.peers(g)}
	if kind == api.JobRepair {
		return planner.Plan(m) // hooks and drains belong to moves
	}
	return appliance.Plan(planner, m)
}

// peers gives the members' agents' peer endpoints by node.
func (c *Core) peers(g *group) map[string]string {
	out := map[string]string{}
	for _, m := range g.spec.Spec.Members {
		if a := c.agents[g.nodeName(m.Node)]; m.Node != "" && a != nil && a.peer != "" {
			out[m.Node] = a.peer
		}
	}
	return out
}

// assign writes a new intent and the job that works towards it.
func (c *Core) assign(g *group, d appliance.Decision) {
	next := api.Assignment{Active: d.To, SpecGeneration: g.spec.Metadata.Generation}
	if a := g.assign; a != nil {
		next.Previous, next.AutomaticMoves = a.Active, a.AutomaticMoves
		if d.Kind == api.JobRepair {
			next.Previous = a.Previous
		}
	}
	if d.Kind == api.JobFailover {
		next.AutomaticMoves = lastTimes(append(next.AutomaticMoves[:len(next.AutomaticMoves):len(next.AutomaticMoves)], c.now.Wall), g.spec.Spec.Failover.Damping.Moves)
	}
	steps, err := c.plan(g, d.Kind, d.From, d.To, g.generation(d.Kind))
	if err != nil {
		g.retryAt = c.now.Wall.Add(retryAfter)
		c.addCondition(g, api.Condition{Code: "PlanFailed", Severity: api.Critical, Message: err.Error(), Impacts: "no move is possible"})
		c.after(retryAfter, func() { g.dirty = true })
		return
	}
	c.resolve(g, intent{next: next, kind: d.Kind, from: d.From, steps: steps, reason: d.Reason, detected: d.Detected, answered: d.Answered})
}

func lastTimes(ts []time.Time, n int) []time.Time {
	if len(ts) > n {
		return ts[len(ts)-n:]
	}
	return ts
}
