package lab

import (
	"errors"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"

	"github.com/vishvananda/netlink"
	"github.com/vishvananda/netns"
	"golang.org/x/sys/unix"
)

// namespaceDir is where ip(8) and the kernel's users keep named namespaces.
const namespaceDir = "/run/netns"

// space is one network namespace: one machine of the lab.
type space struct {
	name   string // of the namespace, unique on this host
	handle netns.NsHandle
	nl     *netlink.Handle
}

func newSpace(name string) (*space, error) {
	var handle netns.NsHandle
	err := onOwnThread(func() (err error) {
		handle, err = netns.NewNamed(name)
		return err
	})
	if err != nil {
		return nil, fmt.Errorf("make namespace %s: %w", name, err)
	}
	nl, err := netlink.NewHandleAt(handle, unix.NETLINK_ROUTE)
	if err != nil {
		return nil, errors.Join(fmt.Errorf("open netlink in %s: %w", name, err), handle.Close(), netns.DeleteNamed(name))
	}
	s := &space{name: name, handle: handle, nl: nl}
	return s, s.addAddress("lo", "")
}

// onOwnThread runs f on an operating system thread that ends with it, so that a namespace f enters stays with nobody else.
func onOwnThread(f func() error) error {
	result := make(chan error, 1)
	go func() {
		runtime.LockOSThread()
		result <- f()
	}()
	return <-result
}

// do runs f inside the namespace. f must not start goroutines that depend on it.
func (s *space) do(f func() error) error {
	return onOwnThread(func() error {
		if err := netns.Set(s.handle); err != nil {
			return fmt.Errorf("enter namespace %s: %w", s.name, err)
		}
		return f()
	})
}

// remove kills what runs inside and deletes the namespace.
func (s *space) remove() error {
	s.killAll()
	s.nl.Close()
	return errors.Join(s.handle.Close(), netns.DeleteNamed(s.name))
}

// pids lists the processes inside.
func (s *space) pids() []int {
	return pidsInside(filepath.Join(namespaceDir, s.name))
}

// killAll kills every process inside, and those they start meanwhile.
func (s *space) killAll() {
	killInside(filepath.Join(namespaceDir, s.name))
}

func killInside(path string) {
	for range 20 {
		pids := pidsInside(path)
		if len(pids) == 0 {
			return
		}
		for _, pid := range pids {
			_ = unix.Kill(pid, unix.SIGKILL)
		}
	}
}

func pidsInside(path string) []int {
	var want, got unix.Stat_t
	if unix.Stat(path, &want) != nil {
		return nil
	}
	entries, err := os.ReadDir("/proc")
	if err != nil {
		return nil
	}
	var pids []int
	for _, e := range entries {
		pid, err := strconv.Atoi(e.Name())
		if err != nil || pid == os.Getpid() {
			continue
		}
		if unix.Stat("/proc/"+e.Name()+"/ns/net", &got) == nil && got.Ino == want.Ino && got.Dev == want.Dev && !isZombie(pid) {
			pids = append(pids, pid)
		}
	}
	return pids
}

func isZombie(pid int) bool {
	b, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if err != nil {
		return true
	}
	_, rest, ok := strings.Cut(string(b), ") ")
	return !ok || strings.HasPrefix(rest, "Z") || strings.HasPrefix(rest, "X")
}

// connect joins two namespaces by a cable: link a in s, link b in other.
func (s *space) connect(a string, other *space, b string) error {
	attrs := netlink.NewLinkAttrs()
	attrs.Name = a
	err := s.nl.LinkAdd(&netlink.Veth{LinkAttrs: attrs, PeerName: b, PeerNamespace: netlink.NsFd(int(other.handle))})
	if err != nil {
		return fmt.Errorf("connect %s in %s to %s in %s: %w", a, s.name, b, other.name, err)
	}
	return nil
}

// addBridge makes a switch. It learns addresses, floods multicast, and speaks no spanning tree.
func (s *space) addBridge(name string) error {
	attrs := netlink.NewLinkAttrs()
	attrs.Name = name
	snooping := false
	if err := s.nl.LinkAdd(&netlink.Bridge{LinkAttrs: attrs, MulticastSnooping: &snooping}); err != nil {
		return fmt.Errorf("make switch %s in %s: %w", name, s.name, err)
	}
	return s.setLink(name, true)
}

// plug makes link a port of bridge and brings it up.
func (s *space) plug(link, bridge string) error {
	port, err := s.nl.LinkByName(link)
	if err != nil {
		return fmt.Errorf("find port %s in %s: %w", link, s.name, err)
	}
	br, err := s.nl.LinkByName(bridge)
	if err != nil {
		return fmt.Errorf("find switch %s in %s: %w", bridge, s.name, err)
	}
	if err := s.nl.LinkSetMaster(port, br); err != nil {
		return fmt.Errorf("plug %s into %s: %w", link, bridge, err)
	}
	return s.setLink(link, true)
}

