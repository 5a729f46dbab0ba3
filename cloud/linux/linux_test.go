package linux

import (
	"encoding/json"
	"fmt"
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/understudy-ha/understudy/api"
	"github.com/understudy-ha/understudy/cloud"
	"github.com/understudy-ha/understudy/lead"
)

func group() *api.ApplianceGroup {
	nics := func(n string) []api.NIC {
		return []api.NIC{{Name: "outside", ID: "eth0", Address: "10.0.1." + n}, {Name: "inside", ID: "eth1", Address: "10.0.2." + n}}
	}
	return &api.ApplianceGroup{
		Header: api.Header{Kind: api.KindApplianceGroup, Metadata: api.Metadata{Name: "dmz", Tenant: "default"}},
		Spec: api.GroupSpec{
			Members: []api.Member{{Name: "a", Node: "nva-a", NICs: nics("4")}, {Name: "b", Node: "nva-b", NICs: nics("5")}, {Name: "c", NICs: nics("6")}},
			PublicAddresses: []api.PublicAddress{
				{Name: "web", ID: "edge", Address: "203.0.113.10", NIC: "outside"},
				{Name: "mail", ID: "edge", Address: "203.0.113.11", NIC: "outside"},
			},
			RouteTables: []api.RouteTable{
				{ID: "core", Routes: []api.Route{{Prefix: "0.0.0.0/0", NIC: "inside"}}},
				{ID: "edge/100", Routes: []api.Route{{Prefix: "10.9.0.0/16", NIC: "outside"}, {Prefix: "10.8.0.0/16", NIC: "outside"}}},
			},
		},
	}
}

func provider(e api.Effects) *api.Provider {
	return &api.Provider{Spec: api.ProviderSpec{Type: api.ProviderLinux, Linux: &api.LinuxProvider{Effects: e}}}
}

// leaseGroup holds its addresses itself.
func leaseGroup() *api.ApplianceGroup {
	g := group()
	g.Spec.PublicAddresses = []api.PublicAddress{{Name: "web", Address: "203.0.113.10/24", NIC: "outside"}}
	g.Spec.RouteTables = g.Spec.RouteTables[:1]
	return g
}

func text(steps []api.Step) string {
	var b strings.Builder
	for _, s := range steps {
		fmt.Fprintf(&b, "%s %s needs %v optional %v", s.ID, s.Kind, s.Needs, s.Optional)
		for _, sec := range s.Node.Sections {
			fmt.Fprintf(&b, "\n  %s on %s of %s generation %d", sec.Engine, s.Node.Node, sec.Owner, sec.Generation)
			payload, _ := json.Marshal(struct {
				R *api.RoutesConfig    `json:"routes,omitempty"`
				A *api.AddressesConfig `json:"addresses,omitempty"`
				O *api.RoleConfig      `json:"role,omitempty"`
			}{sec.Routes, sec.Addresses, sec.Role})
			fmt.Fprintf(&b, "\n    %s", payload)
		}
		b.WriteByte('\n')
	}
	return b.String()
}

func plan(t *testing.T, m cloud.Move) []api.Step {
	t.Helper()
	steps, err := Planner{}.Plan(m)
	if err != nil {
		t.Fatal(err)
	}
	again, err := Planner{}.Plan(m)
	if err != nil || !reflect.DeepEqual(steps, again) {
		t.Fatalf("the same move gave another plan: %v", err)
	}
	return steps
}

func wantPlan(t *testing.T, got []api.Step, want string) {
	t.Helper()
	if strings.TrimSpace(text(got)) != strings.TrimSpace(want) {
		t.Fatalf("got:\n%s\nwant:\n%s", text(got), want)
	}
}

func TestFabric(t *testing.T) {
	steps := plan(t, cloud.Move{Group: group(), Provider: provider(api.EffectsFabric), From: "a", To: "b", Generation: 7})
	wantPlan(t, steps, `
node:core node needs [] optional false
  routes on core of ApplianceGroup/default/dmz generation 7
    {"routes":{"routes":[{"prefix":"0.0.0.0/0","via":"10.0.2.5"}]}}
node:edge node needs [] optional false
  routes on edge of ApplianceGroup/default/dmz generation 7
    {"routes":{"routes":[{"prefix":"203.0.113.10/32","via":"10.0.1.5"},{"prefix":"203.0.113.11/32","via":"10.0.1.5"},{"table":100,"prefix":"10.9.0.0/16","via":"10.0.1.5"},{"table":100,"prefix":"10.8.0.0/16","via":"10.0.1.5"}]}}
role:nva-a node needs [] optional true
  role on nva-a of ApplianceGroup/default/dmz generation 7
    {"role":{"role":"Passive"}}
role:nva-b node needs [] optional true
  role on nva-b of ApplianceGroup/default/dmz generation 7
    {"role":{"role":"Active"}}`)
	for _, s := range steps {
		if s.Expected <= 0 || s.Worst < s.Expected || s.Deadline < s.Worst || s.State != api.StepPending {
			t.Errorf("%s: expected %v, worst %v, deadline %v, state %s", s.ID, s.Expected, s.Worst, s.Deadline, s.State)
		}
	}
}

