package linux

import (
	"fmt"
	"net/netip"

	"github.com/understudy-ha/understudy/api"
	"github.com/understudy-ha/understudy/cloud"
	"github.com/understudy-ha/understudy/lead"
)

// leaseSteps take the addresses from every other member, and then give them to the winner. A release ends when the
// loser says so, or when its grant has run out for certain: after the timing's Wait at the latest.
//
// Every other member, not only Move.From: a move that was superseded before its release was done leaves a holder that
// nobody remembers. A member that has nothing answers at once, and one that is gone has no grant left to wait for.
func (p Planner) leaseSteps(m cloud.Move, to *api.Member) ([]api.Step, error) {
	addresses, err := heldBy(m.Group, to)
	if err != nil {
		return nil, err
	}
	if len(addresses) == 0 {
		return nil, nil
	}
	if to.Node == "" {
		return nil, fmt.Errorf("member %s: node is empty: lease effects need an agent on the appliance", to.Name)
	}
	timing := p.Timing
	if timing == (lead.Timing{}) {
		timing = lead.DefaultTiming
	}
	candidates := map[string]string{}
	var steps []api.Step
	grant := nodeStep(to.Node)
	for _, mem := range m.Group.Spec.Members {
		if mem.Node == "" || mem.Node == to.Node {
			continue
		}
		candidates[mem.Node] = m.Peers[mem.Node]
		s := nodeStep(mem.Node, addressSection(m, nil, nil))
		s.ID, s.Kind = "release:"+mem.Node, api.StepRelease
		s.Worst = api.Duration(timing.Wait())
		s.Deadline = api.Duration(timing.Wait() + nodeDeadline)
		steps = append(steps, s)
		grant.Needs = append(grant.Needs, s.ID)
	}
	grant.Node.Sections = []api.Section{addressSection(m, addresses, candidates)}
	return append(steps, grant), nil
}

func addressSection(m cloud.Move, addresses []api.HeldAddress, candidates map[string]string) api.Section {
	return api.Section{Engine: api.EngineAddresses, Owner: m.Group.Ref().String(), Generation: m.Generation,
		Addresses: &api.AddressesConfig{Addresses: addresses, Candidates: candidates}}
}

// heldBy lists the addresses as the member would hold them.
func heldBy(g *api.ApplianceGroup, to *api.Member) ([]api.HeldAddress, error) {
	var out []api.HeldAddress
	for i, a := range g.Spec.PublicAddresses {
		field := fmt.Sprintf("spec.publicAddresses[%d]", i)
		if a.ID != "" {
			return nil, fmt.Errorf("%s.id %q: want none: with lease effects the member itself holds the address", field, a.ID)
		}
		prefix, err := netip.ParsePrefix(a.Address)
		if err != nil || !prefix.Addr().Is4() {
			return nil, fmt.Errorf("%s.address %q: want an IPv4 address with its prefix length, like 203.0.113.10/24", field, a.Address)
		}
		n, err := nic(field, to, a.NIC)
		if err != nil {
			return nil, err
		}
		if n.ID == "" {
			return nil, fmt.Errorf("member %s, nic %s: id is empty: want the link's name on the appliance", to.Name, n.Name)
		}
		out = append(out, api.HeldAddress{Address: prefix.String(), Link: n.ID})
	}
	return out, nil
}
