package controller

import (
	"fmt"
	"hash/crc32"
	"slices"
	"time"

	"github.com/understudy-ha/understudy/api"
	"github.com/understudy-ha/understudy/job"
	"github.com/understudy-ha/understudy/mutant"
	"github.com/understudy-ha/understudy/store"
)

// retryAfter is how long a Blocked job, or drift that came right back, waits for the next attempt.
const retryAfter = 30 * time.Second

// driveDirty looks at every subject about which something has changed.
func (c *Core) driveDirty() {
	if !c.leading || !c.fresh {
		return
	}
	for _, d := range c.order {
		if s := d.base(); s.dirty {
			s.dirty = false
			c.lookAgain(d)
			d.drive(c)
		}
	}
}

// jobName is unique: one job per generation, but for repairs, which are numbered by epoch and transaction.
func (c *Core) jobName(s *subject, generation int64, kind api.JobKind) string {
	base := s.ref.Name
	if len(base) > 24 {
		base = fmt.Sprintf("%s-%08x", base[:15], crc32.ChecksumIEEE([]byte(base)))
	}
	if kind == api.JobRepair {
		return fmt.Sprintf("%s-%d-r%d-%d%s", base, generation, c.elector.Epoch(), c.lastID, s.suffix)
	}
	return fmt.Sprintf("%s-%d%s", base, generation, s.suffix)
}

// intent is a new assignment, still without what every one has alike, and the job that works towards it.
type intent struct {
	next   api.Assignment
	kind   api.JobKind
	from   string
	steps  []api.Step
	reason string
	// detected is when the first sign was seen; zero if there was none.
	detected time.Time
	// answered: it is what the operator's request asks for.
	answered bool
}

// generation of the assignment that comes next: a repair works towards the same.
func (s *subject) generation(kind api.JobKind) int64 {
	switch {
	case s.assign == nil:
		return 1
	case kind == api.JobRepair:
		return s.assign.Generation
	}
	return s.assign.Generation + 1
}

// resolve writes a new intent and its job, the first steps intended, in one transaction.
func (c *Core) resolve(d driven, in intent) {
	s, epoch := d.base(), c.elector.Epoch()
	next := in.next
	next.Epoch, next.Generation, next.Reason, next.At = epoch, s.generation(in.kind), in.reason, c.now.Wall
	next.Job = c.jobName(s, next.Generation, in.kind)
	spec := api.JobSpec{Subject: s.ref, Kind: in.kind, From: in.from, To: next.Active, Generation: next.Generation, Reason: in.reason, PlanVersion: s.version}
	if in.answered && s.request != nil {
		spec.RequestedBy, spec.RequestID = s.request.By, s.request.ID
	}
	j := job.New(next.Job, s.ref.Tenant, spec, in.steps, c.now.Wall)
	job.Adopt(j, epoch, c.now.Wall)
	if !in.detected.IsZero() {
		job.Note(j, epoch, in.detected, "detect", in.reason)
	}
	job.Note(j, epoch, c.now.Wall, "decide", in.reason)
	w := change{assign: &next, job: j, begun: true, answered: in.answered}
	if old := c.job(s); old != nil && old.Status.Phase == api.Running {
		w.superseded = job.Clone(old)
		job.Supersede(w.superseded, next.Job, epoch, c.now.Wall)
	}
	w.intents = job.Intend(j, s.heldLocks(true), epoch, c.now.Wall)
	job.Settle(j, func(string) bool { return true }, epoch, c.now.Wall)
	if in.kind == api.JobRepair {
		s.retryAt = c.now.Wall.Add(retryAfter)
	}
	c.commit(d, w)
}

// advance takes the running job further: stores results and the next intents, and starts what is intended.
func (c *Core) advance(d driven) { c.advanceWith(d, false) }

