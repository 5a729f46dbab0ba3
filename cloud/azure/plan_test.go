package azure

import (
	"reflect"
	"strings"
	"testing"

	"github.com/understudy-ha/understudy/api"
	"github.com/understudy-ha/understudy/cloud"
)

// shape is a plan as people read it.
func shape(steps []api.Step) []string {
	var out []string
	for _, s := range steps {
		line := s.ID
		if len(s.Needs) > 0 {
			line += " <- " + strings.Join(s.Needs, " ")
		}
		if s.NIC != nil {
			for _, a := range s.NIC.Addresses {
				line += " " + a.ID[strings.LastIndexByte(a.ID, '/')+1:] + "@" + a.IPConfiguration
			}
		}
		if s.Routes != nil {
			for _, r := range s.Routes.Routes {
				line += " " + r.Name + ">" + r.NextHop
			}
		}
		out = append(out, line)
	}
	return out
}

func TestPlan(t *testing.T) {
	three := group()
	third := three.Spec.Members[1]
	third.Name, third.NICs = "c", []api.NIC{{Name: "outside", ID: nicID("nva-c-outside"), Address: "10.0.1.6"}, {Name: "inside", ID: nicID("nva-c-inside"), Address: "10.0.2.6"}}
	three.Spec.Members = append(three.Spec.Members, third)
	lone := group()
	lone.Spec.Members = append(lone.Spec.Members, api.Member{Name: "d", NICs: []api.NIC{{Name: "inside", ID: nicID("d"), Address: "10.0.2.7"}}})
	unnamed := group()
	unnamed.Spec.PublicAddresses = nil
	unnamed.Spec.RouteTables = []api.RouteTable{
		{ID: tableID("core"), Routes: []api.Route{{Prefix: "10.1.0.0/16", NIC: "inside"}}},
		{ID: strings.ToUpper(tableID("core")), Routes: []api.Route{{Prefix: "10.2.0.0/16", NIC: "outside"}}},
		{ID: subB + "routeTables/core", Routes: []api.Route{{Prefix: "10.1.0.0/16", NIC: "inside"}}},
	}
	routes := []string{"routes:core default>10.0.2.5 onprem>10.0.2.5", "routes:spoke default>10.0.2.5 onprem>10.0.2.5"}
	tests := []struct {
		name  string
		group *api.ApplianceGroup
		from  string
		want  []string
	}{
		{"known loser", group(), "a", append(routes[:2:2],
			"detach:a/outside web@ mail@second", "attach:b/outside <- detach:a/outside web@ mail@second")},
		{"unknown loser", three, "", append(routes[:2:2],
			"detach:a/outside web@ mail@second", "detach:c/outside web@ mail@second", "attach:b/outside <- detach:a/outside detach:c/outside web@ mail@second")},
		{"repair in place", three, "b", append(routes[:2:2],
			"detach:a/outside web@ mail@second", "detach:c/outside web@ mail@second", "attach:b/outside <- detach:a/outside detach:c/outside web@ mail@second")},
		{"loser without the NIC", lone, "d", append(routes[:2:2], "attach:b/outside web@ mail@second")},
		{"tables of one name, one twice", unnamed, "a", []string{
			"routes:net-rg/core 10-1-0-0-16>10.0.2.5 10-2-0-0-16>10.0.1.5", "routes:spoke-rg/core 10-1-0-0-16>10.0.2.5"}},
	}
	for _, test := range tests {
		steps, err := Planner{}.Plan(cloud.Move{Group: test.group, From: test.from, To: "b"})
		if err != nil {
			t.Errorf("%s: %v", test.name, err)
			continue
		}
		if got := shape(steps); !reflect.DeepEqual(got, test.want) {
			t.Errorf("%s:\ngot  %s\nwant %s", test.name, strings.Join(got, "\n     "), strings.Join(test.want, "\n     "))
		}
		for _, s := range steps {
			if s.Kind == api.StepRoutes && len(s.Needs) > 0 {
				t.Errorf("%s: %s waits for %v; routes wait for nothing", test.name, s.ID, s.Needs)
			}
			if s.NIC != nil && s.Lock != strings.ToLower(s.NIC.NIC) {
				t.Errorf("%s: %s has lock %q, want its NIC", test.name, s.ID, s.Lock)
			}
		}
	}
}

func TestPlanRefuses(t *testing.T) {
	tests := []struct {
		name   string
		change func(*api.ApplianceGroup)
		want   string
	}{
		{"table that is no id", func(g *api.ApplianceGroup) { g.Spec.RouteTables[0].ID = "core" }, `routeTables[0]: id "core"`},
		{"address that is a NIC", func(g *api.ApplianceGroup) { g.Spec.PublicAddresses[1].ID = nicID("x") }, "publicAddresses[1]"},
		{"NIC that is no id", func(g *api.ApplianceGroup) { g.Spec.Members[1].NICs[0].ID = "eth0" }, `member b, NIC outside: id "eth0"`},
		{"winner without the NIC", func(g *api.ApplianceGroup) { g.Spec.Members[1].NICs = g.Spec.Members[1].NICs[1:] }, `member b has no NIC named "outside"`},
		{"route on no NIC", func(g *api.ApplianceGroup) { g.Spec.RouteTables[1].Routes[0].NIC = "dmz" }, `routeTables[1].routes[0].nic "dmz"`},
		{"two addresses in one place", func(g *api.ApplianceGroup) { g.Spec.PublicAddresses[1].IPConfiguration = "" }, "web is on it already"},
	}
	for _, test := range tests {
		g := group()
		test.change(g)
		_, err := Planner{}.Plan(cloud.Move{Group: g, From: "a", To: "b"})
		if err == nil || !strings.Contains(err.Error(), test.want) {
			t.Errorf("%s: error %v, want %q in it", test.name, err, test.want)
		}
	}
}
