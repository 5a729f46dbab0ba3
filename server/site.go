package server

import (
	"net"
	"net/netip"
	"net/url"

	"github.com/understudy-ha/understudy/api"
	"github.com/understudy-ha/understudy/appliance"
)

// site says where the parts of the control plane stand, as far as their addresses are written down: names are not
// looked up, since what they give today says little of the day of a failover.
func (c Config) site(p *api.Provider) appliance.Site {
	s := appliance.Site{Controllers: map[string]netip.Addr{}, StoreNodes: map[string]netip.Addr{}, CloudAPI: map[string]netip.Addr{}}
	for name, addr := range c.Peers {
		put(s.Controllers, name, addr)
	}
	for _, e := range c.Store.Endpoints {
		put(s.StoreNodes, e, e)
	}
	for _, o := range c.Operators {
		if prefix, err := netip.ParsePrefix(o); err == nil {
			s.Operators = append(s.Operators, prefix)
		}
	}
	if p.Spec.Azure != nil {
		put(s.CloudAPI, p.Spec.Azure.Endpoint, p.Spec.Azure.Endpoint)
	}
	return s
}

// put adds the address of a host:port or a URL, if it is an IP address that others reach.
func put(m map[string]netip.Addr, name, addr string) {
	if u, err := url.Parse(addr); err == nil && u.Host != "" {
		addr = u.Host
	}
	host, _, err := net.SplitHostPort(addr)
	if err != nil {
		host = addr
	}
	if ip, err := netip.ParseAddr(host); err == nil && !ip.IsLoopback() && !ip.IsUnspecified() {
		m[name] = ip
	}
}
