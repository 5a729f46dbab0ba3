package hostnet

import (
	"errors"
	"fmt"
	"net"

	"github.com/vishvananda/netlink"
)

// AddVeth makes a pair of links, name here and peer in the namespace at (this one if nil). Both are down.
func (n *Net) AddVeth(name, peer string, at *Net) error {
	v := netlink.NewVeth(netlink.LinkAttrs{Name: name, TxQLen: 1000})
	v.PeerName = peer
	if at != nil {
		v.PeerNamespace = at.nsFd()
	}
	return wrapLink("add veth", name, n.nl.LinkAdd(v))
}

// AddBridge makes a bridge without spanning tree. It is down.
func (n *Net) AddBridge(name string) error {
	return wrapLink("add bridge", name, n.nl.LinkAdd(&netlink.Bridge{LinkAttrs: netlink.LinkAttrs{Name: name}}))
}

// AddMacvlan makes a link with its own MAC address on parent; such links reach each other (mode bridge) but not the parent's own addresses.
func (n *Net) AddMacvlan(name, parent string) error {
	p, err := n.nl.LinkByName(parent)
	if err != nil {
		return wrapLink("add macvlan on", parent, err)
	}
	return wrapLink("add macvlan", name, n.nl.LinkAdd(&netlink.Macvlan{
		LinkAttrs: netlink.LinkAttrs{Name: name, ParentIndex: p.Attrs().Index},
		Mode:      netlink.MACVLAN_MODE_BRIDGE,
	}))
}

// DeleteLink removes a link, with its peer if it is a veth. One that is not there is no error.
func (n *Net) DeleteLink(name string) error {
	l, err := n.nl.LinkByName(name)
	if errors.As(err, &netlink.LinkNotFoundError{}) {
		return nil
	}
	if err == nil {
		err = n.nl.LinkDel(l)
	}
	return wrapLink("delete link", name, err)
}

// SetUp turns a link on or off. Routes through a link that goes off are forgotten by the kernel.
func (n *Net) SetUp(name string, up bool) error {
	return n.withLink("set up", name, func(l netlink.Link) error {
		if up {
			return n.nl.LinkSetUp(l)
		}
		return n.nl.LinkSetDown(l)
	})
}

// SetMaster makes a link a port of a bridge; master "" takes it out.
func (n *Net) SetMaster(name, master string) error {
	return n.withLink("set master of", name, func(l netlink.Link) error {
		if master == "" {
			return n.nl.LinkSetNoMaster(l)
		}
		m, err := n.nl.LinkByName(master)
		if err != nil {
			return err
		}
		return n.nl.LinkSetMaster(l, m)
	})
}

// SetMAC gives a link a hardware address.
func (n *Net) SetMAC(name string, mac net.HardwareAddr) error {
	return n.withLink("set mac of", name, func(l netlink.Link) error { return n.nl.LinkSetHardwareAddr(l, mac) })
}

// SetMTU sets a link's largest packet, in bytes.
func (n *Net) SetMTU(name string, mtu int) error {
	return n.withLink("set mtu of", name, func(l netlink.Link) error { return n.nl.LinkSetMTU(l, mtu) })
}

func (n *Net) withLink(what, name string, f func(netlink.Link) error) error {
	l, err := n.nl.LinkByName(name)
	if err == nil {
		err = f(l)
	}
	return wrapLink(what, name, err)
}

func wrapLink(what, name string, err error) error {
	if err != nil {
		return fmt.Errorf("%s %s: %w", what, name, err)
	}
	return nil
}
