package api

import (
	"fmt"
	"net"
	"net/netip"
	"slices"
	"strings"
	"time"
)

// maxDiskBytes is the largest disk: 64 TiB.
const maxDiskBytes = 64 << 40

// Validate implements Object.
func (m *ProtectedMachine) Validate() error {
	var e Invalid
	e.header(&m.Header, KindProtectedMachine)
	s := &m.Spec
	e.name("spec.source.site", s.Source.Site)
	e.name("spec.source.fabric", s.Source.Fabric)
	e.name("spec.source.node", s.Source.Node)
	e.nbdListen("spec.source.listen", s.Source.Listen)
	e.disks(s.Disks, s.VM != nil)
	e.vm("spec.vm", s.VM)
	e.name("spec.policy", s.Policy)
	e.name("spec.processServer", s.ProcessServer)
	e.name("spec.vault", s.Vault)
	e.recovery(s)
	if s.Failback != nil {
		e.name("spec.failback.vault", s.Failback.Vault)
		e.name("spec.failback.processServer", s.Failback.ProcessServer)
		if s.Failback.Vault == s.Vault {
			e.Add("spec.failback.vault", quote(s.Failback.Vault), "another one than spec.vault: it stands at the source's site")
		}
	}
	e.check("spec.check", s.Check)
	e.hookFile("spec.freeze.pre", s.Freeze.Pre)
	e.hookFile("spec.freeze.post", s.Freeze.Post)
	e.span("spec.stopTimeout", s.StopTimeout, 0, time.Hour)
	e.bytes("spec.queueBytes", s.QueueBytes, 1<<20, 64<<30)
	overrides := unique{}
	for i, o := range s.Overrides {
		at := fmt.Sprintf("spec.overrides[%d]", i)
		oneOf(&e, at, o, OverrideStore, OverrideVault, OverrideKey)
		overrides.check(&e, at, o)
	}
	return e.Err()
}

func (e *Invalid) recovery(s *MachineSpec) {
	r := &s.Recovery
	e.name("spec.recovery.site", r.Site)
	e.name("spec.recovery.fabric", r.Fabric)
	e.name("spec.recovery.node", r.Node)
	if r.Site == s.Source.Site && r.Site != "" {
		e.Add("spec.recovery.site", quote(r.Site), "another one than spec.source.site")
	}
	if r.Node == s.Source.Node && r.Node != "" {
		e.Add("spec.recovery.node", quote(r.Node), "another one than spec.source.node")
	}
	if s.VM == nil && (len(r.NICs) > 0 || len(r.TestNetwork) > 0) {
		e.Add("spec.vm", "", "a section: spec.recovery names network cards")
	}
	e.vnics("spec.recovery.nics", r.NICs)
	e.vnics("spec.recovery.testNetwork", r.TestNetwork)
	for i, n := range r.TestNetwork {
		if n.Mode == NICTap {
			e.Add(fmt.Sprintf("spec.recovery.testNetwork[%d].mode", i), quote(n.Mode), "isolated, user or none: a drill must not meet the machine it rehearses")
		}
	}
	e.check("spec.recovery.check", r.Check)
	e.check("spec.recovery.testCheck", r.TestCheck)
	e.nbdListen("spec.recovery.listen", r.Listen)
	if r.QuotaBytes != 0 {
		e.bytes("spec.recovery.quotaBytes", r.QuotaBytes, 64<<20, maxDiskBytes)
	}
	if r.HydrateKbps < 0 {
		e.Add("spec.recovery.hydrateKbps", fmt.Sprint(r.HydrateKbps), "0 or more")
	}
}

// disks refuses what is none; those of a virtual machine have names that a guest can be told.
func (e *Invalid) disks(disks []MachineDisk, virtual bool) {
	if n := len(disks); n < 1 || n > 60 {
		e.Add("spec.disks", fmt.Sprintf("%d disks", n), "1 to 60")
	}
	names, paths := unique{}, unique{}
	for i, d := range disks {
		at := fmt.Sprintf("spec.disks[%d]", i)
		e.name(at+".name", d.Name)
		if virtual && ValidName(d.Name) && (len(d.Name) > 20 || d.Name[0] <= '9' || strings.Contains(d.Name, ".")) {
			e.Add(at+".name", quote(d.Name), `1 to 20 of a-z, 0-9 and "-", with a letter first: with spec.vm it is the disk's serial number in the guest`)
		}
		names.check(e, at+".name", d.Name)
		if !cleanPath(d.Path) {
			e.Add(at+".path", quote(d.Path), "the absolute path of a raw file or a block device")
		}
		paths.check(e, at+".path", d.Path)
		if d.Size%512 != 0 || d.Size < 0 || d.Size > maxDiskBytes {
			e.Add(at+".size", fmt.Sprint(d.Size), "a multiple of 512 up to 64 TiB, or 0 for what the path has")
		}
	}
}

func cleanPath(p string) bool {
	if !strings.HasPrefix(p, "/") || strings.HasSuffix(p, "/") || strings.Contains(p, "\x00") || len(p) > 4000 {
		return false
	}
	for _, part := range strings.Split(p[1:], "/") {
		if part == "" || part == "." || part == ".." {
			return false
		}
	}
	return true
}

// The modes of network cards.
const (
	NICTap      = "tap"
	NICUser     = "user"
	NICIsolated = "isolated"
	NICNone     = "none"
)

