package azure

import (
	"fmt"
	"strings"

	"github.com/understudy-ha/understudy/api"
	"github.com/understudy-ha/understudy/cloud"
)

// Planner plans moves through ARM. Its zero value is ready. It is pure.
type Planner struct{}

// Plan gives one routes step per table, one detach step per NIC that may have addresses to lose, and one attach step
// per NIC that gets some. It refuses a group whose NICs do not pair by name, whose ids are none, or which gives two
// addresses to one IP configuration.
func (Planner) Plan(m cloud.Move) ([]api.Step, error) {
	p, err := newPlan(m)
	if err != nil {
		return nil, fmt.Errorf("plan group %s: %w", m.Group.Metadata.Name, err)
	}
	if err := p.routes(); err != nil {
		return nil, fmt.Errorf("plan group %s: %w", m.Group.Metadata.Name, err)
	}
	if err := p.addresses(); err != nil {
		return nil, fmt.Errorf("plan group %s: %w", m.Group.Metadata.Name, err)
	}
	return p.steps, nil
}

type plan struct {
	spec   api.GroupSpec
	to     api.Member
	losers []api.Member
	steps  []api.Step
}

func newPlan(m cloud.Move) (*plan, error) {
	p := &plan{spec: m.Group.Spec}
	from := false
	for _, member := range p.spec.Members {
		switch {
		case member.Name == m.To:
			p.to = member
		case m.From == "" || m.From == m.To:
			p.losers = append(p.losers, member)
		case member.Name == m.From:
			p.losers, from = append(p.losers, member), true
		}
	}
	if p.to.Name == "" {
		return nil, fmt.Errorf("to %q: no such member", m.To)
	}
	if m.From != "" && m.From != m.To && !from {
		return nil, fmt.Errorf("from %q: no such member", m.From)
	}
	return p, nil
}

func nicNamed(m api.Member, name string) (api.NIC, bool) {
	for _, n := range m.NICs {
		if n.Name == name {
			return n, true
		}
	}
	return api.NIC{}, false
}

// routes adds one step per table. A table that is listed twice is written once.
func (p *plan) routes() error {
	index := map[string]int{}
	var tables []resourceID
	for i, t := range p.spec.RouteTables {
		id, err := parseIDOf(t.ID, kindTable)
		if err != nil {
			return fmt.Errorf("routeTables[%d]: %w", i, err)
		}
		at, ok := index[fold(t.ID)]
		if !ok {
			at = len(p.steps)
			index[fold(t.ID)] = at
			tables = append(tables, id)
			p.steps = append(p.steps, api.Step{
				Kind: api.StepRoutes, Lock: fold(t.ID), Routes: &api.RoutesStep{Table: t.ID}, State: api.StepPending,
				Expected: api.Duration(ExpectedRouteTableWrite), Worst: api.Duration(WorstRouteTableWrite), Deadline: api.Duration(DeadlineRouteTableWrite),
			})
		}
		for j, r := range t.Routes {
			nic, ok := nicNamed(p.to, r.NIC)
			if !ok || nic.Address == "" {
				return fmt.Errorf("routeTables[%d].routes[%d].nic %q: member %s has no NIC of this name with an address", i, j, r.NIC, p.to.Name)
			}
			s := p.steps[at].Routes
			s.Routes = append(s.Routes, api.CloudRoute{Name: routeName(r), Prefix: r.Prefix, NextHop: nic.Address})
		}
	}
	for i, id := range tables {
		p.steps[i].ID = "routes:" + shortest(id, tables)
	}
	return nil
}

// routeName is the name of a route that was given none.
func routeName(r api.Route) string {
	if r.Name != "" {
		return r.Name
	}
	return strings.NewReplacer("/", "-", ".", "-").Replace(r.Prefix)
}

// shortest gives the name of a resource, with as much of what is before it as tells it from the others.
func shortest(id resourceID, all []resourceID) string {
	forms := []func(resourceID) string{
		func(r resourceID) string { return r.name },
		func(r resourceID) string { return r.group + "/" + r.name },
		func(r resourceID) string { return r.subscription + "/" + r.group + "/" + r.name },
	}
	for _, form := range forms {
		n := 0
		for _, other := range all {
			if strings.EqualFold(form(other), form(id)) {
				n++
			}
		}
		if n == 1 {
			return form(id)
		}
	}
	return id.full
}

// addresses adds the detaches of each NIC name, then its attach.
func (p *plan) addresses() error {
	var names []string
	bindings := map[string][]api.AddressBinding{}
	taken := map[string]string{}
	for i, a := range p.spec.PublicAddresses {
		if _, err := parseIDOf(a.ID, kindAddress); err != nil {
			return fmt.Errorf("publicAddresses[%d]: %w", i, err)
		}
		place := a.NIC + "\x00" + fold(a.IPConfiguration)
		if other := taken[place]; other != "" {
			return fmt.Errorf("publicAddresses[%d].ipConfiguration %q: %s is on it already; two addresses on NIC %s need two IP configurations", i, a.IPConfiguration, other, a.NIC)
		}
		taken[place] = a.Name
		if _, ok := bindings[a.NIC]; !ok {
			names = append(names, a.NIC)
		}
		bindings[a.NIC] = append(bindings[a.NIC], api.AddressBinding{ID: a.ID, IPConfiguration: a.IPConfiguration})
	}
	var detaches, attaches []api.Step
	for _, name := range names {
		winner, ok := nicNamed(p.to, name)
		if !ok {
			return fmt.Errorf("publicAddresses: member %s has no NIC named %q", p.to.Name, name)
		}
		var needs []string
		for _, loser := range p.losers {
			nic, ok := nicNamed(loser, name)
			if !ok {
				continue
			}
			s, err := nicStep(api.StepDetach, loser, nic, bindings[name])
			if err != nil {
				return err
			}
			needs = append(needs, s.ID)
			detaches = append(detaches, s)
		}
		s, err := nicStep(api.StepAttach, p.to, winner, bindings[name])
		if err != nil {
			return err
		}
		s.Needs = needs
		attaches = append(attaches, s)
	}
	p.steps = append(append(p.steps, detaches...), attaches...)
	return nil
}

func nicStep(kind api.StepKind, m api.Member, nic api.NIC, b []api.AddressBinding) (api.Step, error) {
	if _, err := parseIDOf(nic.ID, kindNIC); err != nil {
		return api.Step{}, fmt.Errorf("member %s, NIC %s: %w", m.Name, nic.Name, err)
	}
	return api.Step{
		ID: string(kind) + ":" + m.Name + "/" + nic.Name, Kind: kind, Lock: fold(nic.ID), State: api.StepPending,
		NIC:      &api.NICStep{NIC: nic.ID, Addresses: append([]api.AddressBinding(nil), b...)},
		Expected: api.Duration(ExpectedNICWrite), Worst: api.Duration(WorstNICWrite), Deadline: api.Duration(DeadlineNICWrite),
	}, nil
}
