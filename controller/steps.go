package controller

import (
	"errors"
	"fmt"
	"slices"

	"github.com/understudy-ha/understudy/api"
	"github.com/understudy-ha/understudy/clock"
	"github.com/understudy-ha/understudy/cloud"
	"github.com/understudy-ha/understudy/job"
	"github.com/understudy-ha/understudy/mutant"
)

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
	awaiting bool          // waits for what a node reports
	lacks    string        // what it waits for, as last seen
	request  bool          // waits for another subject
	asking   bool          // the request to it is being written
}

func (s *subject) newRun(st api.Step, now clock.Instant) *run {
	r := &run{step: st, started: now}
	switch {
	case st.Node != nil:
		r.node = s.nodeName(st.Node.Node)
	case st.Await != nil:
		r.node = s.nodeName(st.Await.Node)
	}
	return r
}

// executing tells whether something of the run is under way outside.
func (r *run) executing() bool { return r.attempt != 0 || r.push != 0 }

// waits tells whether the run only waits for others to get somewhere: a successor may do that just as well.
func (r *run) waits() bool { return r.awaiting || r.request || r.step.Kind == api.StepManual }

// heldLocks are the locks of steps still under way for jobs that have ended; with all, those of the present job too.
func (s *subject) heldLocks(all bool) map[string]bool {
	held := map[string]bool{}
	for _, lock := range s.orphans {
		held[lock] = true
	}
	if all {
		for _, r := range s.runs {
			if r.attempt != 0 && r.step.Lock != "" {
				held[r.step.Lock] = true
			}
		}
	}
	return held
}

// followAssignment lets go of the runs and results of a job that is not the assignment's any more; what is under
// way keeps its lock until it answers. A transaction whose answer was lost may have changed the assignment.
func (s *subject) followAssignment() {
	if s.assign.Job == s.runsOf {
		return
	}
	s.runsOf = s.assign.Job
	for _, r := range s.runs {
		if r.attempt != 0 && r.step.Lock != "" {
			s.orphans[r.attempt] = r.step.Lock
		}
	}
	s.runs, s.results = map[string]*run{}, nil
}

// startRuns begins every step that is stored as intended and not begun by this leader.
func (c *Core) startRuns(d driven) {
	s := d.base()
	j := c.job(s)
	if j == nil || j.Status.Phase != api.Running || j.Spec.PlanVersion > api.PlanVersion || c.stopping {
		return
	}
	for _, st := range j.Status.Steps {
		if st.State != api.StepIntended || s.runs[st.ID] != nil || s.hasResult(st.ID) || s.heldLocks(false)[st.Lock] {
			continue
		}
		r := s.newRun(st, c.now)
		s.runs[st.ID] = r
		c.begin(d, j, r)
		c.watchDeadline(s, r)
		c.watchSilence(s, r)
	}
}

func (s *subject) hasResult(step string) bool {
	return slices.ContainsFunc(s.results, func(r job.Result) bool { return r.Step == step })
}

// begin makes one attempt at a step.
func (c *Core) begin(d driven, j *api.Job, r *run) {
	r.resting = false
	switch r.step.Kind {
	case api.StepNode:
		c.push(d, r)
	case api.StepAwait:
		r.awaiting = true
		c.lookAt(d, r)
	case api.StepOperate:
		r.request = true
		c.operate(d, j, r)
	case api.StepManual:
		c.record(d.base(), api.Warning, "WaitingForInput", fmt.Sprintf("job %s, step %s: %s", j.Metadata.Name, r.step.ID, r.step.Manual.Instructions))
	case api.StepRelease:
		c.push(d, r)
		c.awaitExpiry(d, r)
	case api.StepDrain:
		c.after(r.step.Wait.D(), func() { c.finish(d, r, job.Result{Outcome: "waited " + r.step.Wait.String()}) })
	default:
		r.attempt = c.nextID()
		e := Execute{Subject: d.base().ref, Job: j, Step: r.step, Attempt: r.attempt, Token: c.token(d.base())}
		d.execute(c, &e)
		c.do(e)
	}
}

// token stamps effects for this subject.
func (c *Core) token(s *subject) api.Token {
	return api.Token{ClusterID: c.cfg.ClusterID, Epoch: c.elector.Epoch(), Generation: s.assign.Generation}
}

