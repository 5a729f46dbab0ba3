package server_test

import (
	"fmt"
	"net/http/httptest"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/understudy-ha/understudy/api"
	"github.com/understudy-ha/understudy/cloud/azure/armsim"
)

const armScope = "/subscriptions/aaaaaaaa-0000-0000-0000-000000000001/resourceGroups/net/providers/Microsoft.Network/"

// azureSite is a simulated cloud with two appliances, an address and a table, a hundred times as fast as Azure.
func azureSite(t *testing.T, roles []armsim.Role) (sim *armsim.Server, p *api.Provider, g *api.ApplianceGroup, fail func(bool)) {
	t.Helper()
	top := armsim.Topology{Roles: roles, Latencies: armsim.Latencies{NIC: api.Duration(7 * time.Second), RouteTable: api.Duration(3 * time.Second)},
		PublicAddresses: []armsim.PublicAddress{{ID: armScope + "publicIPAddresses/web", Address: "203.0.113.10"}},
		RouteTables: []armsim.RouteTable{{ID: armScope + "routeTables/core", Routes: []armsim.Route{
			{Name: "default", Prefix: "0.0.0.0/0", NextHop: "10.0.1.4"}, {Name: "others", Prefix: "172.16.0.0/12", NextHop: "10.9.9.9"}}}}}
	g = &api.ApplianceGroup{Header: head(api.KindApplianceGroup, "", "dmz"), Spec: api.GroupSpec{Serves: []api.Audience{api.ServesInternet}, Provider: "arm",
		Probe:           api.Probe{Protocol: api.ProbeHTTP, Interval: api.Duration(20 * time.Millisecond), Timeout: api.Duration(500 * time.Millisecond), Rise: 2, Fall: 3},
		PublicAddresses: []api.PublicAddress{{Name: "web", ID: armScope + "publicIPAddresses/web", NIC: "out"}},
		RouteTables:     []api.RouteTable{{ID: armScope + "routeTables/core", Routes: []api.Route{{Name: "default", Prefix: "0.0.0.0/0", NIC: "out"}}}}}}
	for i, m := range []string{"a", "b"} {
		nic := armsim.NIC{ID: armScope + "networkInterfaces/" + m, IPForwarding: true, IPConfigurations: []armsim.IPConfiguration{
			{Name: "first", Address: fmt.Sprintf("10.0.1.%d", 4+i), Subnet: armScope + "virtualNetworks/hub/subnets/dmz"}}}
		if m == "a" {
			nic.IPConfigurations[0].PublicAddress = armScope + "publicIPAddresses/web"
		}
		top.NICs = append(top.NICs, nic)
		g.Spec.Members = append(g.Spec.Members, api.Member{Name: m, NICs: []api.NIC{{Name: "out", ID: nic.ID, Address: fmt.Sprintf("10.0.1.%d", 4+i)}}})
	}
	addrA, failA := appliance(t)
	g.Spec.Members[0].Probe = addrA
	g.Spec.Members[1].Probe, _ = appliance(t)
	sim, err := armsim.New(armsim.Options{Seed: 1, TimeScale: 100, Token: "static-arm-token", Topology: top})
	if err != nil {
		t.Fatal(err)
	}
	srv := httptest.NewServer(sim)
	t.Cleanup(srv.Close)
	p = &api.Provider{Header: head(api.KindProvider, "", "arm"), Spec: api.ProviderSpec{Type: api.ProviderAzure, Azure: &api.AzureProvider{
		Endpoint: srv.URL, Credential: api.AzureCredential{Type: api.CredentialStatic, SecretRef: "arm"}}}}
	return sim, p, g, failA.Store
}

func armSecret() *api.Secret {
	return &api.Secret{Header: head(api.KindSecret, "", "arm"), Data: map[string]string{"token": "static-arm-token"}}
}

