package controller

import (
	"github.com/understudy-ha/understudy/api"
	"github.com/understudy-ha/understudy/clock"
	"github.com/understudy-ha/understudy/cloud"
	"github.com/understudy-ha/understudy/health"
	"github.com/understudy-ha/understudy/store"
)

// group is what a controller knows of one appliance group, leading or not, and, while it leads, what it has under way.
type group struct {
	subject
	spec *api.ApplianceGroup // nil: deleted, or not seen yet

	targets map[string]Target
	judges  map[string]*health.Judge
	// toldDoubt are the members of which the others last heard that this controller is in doubt.
	toldDoubt map[string]bool
	tracker   *health.Tracker
	shown     map[string]api.Health // verdicts as last recorded

	seen      *cloud.State // as last observed, for clouds
	seenAt    clock.Instant
	looking   bool
	lookedFor *api.Assignment // in force when the look began
	findings  []cloud.Finding
	wanted    wanted

	current api.GroupStatus // as it should be shown
	written api.GroupStatus // what was written
}

func newGroup(ref api.Ref) *group {
	return &group{subject: newSubject(ref, "", api.PlanVersionAppliances), targets: map[string]Target{}, judges: map[string]*health.Judge{},
		toldDoubt: map[string]bool{}, shown: map[string]api.Health{}}
}

func (g *group) learn(value []byte, rev store.Rev) {
	if s := parse[api.ApplianceGroup](value); s != nil && rev >= g.specRev {
		s.Default()
		g.spec, g.specRev, g.dirty = s, rev, true
	}
}

func (g *group) forget() { g.spec = nil }

// reassigned: what was seen before a job moves something tells nothing about after.
func (g *group) reassigned() { g.seen = nil }

func (g *group) bind(*api.Job) *api.Assignment { return nil }

func (g *group) sections(s api.Step) []api.Section { return s.Node.Sections }

func (g *group) execute(c *Core, e *Execute) { e.Group, e.Provider = g.spec, c.provider(g) }

func (g *group) abandon() {
	g.letGo()
	g.seen, g.looking = nil, false
}

// provider gives the group's provider, or nil.
func (c *Core) provider(g *group) *api.Provider {
	return c.providers[api.Ref{Kind: api.KindProvider, Tenant: g.ref.Tenant, Name: g.spec.Spec.Provider}]
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