// awaitExpiry ends a release once the grant has run out for sure, whether the node answers or not.
func (c *Core) awaitExpiry(d driven, r *run) {
	s := d.base()
	if mutant.On(mutant.GrantWithoutWait) {
		c.finish(d, r, job.Result{Outcome: "not waited"})
		return
	}
	if s.runs[r.step.ID] != r {
		return
	}
	free := c.grantFree(r.node, s.ref.String())
	if left := free.Mono - c.now.Mono; left > 0 {
		c.after(left, func() { c.awaitExpiry(d, r) })
		return
	}
	c.finish(d, r, job.Result{Outcome: "its grant has run out"})
}

func (c *Core) stepDone(e StepDone) {
	for _, d := range c.order {
		s := d.base()
		if _, ok := s.orphans[e.Attempt]; ok {
			delete(s.orphans, e.Attempt)
			s.dirty = true
			return
		}
		if r := s.runs[e.Step]; r != nil && r.attempt == e.Attempt {
			r.attempt = 0
			if errors.Is(e.Err, cloud.ErrStale) {
				c.readLead() // somebody newer has been there
			}
			c.finish(d, r, job.Result{Outcome: e.Outcome, Err: e.Err, Permanent: e.Permanent, Point: e.Point})
			return
		}
	}
}

// finish takes the result of an attempt: it is stored, or the step is tried again until its deadline.
func (c *Core) finish(d driven, r *run, res job.Result) {
	s := d.base()
	if s.runs[r.step.ID] != r {
		return
	}
	r.awaiting, r.request = false, false
	overdue := c.now.Since(r.started) >= r.step.Deadline.D()
	if res.Err != nil && !res.Permanent && !overdue {
		if r.step.Kind == api.StepChoose {
			r.lacks = res.Err.Error()
		}
		r.attempts++
		r.resting = true
		c.after(job.Backoff(r.attempts), func() {
			if s.runs[r.step.ID] == r && r.resting {
				c.begin(d, c.job(s), r)
			}
		})
		return
	}
	delete(s.runs, r.step.ID)
	res.Step, res.Overdue, res.At = r.step.ID, overdue, c.now.Wall
	s.results = append(s.results, res)
	s.dirty = true
}

// watchDeadline gives up a step that waits for its agent, or for anything else, too long. What is under way in a cloud is waited for.
func (c *Core) watchDeadline(s *subject, r *run) {
	c.after(r.step.Deadline.D(), func() {
		if s.runs[r.step.ID] == r && r.attempt == 0 {
			c.finish(c.subjects[s.ref], r, job.Result{Err: fmt.Errorf("%s within %v", r.missed(), r.step.Deadline)})
		}
	})
}

// watchSilence gives up an optional step whose node is not heard of for a lease's time: it holds up what matters, such as a failover
// from a site that is gone. The node is told at its first contact.
func (c *Core) watchSilence(s *subject, r *run) {
	if !r.step.Optional || r.node == "" {
		return
	}
	c.after(c.cfg.Timing.TickEvery(), func() {
		if s.runs[r.step.ID] != r {
			return
		}
		led, _ := c.elector.Acquired()
		a := c.agents[r.node]
		if c.now.Since(led) > c.cfg.Timing.TTL && (a == nil || a.gone || c.now.Since(a.ticked) > c.cfg.Timing.TTL) {
			c.finish(c.subjects[s.ref], r, job.Result{Err: fmt.Errorf("%s is not heard of", r.node), Permanent: true})
			return
		}
		c.watchSilence(s, r)
	})
}

// missed says what did not come.
func (r *run) missed() string {
	switch {
	case (r.awaiting || r.request || r.step.Kind == api.StepChoose) && r.lacks != "":
		return r.lacks
	case r.step.Kind == api.StepManual:
		return "nobody has completed it"
	case r.node != "":
		return "no answer from " + r.node
	}
	return "no answer from the provider"
}

// runAhead is the defect ForgetIntent.
func (c *Core) runAhead(d driven, w change) {
	if w.assign != nil {
		return
	}
	s := d.base()
	for _, id := range w.intents {
		r := s.newRun(*job.Find(w.job, id), c.now)
		s.runs[id] = r
		c.begin(d, w.job, r)
	}
}