func TestLease(t *testing.T) {
	m := cloud.Move{Group: leaseGroup(), Provider: provider(api.EffectsLease), From: "a", To: "b", Generation: 7,
		Peers: map[string]string{"nva-a": "10.0.9.4:9444", "nva-b": "10.0.9.5:9444"}}
	steps := plan(t, m)
	wantPlan(t, steps, `
node:core node needs [] optional false
  routes on core of ApplianceGroup/default/dmz generation 7
    {"routes":{"routes":[{"prefix":"0.0.0.0/0","via":"10.0.2.5"}]}}
release:nva-a release needs [] optional false
  addresses on nva-a of ApplianceGroup/default/dmz generation 7
    {"addresses":{"addresses":null}}
node:nva-b node needs [release:nva-a] optional false
  addresses on nva-b of ApplianceGroup/default/dmz generation 7
    {"addresses":{"addresses":[{"address":"203.0.113.10/24","link":"eth0"}],"candidates":{"nva-a":"10.0.9.4:9444"}}}
role:nva-a node needs [] optional true
  role on nva-a of ApplianceGroup/default/dmz generation 7
    {"role":{"role":"Passive"}}
role:nva-b node needs [] optional true
  role on nva-b of ApplianceGroup/default/dmz generation 7
    {"role":{"role":"Active"}}`)

	m.Group.Spec.Members[2].Node = "nva-c" // a third candidate, which is neither From nor To
	steps = plan(t, m)
	i := slices.IndexFunc(steps, func(s api.Step) bool { return s.ID == "node:nva-b" })
	if got := steps[i].Needs; !slices.Equal(got, []string{"release:nva-a", "release:nva-c"}) {
		t.Errorf("the grant needs %v", got)
	}
	if got := steps[i].Node.Sections[0].Addresses.Candidates["nva-c"]; got != "" || len(steps[i].Node.Sections[0].Addresses.Candidates) != 2 {
		t.Errorf("candidates %v", steps[i].Node.Sections[0].Addresses.Candidates)
	}
}

func TestReleaseOutlastsTheGrant(t *testing.T) {
	timing := lead.Timing{TTL: time.Hour, Margin: 10 * time.Minute}
	steps, err := Planner{timing}.Plan(cloud.Move{Group: leaseGroup(), Provider: provider(api.EffectsLease), To: "b"})
	if err != nil {
		t.Fatal(err)
	}
	for _, s := range steps {
		if s.Kind == api.StepRelease && (s.Worst.D() < timing.Wait() || s.Deadline <= s.Worst) {
			t.Errorf("worst %v, deadline %v", s.Worst, s.Deadline)
		}
	}
}

func TestRefusals(t *testing.T) {
	for _, c := range []struct {
		name    string
		effects api.Effects
		spoil   func(*cloud.Move)
		want    string
	}{
		{"to", api.EffectsFabric, func(m *cloud.Move) { m.To = "x" }, `no member "x": want one of a, b, c`},
		{"from", api.EffectsFabric, func(m *cloud.Move) { m.From = "x" }, `no member "x"`},
		{"address id", api.EffectsFabric, func(m *cloud.Move) { m.Group.Spec.PublicAddresses[1].ID = "" }, "spec.publicAddresses[1].id"},
		{"address", api.EffectsFabric, func(m *cloud.Move) { m.Group.Spec.PublicAddresses[0].Address = "203.0.113.10/24" }, "spec.publicAddresses[0].address"},
		{"address nic", api.EffectsFabric, func(m *cloud.Move) { m.Group.Spec.PublicAddresses[0].NIC = "wan" }, `spec.publicAddresses[0].nic "wan": member b`},
		{"route nic", api.EffectsFabric, func(m *cloud.Move) { m.Group.Spec.RouteTables[0].Routes[0].NIC = "wan" }, `spec.routeTables[0].routes[0].nic "wan"`},
		{"table", api.EffectsFabric, func(m *cloud.Move) { m.Group.Spec.RouteTables[0].ID = "core/0" }, `spec.routeTables[0].id "core/0"`},
		{"table number", api.EffectsFabric, func(m *cloud.Move) { m.Group.Spec.RouteTables[0].ID = "core/4294967296" }, "4294967295"},
		{"table node", api.EffectsFabric, func(m *cloud.Move) { m.Group.Spec.RouteTables[0].ID = "/100" }, "spec.routeTables[0].id"},
		{"lease with id", api.EffectsLease, func(m *cloud.Move) { m.Group.Spec.PublicAddresses[0].ID = "edge" }, "spec.publicAddresses[0].id"},
		{"lease without length", api.EffectsLease, func(m *cloud.Move) { m.Group.Spec.PublicAddresses[0].Address = "203.0.113.10" }, "prefix length"},
		{"lease without node", api.EffectsLease, func(m *cloud.Move) { m.To = "c" }, "member c: node is empty"},
		{"lease without link", api.EffectsLease, func(m *cloud.Move) { m.Group.Spec.Members[1].NICs[0].ID = "" }, "member b, nic outside: id is empty"},
	} {
		m := cloud.Move{Group: group(), Provider: provider(c.effects), To: "b"}
		if c.effects == api.EffectsLease {
			m.Group = leaseGroup()
		}
		c.spoil(&m)
		if _, err := (Planner{}).Plan(m); err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: got %v, want %q", c.name, err, c.want)
		}
	}
}
