package controller

import (
	"fmt"
	"maps"
	"strings"
	"time"

	"github.com/understudy-ha/understudy/api"
	"github.com/understudy-ha/understudy/lead"
	"github.com/understudy-ha/understudy/mutant"
	"github.com/understudy-ha/understudy/store"
)

// lookEvery is how often a cloud is compared with the assignment.
const lookEvery = 30 * time.Second

// routerOf gives the node of a Linux route table id, "NODE" or "NODE/TABLE".
func routerOf(table string) string {
	if strings.HasPrefix(table, "/") {
		return ""
	}
	node, _, _ := strings.Cut(table, "/")
	return node
}

// astray lists what is known not to be as the assignment says, for people. Nothing is known of a node without a
// session.
func (c *Core) astray(g *group) []string {
	if g.assign == nil || c.provider(g) == nil {
		return nil
	}
	var out []string
	if g.assign.SpecGeneration != g.spec.Metadata.Generation {
		out = append(out, fmt.Sprintf("the spec is at generation %d, the assignment was made from %d", g.spec.Metadata.Generation, g.assign.SpecGeneration))
	}
	if c.provider(g).Spec.Type == api.ProviderAzure {
		if g.seen != nil {
			for _, h := range g.seen.Astray(g.assign.Active) {
				out = append(out, fmt.Sprintf("%s is on %q (%s)", h.Thing, h.Member, h.Detail))
			}
		}
		return out
	}
	for _, s := range c.wanted(g) {
		if s.Node != nil {
			out = append(out, c.astraySections(g, s)...)
		}
	}
	return out
}

// wanted is how the nodes must be by the assignment: a plan, kept while what it is made from stays.
type wanted struct {
	spec, assign store.Rev
	provider     *api.Provider
	peers        map[string]string
	steps        []api.Step
}

func (c *Core) wanted(g *group) []api.Step {
	w, peers := &g.wanted, c.peers(g)
	if w.spec == g.specRev && w.assign == g.assignRev && w.provider == c.provider(g) && maps.Equal(w.peers, peers) {
		return w.steps
	}
	steps, err := c.plan(g, api.JobRepair, "", g.assign.Active, g.assign.Generation)
	if err != nil {
		steps = nil // a plan that cannot be made is a condition of its own, when it is needed
	}
	*w = wanted{g.specRev, g.assignRev, c.provider(g), peers, steps}
	return steps
}

func (c *Core) astraySections(g *group, s api.Step) []string {
	var out []string
	for _, want := range s.Node.Sections {
		out = append(out, c.astraySection(g.nodeName(s.Node.Node), want)...)
	}
	return out
}

// astraySection says how a section at a node differs from what is wanted. Nothing is known of a node without a session.
func (c *Core) astraySection(node string, want api.Section) []string {
	a := c.agents[node]
	if a == nil || a.gone {
		return nil
	}
	has := a.sections[lead.SectionKey(want.Engine, want.Owner)]
	switch {
	case has.Applied.ClusterID != c.cfg.ClusterID || has.Applied.Generation != want.Generation:
		return []string{fmt.Sprintf("%s has %s at generation %d, want %d", a.name, want.Engine, has.Applied.Generation, want.Generation)}
	case has.Error != "":
		return []string{fmt.Sprintf("%s: %s: %s", a.name, want.Engine, has.Error)}
	case want.Engine == api.EngineAddresses && len(want.Addresses.Addresses) > 0 && !a.has(want.Owner):
		return []string{fmt.Sprintf("%s does not hold %s", a.name, want.Owner)}
	}
	return nil
}

func (a *agent) has(owner string) bool {
	for _, o := range a.holds {
		if o == owner {
			return true
		}
	}
	return false
}

// lookAround asks the cloud, once in a while and when no job is under way, where things are.
func (c *Core) lookAround(g *group) {
	p := c.provider(g)
	if p == nil || p.Spec.Type != api.ProviderAzure || g.assign == nil || g.looking {
		return
	}
	if j := c.job(&g.subject); j != nil && j.Status.Phase == api.Running && !mutant.On(mutant.DriftIgnoresClaim) {
		return
	}
	if g.seen != nil && c.now.Since(g.seenAt) < lookEvery {
		return
	}
	g.looking, g.lookedFor = true, g.assign
	c.do(Observe{Group: g.spec, Provider: p})
}

func (c *Core) observed(e Observed) {
	g := c.groups[e.Group]
	if g == nil || !g.looking {
		return
	}
	g.looking, g.seenAt = false, c.now
	c.after(lookEvery, func() { g.dirty = true })
	if e.Err != nil || g.spec == nil || g.assign == nil {
		return
	}
	if j := c.job(&g.subject); j != nil && j.Status.Phase == api.Running {
		if mutant.On(mutant.DriftIgnoresClaim) && c.leading {
			c.repairBlindly(g, e)
		}
		return // it may have been read before the job moved something
	}
	if g.dirty = true; g.lookedFor.Job != g.assign.Job {
		return // so it may with a job that has begun and ended meanwhile
	}
	g.seen = &e.State
}

func (c *Core) checked(e Checked) {
	if g := c.groups[e.Group]; g != nil {
		g.findings, g.dirty = e.Findings, true
	}
}

// repairBlindly is the defect DriftIgnoresClaim: it repairs towards what was assigned when it began to look.
func (c *Core) repairBlindly(g *group, e Observed) {
	if len(e.State.Astray(g.lookedFor.Active)) == 0 {
		return
	}
	steps, err := c.plan(g, api.JobRepair, "", g.lookedFor.Active, g.lookedFor.Generation)
	if err != nil {
		return
	}
	for _, s := range steps {
		if s.Kind != api.StepVerify {
			c.do(Execute{Group: g.spec, Provider: c.provider(g), Job: c.job(&g.subject), Step: s, Attempt: c.nextID(), Token: c.token(&g.subject)})
		}
	}
}
