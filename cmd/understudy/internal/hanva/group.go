package hanva

import (
	"fmt"
	"net/netip"
	"strings"

	"github.com/understudy-ha/understudy/api"
)

// group converts what is watched and moved.
func (c *conversion) group(s settings) *api.ApplianceGroup {
	g := &api.ApplianceGroup{Header: c.header(api.KindApplianceGroup, c.o.Group)}
	g.Spec = api.GroupSpec{Mode: api.ActivePassive, Provider: c.o.Provider, Profile: api.ProfileBalanced, Probe: c.probe(s),
		Failover: api.Failover{Policy: api.Automatic}, Failback: api.Failback{Policy: api.Manual}}
	if len(s.NVAs) == 0 {
		c.bad.Add(at+"nvas", "", "2 to 8 appliances")
		return g
	}
	names := c.nicNames(s.NVAs[0])
	for i, n := range s.NVAs {
		g.Spec.Members = append(g.Spec.Members, c.member(i, n, names))
	}
	c.addresses(&g.Spec, s.PublicIPAddresses, names)
	c.tables(&g.Spec, s.RouteTables)
	if len(s.PublicIPAddresses) > 0 {
		g.Spec.Serves = append(g.Spec.Serves, api.ServesInternet)
	}
	if len(s.RouteTables) > 0 {
		g.Spec.Serves = append(g.Spec.Serves, api.ServesWorkload)
	}
	if len(g.Spec.Serves) == 0 {
		c.bad.Add(at+"routeTables", "", "at least one route table or public address")
	}
	if c.made.used > 0 || c.guessedRoutes {
		g.Spec.Paused = true
		c.warn("spec.paused", "the group is paused because addresses or routes are placeholders: put the real ones in, then set it to false")
	}
	return g
}

// nicNames gives each NIC name of the daemon the name that it has here: lower case, and nothing but a-z, 0-9 and "-".
func (c *conversion) nicNames(n nva) map[string]string {
	names, taken := map[string]string{}, map[string]bool{}
	for _, nic := range n.NetworkInterfaces {
		name := cleanName(nic.Name)
		for base, i := name, 2; taken[name]; i++ {
			name = fmt.Sprintf("%s-%d", base, i)
		}
		taken[name] = true
		names[nic.Name] = name
		if name != nic.Name {
			c.warn(at+"nvas[].networkInterfaces", "the name %q is written %q", nic.Name, name)
		}
	}
	return names
}

func cleanName(s string) string {
	clean := strings.Map(func(r rune) rune {
		if r >= 'a' && r <= 'z' || r >= '0' && r <= '9' || r == '.' {
			return r
		}
		return '-'
	}, strings.ToLower(s))
	if clean = strings.Trim(clean, "-."); clean == "" {
		clean = "nic"
	}
	return strings.TrimRight(clean[:min(len(clean), 60)], "-.")
}

func (c *conversion) member(i int, n nva, names map[string]string) api.Member {
	field := fmt.Sprintf("%snvas[%d]", at, i)
	m := api.Member{Name: fmt.Sprintf("nva%d", i+1)}
	addresses := map[string]string{}
	for j, nic := range n.NetworkInterfaces {
		nicField := fmt.Sprintf("%s.networkInterfaces[%d]", field, j)
		name, ok := names[nic.Name]
		if !ok {
			c.bad.Add(nicField+".name", fmt.Sprintf("%q", nic.Name), "a name that the first appliance's network interfaces have too: names pair them")
			continue
		}
		c.armID(nicField+".id", nic.ID)
		address := c.address(nicField, nic.ID)
		addresses[strings.ToLower(nic.ID)] = address
		m.NICs = append(m.NICs, api.NIC{Name: name, ID: nic.ID, Address: address})
	}
	if n.ProbePort < 1 || n.ProbePort > 65535 {
		c.bad.Add(field+".probePort", fmt.Sprint(n.ProbePort), "1 to 65535")
		return m
	}
	c.armID(field+".probeNetworkInterface", n.ProbeNetworkInterface)
	probed, ok := addresses[strings.ToLower(n.ProbeNetworkInterface)]
	if !ok {
		probed = c.address(field+".probeNetworkInterface", n.ProbeNetworkInterface)
	}
	if ip, err := netip.ParseAddr(probed); err == nil {
		m.Probe = netip.AddrPortFrom(ip, uint16(n.ProbePort)).String()
	}
	return m
}

