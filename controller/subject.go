package controller

import (
	"cmp"
	"slices"
	"time"

	"github.com/understudy-ha/understudy/api"
	"github.com/understudy-ha/understudy/job"
	"github.com/understudy-ha/understudy/store"
)

// subject is something that fails over, as far as all kinds of it are alike: what is intended, what was asked, the job
// that works towards it, and what this leader has under way for it.
type subject struct {
	ref api.Ref
	// suffix of its jobs' names, which ends them in what no other kind's end in.
	suffix string
	// version of the plans that its jobs are.
	version int

	specRev    store.Rev // 0: deleted, or not seen yet
	assign     *api.Assignment
	assignRev  store.Rev
	request    *api.Request
	requestRev store.Rev

	dirty   bool
	writing bool // a transaction about it, or the reading after one, is under way
	runs    map[string]*run
	runsOf  string            // the job that runs and results belong to
	orphans map[uint64]string // attempts of ended jobs still under way → their lock
	results []job.Result      // of steps that ended, not stored yet
	retryAt time.Time

	status statusWriter
}

// driven is what differs between the kinds of subjects.
type driven interface {
	base() *subject
	// learn takes the spec as stored; forget its absence.
	learn(value []byte, rev store.Rev)
	forget()
	// drive decides, and takes the next step.
	drive(c *Core)
	// reassigned tells that another job has the subject now; abandon that leadership has changed hands.
	reassigned()
	abandon()
	// concerns tells whether the node ("tenant/name") has, or should have, sections of it.
	concerns(node string) bool
	// sections of a node step, completed by what the job has found out.
	sections(s api.Step) []api.Section
	// execute fills in what an Execute says of the subject.
	execute(c *Core, e *Execute)
	// bind gives the assignment as the outcomes of the job change it, or nil if they do not.
	bind(j *api.Job) *api.Assignment
	// renews lists the owners of what the agent is to keep for the subject.
	renews(c *Core, a *agent) []string
}

func newSubject(ref api.Ref, suffix string, version int) subject {
	return subject{ref: ref, suffix: suffix, version: version, runs: map[string]*run{}, orphans: map[uint64]string{}}
}

func (s *subject) base() *subject { return s }

// subject gives the subject of that name, made if it is not known; nil if the kind does not fail over.
func (c *Core) subject(ref api.Ref) driven {
	if d, ok := c.subjects[ref]; ok {
		return d
	}
	var d driven
	switch ref.Kind {
	case api.KindApplianceGroup:
		g := newGroup(ref)
		c.groups[ref] = g
		d = g
	case api.KindProtectedMachine:
		d = newMachine(c, ref)
	case api.KindRecoveryPlan:
		d = newRecoveryPlan(c, ref)
	default:
		return nil
	}
	c.subjects[ref] = d
	i, _ := slices.BinarySearchFunc(c.order, ref.String(), func(d driven, key string) int { return cmp.Compare(d.base().ref.String(), key) })
	c.order = slices.Insert(c.order, i, d)
	return d
}

func (s *subject) setAssignment(d driven, a *api.Assignment, rev store.Rev) {
	if rev < s.assignRev {
		return
	}
	if s.assign == nil || a == nil || s.assign.Job != a.Job {
		d.reassigned()
	}
	s.assign, s.assignRev, s.dirty = a, rev, true
	s.followAssignment()
}

func (s *subject) setRequest(r *api.Request, rev store.Rev) {
	if rev >= s.requestRev {
		s.request, s.requestRev, s.dirty = r, rev, true
	}
}

// letGo drops what was under way: leadership has changed hands.
func (s *subject) letGo() {
	s.runs, s.orphans, s.writing = map[string]*run{}, map[uint64]string{}, false
	s.results, s.retryAt = nil, time.Time{}
	s.status.written = nil // another leader may write another one
	s.dirty = true
}

// jobRef names the assignment's job.
func (s *subject) jobRef() api.Ref {
	if s.assign == nil {
		return api.Ref{}
	}
	return api.Ref{Kind: api.KindJob, Tenant: s.ref.Tenant, Name: s.assign.Job}
}

// job gives the assignment's job as stored, or nil.
func (c *Core) job(s *subject) *api.Job { return c.jobAt(s.jobRef()) }

// jobAt gives a job as stored, or nil.
func (c *Core) jobAt(ref api.Ref) *api.Job {
	e, ok := c.jobs[ref]
	if !ok || e.job != nil {
		return e.job
	}
	e.job = parse[api.Job](e.stored)
	c.jobs[ref] = e
	return e.job
}

func (c *Core) dirtyAll() {
	for _, d := range c.order {
		d.base().dirty = true
	}
}

// nodeName is how a subject's node is called among agents.
func (s *subject) nodeName(node string) string { return s.ref.Tenant + "/" + node }
