package recovery

import (
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"

	"github.com/understudy-ha/understudy/api"
)

// Told is a section for a node.
type Told struct {
	Node    string
	Section api.Section
	// Active tells that it is the active side's; Drill that it is a drill's.
	Active, Drill bool
}

// Wanted lists what every node has to be told of the machine, the active side's last. It is nothing while a resource that the machine
// refers to is missing: nodes go on as they are.
func (v View) Wanted(m *api.MachineAssignment) []Told {
	if v.missing() != "" {
		return nil
	}
	var out []Told
	for _, l := range []api.Location{other(m.Location), m.Location} {
		active := l == m.Location
		if p := v.protect(m, l); p != nil {
			out = append(out, Told{Node: v.node(l), Active: active, Section: api.Section{Engine: api.EngineProtect, Owner: Owner(v.Machine.Ref()), Generation: m.Epoch, Protect: p}})
		}
		if s := v.run(m, l); s != nil {
			out = append(out, Told{Node: v.node(l), Active: active, Section: api.Section{Engine: api.EngineSite, Owner: Owner(v.Machine.Ref()), Generation: m.Epoch, Site: s}})
		}
	}
	if d := v.rehearsal(m); d != nil {
		out = append(out, Told{Node: v.node(api.Recovery), Drill: true,
			Section: api.Section{Engine: api.EngineSite, Owner: DrillOwner(v.Machine.Ref()), Generation: m.Drill.Generation, Site: d}})
	}
	return out
}

// Digest of everything that is wanted, the secrets that go with it too. The point that a run starts from is no part of it: it
// is found later.
func (v View) Digest(m *api.MachineAssignment) string {
	told := v.Wanted(m)
	for i := range told {
		if s := told[i].Section.Site; s != nil {
			s.Seq = 0
		}
	}
	doc, err := json.Marshal(struct {
		Told    []Told
		Secrets map[string]int64
	}{told, v.Secrets})
	if err != nil {
		panic("recovery: " + err.Error()) // sections are plain structs; they always marshal
	}
	sum := sha256.Sum256(doc)
	return hex.EncodeToString(sum[:8])
}

// protect is the section of the source's own disks; nil at the recovery site, which has none.
func (v View) protect(m *api.MachineAssignment, l api.Location) *api.ProtectConfig {
	if l == api.Recovery {
		return nil
	}
	s := &v.Machine.Spec
	owner := m // whose stream the disks' writes made last
	if m.Location == api.Recovery {
		owner = m.Before
	}
	p := &api.ProtectConfig{Machine: v.name(), UID: m.UID, Stream: owner.Stream, Disks: s.Disks, Listen: s.Source.Listen, VM: s.VM,
		StopTimeout: s.StopTimeout, QueueBytes: s.QueueBytes, Restart: m.Restart}
	switch {
	case m.Location == api.Primary && m.Run == nil:
		p.Mode, p.Run = "writable", s.VM != nil && !m.Stopped
		if m.Stage == api.StageProtected {
			v.ship(p, m)
		}
	case m.Location == api.Recovery && m.Before.Run == nil:
		p.Mode, p.Restart = "readonly", m.Before.Restart
		if m.Yield != "" && m.Stage == api.StageProtected {
			p.Yield = v.yield(m)
		}
	default:
		p.Mode = "off"
	}
	return p
}

// yield hands over what the source has, to the side that ships back.
func (v View) yield(m *api.MachineAssignment) *api.YieldConfig {
	return &api.YieldConfig{Branch: m.Yield, Home: v.Vault.Access(false), Into: v.BackVault.Access(true), For: m.Stream}
}

// ship makes points and ships them.
func (v View) ship(p *api.ProtectConfig, m *api.MachineAssignment) {
	policy := v.policy(api.Primary)
	p.CrashEvery, p.AppEvery = policy.CrashConsistentEvery, policy.AppEvery()
	p.PreScript, p.PostScript = v.Machine.Spec.Freeze.Pre, v.Machine.Spec.Freeze.Post
	if !m.Paused {
		p.ProcessServers = []string{v.ProcessServer.Spec.Address}
	}
}

// run is the section of a side that was started from a point; nil if it was not.
func (v View) run(m *api.MachineAssignment, l api.Location) *api.SiteConfig {
	if l == m.Location && m.Run != nil {
		c := v.siteConfig(m, m.Run, l)
		c.Mode, c.Capture, c.Hydrate, c.HydrateKbps = "writable", m.Stream, true, v.Machine.Spec.Recovery.HydrateKbps
		c.Run = c.VM != nil && !m.Stopped
		if m.Stage == api.StageProtected && !m.Paused {
			policy := v.policy(l)
			c.Ship = &api.ShipConfig{ProcessServers: []string{v.server(l).Spec.Address}, Into: v.vault(l).Access(false), Base: m.ShipBase,
				BaseStream: m.BaseStream, BaseSeq: m.BaseSeq, CrashEvery: policy.CrashConsistentEvery, AppEvery: policy.AppEvery(),
				PreScript: v.Machine.Spec.Freeze.Pre, PostScript: v.Machine.Spec.Freeze.Post}
		}
		return c
	}
	if l == m.Location || m.Before == nil || m.Before.Location != l || m.Before.Run == nil {
		return nil
	}
	if m.Before.Run.InPlace && m.Before.Run.Point == nil {
		return nil // it was taken back before it could begin
	}
	c := v.siteConfig(m.Before, m.Before.Run, l) // it ran here, and does not any more
	c.Mode, c.Capture = "readonly", m.Before.Stream
	switch {
	case l == api.Recovery && m.Stage != api.StagePending:
		c.Mode = "discard" // nothing goes back to it
	case l == api.Primary && m.Yield != "" && m.Stage == api.StageProtected:
		c.Yield = v.yield(m)
	}
	return c
}