func (s *site) eventually(what string, ok func() bool) {
	s.t.Helper()
	for deadline := time.Now().Add(20 * time.Second); !ok(); time.Sleep(20 * time.Millisecond) {
		if time.Now().After(deadline) {
			g, err := s.admin.Group(s.t.Context(), "", "dmz")
			s.t.Fatalf("not in 20s: %s; the group is %+v, %v", what, g, err)
		}
	}
}

// on tells where the simulated cloud has the address and the route.
func on(sim *armsim.Server) string {
	find := func(id, text string) bool { return strings.Contains(fmt.Sprint(sim.Resource(id)), text) }
	var out []string
	for _, m := range []string{"a", "b"} {
		if find(armScope+"networkInterfaces/"+m, "publicIPAddresses/web") {
			out = append(out, "address:"+m)
		}
	}
	for i, m := range []string{"a", "b"} {
		if find(armScope+"routeTables/core", fmt.Sprintf("10.0.1.%d", 4+i)) {
			out = append(out, "route:"+m)
		}
	}
	return strings.Join(out, " ")
}

func TestAzureFailover(t *testing.T) {
	sim, p, g, fail := azureSite(t, nil)
	s := newSite(t)
	if _, _, err := s.admin.Apply(t.Context(), p, false); err == nil || !strings.Contains(err.Error(), "spec.azure.credential.secretRef") {
		t.Fatalf("a provider without its secret: %v", err)
	}
	s.apply(s.admin, armSecret(), p, g)
	err := s.admin.Delete(t.Context(), api.KindSecret, "", "arm", false)
	wantCode(t, err, api.CodeConflict, "used by Provider/default/arm")
	job := func(phase api.Phase, to string) func() bool {
		return func() bool {
			g, err := s.admin.Group(t.Context(), "", "dmz")
			if err != nil || g.Status.Assignment == nil || g.Status.Assignment.Active != to {
				return false
			}
			j, err := s.admin.Job(t.Context(), "", g.Status.Assignment.Job)
			return err == nil && j.Status.Phase == phase
		}
	}
	s.eventually("a is established", job(api.Succeeded, "a"))
	s.eventually("a failover would work", func() bool {
		var r api.DoctorReport
		err := s.admin.Call(t.Context(), "GET", "/v1/doctor", nil, "", nil, &r)
		return err == nil && r.Ready["default/dmz"]
	})
	fail(true)
	s.eventually("b is active", job(api.Succeeded, "b"))
	if got := on(sim); got != "address:b route:b" {
		t.Errorf("the cloud has %s", got)
	}
	if !strings.Contains(fmt.Sprint(sim.Resource(armScope+"routeTables/core")), "10.9.9.9") {
		t.Error("the route of others is gone")
	}
}

func TestAzureDoctorNamesWhatIsMissing(t *testing.T) {
	roles := []armsim.Role{{Scope: "/", Actions: []string{"Microsoft.Network/*/read", "Microsoft.Network/networkInterfaces/write"}}}
	_, p, g, _ := azureSite(t, roles)
	s := newSite(t)
	s.apply(s.admin, armSecret(), p, g)
	s.eventually("doctor finds what may not be done, and the condition stands", func() bool {
		var r api.DoctorReport
		if err := s.admin.Call(t.Context(), "GET", "/v1/doctor", nil, "", nil, &r); err != nil || r.Ready["default/dmz"] {
			return false
		}
		g, err := s.admin.Group(t.Context(), "", "dmz")
		return err == nil && slices.ContainsFunc(r.Findings, func(f api.DoctorFinding) bool { return f.Blocks && f.Code == "PermissionMissing" }) &&
			slices.ContainsFunc(g.Status.Conditions, func(c api.Condition) bool { return c.Code == "PermissionMissing" })
	})
	var metrics []byte
	if err := s.admin.Call(t.Context(), "GET", "/metrics", nil, "", nil, &metrics); err != nil || !strings.Contains(string(metrics), `understudy_failover_ready{group="dmz",tenant="default"} 0`) {
		t.Errorf("the gauge says something else, %v", err)
	}
}
