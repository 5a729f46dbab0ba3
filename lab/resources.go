package lab

import (
	"strconv"

	"github.com/understudy-ha/understudy/api"
)

const groupName = "dmz"

// resources describes the site to Understudy.
func (c *cluster) resources() []any {
	var all []any
	for _, name := range agentMachines {
		all = append(all, &api.Node{Header: resourceHeader(api.KindNode, name)})
	}
	all = append(all, &api.Provider{Header: resourceHeader(api.KindProvider, "site"),
		Spec: api.ProviderSpec{Type: api.ProviderLinux, Linux: &api.LinuxProvider{Effects: c.effects}}})
	return append(all, c.groupResource())
}

func resourceHeader(kind api.Kind, name string) api.Header {
	return api.Header{APIVersion: api.Version, Kind: kind, Metadata: api.Metadata{Name: name}}
}

// probeProtocol asks what forwards: the kernel answers tcp, a process answers http.
func (c *cluster) probeProtocol() api.Protocol {
	if c.l.userSpace {
		return api.ProbeHTTP
	}
	return api.ProbeTCP
}

func (c *cluster) groupResource() *api.ApplianceGroup {
	g := &api.ApplianceGroup{Header: resourceHeader(api.KindApplianceGroup, groupName), Spec: api.GroupSpec{
		Serves:   []api.Audience{api.ServesInternet, api.ServesWorkload, api.ServesOnPremises},
		Provider: "site",
		Profile:  c.profile,
		Probe:    api.Probe{Protocol: c.probeProtocol(), Port: healthPort},
		// A lab fails over more often in a minute than a site does in a year.
		Failover: api.Failover{Damping: api.Damping{Moves: 1000}},
	}}
	for _, name := range appliances {
		g.Spec.Members = append(g.Spec.Members, api.Member{Name: name, Node: name,
			NICs: []api.NIC{
				{Name: "outside", ID: netOutside, Address: addressOf(name, netOutside)},
				{Name: "inside", ID: netInside, Address: addressOf(name, netInside)},
			},
			Probe: addressOf(name, netOutside) + ":" + strconv.Itoa(healthPort)})
	}
	if c.effects == api.EffectsLease {
		// The routers' next hops are these two, whoever holds them.
		g.Spec.PublicAddresses = []api.PublicAddress{
			{Name: "outside", Address: outsideVIP + "/24", NIC: "outside"},
			{Name: "inside", Address: insideVIP + "/24", NIC: "inside"},
		}
		return g
	}
	g.Spec.PublicAddresses = []api.PublicAddress{{Name: "pip", ID: "edge", Address: pip, NIC: "outside"}}
	tables := map[string]int{}
	for _, r := range movingRoutes {
		if r.prefix == pip+"/32" {
			continue
		}
		nic := "outside"
		if r.network == netInside {
			nic = "inside"
		}
		i, ok := tables[r.machine]
		if !ok {
			i = len(g.Spec.RouteTables)
			tables[r.machine] = i
			g.Spec.RouteTables = append(g.Spec.RouteTables, api.RouteTable{ID: r.machine})
		}
		g.Spec.RouteTables[i].Routes = append(g.Spec.RouteTables[i].Routes, api.Route{Prefix: r.prefix, NIC: nic})
	}
	return g
}