// rehearsal is the section of a drill; nil if there is none.
func (v View) rehearsal(m *api.MachineAssignment) *api.SiteConfig {
	if m.Drill == nil {
		return nil
	}
	c := v.siteConfig(m, &m.Drill.MachineRun, api.Recovery)
	c.Drill, c.Mode, c.Run, c.Listen = true, "writable", c.VM != nil, ""
	c.Check = v.Machine.Spec.Recovery.TestCheck
	if c.VM != nil {
		c.VM.NICs = isolated(c.VM.NICs, v.Machine.Spec.Recovery.TestNetwork)
	}
	if m.Drill.Cleanup != nil {
		c.Mode, c.Run = "discard", false
	}
	return c
}

// isolated gives a drill its own network, or cards without a cable.
func isolated(nics, test []api.VirtualNIC) []api.VirtualNIC {
	if len(test) > 0 {
		return test
	}
	out := make([]api.VirtualNIC, len(nics))
	for i, n := range nics {
		out[i] = api.VirtualNIC{MAC: n.MAC, Mode: api.NICNone}
	}
	return out
}

// siteConfig is what every run from a point has.
func (v View) siteConfig(m *api.MachineAssignment, r *api.MachineRun, l api.Location) *api.SiteConfig {
	s := &v.Machine.Spec
	c := &api.SiteConfig{Machine: v.name(), UID: m.UID, Instance: r.Instance, Stream: r.Stream, InPlace: r.InPlace, StopTimeout: s.StopTimeout}
	if vault := v.vaultNamed(r.Vault); vault != nil {
		c.Vault = vault.Access(true)
	}
	if r.Point != nil {
		c.Stream, c.Seq = r.Point.Stream, r.Point.Seq
	}
	for _, d := range s.Disks {
		if l == api.Recovery {
			d.Path = "" // in the instance's directory
		}
		c.Disks = append(c.Disks, d)
	}
	if s.VM != nil {
		vm := *s.VM
		c.VM = &vm
	}
	if l == api.Primary {
		c.Check, c.Listen = s.Check, s.Source.Listen
		return c
	}
	c.QuotaBytes, c.Check, c.Listen = s.Recovery.QuotaBytes, s.Recovery.Check, s.Recovery.Listen
	if c.VM != nil && len(s.Recovery.NICs) > 0 {
		c.VM.NICs = s.Recovery.NICs
	}
	return c
}

func (v View) vaultNamed(name string) *api.Vault {
	for _, vault := range []*api.Vault{v.Vault, v.BackVault} {
		if vault != nil && vault.Metadata.Name == name {
			return vault
		}
	}
	return nil
}

func (v View) name() string { return v.Machine.Metadata.Tenant + "/" + v.Machine.Metadata.Name }

// Fill gives a section as the assignment has it by now: the point it starts from was not known when the step was planned.
func (v View) Fill(s api.Section) api.Section {
	m := v.machine()
	if m == nil || s.Site == nil || s.Site.Seq != 0 {
		return s
	}
	for _, r := range []*api.MachineRun{m.Run, drillRun(m)} {
		if r != nil && r.Instance == s.Site.Instance && r.Point != nil {
			c := *s.Site
			c.Stream, c.Seq = r.Point.Stream, r.Point.Seq
			s.Site = &c
		}
	}
	return s
}

func drillRun(m *api.MachineAssignment) *api.MachineRun {
	if m.Drill == nil {
		return nil
	}
	return &m.Drill.MachineRun
}

// Secrets lists the secrets that sections name.
func Secrets(sections []api.Section) []string {
	seen := map[string]bool{}
	var out []string
	add := func(a api.VaultAccess) {
		for _, name := range []string{a.CredentialsRef, a.KeyRef} {
			if name != "" && !seen[name] {
				seen[name] = true
				out = append(out, name)
			}
		}
	}
	addYield := func(y *api.YieldConfig) {
		if y != nil {
			add(y.Home)
			add(y.Into)
		}
	}
	for _, s := range sections {
		switch {
		case s.Protect != nil:
			addYield(s.Protect.Yield)
		case s.Site != nil:
			add(s.Site.Vault)
			addYield(s.Site.Yield)
			if s.Site.Ship != nil {
				add(s.Site.Ship.Into)
			}
		case s.ProcessServer != nil:
			for _, st := range s.ProcessServer.Streams {
				add(st.Vault)
			}
		case s.Keeper != nil:
			add(s.Keeper.Vault)
		}
	}
	return out
}
