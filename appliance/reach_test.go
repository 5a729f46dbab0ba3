package appliance

import (
	"net/netip"
	"strings"
	"testing"

	"github.com/understudy-ha/understudy/api"
	"github.com/understudy-ha/understudy/cloud"
)

func reachGroup(sources ...string) *api.ApplianceGroup {
	g := &api.ApplianceGroup{}
	g.Spec.Members = []api.Member{{Name: "a", Probe: "10.0.1.4"}, {Name: "b", Probe: "10.0.1.5:8080"}}
	g.Spec.RouteTables = []api.RouteTable{{ID: "core", Sources: sources, Routes: []api.Route{{Prefix: "0.0.0.0/0"}}}}
	return g
}

func reachSite(controllers ...string) Site {
	s := Site{Controllers: map[string]netip.Addr{}, Operators: []netip.Prefix{netip.MustParsePrefix("192.0.2.0/24")}}
	for i, c := range controllers {
		s.Controllers["c"+string(rune('1'+i))] = netip.MustParseAddr(c)
	}
	return s
}

func TestReach(t *testing.T) {
	for _, c := range []struct {
		name    string
		group   *api.ApplianceGroup
		site    Site
		refused []string // what must be in the messages of findings that block
		warned  []string
	}{
		{name: "controllers outside the tables", group: reachGroup("10.0.2.0/24"), site: reachSite("10.0.9.1", "10.0.9.2", "10.0.9.3")},
		{name: "table with unknown sources", group: reachGroup(), site: reachSite("10.0.2.1")},
		{name: "every controller behind the appliance", group: reachGroup("10.0.2.0/24"), site: reachSite("10.0.2.1", "10.0.2.2"),
			refused: []string{"their peers", "probe addresses", "from operators"}},
		{name: "one controller behind it", group: reachGroup("10.0.2.0/24"), site: reachSite("10.0.2.1", "10.0.9.2", "10.0.9.3"),
			warned: []string{"2 of 3 paths between controllers and their peers", "2 of 6 paths from controllers to the members'", "1 of 3 paths from operators"}},
	} {
		t.Run(c.name, func(t *testing.T) {
			found := Reach(c.group, c.site)
			if len(found) != len(c.refused)+len(c.warned) {
				t.Fatalf("found %d: %v", len(found), found)
			}
			expect(t, found, c.refused, true)
			expect(t, found, c.warned, false)
		})
	}
}

func expect(t *testing.T, found []cloud.Finding, texts []string, blocks bool) {
	t.Helper()
	for _, text := range texts {
		ok := false
		for _, f := range found {
			ok = ok || f.Blocks == blocks && strings.Contains(f.Message, text)
		}
		if !ok {
			t.Errorf("no finding with blocks=%v says %q: %v", blocks, text, found)
		}
	}
}
