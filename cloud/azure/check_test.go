package azure

import (
	"slices"
	"testing"
	"testing/synctest"

	"github.com/understudy-ha/understudy/api"
	"github.com/understudy-ha/understudy/cloud"
	"github.com/understudy-ha/understudy/cloud/azure/armsim"
)

func codes(fs []cloud.Finding) []string {
	var out []string
	for _, f := range fs {
		c := f.Code
		if f.Blocks {
			c += "!"
		}
		if !slices.Contains(out, c) {
			out = append(out, c)
		}
	}
	return out
}

func TestCheck(t *testing.T) {
	without := func(action string) func(*armsim.Server, *api.ApplianceGroup) {
		return func(s *armsim.Server, _ *api.ApplianceGroup) {
			s.SetRoles([]armsim.Role{{Scope: "/", Actions: []string{"*"}, NotActions: []string{action}}})
		}
	}
	props := func(doc map[string]any) map[string]any { return document(doc).properties() }
	tests := []struct {
		name   string
		change func(*armsim.Server, *api.ApplianceGroup)
		want   []string
	}{
		{"all well", func(*armsim.Server, *api.ApplianceGroup) {}, nil},
		{"the role's own actions suffice", func(s *armsim.Server, _ *api.ApplianceGroup) {
			s.SetRoles([]armsim.Role{{Scope: "/", Actions: append(Actions(), actionGroupJoin)}})
		}, nil},
		{"missing", func(s *armsim.Server, _ *api.ApplianceGroup) { s.Delete(spokeTable) }, []string{"ResourceMissing!"}},
		{"no forwarding on a routed NIC", func(s *armsim.Server, _ *api.ApplianceGroup) {
			s.Edit(nicID("nva-b-inside"), func(doc map[string]any) { props(doc)["enableIPForwarding"] = false })
		}, []string{"IPForwardingOff!"}},
		{"no forwarding on another", func(s *armsim.Server, _ *api.ApplianceGroup) {
			s.Edit(nicID("nva-b-outside"), func(doc map[string]any) { delete(props(doc), "enableIPForwarding") })
		}, []string{"IPForwardingOff"}},
		{"failed", func(s *armsim.Server, _ *api.ApplianceGroup) {
			s.Edit(tableID("core"), func(doc map[string]any) { props(doc)["provisioningState"] = "Failed" })
		}, []string{"ProvisioningFailed"}},
		{"being written", func(s *armsim.Server, _ *api.ApplianceGroup) {
			s.Edit(tableID("core"), func(doc map[string]any) { props(doc)["provisioningState"] = "Updating" })
		}, []string{"ProvisioningUnderWay"}},
		{"names do not pair", func(_ *armsim.Server, g *api.ApplianceGroup) { g.Spec.Members[1].NICs[0].Name = "Outside" }, []string{"NICPairingBroken!"}},
		{"address differs", func(_ *armsim.Server, g *api.ApplianceGroup) { g.Spec.Members[1].NICs[1].Address = "10.0.2.50" }, []string{"NICAddressDiffers!"}},
		{"no such configuration", func(_ *armsim.Server, g *api.ApplianceGroup) { g.Spec.PublicAddresses[1].IPConfiguration = "third" }, []string{"IPConfigurationMissing!"}},
		{"configuration taken", func(_ *armsim.Server, g *api.ApplianceGroup) {
			g.Spec.PublicAddresses[1].IPConfiguration = "management"
		}, []string{"IPConfigurationTaken!"}},
		{"route of another prefix", func(_ *armsim.Server, g *api.ApplianceGroup) { g.Spec.RouteTables[0].Routes[0].Prefix = "10.9.0.0/16" }, []string{"RoutePrefixDiffers!"}},
		{"not an id", func(_ *armsim.Server, g *api.ApplianceGroup) { g.Spec.PublicAddresses[0].ID = "web" }, []string{"NotAnID!"}},
		{"other region", func(s *armsim.Server, _ *api.ApplianceGroup) {
			s.Edit(pipID("web"), func(doc map[string]any) { doc["location"] = "northeurope" })
		}, []string{"LocationDiffers!"}},
		{"may not read tables", without("Microsoft.Network/routeTables/read"), []string{"ReadFailed!", "PermissionMissing!"}},
		{"may not read NICs", without("Microsoft.Network/networkInterfaces/read"), []string{"ReadFailed!", "PermissionMissing!"}},
		{"may not read addresses", without("Microsoft.Network/publicIPAddresses/read"), []string{"ReadFailed!", "PermissionMissing!"}},
		{"may not write NICs", without("microsoft.network/networkinterfaces/WRITE"), []string{"PermissionMissing!"}},
		{"may not write tables", without("Microsoft.Network/routeTables/write"), []string{"PermissionMissing!"}},
		{"may not read routes", without("Microsoft.Network/routeTables/routes/read"), []string{"PermissionMissing!"}},
		{"may not write routes", without("Microsoft.Network/routeTables/routes/*"), []string{"PermissionMissing!"}},
		{"may not join subnets", without("Microsoft.Network/virtualNetworks/subnets/join/action"), []string{"PermissionMissing!"}},
		{"may not join addresses", without("*/join/action"), []string{"PermissionMissing!"}},
		{"may do nothing in one subscription", func(s *armsim.Server, _ *api.ApplianceGroup) {
			s.SetRoles([]armsim.Role{{Scope: "/subscriptions/aaaaaaaa-0000-0000-0000-000000000001", Actions: []string{"*"}}})
		}, []string{"ReadFailed!", "PermissionMissing!"}},
		{"permissions not readable", func(s *armsim.Server, _ *api.ApplianceGroup) {
			if err := s.Inject(armsim.Fault{Kind: armsim.ServerError, Resource: tableID("core") + "/providers"}); err != nil {
				panic(err)
			}
		}, []string{"PermissionsUnknown"}},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				sim, d := inProcess(t, topology(nicTime, tableTime), nil)
				g := group()
				test.change(sim, g)
				got, err := d.Check(t.Context(), g)
				if err != nil {
					t.Fatal(err)
				}
				if !slices.Equal(codes(got), test.want) {
					t.Errorf("findings %v, want %v:\n%+v", codes(got), test.want, got)
				}
				if n := count(sim, "PUT", -1); n != 0 {
					t.Errorf("a check made %d writes", n)
				}
			})
		})
	}
}

