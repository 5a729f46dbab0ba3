package hostnet

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"net/netip"
	"syscall"

	"github.com/vishvananda/netlink/nl"
	"github.com/vishvananda/netns"
	"golang.org/x/sys/unix"
)

// Watch tells that links, addresses, or routes whose key interests changed, by anybody, ourselves included. Several
// changes may come as one. A gap in the kernel's messages counts as a change. The channel is closed when ctx ends.
func (n *Net) Watch(ctx context.Context, interests func(RouteKey) bool) (<-chan struct{}, error) {
	s, err := nl.SubscribeAt(n.ns, netns.None(), unix.NETLINK_ROUTE, unix.RTNLGRP_LINK, unix.RTNLGRP_IPV4_IFADDR,
		unix.RTNLGRP_IPV6_IFADDR, unix.RTNLGRP_IPV4_ROUTE, unix.RTNLGRP_IPV6_ROUTE)
	if err != nil {
		return nil, fmt.Errorf("watch the kernel's network: %w", err)
	}
	changes := make(chan struct{}, 1) // one is enough: it says "look again"
	stop := context.AfterFunc(ctx, s.Close)
	go func() {
		defer close(changes)
		defer stop()
		for {
			msgs, _, err := s.Receive()
			if err != nil && !errors.Is(err, unix.ENOBUFS) && !errors.Is(err, unix.EINTR) {
				return // closed
			}
			if err != nil || anyMatters(msgs, interests) {
				select {
				case changes <- struct{}{}:
				default:
				}
			}
		}
	}()
	return changes, nil
}

func anyMatters(msgs []syscall.NetlinkMessage, interests func(RouteKey) bool) bool {
	for _, m := range msgs {
		if m.Header.Type != unix.RTM_NEWROUTE && m.Header.Type != unix.RTM_DELROUTE {
			return true
		}
		if k, ok := routeKeyOf(m.Data); !ok || interests(k) {
			return true
		}
	}
	return false
}

// routeKeyOf reads the table and the prefix out of a route message.
func routeKeyOf(b []byte) (RouteKey, bool) {
	if len(b) < unix.SizeofRtMsg {
		return RouteKey{}, false
	}
	msg := nl.DeserializeRtMsg(b)
	var err error
	k := RouteKey{Table: uint32(msg.Table)}
	to := netip.IPv4Unspecified()
	if msg.Family == unix.AF_INET6 {
		to = netip.IPv6Unspecified()
	}
	for kind, value := range attrs(b[msg.Len():], &err) {
		switch kind {
		case unix.RTA_DST:
			to, _ = netip.AddrFromSlice(value)
		case unix.RTA_TABLE:
			if len(value) >= 4 {
				k.Table = binary.NativeEndian.Uint32(value)
			}
		}
	}
	k.Prefix = netip.PrefixFrom(to, int(msg.Dst_len))
	return k, err == nil
}
