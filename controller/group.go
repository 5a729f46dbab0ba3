package controller

import (
	"time"

	"github.com/understudy-ha/understudy/api"
	"github.com/understudy-ha/understudy/clock"
	"github.com/understudy-ha/understudy/cloud"
	"github.com/understudy-ha/understudy/health"
	"github.com/understudy-ha/understudy/job"
	"github.com/understudy-ha/understudy/store"
)

// group is what a controller knows of one appliance group, leading or not, and, while it leads, what it has under way.
type group struct {
	ref api.Ref

	spec       *api.ApplianceGroup // nil: deleted, or not seen yet
	specRev    store.Rev
	assign     *api.Assignment
	assignRev  store.Rev
	request    *api.Request
	requestRev store.Rev

	targets map[string]Target
	judges  map[string]*health.Judge
	// toldDoubt are the members of which the others last heard that this controller is in doubt.
	toldDoubt map[string]bool
	tracker   *health.Tracker
	shown     map[string]api.Health // verdicts as last recorded

	dirty     bool
	writing   bool // a transaction about this group, or the reading after one, is under way
	runs      map[string]*run
	runsOf    string            // the job that runs and results belong to
	orphans   map[uint64]string // attempts of ended jobs still under way → their lock
	results   []job.Result      // of steps that ended, not stored yet
	retryAt   time.Time
	seen      *cloud.State // as last observed, for clouds
	seenAt    clock.Instant
	looking   bool
	lookedFor *api.Assignment // in force when the look began
	findings  []cloud.Finding
	wanted    wanted

	status statusWriter
}

func (c *Core) group(ref api.Ref) *group {
	g := c.groups[ref]
	if g == nil {
		g = &group{ref: ref, targets: map[string]Target{}, judges: map[string]*health.Judge{}, toldDoubt: map[string]bool{}, shown: map[string]api.Health{},
			runs: map[string]*run{}, orphans: map[uint64]string{}}
		c.groups[ref] = g
	}
	return g
}

func (g *group) setSpec(s *api.ApplianceGroup, rev store.Rev) {
	if rev >= g.specRev {
		g.spec, g.specRev, g.dirty = s, rev, true
	}
}

func (g *group) setAssignment(a *api.Assignment, rev store.Rev) {
	if rev >= g.assignRev {
		if g.assign == nil || a == nil || g.assign.Job != a.Job {
			g.seen = nil // what was seen before this job moves something tells nothing about after
		}
		g.assign, g.assignRev, g.dirty = a, rev, true
		g.followAssignment()
	}
}

func (g *group) setRequest(r *api.Request, rev store.Rev) {
	if rev >= g.requestRev {
		g.request, g.requestRev, g.dirty = r, rev, true
	}
}

// abandon drops what was under way: leadership has changed hands.
func (g *group) abandon() {
	g.runs, g.orphans, g.writing = map[string]*run{}, map[uint64]string{}, false
	g.results, g.seen, g.looking, g.retryAt = nil, nil, false, time.Time{}
	g.dirty = true
}

// jobRef names the assignment's job.
func (g *group) jobRef() api.Ref {
	if g.assign == nil {
		return api.Ref{}
	}
	return api.Ref{Kind: api.KindJob, Tenant: g.ref.Tenant, Name: g.assign.Job}
}

// job gives the assignment's job as stored, or nil.
func (c *Core) job(g *group) *api.Job {
	ref := g.jobRef()
	e, ok := c.jobs[ref]
	if !ok || e.job != nil {
		return e.job
	}
	e.job = parse[api.Job](e.stored)
	c.jobs[ref] = e
	return e.job
}

// provider gives the group's provider, or nil.
func (c *Core) provider(g *group) *api.Provider {
	return c.providers[api.Ref{Kind: api.KindProvider, Tenant: g.ref.Tenant, Name: g.spec.Spec.Provider}]
}

func (c *Core) dirtyAll() {
	for _, g := range c.groups {
		g.dirty = true
	}
}

// member gives the member of that name, or nil.
func (g *group) member(name string) *api.Member {
	for i := range g.spec.Spec.Members {
		if g.spec.Spec.Members[i].Name == name {
			return &g.spec.Spec.Members[i]
		}
	}
	return nil
}