func TestObserve(t *testing.T) {
	tests := []struct {
		name   string
		change func(*armsim.Server)
		on     string
		astray int // from a
	}{
		{"all on a", func(*armsim.Server) {}, "a", 0},
		{"an address on nobody", func(s *armsim.Server) {
			s.Edit(nicID("nva-a-outside"), func(doc map[string]any) { clearAddress(document(doc).configuration("")) })
		}, "", 1},
		{"an address on the wrong configuration", func(s *armsim.Server) {
			s.Edit(nicID("nva-a-outside"), func(doc map[string]any) {
				clearAddress(document(doc).configuration("second"))
				setAddress(document(doc).configuration("management"), pipID("mail"))
			})
		}, "", 1},
		{"a route to b", func(s *armsim.Server) {
			s.Edit(spokeTable, func(doc map[string]any) {
				object(document(doc).route("onprem", ""), "properties")["nextHopIpAddress"] = "10.0.2.5"
			})
		}, "", 1},
		{"a route to the internet", func(s *armsim.Server) {
			s.Edit(spokeTable, func(doc map[string]any) {
				p := object(document(doc).route("onprem", ""), "properties")
				p["nextHopType"] = "Internet"
				delete(p, "nextHopIpAddress")
			})
		}, "", 1},
		{"no table", func(s *armsim.Server) { s.Delete(spokeTable) }, "", 2},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				sim, d := inProcess(t, topology(nicTime, tableTime), nil)
				test.change(sim)
				s, err := d.Observe(t.Context(), group())
				if err != nil {
					t.Fatal(err)
				}
				if s.On() != test.on || len(s.Astray("a")) != test.astray || len(s.Holdings) != 6 {
					t.Errorf("on %q, astray %+v of %d; want %q and %d of 6", s.On(), s.Astray("a"), len(s.Holdings), test.on, test.astray)
				}
			})
		})
	}
	synctest.Test(t, func(t *testing.T) {
		sim, d := inProcess(t, topology(nicTime, tableTime), nil)
		sim.SetRoles([]armsim.Role{{Scope: "/", Actions: []string{"*/write"}}})
		if _, err := d.Observe(t.Context(), group()); err == nil {
			t.Error("observe without read permission gives no error")
		}
	})
}
