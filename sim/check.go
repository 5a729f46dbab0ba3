package sim

import (
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/understudy-ha/understudy/api"
	"github.com/understudy-ha/understudy/controller"
	"github.com/understudy-ha/understudy/health"
	"github.com/understudy-ha/understudy/job"
	"github.com/understudy-ha/understudy/lead"
	"github.com/understudy-ha/understudy/store"
)

// checker asserts the invariants of DESIGN.md as things happen. It sees the whole world and the true time.
type checker struct {
	w *world
	// intended remembers, by controller and transaction, what was true when the core asked for it.
	asked map[askedKey]asked
	// active is who was assigned, by group and generation.
	active map[generation]string
	// jobs as last stored, with the true time when they were first.
	jobs  map[string]*api.Job
	since map[string]time.Duration
	// running lists the jobs in phase Running, by name.
	running []string
	// succeeded holds "job step" of every effect that was carried out.
	succeeded map[string]bool
	// newest is, by node, the newest token that an agent began to apply; begun the same by node and section.
	newest, begun map[string]api.Token
	// sections is, by node and section, the newest generation that took effect.
	sections map[string]int64

	// next is when the end is looked for again; right is since when all has been as it must be in the end.
	next, right time.Duration
	// from is when the last fault ended.
	from time.Duration
	// examine tells that this seed ends with an examination.
	examine, examined bool
	// moved is when each group's assignment last went to another member.
	moved map[api.Ref]time.Duration

	failovers, moves, endedJobs int
}

type askedKey struct {
	host *host
	life int
	id   uint64
}

type asked struct {
	host  *host
	at    time.Duration
	epoch int64
}

type generation struct {
	group api.Ref
	n     int64
}

func newChecker(w *world) *checker {
	return &checker{w: w, asked: map[askedKey]asked{}, active: map[generation]string{}, jobs: map[string]*api.Job{}, since: map[string]time.Duration{},
		succeeded: map[string]bool{}, moved: map[api.Ref]time.Duration{}, newest: map[string]api.Token{}, begun: map[string]api.Token{}, sections: map[string]int64{}}
}

// issued looks at an effect when the core gives it, before anything can delay it.
func (c *checker) issued(h *host, e controller.Effect) {
	switch e := e.(type) {
	case controller.Lead:
		h.epoch = 0
		if e.Leading {
			h.epoch = e.Epoch
		}
	case controller.Transact:
		if c.w.estate != nil && strings.HasPrefix(e.Ops[0].Key, "status/") {
			c.w.estate.shown[e.Ops[0].Key] = string(e.Ops[0].Value)
		}
		c.asked[askedKey{h, h.m.life, e.ID}] = asked{h, c.w.now, h.epoch}
	case controller.Execute:
		c.execute(e)
	case controller.Push:
		if c.w.estate != nil {
			c.w.estate.pushed(h, e)
			return
		}
		c.push(e)
	case controller.Echo:
		if c.w.estate != nil {
			c.w.estate.echoed(h, e)
		}
	}
}

// txn gives what was true when the core asked for the transaction.
func (c *checker) txn(h *host, e controller.Transact) asked {
	k := askedKey{h, h.m.life, e.ID}
	a := c.asked[k]
	delete(c.asked, k)
	return a
}

// execute: a step runs after its intent is stored, never again after its outcome is, and towards the member that is assigned.
func (c *checker) execute(e controller.Execute) {
	name := e.Job.Metadata.Name
	j := c.jobs[name]
	if j == nil {
		c.w.violate(3, fmt.Sprintf("job %s runs step %s and is not stored", name, e.Step.ID))
		return
	}
	switch s := job.Find(j, e.Step.ID); {
	case s == nil || s.State == api.StepPending:
		c.w.violate(3, fmt.Sprintf("job %s runs step %s, whose intent is not stored", name, e.Step.ID))
	case s.State == api.StepDone && s.Kind == api.StepHook:
		c.w.violate(3, fmt.Sprintf("job %s runs %s again, which is stored as done", name, e.Step.ID))
	}
	if c.w.estate != nil {
		return
	}
	g := c.w.group(j.Spec.Subject)
	to := c.active[generation{g.ref, e.Token.Generation}]
	if e.Step.Routes != nil {
		for _, r := range e.Step.Routes.Routes {
			if !g.owns(to, r.NextHop) {
				c.w.violate(2, fmt.Sprintf("job %s points %s at %s, which is not %s's", name, r.Prefix, r.NextHop, to))
			}
		}
	}
}