// address gives a NIC's private address as known, or a placeholder.
func (c *conversion) address(field, id string) string {
	known := c.o.Facts.addresses[strings.ToLower(id)]
	if _, err := netip.ParseAddr(known); err == nil {
		return known
	}
	p := c.made.next()
	c.warn(field, "the daemon asked Azure for the private address of %s; %s is a placeholder for it", shortID(id), p)
	return p
}

// armID refuses what is no full ARM id, like the "<…>" of a sample.
func (c *conversion) armID(field, id string) {
	p := strings.Split(id, "/")
	if len(p) < 9 || !strings.EqualFold(p[1], "subscriptions") || !strings.EqualFold(p[3], "resourceGroups") {
		c.bad.Add(field, fmt.Sprintf("%q", id), "a full ARM id: /subscriptions/S/resourceGroups/G/providers/Microsoft.Network/TYPE/NAME")
	}
}

func shortID(id string) string { return id[strings.LastIndex(id, "/")+1:] }

// addresses converts public addresses: each goes to the NIC of its name.
func (c *conversion) addresses(s *api.GroupSpec, list []named, names map[string]string) {
	taken := map[string]bool{}
	for i, p := range list {
		field := fmt.Sprintf("%spublicIpAddresses[%d]", at, i)
		nic, ok := names[p.Name]
		if !ok {
			c.warn(field+".name", "%q is the name of no network interface: the daemon did not move this address, and it is left out", p.Name)
			continue
		}
		if taken[p.Name] {
			c.bad.Add(field+".name", fmt.Sprintf("%q", p.Name), "names that differ")
			continue
		}
		taken[p.Name] = true
		c.armID(field+".id", p.ID)
		s.PublicAddresses = append(s.PublicAddresses, api.PublicAddress{Name: nic, ID: p.ID, NIC: nic})
	}
}

// tables converts route tables: of the known routes those that point at a member; the daemon moved just these.
func (c *conversion) tables(s *api.GroupSpec, ids []string) {
	hops := map[string]string{}
	for _, m := range s.Members {
		for _, n := range m.NICs {
			hops[n.Address] = n.Name
		}
	}
	for i, id := range ids {
		field := fmt.Sprintf("%srouteTables[%d]", at, i)
		c.armID(field, id)
		t := api.RouteTable{ID: id}
		known, ok := c.o.Facts.routes[strings.ToLower(id)]
		for _, r := range known {
			if nic := hops[r.nextHop]; nic != "" {
				t.Routes = append(t.Routes, api.Route{Name: r.name, Prefix: r.prefix, NIC: nic})
			}
		}
		if len(t.Routes) == 0 {
			t.Routes = []api.Route{c.guess(s, field, ok)}
		}
		s.RouteTables = append(s.RouteTables, t)
	}
}

// guess is the route that a table most likely has: the default route to a NIC that has no public address.
func (c *conversion) guess(s *api.GroupSpec, field string, known bool) api.Route {
	public := map[string]bool{}
	for _, a := range s.PublicAddresses {
		public[a.NIC] = true
	}
	r := api.Route{Name: "default", Prefix: "0.0.0.0/0"}
	for _, n := range s.Members[0].NICs {
		if r.NIC == "" || public[r.NIC] && !public[n.Name] {
			r.NIC = n.Name
		}
	}
	c.guessedRoutes = true
	why := "the daemon asked Azure for the table's routes"
	if known {
		why = "none of the table's routes points at a member"
	}
	c.warn(field, "%s; 0.0.0.0/0 to the members' %q is a guess: list the routes that are to move", why, r.NIC)
	return r
}
