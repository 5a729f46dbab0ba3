package recovery

import (
	"fmt"
	"slices"

	"github.com/understudy-ha/understudy/api"
)

// Ground is what a machine's way back stands on.
type Ground struct {
	Sites []api.Site // of the tenant
	Vault *api.Vault
	// Controllers and StoreNodes are all there are; without store nodes every controller is one.
	Controllers, StoreNodes []string
}

// Finding is something that would be lost together with the machine's site.
type Finding struct {
	// Code is the name to override it by.
	Code    string
	Message string
	// Overridden by the machine's spec.
	Overridden bool
}

// Reach finds what is lost with the site that the machine is protected from, and is needed for recovering it: a majority of
// the store, the vault, and a key that opens it. What stands at no site counts as lost.
func Reach(m *api.ProtectedMachine, g Ground) []Finding {
	var out []Finding
	lost := m.Spec.Source.Site
	add := func(code, format string, args ...any) {
		out = append(out, Finding{Code: code, Message: fmt.Sprintf(format, args...), Overridden: slices.Contains(m.Spec.Overrides, code)})
	}
	members, where, what := g.StoreNodes, func(s *api.Site) []string { return s.Spec.StoreNodes }, "store nodes"
	if len(members) == 0 {
		members, where, what = g.Controllers, func(s *api.Site) []string { return s.Spec.Controllers }, "controllers"
	}
	if n := g.survivors(members, lost, where); 2*n <= len(members) {
		add(api.OverrideStore, "%d of %d %s are known to stand outside of site %s: without a majority nothing is decided once it is lost; write down in Sites where they stand, or add a witness elsewhere",
			n, len(members), what, lost)
	}
	if len(g.StoreNodes) > 0 && g.survivors(g.Controllers, lost, func(s *api.Site) []string { return s.Spec.Controllers }) == 0 {
		add(api.OverrideStore, "no controller is known to stand outside of site %s", lost)
	}
	if g.Vault == nil {
		return out
	}
	if g.Vault.Spec.Site == lost {
		add(api.OverrideVault, "vault %s stands at site %s, from which the machine is protected", g.Vault.Metadata.Name, lost)
	}
	for _, n := range []struct{ role, node string }{{"keeper", g.Vault.Spec.Keeper}, {"recovery node", m.Spec.Recovery.Node}} {
		if g.survivors([]string{n.node}, lost, func(s *api.Site) []string { return s.Spec.Nodes }) == 0 {
			add(api.OverrideKey, "the %s %s, which is sent the key of vault %s, is not known to stand outside of site %s", n.role, n.node, g.Vault.Metadata.Name, lost)
		}
	}
	return out
}

// survivors counts those that stand at a site other than the one that is lost, and not there too.
func (g Ground) survivors(names []string, lost string, where func(*api.Site) []string) int {
	n := 0
	for _, name := range names {
		elsewhere := false
		for i := range g.Sites {
			if !slices.Contains(where(&g.Sites[i]), name) {
				continue
			}
			if elsewhere = g.Sites[i].Metadata.Name != lost; !elsewhere {
				break
			}
		}
		if elsewhere {
			n++
		}
	}
	return n
}
