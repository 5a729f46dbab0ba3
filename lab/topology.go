package lab

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"strconv"
	"strings"

	"github.com/understudy-ha/understudy/hostnet"
)

// The addresses of the pair's site. 203.0.113.10 is the public address (PIP): whoever is active translates it one to
// one, for any protocol, to the workload. The on-premises prefix reaches the workload untranslated.
//
//	client ── edge ──┬─ nva-a ─┬── core ── workload
//	                 └─ nva-b ─┘
//	       outside switch   inside switch
//
// A management switch joins the controllers c1–c3, the routers and the appliances; a cable joins the appliances, for
// their connection tracking.
const (
	pip             = "203.0.113.10"
	clientAddress   = "198.51.100.10"
	onPremAddress   = "172.16.0.10"
	onPremPrefix    = "172.16.0.0/16"
	workloadAddress = "10.0.3.10"
	workloadPrefix  = "10.0.3.0/24"
	outsideVIP      = "10.0.1.100"
	insideVIP       = "10.0.2.100"
	edgeOutside     = "10.0.1.1"
	coreInside      = "10.0.2.1"
	defaultPrefix   = "0.0.0.0/0"
	healthPort      = 8080

	managementPrefix = "10.0.9.0/24"
	probeTable       = 90 // of the appliances: answers to probes
)

// appliances are the members of the pair, in order of preference.
var appliances = []string{"nva-a", "nva-b"}

// controllers by name, in order.
var controllers = []string{"c1", "c2", "c3"}

// cable is one link of a machine, plugged into a switch.
type cable struct {
	machine string
	link    string
	network string // the switch
	address string // CIDR
}

// port is the cable's end at the switch.
func (c cable) port() string { return c.network + "." + c.machine }

const (
	netOutside    = "out"
	netInside     = "in"
	netManagement = "mgmt"
	netSync       = "sync"
	netInternet   = "net"
	netWorkload   = "work"
)

// cables is the whole wiring. Every cable is called at its machine like the network it goes to.
var cables = []cable{
	{"client", netInternet, netInternet, clientAddress + "/24"},
	{"edge", netInternet, netInternet, "198.51.100.1/24"},
	{"edge", netOutside, netOutside, edgeOutside + "/24"},
	{"nva-a", netOutside, netOutside, "10.0.1.4/24"},
	{"nva-b", netOutside, netOutside, "10.0.1.5/24"},
	{"nva-a", netInside, netInside, "10.0.2.4/24"},
	{"nva-b", netInside, netInside, "10.0.2.5/24"},
	{"core", netInside, netInside, coreInside + "/24"},
	{"core", netWorkload, netWorkload, "10.0.3.1/24"},
	{"workload", netWorkload, netWorkload, workloadAddress + "/24"},
	{"nva-a", netSync, netSync, "10.0.8.4/24"},
	{"nva-b", netSync, netSync, "10.0.8.5/24"},
	{"c1", netManagement, netManagement, "10.0.9.1/24"},
	{"c2", netManagement, netManagement, "10.0.9.2/24"},
	{"c3", netManagement, netManagement, "10.0.9.3/24"},
	{"operator", netManagement, netManagement, "10.0.9.9/24"},
	{"edge", netManagement, netManagement, "10.0.9.11/24"},
	{"core", netManagement, netManagement, "10.0.9.12/24"},
	{"nva-a", netManagement, netManagement, "10.0.9.21/24"},
	{"nva-b", netManagement, netManagement, "10.0.9.22/24"},
}

// staticRoutes never change. Those that follow the active appliance are set by whoever fails over.
var staticRoutes = []struct{ machine, prefix, via string }{
	{"client", defaultPrefix, "198.51.100.1"},
	{"edge", onPremPrefix, clientAddress},
	{"workload", defaultPrefix, "10.0.3.1"},
	{"nva-a", defaultPrefix, edgeOutside},
	{"nva-b", defaultPrefix, edgeOutside},
	{"nva-a", workloadPrefix, coreInside},
	{"nva-b", workloadPrefix, coreInside},
	// Controllers probe the appliances' outside links: through the edge router, never through the pair.
	{"c1", "10.0.1.0/24", "10.0.9.11"},
	{"c2", "10.0.1.0/24", "10.0.9.11"},
	{"c3", "10.0.1.0/24", "10.0.9.11"},
}