// advanceWith is advance; with answered the operator's request is taken away in the same transaction.
func (c *Core) advanceWith(d driven, answered bool) {
	s := d.base()
	cur := c.job(s)
	if cur == nil || cur.Status.Phase != api.Running || cur.Spec.PlanVersion > api.PlanVersion {
		s.results = nil
		return
	}
	next, epoch := job.Clone(cur), c.elector.Epoch()
	changed := job.Adopt(next, epoch, c.now.Wall)
	for _, r := range s.results {
		changed = job.Record(next, r, epoch) || changed
	}
	w := change{job: next, outcomes: len(s.results), answered: answered}
	if changed {
		w.assign = d.bind(next)
	}
	if !c.stopping {
		w.intents = job.Intend(next, s.heldLocks(false), epoch, c.now.Wall)
	}
	ended := job.Settle(next, func(id string) bool { return s.runs[id] != nil }, epoch, c.now.Wall)
	if changed || ended || len(w.intents) > 0 {
		c.commit(d, w)
		return
	}
	s.results = nil
	c.startRuns(d)
}

// cancel asks the running job to stop at its next boundary, which may be now.
func (c *Core) cancel(d driven) {
	s := d.base()
	next, epoch := job.Clone(c.job(s)), c.elector.Epoch()
	next.Status.CancelRequested = true
	job.Note(next, epoch, c.now.Wall, "cancel-requested", s.request.By)
	for id, r := range s.runs {
		if !r.executing() {
			delete(s.runs, id) // waits for an agent or for another attempt: nothing of it is under way
		}
	}
	job.Settle(next, func(id string) bool { return s.runs[id] != nil }, epoch, c.now.Wall)
	c.commit(d, change{job: next, answered: true})
}

func (c *Core) refuse(d driven, why string) {
	s := d.base()
	c.record(s, api.Warning, "RequestRefused", fmt.Sprintf("%s asked for by %s: %s", s.request.Kind, s.request.By, why))
	c.noteRefusal(s.request, why)
	c.commit(d, change{answered: true})
}

// change is what one transaction changes about a subject; nil parts stay.
type change struct {
	assign     *api.Assignment
	job        *api.Job
	superseded *api.Job
	begun      bool     // the job is new
	answered   bool     // the operator's request is taken away
	intents    []string // steps that become Intended with it
	outcomes   int      // how many of the subject's results are in it
}

// commit writes it, bound to this leadership and to everything the decision was made from.
func (c *Core) commit(d driven, w change) {
	s := d.base()
	conds := []store.Cond{{Key: api.ObjectKey(s.ref), Rev: s.specRev}, {Key: api.AssignKey(s.ref), Rev: s.assignRev}}
	var ops []store.Op
	write := func(key string, v any) { ops = append(ops, store.Op{Key: key, Value: encode(v)}) }
	if w.answered {
		conds = append(conds, store.Cond{Key: api.RequestKey(s.ref), Rev: s.requestRev})
		ops = append(ops, store.Op{Key: api.RequestKey(s.ref), Delete: true})
	}
	for _, j := range []*api.Job{w.job, w.superseded} {
		if j != nil {
			conds = append(conds, store.Cond{Key: api.ObjectKey(j.Ref()), Rev: c.jobs[j.Ref()].rev})
			write(api.ObjectKey(j.Ref()), j)
		}
	}
	if w.assign != nil {
		write(api.AssignKey(s.ref), w.assign)
	}
	s.writing = true
	if len(w.intents) > 0 {
		c.do(Boundary{Where: BeforeIntent, Job: w.job.Metadata.Name, Steps: w.intents})
		if mutant.On(mutant.ForgetIntent) {
			c.runAhead(d, w)
		}
	}
	if w.outcomes > 0 {
		c.do(Boundary{Where: AfterEffect, Job: w.job.Metadata.Name})
	}
	epoch, answered := c.elector.Epoch(), s.requestRev
	c.transact(c.guard(conds...), ops, func(done TxnDone) { c.committed(d, w, ops, epoch, answered, done) })
}