// push: what an agent is told follows a stored intent and the assignment.
func (c *checker) push(e controller.Push) {
	for _, s := range e.Sections {
		ref, _ := api.ParseRef(s.Owner)
		g := c.w.group(ref)
		if g == nil {
			c.w.violate(0, "push for "+s.Owner)
			return
		}
		to, ok := c.active[generation{ref, s.Generation}]
		if !ok {
			c.w.violate(3, fmt.Sprintf("%s is told of generation %d of %s, which is not stored", e.Node, s.Generation, s.Owner))
			return
		}
		switch {
		case s.Routes != nil:
			for _, r := range s.Routes.Routes {
				if !g.owns(to, r.Via) {
					c.w.violate(2, fmt.Sprintf("%s is told to send %s to %s, which is not %s's", e.Node, r.Prefix, r.Via, to))
				}
			}
		case s.Addresses != nil && len(s.Addresses.Addresses) > 0 && g.node(to) != e.Node:
			c.w.violate(2, fmt.Sprintf("%s is told to hold the addresses of %s, which is assigned to %s", e.Node, s.Owner, to))
		}
		if !c.intendedPush(g, e.Node, s) {
			c.w.violate(3, fmt.Sprintf("%s is told %s of %s, and no stored step intends it", e.Node, s.Engine, s.Owner))
		}
	}
}

func (c *checker) intendedPush(g *group, node string, sec api.Section) bool {
	a := c.w.assignment(g.ref)
	if a == nil {
		return false
	}
	for _, j := range c.jobs {
		if j.Spec.Subject != g.ref || j.Spec.Generation != sec.Generation {
			continue
		}
		for i := range j.Status.Steps {
			if s := &j.Status.Steps[i]; s.State != api.StepPending && s.Node != nil && "default/"+s.Node.Node == node &&
				slices.ContainsFunc(s.Node.Sections, func(o api.Section) bool { return o.Engine == sec.Engine && o.Generation == sec.Generation }) {
				return true
			}
		}
	}
	return false
}

// committed looks at a transaction of a core when it takes effect.
func (c *checker) committed(by asked, ops []store.Op) {
	if strings.HasPrefix(ops[0].Key, "lead/") {
		e := decode[lead.EpochDoc](c.w.store.get(lead.EpochKey).Value)
		c.w.note("store", ops[0].Key, by.host.m.name, fmt.Sprint(e.Epoch))
		return
	}
	e := decode[lead.EpochDoc](c.w.store.get(lead.EpochKey).Value)
	if e == nil || e.Holder != by.host.m.name || e.Epoch != by.epoch || by.epoch == 0 {
		c.w.violate(1, fmt.Sprintf("%s wrote %s, asked for under epoch %d at %v, under %+v", by.host.m.name, ops[0].Key, by.epoch, by.at, e))
		return
	}
	for _, op := range ops {
		area, rest, _ := strings.Cut(op.Key, "/")
		ref, ok := api.ParseRef(rest)
		switch {
		case !ok || op.Delete:
		case area == "assign":
			c.assigned(by, ref, decode[api.Assignment](op.Value))
		case area == "obj" && ref.Kind == api.KindJob:
			c.stored(decode[api.Job](op.Value))
		}
	}
	c.oneJob()
}

// assigned: never onto a member that is not known healthy, and never away from one that is not known dead, but by request.
func (c *checker) assigned(by asked, ref api.Ref, a *api.Assignment) {
	if c.w.estate != nil {
		c.w.estate.assigned(c.w.estate.at(ref), a)
		return
	}
	c.w.note("store", "assigned", ref.Name, a.Active, fmt.Sprint(a.Generation), a.Job, a.Reason)
	last := c.active[generation{ref, a.Generation - 1}]
	if was, ok := c.active[generation{ref, a.Generation}]; ok && was != a.Active {
		c.w.violate(1, fmt.Sprintf("generation %d of %s goes to %s and to %s", a.Generation, ref, was, a.Active))
	} else if ok {
		return
	}
	c.active[generation{ref, a.Generation}] = a.Active
	c.moves++
	c.moved[ref] = c.w.now
	g := c.w.group(ref)
	if n := c.observers(by, ref, a.Active, api.Up); n < 2 {
		c.w.violate(2, fmt.Sprintf("%s moves to %s, which %d controllers know to be up", ref, a.Active, n))
	}
	if b := g.boxes[a.Active]; !b.up() && by.at-b.since > c.w.detection(g) {
		c.w.violate(2, fmt.Sprintf("%s moves to %s, which has been dead for %v", ref, a.Active, by.at-b.since))
	}
	if strings.Contains(a.Reason, "is down") {
		c.failovers++
		if n := c.observers(by, ref, last, api.Down); n < 2 {
			c.w.violate(2, fmt.Sprintf("%s fails over from %s, which %d controllers know to be down", ref, last, n))
		}
	}
}

