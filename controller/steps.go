package controller

import (
	"errors"
	"fmt"
	"maps"
	"slices"
	"time"

	"github.com/understudy-ha/understudy/api"
	"github.com/understudy-ha/understudy/clock"
	"github.com/understudy-ha/understudy/cloud"
	"github.com/understudy-ha/understudy/job"
	"github.com/understudy-ha/understudy/lead"
	"github.com/understudy-ha/understudy/mutant"
)

// repush is how long a push may stay unanswered on a living session before it is sent again.
const repush = time.Second

// run is one intended step that this leader works on.
type run struct {
	step     api.Step
	started  clock.Instant
	attempts int
	attempt  uint64        // of the Execute under way; 0: none
	node     string        // whose agent must answer
	push     uint64        // unanswered push; 0: none
	pushed   clock.Instant // when
	resting  bool          // waits for the next attempt
}

// executing tells whether something of the run is under way outside.
func (r *run) executing() bool { return r.attempt != 0 || r.push != 0 }

// heldLocks are the locks of steps still under way for jobs that have ended; with all, those of the present job too.
func (g *group) heldLocks(all bool) map[string]bool {
	held := map[string]bool{}
	for _, lock := range g.orphans {
		held[lock] = true
	}
	if all {
		for _, r := range g.runs {
			if r.attempt != 0 && r.step.Lock != "" {
				held[r.step.Lock] = true
			}
		}
	}
	return held
}

// followAssignment lets go of the runs and results of a job that is not the assignment's any more; what is under
// way keeps its lock until it answers. A transaction whose answer was lost may have changed the assignment.
func (g *group) followAssignment() {
	if g.assign.Job == g.runsOf {
		return
	}
	g.runsOf = g.assign.Job
	for _, r := range g.runs {
		if r.attempt != 0 && r.step.Lock != "" {
			g.orphans[r.attempt] = r.step.Lock
		}
	}
	g.runs, g.results = map[string]*run{}, nil
}

// startRuns begins every step that is stored as intended and not begun by this leader.
func (c *Core) startRuns(g *group) {
	j := c.job(g)
	if j == nil || j.Status.Phase != api.Running || j.Spec.PlanVersion > api.PlanVersion || c.stopping {
		return
	}
	for _, s := range j.Status.Steps {
		if s.State != api.StepIntended || g.runs[s.ID] != nil || g.hasResult(s.ID) || g.heldLocks(false)[s.Lock] {
			continue
		}
		r := &run{step: s, started: c.now}
		if s.Node != nil {
			r.node = nodeName(g, s.Node.Node)
		}
		g.runs[s.ID] = r
		c.begin(g, j, r)
		c.watchDeadline(g, r)
	}
}

func (g *group) hasResult(step string) bool {
	return slices.ContainsFunc(g.results, func(r job.Result) bool { return r.Step == step })
}

// begin makes one attempt at a step.
func (c *Core) begin(g *group, j *api.Job, r *run) {
	r.resting = false
	switch r.step.Kind {
	case api.StepNode:
		c.push(g, r)
	case api.StepRelease:
		c.push(g, r)
		c.awaitExpiry(g, r)
	case api.StepDrain:
		c.after(r.step.Wait.D(), func() { c.finish(g, r, "waited "+r.step.Wait.String(), nil, false) })
	default:
		r.attempt = c.nextID()
		c.do(Execute{Group: g.spec, Provider: c.provider(g), Job: j, Step: r.step, Attempt: r.attempt, Token: c.token(g)})
	}
}

// token stamps effects for this group.
func (c *Core) token(g *group) api.Token {
	return api.Token{ClusterID: c.cfg.ClusterID, Epoch: c.elector.Epoch(), Generation: g.assign.Generation}
}

// push sends a step's sections to its node, if the node has a session and a tick that may be echoed; else the run
// waits for them.
func (c *Core) push(g *group, r *run) {
	a := c.agents[r.node]
	if a == nil || a.gone || r.push != 0 || r.resting {
		return
	}
	seq, ok := a.echoes.Proven()
	if !ok {
		return
	}
	r.push, r.pushed = c.nextID(), c.now
	c.dropUnanswered()
	c.unanswered[r.push] = c.now
	for _, s := range r.step.Node.Sections {
		if s.Engine == api.EngineAddresses && len(s.Addresses.Addresses) > 0 {
			a.renewed[s.Owner] = c.now
		}
	}
	c.do(Push{Node: a.name, Session: a.session, ID: r.push, Life: a.life, Tick: seq, Token: c.token(g), Sections: r.step.Node.Sections})
	id := r.push
	c.after(repush, func() {
		if g.runs[r.step.ID] == r && r.push == id {
			r.push = 0
			c.push(g, r)
		}
	})
}

