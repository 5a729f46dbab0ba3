package hostnet

import (
	"fmt"
	"net/netip"
	"time"

	"github.com/vishvananda/netlink"
	"github.com/vishvananda/netlink/nl"
	"github.com/vishvananda/netns"
	"golang.org/x/sys/unix"
)

// forever is the kernel's lifetime of an address that does not end.
const forever = ^uint32(0)

// AddAddress gives a link an address, for good. It keeps no books: Addresses does.
func (n *Net) AddAddress(link string, p netip.Prefix) error {
	return n.withLink("add address "+p.String()+" to", link, func(l netlink.Link) error {
		return n.nl.AddrReplace(l, &netlink.Addr{IPNet: ipNet(p), Flags: unix.IFA_F_NODAD})
	})
}

// DeleteAddress takes an address from a link.
func (n *Net) DeleteAddress(link string, p netip.Prefix) error {
	return n.withLink("delete address "+p.String()+" from", link, func(l netlink.Link) error {
		return n.nl.AddrDel(l, &netlink.Addr{IPNet: ipNet(p)})
	})
}

// kernelAddress is an address as the kernel has it.
type kernelAddress struct {
	index  int
	prefix netip.Prefix
	proto  uint8
	valid  uint32 // seconds, or forever
}

// ours tells whether we may change or remove the address: it carries our mark, or its life is limited (what
// kernels before 5.18, which keep no mark, still tell).
func (a kernelAddress) ours() bool { return a.proto == Protocol || a.valid != forever }

const ifaProto = 11 // IFA_PROTO, since Linux 5.18

// putAddress makes an address, or gives the one that is there a new lifetime.
func (n *Net) putAddress(index int, p netip.Prefix, valid time.Duration) error {
	req := nl.NewNetlinkRequest(unix.RTM_NEWADDR, unix.NLM_F_CREATE|unix.NLM_F_REPLACE|unix.NLM_F_ACK)
	msg := nl.NewIfAddrmsg(family(p.Addr()))
	msg.Index, msg.Prefixlen = uint32(index), uint8(p.Bits())
	req.AddData(msg)
	ip := p.Addr().AsSlice()
	req.AddData(nl.NewRtAttr(unix.IFA_LOCAL, ip))
	req.AddData(nl.NewRtAttr(unix.IFA_ADDRESS, ip))
	req.AddData(nl.NewRtAttr(ifaProto, []byte{Protocol}))
	seconds := wholeSeconds(valid)
	life := nl.IfaCacheInfo{IfaCacheinfo: unix.IfaCacheinfo{Valid: seconds, Prefered: seconds}}
	req.AddData(nl.NewRtAttr(unix.IFA_CACHEINFO, life.Serialize()))
	_, err := n.execute(req, 0)
	return err
}

// wholeSeconds rounds down, to at least one: the kernel knows nothing shorter.
func wholeSeconds(d time.Duration) uint32 { return uint32(max(1, d/time.Second)) }

// addresses lists all addresses of all links.
func (n *Net) addresses() ([]kernelAddress, error) {
	req := nl.NewNetlinkRequest(unix.RTM_GETADDR, unix.NLM_F_DUMP)
	req.AddData(nl.NewIfAddrmsg(unix.AF_UNSPEC))
	msgs, err := n.execute(req, unix.RTM_NEWADDR)
	if err != nil {
		return nil, fmt.Errorf("list addresses: %w", err)
	}
	var out []kernelAddress
	for _, m := range msgs {
		a, err := parseAddress(m)
		if err != nil {
			return nil, fmt.Errorf("list addresses: %w", err)
		}
		out = append(out, a)
	}
	return out, nil
}

func parseAddress(m []byte) (kernelAddress, error) {
	if len(m) < unix.SizeofIfAddrmsg {
		return kernelAddress{}, fmt.Errorf("message of %d bytes, want at least %d", len(m), unix.SizeofIfAddrmsg)
	}
	msg := nl.DeserializeIfAddrmsg(m)
	a := kernelAddress{index: int(msg.Index), valid: forever}
	var local, address netip.Addr
	var err error
	for kind, value := range attrs(m[msg.Len():], &err) {
		switch kind {
		case unix.IFA_LOCAL:
			local, _ = netip.AddrFromSlice(value)
		case unix.IFA_ADDRESS:
			address, _ = netip.AddrFromSlice(value)
		case ifaProto:
			if len(value) > 0 {
				a.proto = value[0]
			}
		case unix.IFA_CACHEINFO:
			if len(value) >= unix.SizeofIfaCacheinfo {
				a.valid = nl.DeserializeIfaCacheInfo(value).Valid
			}
		}
	}
	if !local.IsValid() {
		local = address
	}
	a.prefix = netip.PrefixFrom(local, int(msg.Prefixlen))
	return a, err
}

// execute sends a request that the netlink library has no words for.
func (n *Net) execute(req *nl.NetlinkRequest, result uint16) ([][]byte, error) {
	s, err := nl.GetNetlinkSocketAt(n.ns, netns.None(), unix.NETLINK_ROUTE)
	if err != nil {
		return nil, err
	}
	defer s.Close()
	req.Sockets = map[int]*nl.SocketHandle{unix.NETLINK_ROUTE: {Socket: s}}
	return req.Execute(unix.NETLINK_ROUTE, result)
}
