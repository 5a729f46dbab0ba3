package server

import (
	"fmt"
	"maps"
	"slices"

	"github.com/understudy-ha/understudy/api"
)

// Prepare gives the resources as a recovered controller begins with them, and what is to be said of them. Its ClusterID is
// not known yet. What the mirror holds is not changed.
func (r *Recovery) Prepare() ([]api.Object, Recovered) {
	set(&r.Config.Name, "c1")
	p := preparation{Recovery: r, objects: map[api.Ref]api.Object{}}
	for _, o := range r.Mirror.Objects {
		p.objects[o.Head().Ref()] = o
	}
	for _, o := range r.Mirror.Objects {
		switch o := o.(type) {
		case *api.Vault:
			p.vault(o)
		case *api.ProtectedMachine:
			p.machine(o)
		case *api.ApplianceGroup:
			p.group(o)
		case *api.RecoveryPlan:
			plan := *o
			plan.Status.Assignment = leap(o.Status.Assignment)
			p.objects[o.Ref()] = &plan
		}
	}
	p.sites()
	objects := slices.Collect(maps.Values(p.objects))
	sortObjects(objects)
	slices.SortStableFunc(objects, func(a, b api.Object) int {
		return slices.Index(mirrorKinds, a.Head().Kind) - slices.Index(mirrorKinds, b.Head().Kind)
	})
	p.out.Missing = missing(objects)
	return objects, p.out
}

type preparation struct {
	*Recovery
	objects map[api.Ref]api.Object
	out     Recovered
}

func (p *preparation) note(ref api.Ref, format string, args ...any) {
	p.out.Notes = append(p.out.Notes, ref.String()+": "+fmt.Sprintf(format, args...))
}

// this tells whether a Vault is the one that everything came from. Others may have its recipient, too: a key is a site's. The list says
// which it is; without one its address does, and without that all that could be.
func (p *preparation) this(v *api.Vault) bool {
	could := func(o api.Object) bool {
		v, ok := o.(*api.Vault)
		return ok && v.Spec.Recipient == p.Mirror.Root.Recipient
	}
	if !could(v) {
		return false
	}
	named := api.Ref{Kind: api.KindVault, Tenant: v.Metadata.Tenant, Name: p.Mirror.Vaults[v.Metadata.Tenant]}
	if could(p.objects[named]) {
		return named == v.Ref()
	}
	there := func(o api.Object) bool {
		return could(o) && o.Head().Metadata.Tenant == v.Metadata.Tenant && o.(*api.Vault).Spec.URL == p.URL
	}
	return there(v) || !slices.ContainsFunc(p.Mirror.Objects, there)
}

// vault gives the vault that everything came from what it takes to open it, and those with the same key the key.
func (p *preparation) vault(v *api.Vault) {
	if v.Spec.Recipient != p.Mirror.Root.Recipient {
		return
	}
	p.secret(v.Metadata.Tenant, v.Spec.KeyRef, map[string]string{"identity": p.Identity})
	if !p.this(v) {
		return
	}
	c := *v
	p.objects[v.Ref()] = &c
	if p.URL != "" && p.URL != v.Spec.URL {
		p.note(v.Ref(), "its URL is %s now; it was %s", p.URL, v.Spec.URL)
		c.Spec.URL = p.URL
		changed(&c.Header)
	}
	if v.Spec.CredentialsRef != "" && len(p.Credentials) > 0 {
		p.secret(v.Metadata.Tenant, v.Spec.CredentialsRef, p.Credentials)
	}
}

// secret adds values to a Secret, which it makes if there is none.
func (p *preparation) secret(tenant, name string, data map[string]string) {
	ref := api.Ref{Kind: api.KindSecret, Tenant: tenant, Name: name}
	s := &api.Secret{Header: api.Header{Metadata: api.Metadata{Tenant: tenant, Name: name}}, Data: map[string]string{}}
	if was, ok := p.objects[ref].(*api.Secret); ok {
		s.Header = was.Header
		maps.Copy(s.Data, was.Data)
	}
	maps.Copy(s.Data, data)
	s.Default()
	changed(&s.Header)
	p.objects[ref] = s
}

func changed(h *api.Header) { h.Metadata.Generation++ }

// leap is an assignment whose successors come after whatever was decided since it was mirrored.
func leap(a *api.Assignment) *api.Assignment {
	if a == nil {
		return nil
	}
	next := *a
	next.Generation += epochLeap
	return &next
}

// machine goes on where the mirror left it: nothing moves until somebody asks.
func (p *preparation) machine(m *api.ProtectedMachine) {
	c := *m
	p.objects[m.Ref()] = &c
	newest, number := p.Mirror.stream(m.Spec.UID)
	a := leap(m.Status.Assignment)
	switch {
	case a != nil && a.Machine != nil && a.Machine.UID == m.Spec.UID:
		am := *a.Machine
		am.Named = max(am.Named, number)
		a.Machine = &am
	case newest != nil: // mirrored before its first job was decided
		p.note(m.Ref(), "its assignment was not mirrored; it is taken to be protected at Primary, by stream %s", newest.ID)
		if a == nil {
			a = &api.Assignment{Generation: epochLeap, At: p.Mirror.At, SpecGeneration: m.Metadata.Generation}
		}
		a.Active, a.Reason = m.Spec.Source.Site, "found in the vault"
		a.Machine = &api.MachineAssignment{UID: m.Spec.UID, Stage: api.StageProtected, Location: api.Primary, Epoch: int64(newest.Epoch),
			Named: number, Stream: newest.ID}
	default:
		p.note(m.Ref(), "nothing of it is in the vault")
	}
	if newest != nil {
		a.Generation = max(a.Generation, int64(newest.Epoch)+epochLeap)
	}
	c.Status.Assignment = a
}

// group is paused: its members may be alive, and under the eyes of controllers that are, too.
func (p *preparation) group(g *api.ApplianceGroup) {
	c := *g
	c.Status.Assignment = leap(g.Status.Assignment)
	if !c.Spec.Paused {
		c.Spec.Paused = true
		changed(&c.Header)
		p.note(g.Ref(), "it is paused, so that nothing moves by itself; understudy resume %s", g.Metadata.Name)
	}
	p.objects[g.Ref()] = &c
}

// sites places the new controller where the vault is.
func (p *preparation) sites() {
	name := p.Config.Name
	home := map[api.Ref]bool{}
	for _, o := range p.Mirror.Objects {
		if v, ok := o.(*api.Vault); ok && p.this(v) {
			home[api.Ref{Kind: api.KindSite, Tenant: v.Metadata.Tenant, Name: v.Spec.Site}] = true
		}
	}
	for ref, o := range p.objects {
		s, ok := o.(*api.Site)
		if !ok || slices.Contains(s.Spec.Controllers, name) == home[ref] {
			continue
		}
		c := *s
		c.Spec.Controllers = slices.DeleteFunc(slices.Clone(s.Spec.Controllers), func(n string) bool { return n == name })
		if home[ref] {
			c.Spec.Controllers = append(c.Spec.Controllers, name)
			p.note(ref, "controller %s is taken to stand there", name)
		} else {
			p.note(ref, "controller %s does not stand there any more", name)
		}
		changed(&c.Header)
		p.objects[ref] = &c
	}
	slices.Sort(p.out.Notes)
}