func (s *space) setLink(name string, up bool) error {
	link, err := s.nl.LinkByName(name)
	if err != nil {
		return fmt.Errorf("find link %s in %s: %w", name, s.name, err)
	}
	if up {
		err = s.nl.LinkSetUp(link)
	} else {
		err = s.nl.LinkSetDown(link)
	}
	if err != nil {
		return fmt.Errorf("set link %s in %s up=%t: %w", name, s.name, up, err)
	}
	return nil
}

// addAddress gives the link an address in CIDR form, or none if it is "", and brings the link up.
func (s *space) addAddress(link, cidr string) error {
	l, err := s.nl.LinkByName(link)
	if err != nil {
		return fmt.Errorf("find link %s in %s: %w", link, s.name, err)
	}
	if cidr != "" {
		addr, err := netlink.ParseAddr(cidr)
		if err != nil {
			return fmt.Errorf("address %q: %w", cidr, err)
		}
		if err := s.nl.AddrReplace(l, addr); err != nil {
			return fmt.Errorf("give %s to %s in %s: %w", cidr, link, s.name, err)
		}
	}
	return s.setLink(link, true)
}

// addresses of a link, in CIDR form.
func (s *space) addresses(link string) ([]string, error) {
	l, err := s.nl.LinkByName(link)
	if err != nil {
		return nil, fmt.Errorf("find link %s in %s: %w", link, s.name, err)
	}
	list, err := s.nl.AddrList(l, netlink.FAMILY_V4)
	if err != nil {
		return nil, fmt.Errorf("list addresses of %s in %s: %w", link, s.name, err)
	}
	var all []string
	for _, a := range list {
		all = append(all, a.IPNet.String())
	}
	return all, nil
}

// dropAddress takes the address from the link; one that is not there is no error.
func (s *space) dropAddress(link, cidr string) error {
	l, err := s.nl.LinkByName(link)
	if err != nil {
		return fmt.Errorf("find link %s in %s: %w", link, s.name, err)
	}
	addr, err := netlink.ParseAddr(cidr)
	if err != nil {
		return fmt.Errorf("address %q: %w", cidr, err)
	}
	if err := s.nl.AddrDel(l, addr); err != nil && !errors.Is(err, unix.EADDRNOTAVAIL) {
		return fmt.Errorf("take %s from %s in %s: %w", cidr, link, s.name, err)
	}
	return nil
}

// setRoute points prefix at the gateway.
func (s *space) setRoute(prefix, via string) error {
	_, dst, err := net.ParseCIDR(prefix)
	if err != nil {
		return fmt.Errorf("route: %w", err)
	}
	if err := s.nl.RouteReplace(&netlink.Route{Dst: dst, Gw: net.ParseIP(via)}); err != nil {
		return fmt.Errorf("route %s via %s in %s: %w", prefix, via, s.name, err)
	}
	return nil
}

// dropRoute removes the route to prefix; one that is not there is no error.
func (s *space) dropRoute(prefix string) error {
	_, dst, err := net.ParseCIDR(prefix)
	if err != nil {
		return fmt.Errorf("route: %w", err)
	}
	if err := s.nl.RouteDel(&netlink.Route{Dst: dst}); err != nil && !errors.Is(err, unix.ESRCH) {
		return fmt.Errorf("remove route %s in %s: %w", prefix, s.name, err)
	}
	return nil
}

// nextHop gives the gateway of the route to exactly this prefix, "" if there is none.
func (s *space) nextHop(prefix string) (string, error) {
	_, dst, err := net.ParseCIDR(prefix)
	if err != nil {
		return "", fmt.Errorf("route: %w", err)
	}
	routes, err := s.nl.RouteListFiltered(netlink.FAMILY_V4, &netlink.Route{Dst: dst}, netlink.RT_FILTER_DST)
	if err != nil {
		return "", fmt.Errorf("list routes of %s: %w", s.name, err)
	}
	for _, r := range routes {
		if r.Gw != nil {
			return r.Gw.String(), nil
		}
	}
	return "", nil
}

// sysctl sets kernel parameters of the namespace, by their path below /proc/sys.
func (s *space) sysctl(settings map[string]string) error {
	return s.do(func() error {
		for path, value := range settings {
			if err := os.WriteFile("/proc/sys/"+path, []byte(value), 0o644); err != nil {
				return fmt.Errorf("sysctl %s=%s in %s: %w", path, value, s.name, err)
			}
		}
		return nil
	})
}