// pushWaiting pushes what waited for this agent.
func (c *Core) pushWaiting(g *group, a *agent) {
	for _, id := range slices.Sorted(maps.Keys(g.runs)) {
		if r := g.runs[id]; r.node == a.name {
			c.push(g, r)
		}
	}
}

func (c *Core) agentApplied(e AgentApplied) {
	delete(c.unanswered, e.Push)
	a := c.at(e.Node, e.Session)
	if a == nil {
		return
	}
	for _, g := range c.sortedGroups() {
		for _, id := range slices.Sorted(maps.Keys(g.runs)) {
			if r := g.runs[id]; r.node == e.Node && r.push == e.Push {
				r.push = 0
				c.pushAnswered(g, r, a, e)
				return
			}
		}
	}
}

func (c *Core) pushAnswered(g *group, r *run, a *agent, e AgentApplied) {
	switch e.Code {
	case "ok":
		for _, s := range r.step.Node.Sections {
			t := c.token(g)
			t.Generation = s.Generation
			a.sections[lead.SectionKey(s.Engine, s.Owner)] = api.SectionStatus{Engine: s.Engine, Owner: s.Owner, Applied: t}
			a.setHolds(s)
		}
		c.finish(g, r, "applied by "+e.Node, nil, false)
	case "stale-tick":
		// The next tick that may be echoed brings another attempt.
	default:
		c.finish(g, r, "", fmt.Errorf("%s: %s: %s", e.Node, e.Code, e.Detail), e.Code == "invalid")
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

// awaitExpiry ends a release once the grant has run out for sure, whether the node answers or not.
func (c *Core) awaitExpiry(g *group, r *run) {
	if mutant.On(mutant.GrantWithoutWait) {
		c.finish(g, r, "not waited", nil, false)
		return
	}
	if g.runs[r.step.ID] != r {
		return
	}
	free := c.grantFree(r.node, g.ref.String())
	if left := free.Mono - c.now.Mono; left > 0 {
		c.after(left, func() { c.awaitExpiry(g, r) })
		return
	}
	c.finish(g, r, "its grant has run out", nil, false)
}

func (c *Core) stepDone(e StepDone) {
	for _, g := range c.sortedGroups() {
		if _, ok := g.orphans[e.Attempt]; ok {
			delete(g.orphans, e.Attempt)
			g.dirty = true
			return
		}
		if r := g.runs[e.Step]; r != nil && r.attempt == e.Attempt {
			r.attempt = 0
			err := e.Err
			if errors.Is(err, cloud.ErrStale) {
				c.readLead() // somebody newer has been there
			}
			c.finish(g, r, e.Outcome, err, e.Permanent)
			return
		}
	}
}

// finish takes the result of an attempt: it is stored, or the step is tried again until its deadline.
func (c *Core) finish(g *group, r *run, outcome string, err error, permanent bool) {
	if g.runs[r.step.ID] != r {
		return
	}
	overdue := c.now.Since(r.started) >= r.step.Deadline.D()
	if err != nil && !permanent && !overdue {
		r.attempts++
		r.resting = true
		c.after(job.Backoff(r.attempts), func() {
			if g.runs[r.step.ID] == r && r.resting {
				c.begin(g, c.job(g), r)
			}
		})
		return
	}
	delete(g.runs, r.step.ID)
	g.results = append(g.results, job.Result{Step: r.step.ID, Outcome: outcome, Err: err, Permanent: permanent, Overdue: overdue, At: c.now.Wall})
	g.dirty = true
}

// watchDeadline gives up a step that waits for its agent too long. What is under way in a cloud is waited for.
func (c *Core) watchDeadline(g *group, r *run) {
	c.after(r.step.Deadline.D(), func() {
		if g.runs[r.step.ID] == r && r.attempt == 0 {
			c.finish(g, r, "", fmt.Errorf("no answer from %s within %v", r.where(), r.step.Deadline), false)
		}
	})
}

func (r *run) where() string {
	if r.node != "" {
		return r.node
	}
	return "the provider"
}

// runAhead is the defect ForgetIntent.
func (c *Core) runAhead(g *group, w groupWrite) {
	if w.assign != nil {
		return
	}
	for _, id := range w.intents {
		s := job.Find(w.job, id)
		r := &run{step: *s, started: c.now}
		if s.Node != nil {
			r.node = nodeName(g, s.Node.Node)
		}
		g.runs[id] = r
		c.begin(g, w.job, r)
	}
}