// committed takes the store's answer. answered is the revision of the request that was taken away, if one was.
func (c *Core) committed(d driven, w change, ops []store.Op, epoch int64, answered store.Rev, done TxnDone) {
	s := d.base()
	if !c.leading || c.elector.Epoch() != epoch {
		return // abandon has let go of it
	}
	if done.Err != nil {
		c.unsure(done.Err)
		c.reload(s, ops)
		return
	}
	s.writing, s.dirty = false, true
	for i, op := range ops {
		if op.Delete {
			if s.requestRev == answered { // the next one may have been seen before this answer came
				c.forget(op.Key)
			}
		} else {
			c.own[op.Key] = done.Revs[i]
			c.learn(store.Entry{Key: op.Key, Value: op.Value, Rev: done.Revs[i]})
		}
		if w.job != nil && op.Key == api.ObjectKey(w.job.Ref()) {
			c.jobs[w.job.Ref()] = jobEntry{stored: op.Value, rev: done.Revs[i], job: w.job} // no need to parse it
		}
	}
	if w.begun || ended(w.job) {
		c.followers()
		c.hearAll()
	}
	if w.outcomes > 0 && w.job.Metadata.Name == s.runsOf {
		s.results = s.results[w.outcomes:]
	}
	c.tellCommitted(s, w)
	if w.outcomes > 0 {
		c.do(Boundary{Where: AfterOutcome, Job: w.job.Metadata.Name})
	}
	if len(w.intents) > 0 {
		c.do(Boundary{Where: AfterIntent, Job: w.job.Metadata.Name, Steps: w.intents})
	}
	c.startRuns(d)
}

func ended(j *api.Job) bool { return j != nil && j.Status.Phase.Ended() }

// followers has plans looked at, whose steps wait for other subjects.
func (c *Core) followers() {
	for _, d := range c.order {
		if s := d.base(); s.ref.Kind == api.KindRecoveryPlan {
			s.dirty = true
		}
	}
}

// tellCommitted records what the transaction means to people.
func (c *Core) tellCommitted(s *subject, w change) {
	if w.begun {
		sev := api.Warning
		if w.job.Spec.Kind == api.JobEstablish || w.job.Spec.Kind == api.JobPlanned {
			sev = api.Info
		}
		what := "job " + w.job.Metadata.Name
		if s.ref.Kind == api.KindApplianceGroup || w.job.Spec.From != "" {
			what += " moves to " + w.assign.Active
		}
		c.record(s, sev, string(w.job.Spec.Kind)+"Started", what+": "+w.assign.Reason)
	}
	if w.job == nil || !w.job.Status.Phase.Ended() {
		return
	}
	switch w.job.Status.Phase {
	case api.Succeeded:
		c.record(s, api.Info, string(w.job.Spec.Kind)+"Succeeded", fmt.Sprintf("job %s took %v", w.job.Metadata.Name, w.job.Status.Ended.Sub(w.job.Status.Started).Round(time.Microsecond)))
	case api.Blocked:
		s.retryAt = c.now.Wall.Add(retryAfter)
		c.record(s, api.Critical, "JobBlocked", fmt.Sprintf("job %s: %s", w.job.Metadata.Name, w.job.Status.Message))
	case api.Cancelled:
		c.record(s, api.Warning, "JobCancelled", fmt.Sprintf("job %s: %s", w.job.Metadata.Name, w.job.Status.Message))
	}
}

// reload reads what a transaction that did not succeed was about, and decides again.
func (c *Core) reload(s *subject, ops []store.Op) {
	epoch := c.elector.Epoch()
	keys := []string{api.ObjectKey(s.ref), api.AssignKey(s.ref), api.RequestKey(s.ref)}
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
				if s.writing && c.leading && c.elector.Epoch() == epoch {
					c.reload(s, ops)
				}
			})
			return
		}
		s.writing = false
		c.replace(r.Entries, func(key string) bool { return slices.Contains(keys, key) }, newer)
		s.dirty = true
	})
}
