package controller

import (
	"fmt"
	"hash/crc32"
	"slices"
	"time"

	"github.com/understudy-ha/understudy/api"
	"github.com/understudy-ha/understudy/appliance"
	"github.com/understudy-ha/understudy/cloud"
	"github.com/understudy-ha/understudy/health"
	"github.com/understudy-ha/understudy/job"
	"github.com/understudy-ha/understudy/mutant"
	"github.com/understudy-ha/understudy/store"
)

// retryAfter is how long a Blocked job, or drift that came right back, waits for the next attempt.
const retryAfter = 30 * time.Second

// driveDirty looks at every group about which something has changed.
func (c *Core) driveDirty() {
	if !c.leading || !c.fresh {
		return
	}
	for _, g := range c.sortedGroups() {
		if g.dirty {
			g.dirty = false
			c.drive(g)
		}
	}
}

// drive decides about one group and takes the next step.
func (c *Core) drive(g *group) {
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
	v := appliance.View{Group: g.spec, Assignment: g.assign, Verdicts: verdicts, Job: c.job(g), Request: g.request,
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
		if a := c.agents[nodeName(g, m.Node)]; m.Node != "" && a != nil && a.peer != "" {
			out[m.Node] = a.peer
		}
	}
	return out
}

// assign writes a new intent and the job that works towards it, the first steps intended, in one transaction.
func (c *Core) assign(g *group, d appliance.Decision) {
	next := api.Assignment{Active: d.To, Epoch: c.elector.Epoch(), Generation: 1, SpecGeneration: g.spec.Metadata.Generation, Reason: d.Reason, At: c.now.Wall}
	if a := g.assign; a != nil {
		next.Generation, next.Previous, next.AutomaticMoves = a.Generation+1, a.Active, a.AutomaticMoves
		if d.Kind == api.JobRepair {
			next.Generation, next.Previous = a.Generation, a.Previous
		}
	}
	if d.Kind == api.JobFailover {
		next.AutomaticMoves = lastTimes(append(next.AutomaticMoves[:len(next.AutomaticMoves):len(next.AutomaticMoves)], c.now.Wall), g.spec.Spec.Failover.Damping.Moves)
	}
	steps, err := c.plan(g, d.Kind, d.From, d.To, next.Generation)
	if err != nil {
		g.retryAt = c.now.Wall.Add(retryAfter)
		c.addCondition(g, api.Condition{Code: "PlanFailed", Severity: api.Critical, Message: err.Error(), Impacts: "no move is possible"})
		c.after(retryAfter, func() { g.dirty = true })
		return
	}
	next.Job = c.jobName(g, next.Generation, d.Kind)
	spec := api.JobSpec{Subject: g.ref, Kind: d.Kind, From: d.From, To: d.To, Generation: next.Generation, Reason: d.Reason}
	if d.Answered && g.request != nil {
		spec.RequestedBy = g.request.By
	}
	j := job.New(next.Job, g.ref.Tenant, spec, steps, c.now.Wall)
	epoch := c.elector.Epoch()
	job.Adopt(j, epoch, c.now.Wall)
	if !d.Detected.IsZero() {
		job.Note(j, epoch, d.Detected, "detect", d.Reason)
	}
	job.Note(j, epoch, c.now.Wall, "decide", d.Reason)
	w := groupWrite{assign: &next, job: j, answered: d.Answered}
	if old := c.job(g); old != nil && old.Status.Phase == api.Running {
		w.superseded = job.Clone(old)
		job.Supersede(w.superseded, next.Job, epoch, c.now.Wall)
	}
	w.intents = job.Intend(j, g.heldLocks(true), epoch, c.now.Wall)
	job.Settle(j, func(string) bool { return true }, epoch, c.now.Wall)
	if d.Kind == api.JobRepair {
		g.retryAt = c.now.Wall.Add(retryAfter)
	}
	c.commit(g, w)
}