func (e *Invalid) vm(field string, vm *VirtualMachine) {
	if vm == nil {
		return
	}
	e.count(field+".cpus", vm.CPUs, 1, 256)
	e.count(field+".memoryMiB", vm.MemoryMiB, 32, 16777216)
	oneOf(e, field+".firmware", vm.Firmware, "bios", "uefi")
	oneOf(e, field+".cache", vm.Cache, "writeback", "writethrough")
	e.vnics(field+".nics", vm.NICs)
}

func (e *Invalid) vnics(field string, nics []VirtualNIC) {
	if len(nics) > 16 {
		e.Add(field, fmt.Sprintf("%d cards", len(nics)), "at most 16")
	}
	macs, listens := unique{}, unique{}
	for i, n := range nics {
		at := fmt.Sprintf("%s[%d]", field, i)
		if n.MAC != "" {
			if hw, err := net.ParseMAC(n.MAC); err != nil || len(hw) != 6 || hw[0]&1 == 1 {
				e.Add(at+".mac", quote(n.MAC), `a unicast MAC address, like "52:54:00:12:34:56"`)
			}
			macs.check(e, at+".mac", strings.ToLower(n.MAC))
		}
		oneOf(e, at+".mode", n.Mode, NICTap, NICUser, NICIsolated, NICNone)
		if (n.Mode == NICTap) != (n.Tap != "") {
			e.Add(at+".tap", quote(n.Tap), "the name of a tap interface with mode tap, and nothing otherwise")
		}
		if len(n.Tap) > 15 || strings.ContainsAny(n.Tap, "/ \x00,=") {
			e.Add(at+".tap", quote(n.Tap), "the name of an interface, at most 15 bytes")
		}
		if len(n.Forwards) > 0 && n.Mode != NICUser && n.Mode != NICIsolated {
			e.Add(at+".forwards", fmt.Sprintf("%d forwards", len(n.Forwards)), "none with mode "+n.Mode)
		}
		for j, f := range n.Forwards {
			fat := fmt.Sprintf("%s.forwards[%d]", at, j)
			if a, err := netip.ParseAddrPort(f.Listen); err != nil || !a.Addr().Is4() || a.Port() == 0 {
				e.Add(fat+".listen", quote(f.Listen), `an IPv4 address of the node and a port, like "127.0.0.1:8080"`)
			}
			listens.check(e, fat+".listen", f.Listen)
			e.count(fat+".port", f.Port, 1, 65535)
		}
	}
}

func (e *Invalid) check(field string, c *ServiceCheck) {
	if c == nil {
		return
	}
	switch {
	case (c.URL == "") == (c.Address == ""):
		e.Add(field, "both or none of url and address", "exactly one")
	case c.URL != "":
		e.url(field+".url", c.URL, "http", "https")
	default:
		e.hostPort(field+".address", c.Address, false)
	}
	e.span(field+".timeout", c.Timeout, time.Second, 24*time.Hour)
}

// nbdListen refuses what is neither empty nor unix:/path nor tcp:host:port.
func (e *Invalid) nbdListen(field, v string) {
	switch kind, rest, _ := strings.Cut(v, ":"); {
	case v == "":
	case kind == "unix" && cleanPath(rest) && len(rest) <= 100:
	case kind == "tcp":
		e.hostPort(field, rest, true)
	default:
		e.Add(field, quote(v), `"unix:/path" with at most 100 bytes of path, or "tcp:host:port"`)
	}
}

func (e *Invalid) hookFile(field, v string) {
	if strings.ContainsAny(v, "/ \x00") || strings.HasPrefix(v, ".") || len(v) > 253 {
		e.Add(field, quote(v), "the name of a file in the hooks directory, without a path or arguments")
	}
}

// CheckOperation refuses an operation that is not whole; allowed are the ones its receiver knows.
func CheckOperation(o *Operation, allowed []OperationKind) error {
	var e Invalid
	oneOf(&e, "operation", o.Operation, allowed...)
	if len(o.Notes) > maxNotes {
		e.Add("notes", fmt.Sprintf("%d bytes", len(o.Notes)), fmt.Sprintf("at most %d", maxNotes))
	}
	takesPoint := slices.Contains([]OperationKind{OpTestFailover, OpFailover, OpChangePoint, OpFailback}, o.Operation)
	if o.Point != nil && !takesPoint {
		e.Add("point", quote(string(o.Point.Kind)), "none with "+string(o.Operation))
	}
	if o.Point != nil {
		e.point("point", o.Point)
	}
	if o.ShutdownSource && o.Operation != OpFailover && o.Operation != OpFailback {
		e.Add("shutdownSource", "true", "it with Failover and Failback alone")
	}
	return e.Err()
}

const maxNotes = 4096

func (e *Invalid) point(field string, p *PointChoice) {
	oneOf(e, field+".kind", p.Kind, PointLatest, PointLatestProcessed, PointLatestAppConsistent, PointCustom)
	switch {
	case p.Kind == PointCustom && (p.ID == "") == p.At.IsZero():
		e.Add(field, "both or none of id and at", "exactly one with kind custom")
	case p.Kind != PointCustom && (p.ID != "" || !p.At.IsZero()):
		e.Add(field, "an id or a time", "none with kind "+string(p.Kind))
	}
	e.short(field+".id", p.ID)
}
