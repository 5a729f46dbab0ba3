package api

import (
	"fmt"
	"net/netip"
	"strconv"
	"strings"
	"time"
)

// MaxMovable is how many addresses and routes one group may have: what it claims must fit one transaction.
const MaxMovable = 48

// Validate implements Object.
func (g *ApplianceGroup) Validate() error {
	var e Invalid
	e.header(&g.Header, KindApplianceGroup)
	s := &g.Spec
	oneOf(&e, "spec.mode", s.Mode, ActivePassive)
	e.serves(s.Serves)
	e.name("spec.provider", s.Provider)
	oneOf(&e, "spec.profile", s.Profile, ProfileFast, ProfileBalanced)
	e.members(s)
	e.probe(s)
	e.count("spec.observers.quorum", s.Observers.Quorum, 0, 15)
	e.addresses(s)
	e.tables(s)
	n := len(s.PublicAddresses)
	for _, t := range s.RouteTables {
		n += len(t.Routes)
	}
	if n < 1 || n > MaxMovable {
		e.Add("spec", fmt.Sprintf("%d public addresses and routes", n), fmt.Sprintf("1 to %d", MaxMovable))
	}
	oneOf(&e, "spec.failover.policy", s.Failover.Policy, Automatic, Manual)
	e.count("spec.failover.damping.moves", s.Failover.Damping.Moves, 1, 1000)
	e.span("spec.failover.damping.window", s.Failover.Damping.Window, time.Second, 24*time.Hour)
	e.optionalSpan("spec.failover.damping.hold", s.Failover.Damping.Hold, 24*time.Hour)
	oneOf(&e, "spec.failback.policy", s.Failback.Policy, Automatic, Manual)
	e.optionalSpan("spec.failback.hold", s.Failback.Hold, 168*time.Hour)
	e.drain(s)
	e.hooks("spec.hooks.before", s.Hooks.Before)
	e.hooks("spec.hooks.after", s.Hooks.After)
	return e.Err()
}

func (e *Invalid) optionalSpan(field string, d *Duration, to time.Duration) {
	if d != nil {
		e.span(field, *d, 0, to)
	}
}

func (e *Invalid) serves(as []Audience) {
	if len(as) == 0 {
		e.Add("spec.serves", "", "at least one of Internet, Workload, OnPremises")
	}
	seen := map[Audience]bool{}
	for i, a := range as {
		field := fmt.Sprintf("spec.serves[%d]", i)
		oneOf(e, field, a, ServesInternet, ServesWorkload, ServesOnPremises)
		if seen[a] {
			e.Add(field, quote(string(a)), "each audience once")
		}
		seen[a] = true
	}
}

func (e *Invalid) members(s *GroupSpec) {
	if n := len(s.Members); n < 2 || n > 8 {
		e.Add("spec.members", fmt.Sprintf("%d members", n), "2 to 8")
	}
	names, nodes, addrs := unique{}, unique{}, unique{}
	for i, m := range s.Members {
		at := fmt.Sprintf("spec.members[%d]", i)
		e.name(at+".name", m.Name)
		names.check(e, at+".name", m.Name)
		if m.Node != "" {
			e.name(at+".node", m.Node)
			nodes.check(e, at+".node", m.Node)
		}
		e.memberProbe(at+".probe", m.Probe, s.Probe.Port)
		e.nics(at+".nics", m.NICs, addrs)
		if i > 0 {
			e.samePairs(at+".nics", s.Members[0], m)
		}
	}
}

func (e *Invalid) memberProbe(field, target string, port int) {
	const want = `an address to probe, like "10.0.1.4" or "10.0.1.4:8080"`
	if target == "" {
		e.Add(field, "", want)
		return
	}
	if a, err := netip.ParseAddr(target); err == nil && a.Zone() == "" {
		if port == 0 {
			e.Add(field, quote(target), `a port here ("`+netip.AddrPortFrom(a, 443).String()+`") or in spec.probe.port`)
		}
		return
	}
	if ap, err := netip.ParseAddrPort(target); err != nil || ap.Port() == 0 || ap.Addr().Zone() != "" {
		e.Add(field, quote(target), want)
	}
}

func (e *Invalid) nics(field string, nics []NIC, addrs unique) {
	if len(nics) == 0 {
		e.Add(field, "", "at least one network interface")
	}
	names := unique{}
	for i, n := range nics {
		at := fmt.Sprintf("%s[%d]", field, i)
		e.name(at+".name", n.Name)
		names.check(e, at+".name", n.Name)
		e.ip(at+".address", n.Address)
		addrs.check(e, at+".address", n.Address)
	}
}

// samePairs refuses members whose interfaces cannot be paired by name.
func (e *Invalid) samePairs(field string, first, m Member) {
	for _, n := range first.NICs {
		if !hasNIC(m, n.Name) {
			e.Add(field, quote(m.Name)+" has no interface "+quote(n.Name), "the names that "+quote(first.Name)+" has")
		}
	}
	for _, n := range m.NICs {
		if !hasNIC(first, n.Name) {
			e.Add(field, quote(m.Name)+" has an interface "+quote(n.Name), "the names that "+quote(first.Name)+" has")
		}
	}
}

func hasNIC(m Member, name string) bool {
	for _, n := range m.NICs {
		if n.Name == name {
			return true
		}
	}
	return false
}