// movingRoutes follow the active appliance.
var movingRoutes = []struct{ machine, prefix, network string }{
	{"edge", pip + "/32", netOutside},
	{"edge", workloadPrefix, netOutside},
	{"core", defaultPrefix, netInside},
	{"core", onPremPrefix, netInside},
}

// applianceRules is the stateful filter both appliances run: a new TCP connection starts with a SYN, what the
// connection tracking finds invalid is dropped.
const applianceRules = `
table inet nva {
	chain forward {
		type filter hook forward priority filter; policy drop;
		ct state invalid counter drop
		ct state established,related counter accept
		ct state untracked accept
		meta l4proto tcp tcp flags & (fin|syn|rst|ack) == syn ct state new counter accept
		meta l4proto != tcp ct state new counter accept
	}
}
table ip nva-nat {
	chain prerouting {
		type nat hook prerouting priority dstnat;
		iifname "out" ip daddr ` + pip + ` dnat to ` + workloadAddress + `
	}
	chain postrouting {
		type nat hook postrouting priority srcnat;
		oifname "out" ip saddr ` + workloadAddress + ` ip daddr != ` + onPremPrefix + ` snat to ` + pip + `
	}
}
`

// switchRules hold the partition matrix and the probe loss; both empty.
const switchRules = `
table bridge lab {
	set cut { type ifname . ifname; }
	chain forward {
		type filter hook forward priority filter; policy accept;
		iifname . oifname @cut counter drop
	}
}
`

// topology is the pair's site, built.
type topology struct {
	run      *runDir
	spaces   map[string]*space
	switches map[string]bool
	order    []string // of making
}

// buildTopology makes every machine, switch and cable. On an error the caller still closes the topology.
func buildTopology(ctx context.Context, run *runDir) (*topology, error) {
	t := &topology{run: run, spaces: map[string]*space{}, switches: map[string]bool{}}
	if err := t.addSpace("switch"); err != nil {
		return t, err
	}
	for _, c := range cables {
		if err := t.lay(c); err != nil {
			return t, err
		}
	}
	if err := t.spaces["client"].AddAddress(netInternet, netip.MustParsePrefix(onPremAddress+"/16")); err != nil {
		return t, err
	}
	for name, s := range t.spaces {
		if err := s.sysctls(kernelSettings(name)); err != nil {
			return t, err
		}
	}
	for _, r := range staticRoutes {
		if err := t.spaces[r.machine].setRoute(r.prefix, r.via); err != nil {
			return t, err
		}
	}
	if err := t.spaces["switch"].ChangeTable(switchRules); err != nil {
		return t, err
	}
	for _, name := range appliances {
		if err := t.prepareAppliance(ctx, name); err != nil {
			return t, err
		}
	}
	return t, nil
}

func (t *topology) addSpace(machine string) error {
	s, err := newSpace(t.run.namespace(machine))
	if err != nil {
		return err
	}
	t.spaces[machine] = s
	t.order = append(t.order, machine)
	return s.sysctls(map[string]string{"net.ipv6.conf.all.disable_ipv6": "1", "net.ipv6.conf.default.disable_ipv6": "1"})
}

// lay makes the machine and the switch if they are not there yet, and plugs the cable.
func (t *topology) lay(c cable) error {
	if t.spaces[c.machine] == nil {
		if err := t.addSpace(c.machine); err != nil {
			return err
		}
	}
	sw := t.spaces["switch"]
	if !t.switches[c.network] {
		t.switches[c.network] = true
		if err := sw.addSwitch(c.network); err != nil {
			return err
		}
	}
	machine := t.spaces[c.machine]
	if err := machine.AddVeth(c.link, c.port(), sw.Net); err != nil {
		return err
	}
	if err := sw.plug(c.port(), c.network); err != nil {
		return err
	}
	if err := machine.AddAddress(c.link, netip.MustParsePrefix(c.address)); err != nil {
		return err
	}
	return machine.SetUp(c.link, true)
}

