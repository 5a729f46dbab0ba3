// Package linux plans moves that agents on Linux hosts carry out: the kernel's routes
// on routers (fabric effects) and addresses on the appliances themselves (lease
// effects). It is pure; carrying out is the agents' work.
//
// One node step carries everything a node must change, as one section that replaces
// what the group had there before. Steps on different nodes depend on each other in
// one case only: with lease effects the winner is granted the addresses when every
// loser has given them up.
package linux

import (
	"fmt"
	"net/netip"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/understudy-ha/understudy/api"
	"github.com/understudy-ha/understudy/cloud"
	"github.com/understudy-ha/understudy/lead"
)

// How long a step takes. Expected is the measured order of magnitude, one push and its answer with a write to disk on
// both sides. Worst is when an agent must first connect again. After the deadline the step has failed: a router that does not
// answer blocks the job, an appliance that cannot be told its role is only reported.
const (
	nodeExpected = 10 * time.Millisecond
	nodeWorst    = 3 * time.Second
	nodeDeadline = 30 * time.Second
	roleDeadline = 5 * time.Second
)

// Planner plans moves by agents. The zero value uses lead.DefaultTiming.
type Planner struct {
	// Timing of the cluster: how long a grant that nobody gives back must be waited for.
	Timing lead.Timing
}

var _ cloud.Planner = Planner{}

// Plan gives one step a router, a release and a grant step for addresses under a lease, and an optional step for each
// member's role. It refuses members, NICs and ids that do not fit together, by field.
func (p Planner) Plan(m cloud.Move) ([]api.Step, error) {
	to, err := member(m.Group, m.To)
	if err != nil {
		return nil, err
	}
	if m.From != "" {
		if _, err := member(m.Group, m.From); err != nil {
			return nil, err
		}
	}
	steps, err := routerSteps(m, to)
	if err != nil {
		return nil, err
	}
	if lease(m.Provider) {
		more, err := p.leaseSteps(m, to)
		if err != nil {
			return nil, err
		}
		steps = append(steps, more...)
	}
	return append(steps, roleSteps(m)...), nil
}

func lease(p *api.Provider) bool {
	return p.Spec.Linux != nil && p.Spec.Linux.Effects == api.EffectsLease
}

// routerSteps carry the routes: one section a node, all at once.
func routerSteps(m cloud.Move, to *api.Member) ([]api.Step, error) {
	routes := map[string][]api.KernelRoute{}
	if !lease(m.Provider) {
		for i, a := range m.Group.Spec.PublicAddresses {
			field := fmt.Sprintf("spec.publicAddresses[%d]", i)
			r, err := addressRoute(field, a, to)
			if err != nil {
				return nil, err
			}
			routes[a.ID] = append(routes[a.ID], r)
		}
	}
	for i, t := range m.Group.Spec.RouteTables {
		node, more, err := tableRoutes(fmt.Sprintf("spec.routeTables[%d]", i), t, to)
		if err != nil {
			return nil, err
		}
		routes[node] = append(routes[node], more...)
	}
	var steps []api.Step
	for _, node := range sortedKeys(routes) {
		steps = append(steps, nodeStep(node, api.Section{Engine: api.EngineRoutes, Owner: m.Group.Ref().String(),
			Generation: m.Generation, Routes: &api.RoutesConfig{Routes: routes[node]}}))
	}
	return steps, nil
}

// addressRoute delivers a public address to the member's NIC.
func addressRoute(field string, a api.PublicAddress, to *api.Member) (api.KernelRoute, error) {
	if a.ID == "" || strings.Contains(a.ID, "/") {
		return api.KernelRoute{}, fmt.Errorf("%s.id %q: want the node of the router that delivers the address", field, a.ID)
	}
	ip, err := netip.ParseAddr(a.Address)
	if err != nil {
		return api.KernelRoute{}, fmt.Errorf("%s.address %q: want an IP address without a prefix length", field, a.Address)
	}
	n, err := nic(field, to, a.NIC)
	if err != nil {
		return api.KernelRoute{}, err
	}
	return api.KernelRoute{Prefix: netip.PrefixFrom(ip, ip.BitLen()).String(), Via: n.Address}, nil
}

func tableRoutes(field string, t api.RouteTable, to *api.Member) (node string, out []api.KernelRoute, err error) {
	node, number, named := strings.Cut(t.ID, "/")
	table := uint64(0)
	if named {
		table, err = strconv.ParseUint(number, 10, 32)
	}
	if err != nil || node == "" || named && table == 0 {
		return "", nil, fmt.Errorf(`%s.id %q: want "NODE" or "NODE/TABLE" with a table of 1 to 4294967295`, field, t.ID)
	}
	for i, r := range t.Routes {
		n, err := nic(fmt.Sprintf("%s.routes[%d]", field, i), to, r.NIC)
		if err != nil {
			return "", nil, err
		}
		out = append(out, api.KernelRoute{Table: uint32(table), Prefix: r.Prefix, Via: n.Address})
	}
	return node, out, nil
}

// roleSteps tell the members' agents what they are. Nothing waits for them.
func roleSteps(m cloud.Move) []api.Step {
	var steps []api.Step
	for _, mem := range m.Group.Spec.Members {
		if mem.Node == "" {
			continue
		}
		role := api.RolePassive
		if mem.Name == m.To {
			role = api.RoleActive
		}
		s := nodeStep(mem.Node, api.Section{Engine: api.EngineRole, Owner: m.Group.Ref().String(), Generation: m.Generation,
			Role: &api.RoleConfig{Role: role}})
		s.ID, s.Optional, s.Deadline = "role:"+mem.Node, true, api.Duration(roleDeadline)
		steps = append(steps, s)
	}
	return steps
}

func nodeStep(node string, sections ...api.Section) api.Step {
	return api.Step{ID: "node:" + node, Kind: api.StepNode, State: api.StepPending, Node: &api.NodeStep{Node: node, Sections: sections},
		Expected: api.Duration(nodeExpected), Worst: api.Duration(nodeWorst), Deadline: api.Duration(nodeDeadline)}
}

func member(g *api.ApplianceGroup, name string) (*api.Member, error) {
	var names []string
	for i := range g.Spec.Members {
		if g.Spec.Members[i].Name == name {
			return &g.Spec.Members[i], nil
		}
		names = append(names, g.Spec.Members[i].Name)
	}
	return nil, fmt.Errorf("%s has no member %q: want one of %s", g.Ref(), name, strings.Join(names, ", "))
}

func nic(field string, m *api.Member, name string) (*api.NIC, error) {
	for i := range m.NICs {
		if m.NICs[i].Name == name {
			return &m.NICs[i], nil
		}
	}
	return nil, fmt.Errorf("%s.nic %q: member %s has no NIC of that name", field, name, m.Name)
}

func sortedKeys[V any](m map[string]V) []string {
	var keys []string
	for k := range m {
		keys = append(keys, k)
	}
	slices.Sort(keys)
	return keys
}
