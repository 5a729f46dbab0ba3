package agent

import (
	"errors"
	"fmt"
	"net/netip"
	"time"

	"github.com/understudy-ha/understudy/api"
	"github.com/understudy-ha/understudy/hostnet"
	"github.com/understudy-ha/understudy/steward"
)

// hostEngines carry out sections on the host.
type hostEngines struct {
	net       *hostnet.Net
	routes    *hostnet.Routes
	addresses *hostnet.Addresses
	roles     *roles
	children  *children
}

func newEngines(n *hostnet.Net) (*hostEngines, error) {
	a, err := n.NewAddresses()
	if err != nil {
		return nil, err
	}
	return &hostEngines{net: n, routes: n.NewRoutes(), addresses: a, roles: &roles{}}, nil
}

// drivers says what carries out what.
func (e *hostEngines) drivers() []string {
	return []string{"routes: kernel", "addresses: kernel", "announce: arp"}
}

// close leaves the kernel as it is.
func (e *hostEngines) close() error { return e.addresses.Close() }

// apply makes a section the owner's whole share of its engine; addresses for the time valid.
func (e *hostEngines) apply(a steward.Apply, valid time.Duration) error {
	s := a.Section
	switch s.Engine {
	case api.EngineRoutes:
		routes, err := parseRoutes(s.Routes.Routes)
		if err != nil {
			return err
		}
		return e.routes.Set(s.Owner, routes)
	case api.EngineAddresses:
		addresses, err := parseAddresses(s.Addresses.Addresses)
		if err != nil {
			return err
		}
		return e.addresses.Set(s.Owner, addresses, valid)
	case api.EngineRole:
		e.roles.set(s.Owner, s.Role.Role)
		return nil
	case api.EngineProtect, api.EngineProcessServer, api.EngineSite, api.EngineKeeper:
		e.children.set(s, a.Confirmed, a.Secrets)
		return nil
	}
	return fmt.Errorf("engine %q: this agent has none of that name", s.Engine)
}

// sweep removes what an earlier life made and nobody wants.
func (e *hostEngines) sweep(routes bool) error {
	_, err := e.addresses.Sweep()
	if routes {
		_, rerr := e.routes.Sweep()
		err = errors.Join(err, rerr)
	}
	return err
}

func parseRoutes(list []api.KernelRoute) ([]hostnet.Route, error) {
	var out []hostnet.Route
	for i, r := range list {
		p, err := netip.ParsePrefix(r.Prefix)
		if err != nil {
			return nil, fmt.Errorf("routes[%d].prefix %q: want a prefix in CIDR form", i, r.Prefix)
		}
		via, err := netip.ParseAddr(r.Via)
		if err != nil {
			return nil, fmt.Errorf("routes[%d].via %q: want an IP address", i, r.Via)
		}
		out = append(out, hostnet.Route{Table: r.Table, Prefix: p, Via: via})
	}
	return out, nil
}

func parseAddresses(list []api.HeldAddress) ([]hostnet.Address, error) {
	var out []hostnet.Address
	for i, a := range list {
		p, err := netip.ParsePrefix(a.Address)
		if err != nil {
			return nil, fmt.Errorf("addresses[%d].address %q: want an IP address with its prefix length", i, a.Address)
		}
		out = append(out, hostnet.Address{Link: a.Link, Prefix: p})
	}
	return out, nil
}