func kernelSettings(machine string) map[string]string {
	settings := map[string]string{
		"net.ipv4.conf.all.rp_filter":           "0", // while routes move, a packet may come in where its answer does not go out
		"net.ipv4.conf.default.rp_filter":       "0",
		"net.ipv4.conf.all.send_redirects":      "0",
		"net.ipv4.conf.all.accept_redirects":    "0",
		"net.ipv4.conf.default.arp_notify":      "0",
		"net.ipv4.icmp_ratelimit":               "0",
		"net.ipv4.ping_group_range":             "0 0",
		"net.ipv4.conf.all.log_martians":        "0",
		"net.ipv4.conf.default.log_martians":    "0",
		"net.ipv4.conf.all.arp_ignore":          "1",
		"net.ipv4.conf.default.arp_ignore":      "1",
		"net.ipv4.conf.all.promote_secondaries": "1",
	}
	switch machine {
	case "edge", "core", "nva-a", "nva-b":
		settings["net.ipv4.ip_forward"] = "1"
	}
	return settings
}

// prepareAppliance loads the filter. The kernel's strictness is part of it: a TCP connection is not picked up midway.
func (t *topology) prepareAppliance(ctx context.Context, name string) error {
	s := t.spaces[name]
	if err := s.ChangeTable(applianceRules); err != nil {
		return err
	}
	if err := s.sysctls(map[string]string{"net.netfilter.nf_conntrack_tcp_loose": "0"}); err != nil {
		return err
	}
	// Probes are answered the way they came, by the data link: the agent's network says nothing about the appliance.
	own := netip.PrefixFrom(netip.MustParseAddr(addressOf(name, netOutside)), 32)
	if err := s.AddRule(hostnet.Rule{Priority: probeTable, From: own, Table: probeTable}); err != nil {
		return err
	}
	_, err := s.Run("ip", "route", "replace", managementPrefix, "via", edgeOutside, "table", strconv.Itoa(probeTable))
	return err
}

// point sets every moving route at the given appliance or virtual address: what an operator does by hand, and how the
// routers stand for those peers that move an address instead.
func (t *topology) point(outside, inside string) error {
	for _, r := range movingRoutes {
		via := outside
		if r.network == netInside {
			via = inside
		}
		if err := t.spaces[r.machine].setRoute(r.prefix, via); err != nil {
			return err
		}
	}
	return nil
}

// unpoint removes the moving routes.
func (t *topology) unpoint() error {
	var errs []error
	for _, r := range movingRoutes {
		errs = append(errs, t.spaces[r.machine].dropRoutes(r.prefix))
	}
	return errors.Join(errs...)
}

// addressOf gives the machine's address on a network, without the prefix length.
func addressOf(machine, network string) string {
	i := slices.IndexFunc(cables, func(c cable) bool { return c.machine == machine && c.network == network })
	if i < 0 {
		panic(fmt.Sprintf("lab: %s has no cable to %s", machine, network))
	}
	addr, _, _ := strings.Cut(cables[i].address, "/")
	return addr
}

// cutPairs makes the switch drop frames between the ports, both ways, with their links still up.
func (t *topology) cutPairs(ctx context.Context, pairs ...[2]string) error {
	return t.editCut(ctx, "add", pairs)
}

// joinPairs undoes cutPairs.
func (t *topology) joinPairs(ctx context.Context, pairs ...[2]string) error {
	return t.editCut(ctx, "delete", pairs)
}

func (t *topology) editCut(ctx context.Context, verb string, pairs [][2]string) error {
	rules := ""
	for _, p := range pairs {
		rules += fmt.Sprintf("%s element bridge lab cut { %q . %q, %q . %q }\n", verb, p[0], p[1], p[1], p[0])
	}
	return t.spaces["switch"].ChangeTable(rules)
}

// close removes everything, the last made first.
func (t *topology) close() error {
	var errs []error
	for _, name := range slices.Backward(t.order) {
		errs = append(errs, t.spaces[name].remove())
	}
	t.order = nil
	return errors.Join(errs...)
}
