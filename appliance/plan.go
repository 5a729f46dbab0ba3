package appliance

import (
	"fmt"
	"time"

	"github.com/understudy-ha/understudy/api"
	"github.com/understudy-ha/understudy/cloud"
)

// Plan gives the whole job for a move: hooks before, drain, what the provider's planner moves, read-back, hooks
// after. Routes and addresses never wait for an optional step of each other.
func Plan(p cloud.Planner, m cloud.Move) ([]api.Step, error) {
	core, err := p.Plan(m)
	if err != nil {
		return nil, fmt.Errorf("plan %s: %w", m.Group.Ref(), err)
	}
	var steps []api.Step
	var first []string // what the core waits for
	for _, h := range m.Group.Spec.Hooks.Before {
		s := hook(h, "before")
		s.Optional = !m.Planned
		steps = append(steps, s)
		first = append(first, s.ID)
	}
	if drain := drain(m, first); len(drain) > 0 {
		steps = append(steps, drain...)
		first = append(first, drain[len(drain)-1].ID)
	}
	var all []string
	for _, s := range core {
		if len(s.Needs) == 0 {
			s.Needs = first
		}
		steps = append(steps, s)
		all = append(all, s.ID)
	}
	if m.Provider.Spec.Type == api.ProviderAzure {
		v := api.Step{ID: "verify", Kind: api.StepVerify, Needs: all,
			Expected: api.Duration(time.Second), Worst: api.Duration(10 * time.Second), Deadline: api.Duration(5 * time.Minute)}
		steps = append(steps, v)
		all = []string{v.ID}
	}
	for _, h := range m.Group.Spec.Hooks.After {
		s := hook(h, "after")
		s.Optional, s.Needs = true, all
		steps = append(steps, s)
	}
	return steps, nil
}

func hook(h api.Hook, when string) api.Step {
	return api.Step{ID: "hook:" + when + ":" + h.Name, Kind: api.StepHook, Hook: &api.HookStep{Hook: h, When: when},
		Expected: api.Duration(100 * time.Millisecond), Worst: h.Timeout, Deadline: h.Timeout}
}

// drain makes the active member say "not ready" for a while before a planned move.
func drain(m cloud.Move, needs []string) []api.Step {
	period := m.Group.Spec.Drain.Period
	from := memberOf(m.Group, m.From)
	if !m.Planned || period <= 0 || from == nil || from.Node == "" {
		return nil
	}
	say := api.Step{ID: "drain:" + from.Name, Kind: api.StepNode, Needs: needs, Optional: true,
		Node: &api.NodeStep{Node: from.Node, Sections: []api.Section{{Engine: api.EngineRole, Owner: m.Group.Ref().String(),
			Generation: m.Generation, Role: &api.RoleConfig{Role: api.RoleDraining}}}},
		Expected: api.Duration(10 * time.Millisecond), Worst: api.Duration(5 * time.Second), Deadline: api.Duration(5 * time.Second)}
	wait := api.Step{ID: "drain:wait", Kind: api.StepDrain, Needs: []string{say.ID}, Wait: period,
		Expected: period, Worst: period, Deadline: period + api.Duration(time.Minute)}
	return []api.Step{say, wait}
}

func memberOf(g *api.ApplianceGroup, name string) *api.Member {
	for i := range g.Spec.Members {
		if g.Spec.Members[i].Name == name {
			return &g.Spec.Members[i]
		}
	}
	return nil
}
