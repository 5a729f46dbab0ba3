package azure

import (
	"fmt"
	"net/http"
	"slices"
	"testing"
	"time"

	"github.com/understudy-ha/understudy/api"
	"github.com/understudy-ha/understudy/cloud/azure/armsim"
)

const (
	subA      = "/subscriptions/aaaaaaaa-0000-0000-0000-000000000001/resourceGroups/net-rg/providers/Microsoft.Network/"
	subB      = "/subscriptions/bbbbbbbb-0000-0000-0000-000000000002/resourceGroups/spoke-rg/providers/Microsoft.Network/"
	tokenText = "s3cr3t-static-token"
)

func nicID(name string) string   { return subA + "networkInterfaces/" + name }
func pipID(name string) string   { return subA + "publicIPAddresses/" + name }
func tableID(name string) string { return subA + "routeTables/" + name }

var (
	spokeTable = subB + "routeTables/spoke"
	subnet     = subA + "virtualNetworks/hub/subnets/dmz"
	nsg        = subA + "networkSecurityGroups/nva-nsg"
)

// topology has two appliances, each with an outside NIC that takes two addresses and an inside NIC, tables in two
// subscriptions with routes of others, and a third address that does not move.
func topology(nic, table time.Duration) armsim.Topology {
	t := armsim.Topology{Latencies: armsim.Latencies{NIC: api.Duration(nic), RouteTable: api.Duration(table)}}
	for i, m := range []string{"a", "b"} {
		outside := armsim.NIC{
			ID: nicID("nva-" + m + "-outside"), IPForwarding: true, SecurityGroup: nsg, DNSServers: []string{"10.0.0.53"}, Tags: map[string]string{"owner": "netops"},
			IPConfigurations: []armsim.IPConfiguration{
				{Name: "first", Address: fmt.Sprintf("10.0.1.%d", 4+i), Subnet: subnet},
				{Name: "second", Address: fmt.Sprintf("10.0.1.%d", 14+i), Subnet: subnet},
				{Name: "management", Address: fmt.Sprintf("10.0.1.%d", 24+i), Subnet: subnet, PublicAddress: pipID("management-" + m)},
			},
		}
		if m == "a" {
			outside.IPConfigurations[0].PublicAddress = pipID("web")
			outside.IPConfigurations[1].PublicAddress = pipID("mail")
		}
		t.NICs = append(t.NICs, outside, armsim.NIC{
			ID: nicID("nva-" + m + "-inside"), IPForwarding: true,
			IPConfigurations: []armsim.IPConfiguration{{Name: "first", Address: fmt.Sprintf("10.0.2.%d", 4+i), Subnet: subnet}},
		})
		t.PublicAddresses = append(t.PublicAddresses, armsim.PublicAddress{ID: pipID("management-" + m), Address: fmt.Sprintf("203.0.113.%d", 90+i)})
	}
	t.PublicAddresses = append(t.PublicAddresses, armsim.PublicAddress{ID: pipID("web"), Address: "203.0.113.10"}, armsim.PublicAddress{ID: pipID("mail"), Address: "203.0.113.11"})
	for _, id := range []string{tableID("core"), spokeTable} {
		t.RouteTables = append(t.RouteTables, armsim.RouteTable{ID: id, Tags: map[string]string{"owner": "netops"}, Routes: []armsim.Route{
			{Name: "default", Prefix: "0.0.0.0/0", NextHop: "10.0.2.4"},
			{Name: "onprem", Prefix: "192.168.0.0/16", NextHop: "10.0.2.4"},
			{Name: "others", Prefix: "172.16.0.0/12", NextHop: "10.0.2.99"},
			{Name: "internet", Prefix: "198.51.100.0/24"},
		}})
	}
	return t
}

