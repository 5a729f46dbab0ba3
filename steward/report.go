package steward

import (
	"maps"
	"slices"

	"github.com/understudy-ha/understudy/api"
	"github.com/understudy-ha/understudy/lead"
)

// Report is the agent's state now.
func (c *Core) Report() Report {
	r := Report{Sections: []api.SectionStatus{}}
	for _, key := range slices.Sorted(maps.Keys(c.sections)) {
		r.Sections = append(r.Sections, c.sections[key].status())
	}
	holds := map[string]bool{}
	for owner := range c.holder.Grants() {
		holds[owner] = true
	}
	for owner := range c.undropped {
		holds[owner] = true
	}
	r.Holds = slices.Sorted(maps.Keys(holds))
	return r
}

func (s *section) status() api.SectionStatus {
	return api.SectionStatus{Engine: s.want.Engine, Owner: s.want.Owner, Applied: s.applied, Error: s.err, Repaired: s.repaired, State: s.state}
}

// said takes what an engine's process tells of itself.
func (c *Core) said(e Said) {
	if s := c.sections[lead.SectionKey(e.Engine, e.Owner)]; s != nil {
		s.state, c.dirty = &e.State, true
	}
}

// repaired takes note of what an engine found by itself.
func (c *Core) repaired(e Repaired) {
	for _, s := range c.sections {
		if s.want.Engine != e.Engine || s.want.Owner != e.Owner {
			continue
		}
		was := s.status()
		s.repaired += int64(e.Count)
		if e.Err != nil && s.err == "" {
			s.err, s.retryAt = e.Err.Error(), c.now.Add(retryEvery)
		}
		c.dirty = c.dirty || was != s.status()
	}
}

// report tells every controller when something has changed; one whose welcome is to come, once that came.
func (c *Core) report() {
	if !c.dirty {
		return
	}
	c.dirty = false
	r := c.Report()
	for _, id := range slices.Sorted(maps.Keys(c.sessions)) {
		c.do(SendReport{Session: id, Report: r})
	}
	for id := range c.greeting {
		c.greeting[id] = true
	}
}
