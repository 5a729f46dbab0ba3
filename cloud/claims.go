package cloud

import (
	"sort"
	"strings"

	"github.com/understudy-ha/understudy/api"
)

// AddressClaim is the id under which a public address is owned by one group. Azure ids know no case.
func AddressClaim(provider string, a api.PublicAddress) string {
	if strings.HasPrefix(a.ID, "/") {
		return "address:" + strings.ToLower(a.ID)
	}
	return "address:" + provider + ":" + strings.SplitN(a.Address, "/", 2)[0]
}

// RouteClaim is the id under which a route of a table is owned by one group.
func RouteClaim(provider string, t api.RouteTable, r api.Route) string {
	table := strings.ToLower(t.ID)
	if !strings.HasPrefix(t.ID, "/") {
		table = provider + ":" + t.ID
	}
	return "route:" + table + ":" + r.Prefix
}

// Claims lists everything that a group owns while it exists, sorted, each once. No two groups may own the same thing.
func Claims(g *api.ApplianceGroup) []string {
	seen := map[string]bool{}
	var out []string
	add := func(c string) {
		if !seen[c] {
			seen[c] = true
			out = append(out, c)
		}
	}
	scope := g.Metadata.Tenant + "/" + g.Spec.Provider
	for _, a := range g.Spec.PublicAddresses {
		add(AddressClaim(scope, a))
	}
	for _, t := range g.Spec.RouteTables {
		for _, r := range t.Routes {
			add(RouteClaim(scope, t, r))
		}
	}
	sort.Strings(out)
	return out
}