// observers counts the controllers that, by their own probes, can have thought so when the decision was made.
func (c *checker) observers(by asked, ref api.Ref, member string, what api.Health) int {
	n := 0
	for _, h := range c.w.hosts {
		if h.shadow.thought(subject{ref, member}, what, by.at-c.w.hearsay(), by.at) {
			n++
		}
	}
	return n
}

// hearsay is how old an opinion can be that a leader counts: said late, carried late, kept until it is stale, or read
// late by a leader that was held up.
func (w *world) hearsay() time.Duration {
	return health.StaleAfter + health.RefreshEvery + lateBy + 2*w.timing.TTL
}

// detection is how long a dead member can be taken for a living one.
func (w *world) detection(g *group) time.Duration {
	p := g.spec.Spec.Probe
	return w.hearsay() + time.Duration(float64(p.Interval.D()*time.Duration(p.Fall+1)+2*p.Timeout.D())/(1-w.skew.rate))
}

// stored: a job ends once, its steps go forward, and an outcome follows the effect.
func (c *checker) stored(j *api.Job) {
	name := j.Metadata.Name
	old := c.jobs[name]
	c.jobs[name] = j
	if old == nil {
		c.since[name] = c.w.now
	}
	c.w.note("store", "job", name, string(j.Status.Phase), states(j))
	for i := range j.Status.Steps {
		s := &j.Status.Steps[i]
		was := api.StepPending
		if old != nil {
			was = job.Find(old, s.ID).State
		}
		if was == api.StepDone && s.State != api.StepDone {
			c.w.violate(3, fmt.Sprintf("job %s: step %s goes from %s to %s", name, s.ID, was, s.State))
		}
		if was != api.StepDone && s.State == api.StepDone && !c.happened(j, s) {
			c.w.violate(3, fmt.Sprintf("job %s: step %s is stored as done and did not happen", name, s.ID))
		}
	}
	at, running := slices.BinarySearch(c.running, name)
	switch {
	case old != nil && old.Status.Phase.Ended() && (old.Status.Phase != j.Status.Phase):
		c.w.violate(3, fmt.Sprintf("job %s had ended %s and is %s", name, old.Status.Phase, j.Status.Phase))
	case j.Status.Phase.Ended() && running:
		c.running = slices.Delete(c.running, at, at+1)
		c.endedJobs++
		if c.w.estate != nil {
			c.w.estate.ended(c.w.estate.at(j.Spec.Subject), j)
		}
		c.w.retain(name)
	case !j.Status.Phase.Ended() && !running:
		c.running = slices.Insert(c.running, at, name)
	}
}

func states(j *api.Job) string {
	var b strings.Builder
	for i := range j.Status.Steps {
		s := &j.Status.Steps[i]
		b.WriteString(s.ID + "=" + string(s.State) + " ")
	}
	return b.String()
}

func (c *checker) effectDone(jobName, step string) { c.succeeded[jobName+" "+step] = true }

// happened tells whether the effect of a step has been there.
func (c *checker) happened(j *api.Job, s *api.Step) bool {
	if c.w.estate != nil {
		return c.w.estate.happened(j, s)
	}
	switch s.Kind {
	case api.StepNode:
		for _, sec := range s.Node.Sections {
			if c.sections["default/"+s.Node.Node+" "+lead.SectionKey(sec.Engine, sec.Owner)] < sec.Generation {
				return false
			}
		}
		return true
	case api.StepDrain, api.StepRelease: // time passes by itself
		return true
	}
	return c.succeeded[j.Metadata.Name+" "+s.ID]
}

// oneJob: only one job at a time holds a group's claims.
func (c *checker) oneJob() {
	for i, name := range c.running {
		for _, other := range c.running[:i] {
			if c.jobs[name].Spec.Subject == c.jobs[other].Spec.Subject {
				c.w.violate(1, fmt.Sprintf("jobs %s and %s run at once", other, name))
			}
		}
	}
}