func group() *api.ApplianceGroup {
	routes := []api.Route{{Name: "default", Prefix: "0.0.0.0/0", NIC: "inside"}, {Name: "onprem", Prefix: "192.168.0.0/16", NIC: "inside"}}
	g := &api.ApplianceGroup{Spec: api.GroupSpec{
		Provider: "arm",
		PublicAddresses: []api.PublicAddress{
			{Name: "web", ID: pipID("web"), NIC: "outside"},
			{Name: "mail", ID: pipID("mail"), NIC: "outside", IPConfiguration: "second"},
		},
		RouteTables: []api.RouteTable{{ID: tableID("core"), Routes: routes}, {ID: spokeTable, Routes: slices.Clone(routes)}},
	}}
	g.Metadata = api.Metadata{Name: "dmz", Tenant: "default"}
	for i, m := range []string{"a", "b"} {
		g.Spec.Members = append(g.Spec.Members, api.Member{Name: m, Probe: fmt.Sprintf("10.0.2.%d", 4+i), NICs: []api.NIC{
			{Name: "outside", ID: nicID("nva-" + m + "-outside"), Address: fmt.Sprintf("10.0.1.%d", 4+i)},
			{Name: "inside", ID: nicID("nva-" + m + "-inside"), Address: fmt.Sprintf("10.0.2.%d", 4+i)},
		}})
	}
	return g
}

func provider(endpoint string) *api.Provider {
	p := &api.Provider{Spec: api.ProviderSpec{Type: api.ProviderAzure, Azure: &api.AzureProvider{
		Endpoint: endpoint, Credential: api.AzureCredential{Type: Static, SecretRef: "arm-token"},
	}}}
	p.Metadata.Name = "arm"
	return p
}

func secrets(name string) (map[string]string, error) {
	if name != "arm-token" {
		return nil, fmt.Errorf("no secret %q", name)
	}
	return map[string]string{"token": tokenText}, nil
}

// inProcess gives a simulator and a driver that talks to it without a socket, for synctest bubbles.
func inProcess(t *testing.T, top armsim.Topology, wrap func(http.RoundTripper) http.RoundTripper) (*armsim.Server, *Driver) {
	t.Helper()
	sim, err := armsim.New(armsim.Options{Seed: 1, Token: tokenText, Topology: top})
	if err != nil {
		t.Fatal(err)
	}
	transport := sim.Transport()
	if wrap != nil {
		transport = wrap(transport)
	}
	d, err := New(Config{Provider: provider("https://arm.test"), Secret: secrets, Transport: transport})
	if err != nil {
		t.Fatal(err)
	}
	return sim, d
}

type roundTrip func(*http.Request) (*http.Response, error)

func (f roundTrip) RoundTrip(q *http.Request) (*http.Response, error) { return f(q) }

func routesStep(hop string) api.Step {
	return api.Step{ID: "routes:core", Kind: api.StepRoutes, Routes: &api.RoutesStep{Table: tableID("core"), Routes: []api.CloudRoute{
		{Name: "default", Prefix: "0.0.0.0/0", NextHop: hop}, {Name: "onprem", Prefix: "192.168.0.0/16", NextHop: hop},
	}}}
}

func nicStepOf(kind api.StepKind, nic string) api.Step {
	return api.Step{ID: string(kind), Kind: kind, NIC: &api.NICStep{NIC: nicID(nic), Addresses: []api.AddressBinding{
		{ID: pipID("web")}, {ID: pipID("mail"), IPConfiguration: "second"},
	}}}
}

var tok = api.Token{ClusterID: "c1", Epoch: 3, Generation: 5}

// hop gives the next hop of a route of the core table in the simulator.
func hop(sim *armsim.Server, route string) string {
	return text(object(document(sim.Resource(tableID("core"))).route(route, ""), "properties"), "nextHopIpAddress")
}

// holder gives the IP configuration that has an address, "" for none.
func holder(sim *armsim.Server, pip string) string {
	return text(object(object(sim.Resource(pipID(pip)), "properties"), "ipConfiguration"), "id")
}

// count counts logged requests of a method that ended with a status.
func count(sim *armsim.Server, method string, status int) int {
	n := 0
	for _, r := range sim.Log() {
		if r.Method == method && (r.Status == status || status == -1) {
			n++
		}
	}
	return n
}