// jobName is unique: one job per generation, but for repairs, which are numbered by epoch and transaction.
func (c *Core) jobName(g *group, generation int64, kind api.JobKind) string {
	base := g.ref.Name
	if len(base) > 24 {
		base = fmt.Sprintf("%s-%08x", base[:15], crc32.ChecksumIEEE([]byte(base)))
	}
	if kind == api.JobRepair {
		return fmt.Sprintf("%s-%d-r%d-%d", base, generation, c.elector.Epoch(), c.lastID)
	}
	return fmt.Sprintf("%s-%d", base, generation)
}

func lastTimes(ts []time.Time, n int) []time.Time {
	if len(ts) > n {
		return ts[len(ts)-n:]
	}
	return ts
}

// advance takes the running job further: stores results and the next intents, and starts what is intended.
func (c *Core) advance(g *group) {
	cur := c.job(g)
	if cur == nil || cur.Status.Phase != api.Running || cur.Spec.PlanVersion > api.PlanVersion {
		g.results = nil
		return
	}
	next, epoch := job.Clone(cur), c.elector.Epoch()
	changed := job.Adopt(next, epoch, c.now.Wall)
	for _, r := range g.results {
		changed = job.Record(next, r, epoch) || changed
	}
	w := groupWrite{job: next, outcomes: len(g.results)}
	if !c.stopping {
		w.intents = job.Intend(next, g.heldLocks(false), epoch, c.now.Wall)
	}
	ended := job.Settle(next, func(id string) bool { return g.runs[id] != nil }, epoch, c.now.Wall)
	if changed || ended || len(w.intents) > 0 {
		c.commit(g, w)
		return
	}
	g.results = nil
	c.startRuns(g)
}

// cancel asks the running job to stop at its next boundary, which may be now.
func (c *Core) cancel(g *group) {
	next, epoch := job.Clone(c.job(g)), c.elector.Epoch()
	next.Status.CancelRequested = true
	job.Note(next, epoch, c.now.Wall, "cancel-requested", g.request.By)
	for id, r := range g.runs {
		if !r.executing() {
			delete(g.runs, id) // waits for an agent or for another attempt: nothing of it is under way
		}
	}
	job.Settle(next, func(id string) bool { return g.runs[id] != nil }, epoch, c.now.Wall)
	c.commit(g, groupWrite{job: next, answered: true})
}

func (c *Core) refuse(g *group, why string) {
	c.record(g, api.Warning, "RequestRefused", fmt.Sprintf("%s asked for by %s: %s", g.request.Kind, g.request.By, why))
	c.commit(g, groupWrite{answered: true})
}

// groupWrite is what one transaction changes about a group; nil parts stay.
type groupWrite struct {
	assign     *api.Assignment
	job        *api.Job
	superseded *api.Job
	answered   bool     // the operator's request is taken away
	intents    []string // steps that become Intended with it
	outcomes   int      // how many of the group's results are in it
}

// commit writes it, bound to this leadership and to everything the decision was made from.
func (c *Core) commit(g *group, w groupWrite) {
	conds := []store.Cond{{Key: api.ObjectKey(g.ref), Rev: g.specRev}, {Key: api.AssignKey(g.ref), Rev: g.assignRev}}
	var ops []store.Op
	write := func(key string, v any) { ops = append(ops, store.Op{Key: key, Value: encode(v)}) }
	if w.answered {
		conds = append(conds, store.Cond{Key: api.RequestKey(g.ref), Rev: g.requestRev})
		ops = append(ops, store.Op{Key: api.RequestKey(g.ref), Delete: true})
	}
	for _, j := range []*api.Job{w.job, w.superseded} {
		if j != nil {
			conds = append(conds, store.Cond{Key: api.ObjectKey(j.Ref()), Rev: c.jobs[j.Ref()].rev})
			write(api.ObjectKey(j.Ref()), j)
		}
	}
	if w.assign != nil {
		write(api.AssignKey(g.ref), w.assign)
	}
	g.writing = true
	if len(w.intents) > 0 {
		c.do(Boundary{Where: BeforeIntent, Job: w.job.Metadata.Name, Steps: w.intents})
		if mutant.On(mutant.ForgetIntent) {
			c.runAhead(g, w)
		}
	}
	if w.outcomes > 0 {
		c.do(Boundary{Where: AfterEffect, Job: w.job.Metadata.Name})
	}
	epoch := c.elector.Epoch()
	c.transact(c.guard(conds...), ops, func(d TxnDone) { c.committed(g, w, ops, epoch, d) })
}

