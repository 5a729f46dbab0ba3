package hostnet

import (
	"fmt"
	"slices"
	"strings"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
)

// Dump prints the namespace's links, addresses, routes and rules as text, one a line, sorted within each kind.
// What the kernel makes of itself (local table, link-local IPv6, its three own rules) is left out.
func (n *Net) Dump() (string, error) {
	var b strings.Builder
	for _, part := range []func() ([]string, error){n.dumpLinks, n.dumpAddresses, n.dumpRoutes, n.dumpRules} {
		lines, err := part()
		if err != nil {
			return "", err
		}
		slices.Sort(lines)
		for _, l := range lines {
			b.WriteString(l)
			b.WriteByte('\n')
		}
	}
	return b.String(), nil
}

func (n *Net) dumpLinks() ([]string, error) {
	links, err := n.nl.LinkList()
	if err != nil {
		return nil, fmt.Errorf("list links: %w", err)
	}
	names := linkNames(links)
	var out []string
	for _, l := range links {
		a := l.Attrs()
		state := "down"
		if a.RawFlags&unix.IFF_UP != 0 {
			state = "up"
			if a.RawFlags&unix.IFF_RUNNING == 0 {
				state = "up, no carrier"
			}
		}
		line := fmt.Sprintf("link %s %s %s", a.Name, l.Type(), state)
		if a.MasterIndex != 0 {
			line += " master " + names[a.MasterIndex]
		}
		out = append(out, line)
	}
	return out, nil
}

func (n *Net) dumpAddresses() ([]string, error) {
	have, err := n.byPlace()
	if err != nil {
		return nil, err
	}
	var out []string
	for ad, k := range have {
		if ad.Link == "lo" && ad.Prefix.Addr().IsLoopback() || ad.Prefix.Addr().IsLinkLocalUnicast() && !ad.Prefix.Addr().Is4() {
			continue
		}
		line := fmt.Sprintf("addr %s dev %s", ad.Prefix, ad.Link)
		if k.proto == Protocol {
			line += " ours"
		}
		if k.valid != forever {
			line += " temporary"
		}
		out = append(out, line)
	}
	return out, nil
}

func (n *Net) dumpRoutes() ([]string, error) {
	list, err := n.listRoutes()
	if err != nil {
		return nil, err
	}
	var out []string
	for _, r := range list {
		p := routePrefix(r)
		if r.Table == unix.RT_TABLE_LOCAL || p.Addr().Is6() && (p.Addr().IsMulticast() || p.Addr().IsLinkLocalUnicast()) {
			continue
		}
		out = append(out, "route "+n.describe(r))
	}
	return out, nil
}

// describe prints a route of the kernel.
func (n *Net) describe(r netlink.Route) string {
	s := fmt.Sprintf("%s table %s", routePrefix(r), tableName(uint32(r.Table)))
	if r.Type != unix.RTN_UNICAST {
		s += " type " + fmt.Sprint(r.Type)
	}
	if r.Gw != nil {
		s += " via " + r.Gw.String()
	}
	if l, err := n.nl.LinkByIndex(r.LinkIndex); err == nil && r.LinkIndex != 0 {
		s += " dev " + l.Attrs().Name
	}
	if r.Protocol == Protocol {
		s += " ours"
	} else {
		s += " proto " + r.Protocol.String()
	}
	if r.Priority != 0 {
		s += fmt.Sprintf(" metric %d", r.Priority)
	}
	return s
}

func (n *Net) dumpRules() ([]string, error) {
	rules, err := n.nl.RuleList(netlink.FAMILY_ALL)
	if err != nil {
		return nil, fmt.Errorf("list rules: %w", err)
	}
	var out []string
	for _, r := range rules {
		if r.Priority <= 0 || r.Priority >= 32766 {
			continue
		}
		line := fmt.Sprintf("rule %d", r.Priority)
		if r.Src != nil {
			line += " from " + r.Src.String()
		}
		if r.IifName != "" {
			line += " iif " + r.IifName
		}
		if r.Mark != 0 {
			line += fmt.Sprintf(" mark %d", r.Mark)
		}
		out = append(out, line+" lookup "+tableName(uint32(r.Table)))
	}
	return out, nil
}

func linkNames(links []netlink.Link) map[int]string {
	names := map[int]string{}
	for _, l := range links {
		names[l.Attrs().Index] = l.Attrs().Name
	}
	return names
}
