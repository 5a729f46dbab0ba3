package appliance

import (
	"fmt"
	"net/netip"
	"slices"

	"github.com/understudy-ha/understudy/api"
	"github.com/understudy-ha/understudy/cloud"
)

// Site says where the parts stand that must reach each other while an appliance is dead.
type Site struct {
	// Controllers, StoreNodes and CloudAPI by name, each with its address. StoreNodes are servers of a remote
	// store; embedded ones are controllers.
	Controllers map[string]netip.Addr
	StoreNodes  map[string]netip.Addr
	CloudAPI    map[string]netip.Addr
	// Operators are the prefixes people come from.
	Operators []netip.Prefix
}

// hop is one direction of one path.
type hop struct {
	what     string
	from, to netip.Addr
}

// Reach finds whether the control plane would be cut off by the very appliance it must replace. Where every path
// of a kind has the group as next hop the finding Blocks, where some have it warns. What routes apply where is known from
// routeTables[].sources; a table without sources is taken to apply to nobody of these.
func Reach(g *api.ApplianceGroup, s Site) []cloud.Finding {
	var out []cloud.Finding
	for _, kind := range s.paths(g) {
		var through []string
		for _, p := range kind.hops {
			if table := carries(g, p); table != "" {
				through = append(through, fmt.Sprintf("%s by table %s", p.what, table))
			}
		}
		if len(through) == 0 {
			continue
		}
		f := cloud.Finding{Code: "PathThroughGroup", Severity: api.Warning, Resource: g.Ref().String(),
			Message: fmt.Sprintf("%d of %d paths %s have this group as next hop (%s): when it is dead they are too", len(through), len(kind.hops), kind.name, through[0])}
		if len(through) == len(kind.hops) {
			f.Code, f.Severity, f.Blocks = "UnreachableWhenDown", api.Critical, true
			f.Message += "; give the controllers a path of their own, outside the sources of these tables or by more specific routes"
		}
		out = append(out, f)
	}
	return out
}

type pathKind struct {
	name string
	hops []hop
}

// paths lists every path that matters, by kind. A path counts once although it has two directions.
func (s Site) paths(g *api.ApplianceGroup) []pathKind {
	peers := pathKind{name: "between controllers and their peers"}
	stores := pathKind{name: "from controllers to the store"}
	clouds := pathKind{name: "from controllers to the cloud API"}
	probes := pathKind{name: "from controllers to the members' probe addresses"}
	people := pathKind{name: "from operators to controllers"}
	names := sortedKeys(s.Controllers)
	for i, a := range names {
		from := s.Controllers[a]
		for _, b := range names[i+1:] {
			peers.hops = append(peers.hops, hop{a + "–" + b, from, s.Controllers[b]})
		}
		for _, n := range sortedKeys(s.StoreNodes) {
			stores.hops = append(stores.hops, hop{a + "–" + n, from, s.StoreNodes[n]})
		}
		for _, n := range sortedKeys(s.CloudAPI) {
			clouds.hops = append(clouds.hops, hop{a + "–" + n, from, s.CloudAPI[n]})
		}
		for _, m := range g.Spec.Members {
			if to, err := probeAddr(m.Probe); err == nil {
				probes.hops = append(probes.hops, hop{a + "–" + m.Name, from, to})
			}
		}
		for _, p := range s.Operators {
			people.hops = append(people.hops, hop{p.String() + "–" + a, p.Addr(), from})
		}
	}
	return []pathKind{peers, stores, clouds, probes, people}
}

func sortedKeys(m map[string]netip.Addr) []string {
	var keys []string
	for k := range m {
		keys = append(keys, k)
	}
	slices.Sort(keys)
	return keys
}

func probeAddr(probe string) (netip.Addr, error) {
	if ap, err := netip.ParseAddrPort(probe); err == nil {
		return ap.Addr(), nil
	}
	return netip.ParseAddr(probe)
}

// carries gives the table whose listed routes send one direction of the path to the group, or "".
func carries(g *api.ApplianceGroup, h hop) string {
	for _, t := range g.Spec.RouteTables {
		for _, r := range t.Routes {
			if within(t.Sources, h.from) && within([]string{r.Prefix}, h.to) || within(t.Sources, h.to) && within([]string{r.Prefix}, h.from) {
				return t.ID
			}
		}
	}
	return ""
}

func within(prefixes []string, a netip.Addr) bool {
	return slices.ContainsFunc(prefixes, func(s string) bool {
		p, err := netip.ParsePrefix(s)
		return err == nil && p.Contains(a)
	})
}