func (e *Invalid) probe(s *GroupSpec) {
	p := s.Probe
	oneOf(e, "spec.probe.protocol", p.Protocol, ProbeTCP, ProbeHTTP, ProbeHTTPS)
	e.count("spec.probe.port", p.Port, 0, 65535)
	switch {
	case p.Protocol == ProbeTCP && p.Path != "":
		e.Add("spec.probe.path", quote(p.Path), "none with tcp, or protocol http")
	case p.Protocol != ProbeTCP && (!strings.HasPrefix(p.Path, "/") || strings.ContainsAny(p.Path, " \r\n\t")):
		e.Add("spec.probe.path", quote(p.Path), `a path that starts with "/" and has no spaces`)
	}
	e.span("spec.probe.interval", p.Interval, 5*time.Millisecond, time.Hour)
	e.span("spec.probe.timeout", p.Timeout, 5*time.Millisecond, time.Minute)
	e.count("spec.probe.rise", p.Rise, 1, 100)
	e.count("spec.probe.fall", p.Fall, 1, 100)
}

func (e *Invalid) memberNIC(field, name string, s *GroupSpec) {
	if len(s.Members) > 0 && !hasNIC(s.Members[0], name) {
		var have []string
		for _, n := range s.Members[0].NICs {
			have = append(have, n.Name)
		}
		e.Add(field, quote(name), "a name of the members' nics: "+strings.Join(have, ", "))
	}
}

func (e *Invalid) addresses(s *GroupSpec) {
	names, things, places := unique{}, unique{}, unique{}
	for i, a := range s.PublicAddresses {
		at := fmt.Sprintf("spec.publicAddresses[%d]", i)
		e.name(at+".name", a.Name)
		names.check(e, at+".name", a.Name)
		e.memberNIC(at+".nic", a.NIC, s)
		ip, _, _ := strings.Cut(a.Address, "/")
		switch {
		case a.ID == "" && a.Address == "":
			e.Add(at+".address", "", "an IP address, or an id")
		case strings.Contains(a.Address, "/"):
			if _, err := netip.ParsePrefix(a.Address); err != nil {
				e.Add(at+".address", quote(a.Address), "an IP address with its prefix length, like 203.0.113.10/24")
			}
		case a.Address != "":
			e.ip(at+".address", a.Address)
		}
		if strings.HasPrefix(a.ID, "/") {
			things.check(e, at+".id", strings.ToLower(a.ID))
			places.check(e, at+".ipConfiguration", "configuration "+quote(a.IPConfiguration)+" of "+a.NIC)
			continue
		}
		if a.ID != "" {
			e.name(at+".id", a.ID)
		}
		things.check(e, at+".address", ip)
	}
}

func (e *Invalid) tables(s *GroupSpec) {
	tables := unique{}
	for i, t := range s.RouteTables {
		at := fmt.Sprintf("spec.routeTables[%d]", i)
		e.tableID(at+".id", t.ID)
		tables.check(e, at+".id", strings.ToLower(t.ID))
		for j, p := range t.Sources {
			e.cidr(fmt.Sprintf("%s.sources[%d]", at, j), p)
		}
		if len(t.Routes) == 0 {
			e.Add(at+".routes", "", "at least one route")
		}
		names, prefixes := unique{}, unique{}
		for j, r := range t.Routes {
			rt := fmt.Sprintf("%s.routes[%d]", at, j)
			names.check(e, rt+".name", strings.ToLower(r.Name))
			e.cidr(rt+".prefix", r.Prefix)
			prefixes.check(e, rt+".prefix", r.Prefix)
			e.memberNIC(rt+".nic", r.NIC, s)
		}
	}
}

// tableID refuses what is neither an ARM id nor NODE nor NODE/TABLE.
func (e *Invalid) tableID(field, id string) {
	const want = `an ARM id, or "NODE" or "NODE/TABLE" with a table of 1 to 4294967295`
	if strings.HasPrefix(id, "/") {
		if strings.Count(id, "/") < 2 || strings.HasSuffix(id, "/") {
			e.Add(field, quote(id), want)
		}
		return
	}
	node, table, has := strings.Cut(id, "/")
	n, err := strconv.ParseUint(table, 10, 32)
	if !ValidName(node) || has && (err != nil || n == 0) {
		e.Add(field, quote(id), want)
	}
}

func (e *Invalid) drain(s *GroupSpec) {
	e.span("spec.drain.period", s.Drain.Period, 0, time.Hour)
	if s.Drain.Period <= 0 {
		return
	}
	for i, m := range s.Members {
		if m.Node == "" {
			e.Add(fmt.Sprintf("spec.members[%d].node", i), "", "a node: drain asks the member's agent to say \"not ready\"")
		}
	}
}

func (e *Invalid) hooks(field string, hooks []Hook) {
	names := unique{}
	for i, h := range hooks {
		at := fmt.Sprintf("%s[%d]", field, i)
		e.name(at+".name", h.Name)
		names.check(e, at+".name", h.Name)
		switch {
		case (h.URL == "") == (h.Exec == ""):
			e.Add(at, quote(h.Name), "exactly one of url and exec")
		case h.URL != "":
			e.url(at+".url", h.URL, "https", "http")
		case strings.ContainsAny(h.Exec, "/ \x00") || strings.HasPrefix(h.Exec, "."):
			e.Add(at+".exec", quote(h.Exec), "the name of a file in the hooks directory, without a path or arguments")
		}
		e.span(at+".timeout", h.Timeout, 100*time.Millisecond, time.Hour)
	}
}

// unique refuses a value that stands twice, naming where it stood first.
type unique map[string]string

func (u unique) check(e *Invalid, field, v string) {
	if v == "" {
		return
	}
	if first, ok := u[v]; ok {
		e.Add(field, quote(v), "one that is not taken by "+first)
		return
	}
	u[v] = field
}