func (c *Core) committed(g *group, w groupWrite, ops []store.Op, epoch int64, d TxnDone) {
	if !c.leading || c.elector.Epoch() != epoch {
		return // abandon has let go of it
	}
	if d.Err != nil {
		c.unsure(d.Err)
		c.reload(g, ops)
		return
	}
	g.writing, g.dirty = false, true
	for i, op := range ops {
		if op.Delete {
			c.forget(op.Key)
		} else {
			c.own[op.Key] = d.Revs[i]
			c.learn(store.Entry{Key: op.Key, Value: op.Value, Rev: d.Revs[i]})
		}
		if w.job != nil && op.Key == api.ObjectKey(w.job.Ref()) {
			c.jobs[w.job.Ref()] = jobEntry{stored: op.Value, rev: d.Revs[i], job: w.job} // no need to parse it
		}
	}
	if w.outcomes > 0 && w.job.Metadata.Name == g.runsOf {
		g.results = g.results[w.outcomes:]
	}
	c.tellCommitted(g, w)
	if w.outcomes > 0 {
		c.do(Boundary{Where: AfterOutcome, Job: w.job.Metadata.Name})
	}
	if len(w.intents) > 0 {
		c.do(Boundary{Where: AfterIntent, Job: w.job.Metadata.Name, Steps: w.intents})
	}
	c.startRuns(g)
}

// tellCommitted records what the transaction means to people.
func (c *Core) tellCommitted(g *group, w groupWrite) {
	if w.assign != nil {
		s := api.Warning
		if w.job.Spec.Kind == api.JobEstablish || w.job.Spec.Kind == api.JobPlanned {
			s = api.Info
		}
		c.record(g, s, string(w.job.Spec.Kind)+"Started", fmt.Sprintf("job %s moves to %s: %s", w.job.Metadata.Name, w.assign.Active, w.assign.Reason))
	}
	if w.job == nil || !w.job.Status.Phase.Ended() {
		return
	}
	switch w.job.Status.Phase {
	case api.Succeeded:
		c.record(g, api.Info, string(w.job.Spec.Kind)+"Succeeded", fmt.Sprintf("job %s took %v", w.job.Metadata.Name, w.job.Status.Ended.Sub(w.job.Status.Started).Round(time.Microsecond)))
	case api.Blocked:
		g.retryAt = c.now.Wall.Add(retryAfter)
		c.record(g, api.Critical, "JobBlocked", fmt.Sprintf("job %s: %s", w.job.Metadata.Name, w.job.Status.Message))
	case api.Cancelled:
		c.record(g, api.Warning, "JobCancelled", fmt.Sprintf("job %s: %s", w.job.Metadata.Name, w.job.Status.Message))
	}
}

// reload reads what a transaction that did not succeed was about, and decides again.
func (c *Core) reload(g *group, ops []store.Op) {
	epoch := c.elector.Epoch()
	keys := []string{api.ObjectKey(g.ref), api.AssignKey(g.ref), api.RequestKey(g.ref)}
	for _, op := range ops {
		if area, ref, ok := locate(op.Key); ok && area == "obj" && ref.Kind == api.KindJob {
			keys = append(keys, op.Key)
		}
	}
	newer := c.since()
	c.read(keys, nil, func(r ReadDone) {
		if !c.leading || c.elector.Epoch() != epoch {
			return
		}
		if r.Err != nil {
			c.after(c.cfg.Timing.RenewEvery()/2, func() {
				if g.writing && c.leading && c.elector.Epoch() == epoch {
					c.reload(g, ops)
				}
			})
			return
		}
		g.writing = false
		c.replace(r.Entries, func(key string) bool { return slices.Contains(keys, key) }, newer)
		g.dirty = true
	})
}
