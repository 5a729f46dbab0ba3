package hostnet

import (
	"errors"
	"fmt"
	"net"
	"net/netip"
	"strconv"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
)

// mainTable is where routes are that name no table.
const mainTable = unix.RT_TABLE_MAIN

// Route is one route to one next hop.
type Route struct {
	// Table of the kernel; 0 means main (254).
	Table uint32
	// Prefix with its host bits zero.
	Prefix netip.Prefix
	// Via is the next hop's address. Link may be left out with it.
	Via netip.Addr
	// Link by name, for a route without a next hop, or to choose one of several links.
	Link string
}

// RouteKey is what makes a route unique: two routes with one key are two wishes for the same packets.
type RouteKey struct {
	Table  uint32
	Prefix netip.Prefix
}

// Key of the route.
func (r Route) Key() RouteKey {
	k := RouteKey{r.Table, r.Prefix}
	if k.Table == 0 {
		k.Table = mainTable
	}
	return k
}

func (k RouteKey) String() string { return fmt.Sprintf("%s table %s", k.Prefix, tableName(k.Table)) }

func (r Route) String() string {
	s := r.Key().String()
	if r.Via.IsValid() {
		s += " via " + r.Via.String()
	}
	if r.Link != "" {
		s += " dev " + r.Link
	}
	return s
}

// Validate refuses routes that the kernel could not hold.
func (r Route) Validate() error {
	switch {
	case !r.Prefix.IsValid():
		return fmt.Errorf("route: %w prefix", ErrInvalid)
	case r.Prefix != r.Prefix.Masked():
		return fmt.Errorf("route %s: %w: host bits are set, want %s", r.Prefix, ErrInvalid, r.Prefix.Masked())
	case !r.Via.IsValid() && r.Link == "":
		return fmt.Errorf("route %s: %w: no next hop and no link", r.Prefix, ErrInvalid)
	case r.Via.IsValid() && r.Via.Is4() != r.Prefix.Addr().Is4():
		return fmt.Errorf("route %s: %w: next hop %s is of the other family", r.Prefix, ErrInvalid, r.Via)
	}
	return nil
}

// ReplaceRoute makes a route, or gives the one with its key this next hop in one atomic change. It keeps no books: Routes does.
func (n *Net) ReplaceRoute(r Route) error {
	k, err := n.kernelForm(r)
	if err == nil {
		err = n.nl.RouteReplace(k)
	}
	return wrapRoute("replace", r, err)
}

// createRoute makes a route; ErrForeign if one with its key and metric is there.
func (n *Net) createRoute(r Route) error {
	k, err := n.kernelForm(r)
	if err == nil {
		err = n.nl.RouteAdd(k)
	}
	if errors.Is(err, unix.EEXIST) {
		err = ErrForeign
	}
	return wrapRoute("add", r, err)
}

// DeleteRoute removes a route that Understudy made. One that is not there is no error.
func (n *Net) DeleteRoute(k RouteKey) error {
	err := n.nl.RouteDel(&netlink.Route{Table: int(k.Table), Dst: ipNet(k.Prefix), Protocol: Protocol, Family: family(k.Prefix.Addr())})
	if errors.Is(err, unix.ESRCH) {
		return nil
	}
	return wrapRoute("delete", Route{Table: k.Table, Prefix: k.Prefix}, err)
}

func (n *Net) kernelForm(r Route) (*netlink.Route, error) {
	if err := r.Validate(); err != nil {
		return nil, err
	}
	k := &netlink.Route{
		Table: int(r.Key().Table), Dst: ipNet(r.Prefix), Protocol: Protocol, Family: family(r.Prefix.Addr()),
	}
	if r.Via.IsValid() {
		k.Gw = r.Via.AsSlice()
	}
	if r.Link != "" {
		l, err := n.nl.LinkByName(r.Link)
		if err != nil {
			return nil, err
		}
		k.LinkIndex = l.Attrs().Index
		if !r.Via.IsValid() {
			k.Scope = netlink.SCOPE_LINK
		}
	}
	return k, nil
}

// kernelRoutes lists every route of every table but the kernel's own.
func (n *Net) kernelRoutes() (map[RouteKey][]netlink.Route, error) {
	list, err := n.listRoutes()
	if err != nil {
		return nil, err
	}
	out := make(map[RouteKey][]netlink.Route, len(list))
	for _, r := range list {
		if r.Table == unix.RT_TABLE_LOCAL {
			continue
		}
		k := RouteKey{uint32(r.Table), routePrefix(r)}
		out[k] = append(out[k], r)
	}
	return out, nil
}

// listRoutes asks again when routes changed while they were listed.
func (n *Net) listRoutes() ([]netlink.Route, error) {
	var list []netlink.Route
	var err error
	for range 5 {
		list, err = n.nl.RouteListFiltered(netlink.FAMILY_ALL, &netlink.Route{Table: unix.RT_TABLE_UNSPEC}, netlink.RT_FILTER_TABLE)
		if !errors.Is(err, netlink.ErrDumpInterrupted) {
			break
		}
	}
	if err != nil && !errors.Is(err, netlink.ErrDumpInterrupted) {
		return nil, fmt.Errorf("list routes: %w", err)
	}
	return list, nil
}

func routePrefix(r netlink.Route) netip.Prefix {
	if r.Dst == nil {
		if r.Family == netlink.FAMILY_V6 {
			return netip.PrefixFrom(netip.IPv6Unspecified(), 0)
		}
		return netip.PrefixFrom(netip.IPv4Unspecified(), 0)
	}
	return prefixOf(r.Dst)
}

func prefixOf(n *net.IPNet) netip.Prefix {
	a, _ := netip.AddrFromSlice(n.IP)
	ones, _ := n.Mask.Size()
	return netip.PrefixFrom(a.Unmap(), ones)
}

func ipNet(p netip.Prefix) *net.IPNet {
	return &net.IPNet{IP: p.Addr().AsSlice(), Mask: net.CIDRMask(p.Bits(), p.Addr().BitLen())}
}

func family(a netip.Addr) int {
	if a.Is4() {
		return netlink.FAMILY_V4
	}
	return netlink.FAMILY_V6
}

func tableName(t uint32) string {
	if t == mainTable {
		return "main"
	}
	return strconv.FormatUint(uint64(t), 10)
}

func wrapRoute(what string, r Route, err error) error {
	if err != nil {
		return fmt.Errorf("%s route %s: %w", what, r, err)
	}
	return nil
}
