package armbench

import (
	"fmt"

	"github.com/understudy-ha/understudy/api"
	"github.com/understudy-ha/understudy/cloud/azure/armsim"
)

const (
	base     = "/subscriptions/00000000-0000-0000-0000-000000000001/resourceGroups/bench/providers/Microsoft.Network/"
	simToken = "simulator"
)

// Two appliances, two public addresses on a NIC pair each, three tables: the size of the original's sample.
var (
	members   = []string{"a", "b"}
	nicNames  = []string{"outside", "dmz"}
	tableName = []string{"core", "spoke-1", "spoke-2"}
)

func nicID(member, nic string) string { return base + "networkInterfaces/nva-" + member + "-" + nic }
func pipID(nic string) string         { return base + "publicIPAddresses/pip-" + nic }
func tableID(name string) string      { return base + "routeTables/" + name }
func address(member, nic int) string  { return fmt.Sprintf("10.0.%d.%d", 1+nic, 4+member) }

func topology(o Options, c Case) armsim.Topology {
	t := armsim.Topology{Latencies: armsim.Latencies{NIC: api.Duration(c.NIC), RouteTable: api.Duration(c.Table), Request: api.Duration(o.Request)}}
	for n, nic := range nicNames {
		t.PublicAddresses = append(t.PublicAddresses, armsim.PublicAddress{ID: pipID(nic), Address: fmt.Sprintf("203.0.113.%d", 10+n)})
		for m, member := range members {
			cfg := armsim.IPConfiguration{Name: "ipconfig1", Address: address(m, n), Subnet: base + "virtualNetworks/hub/subnets/" + nic}
			sim := armsim.NIC{ID: nicID(member, nic), IPForwarding: true}
			if m == 0 {
				cfg.PublicAddress = pipID(nic)
				if n == 0 {
					sim.Latency = api.Duration(c.SlowNIC)
				}
			}
			sim.IPConfigurations = []armsim.IPConfiguration{cfg}
			t.NICs = append(t.NICs, sim)
		}
	}
	for _, name := range tableName {
		t.RouteTables = append(t.RouteTables, armsim.RouteTable{ID: tableID(name), Routes: []armsim.Route{{Name: "default", Prefix: "0.0.0.0/0", NextHop: address(0, 0)}}})
	}
	return t
}

func group() *api.ApplianceGroup {
	g := &api.ApplianceGroup{}
	g.Metadata = api.Metadata{Name: "bench", Tenant: api.DefaultTenant}
	g.Spec.Provider = "arm"
	for m, member := range members {
		am := api.Member{Name: member, Probe: address(m, 0)}
		for n, nic := range nicNames {
			am.NICs = append(am.NICs, api.NIC{Name: nic, ID: nicID(member, nic), Address: address(m, n)})
		}
		g.Spec.Members = append(g.Spec.Members, am)
	}
	for _, nic := range nicNames {
		g.Spec.PublicAddresses = append(g.Spec.PublicAddresses, api.PublicAddress{Name: nic, ID: pipID(nic), NIC: nic})
	}
	for _, name := range tableName {
		g.Spec.RouteTables = append(g.Spec.RouteTables, api.RouteTable{ID: tableID(name), Routes: []api.Route{{Name: "default", Prefix: "0.0.0.0/0", NIC: nicNames[0]}}})
	}
	return g
}
