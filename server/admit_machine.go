package server

import (
	"context"
	"crypto/rand"
	"fmt"
	"slices"
	"strings"

	"github.com/understudy-ha/understudy/api"
	"github.com/understudy-ha/understudy/recovery"
	"github.com/understudy-ha/understudy/store"
)

// refs checks, one after the other, that what a resource refers to exists, and binds the transaction to it.
type refs struct {
	r      *resources
	ctx    context.Context
	w      *writing
	owner  api.Ref
	bad    api.Invalid
	failed error
}

func (r *resources) refs(ctx context.Context, w *writing, owner api.Ref) *refs {
	return &refs{r: r, ctx: ctx, w: w, owner: owner}
}

// need gives the resource of that name of the owner's tenant, or nil.
func (f *refs) need(field string, kind api.Kind, name string) api.Object {
	if f.failed != nil || name == "" {
		return nil
	}
	ref := api.Ref{Kind: kind, Tenant: f.owner.Tenant, Name: name}
	o, rev, err := f.r.get(f.ctx, ref)
	if isNotFound(err) {
		f.bad.Add(field, fmt.Sprintf("%q", name), fmt.Sprintf("a %s of tenant %s that exists; apply it first", kind, ref.Tenant))
		return nil
	}
	if err != nil {
		f.failed = err
		return nil
	}
	f.w.condOnce(store.Entry{Key: api.ObjectKey(ref), Rev: rev})
	f.w.putOnce(useKey(ref), []byte(f.owner.String()))
	return o
}

// in refuses a node that is not among those of a list.
func (f *refs) in(field, node string, list []string, what string) {
	if !slices.Contains(list, node) {
		f.bad.Add(field, fmt.Sprintf("%q", node), "a node of "+what+": "+strings.Join(list, ", "))
	}
}

func (f *refs) err() error {
	if f.failed != nil {
		return f.failed
	}
	return f.bad.Err()
}

func (r *resources) admitSite(ctx context.Context, w *writing, s *api.Site) error {
	f := r.refs(ctx, w, s.Ref())
	for i, n := range s.Spec.Nodes {
		f.need(fmt.Sprintf("spec.nodes[%d]", i), api.KindNode, n)
	}
	if err := f.err(); err != nil {
		return err
	}
	others, err := r.list(ctx, api.KindSite, s.Metadata.Tenant)
	if err != nil {
		return err
	}
	for _, o := range others {
		if o.Head().Ref() == s.Ref() {
			continue
		}
		for i, n := range s.Spec.Nodes {
			if slices.Contains(o.(*api.Site).Spec.Nodes, n) {
				f.bad.Add(fmt.Sprintf("spec.nodes[%d]", i), fmt.Sprintf("%q", n), "a node that stands at no other site; it is at "+o.Head().Metadata.Name)
			}
		}
	}
	return f.err()
}

func (r *resources) admitFabric(ctx context.Context, w *writing, fab *api.Fabric) error {
	f := r.refs(ctx, w, fab.Ref())
	site, _ := f.need("spec.site", api.KindSite, fab.Spec.Site).(*api.Site)
	for i, n := range fab.Spec.Nodes {
		field := fmt.Sprintf("spec.nodes[%d]", i)
		f.need(field, api.KindNode, n)
		if site != nil {
			f.in(field, n, site.Spec.Nodes, "site "+site.Metadata.Name)
		}
	}
	return f.err()
}

func (r *resources) admitVault(ctx context.Context, w *writing, old, v *api.Vault) error {
	f := r.refs(ctx, w, v.Ref())
	site, _ := f.need("spec.site", api.KindSite, v.Spec.Site).(*api.Site)
	f.need("spec.keeper", api.KindNode, v.Spec.Keeper)
	f.need("spec.keyRef", api.KindSecret, v.Spec.KeyRef)
	f.need("spec.credentialsRef", api.KindSecret, v.Spec.CredentialsRef)
	if site != nil {
		f.in("spec.keeper", v.Spec.Keeper, site.Spec.Nodes, "site "+site.Metadata.Name)
	}
	if old != nil && (old.Spec.URL != v.Spec.URL || old.Spec.Recipient != v.Spec.Recipient) {
		if err := r.unusedBy(ctx, w, v.Ref()); err != nil {
			f.bad.Add("spec.url", fmt.Sprintf("%q", v.Spec.URL), "as it was, with the recipient, while a machine is kept there: make another Vault")
		}
	}
	return f.err()
}

func (r *resources) admitProcessServer(ctx context.Context, w *writing, p *api.ProcessServer) error {
	f := r.refs(ctx, w, p.Ref())
	site, _ := f.need("spec.site", api.KindSite, p.Spec.Site).(*api.Site)
	f.need("spec.node", api.KindNode, p.Spec.Node)
	if site != nil {
		f.in("spec.node", p.Spec.Node, site.Spec.Nodes, "site "+site.Metadata.Name)
	}
	return f.err()
}

func (r *resources) admitMachine(ctx context.Context, w *writing, old, m *api.ProtectedMachine) error {
	f := r.refs(ctx, w, m.Ref())
	s := &m.Spec
	f.place("spec.source", s.Source.Site, s.Source.Fabric, s.Source.Node)
	f.place("spec.recovery", s.Recovery.Site, s.Recovery.Fabric, s.Recovery.Node)
	policy, _ := f.need("spec.policy", api.KindReplicationPolicy, s.Policy).(*api.ReplicationPolicy)
	v := f.way("spec.vault", s.Vault, s.Recovery.Site, "spec.processServer", s.ProcessServer, s.Source.Site, api.RoleProtection)
	if policy != nil && v != nil && policy.Spec.Retention > v.Spec.MaxRetention {
		f.bad.Add("spec.policy", fmt.Sprintf("%q (retention %v)", s.Policy, policy.Spec.Retention), fmt.Sprintf("a policy whose retention is at most %v, which vault %s keeps", v.Spec.MaxRetention, s.Vault))
	}
	if s.Failback != nil {
		f.way("spec.failback.vault", s.Failback.Vault, s.Source.Site, "spec.failback.processServer", s.Failback.ProcessServer, s.Recovery.Site, api.RoleReprotection)
	}
	if err := f.err(); err != nil {
		return err
	}
	if err := r.outOfReach(ctx, m, v); err != nil {
		return err
	}
	if old != nil {
		s.UID = old.Spec.UID
		if err := r.keepsWhatRuns(ctx, w, old, m); err != nil {
			return err
		}
	} else {
		s.UID = strings.ToLower(rand.Text()[:16])
	}
	var had []string
	if old != nil {
		had = diskClaims(old)
	}
	return r.claimAll(ctx, w, m.Ref(), had, diskClaims(m), func(c string) (string, string) {
		i := slices.Index(diskClaims(m), c)
		return fmt.Sprintf("spec.disks[%d].path", i), fmt.Sprintf("%q on %s", s.Disks[i].Path, s.Source.Node)
	})
}

// place checks a site, a fabric of it and a node of that.
func (f *refs) place(field, site, fabric, node string) {
	f.need(field+".site", api.KindSite, site)
	fab, _ := f.need(field+".fabric", api.KindFabric, fabric).(*api.Fabric)
	f.need(field+".node", api.KindNode, node)
	if fab == nil {
		return
	}
	if fab.Spec.Site != site {
		f.bad.Add(field+".fabric", fmt.Sprintf("%q", fabric), "a fabric of site "+site+"; this one is of "+fab.Spec.Site)
	}
	f.in(field+".node", node, fab.Spec.Nodes, "fabric "+fabric)
}

// way checks the vault and the process server of one direction.
func (f *refs) way(vaultField, vault, vaultSite, psField, ps, psSite string, role api.ProcessServerRole) *api.Vault {
	v, _ := f.need(vaultField, api.KindVault, vault).(*api.Vault)
	if v != nil && v.Spec.Site != vaultSite && vaultField != "spec.vault" { // spec.vault is a matter of reach
		f.bad.Add(vaultField, fmt.Sprintf("%q", vault), "a vault of site "+vaultSite+"; this one is of "+v.Spec.Site)
	}
	p, _ := f.need(psField, api.KindProcessServer, ps).(*api.ProcessServer)
	if p == nil {
		return v
	}
	if p.Spec.Site != psSite {
		f.bad.Add(psField, fmt.Sprintf("%q", ps), "a process server of site "+psSite+"; this one is of "+p.Spec.Site)
	}
	if !slices.Contains(p.Spec.Roles, role) {
		f.bad.Add(psField, fmt.Sprintf("%q", ps), "a process server with role "+string(role))
	}
	return v
}

// diskClaims are what a machine takes for itself, in the order of its disks.
func diskClaims(m *api.ProtectedMachine) []string {
	out := make([]string, len(m.Spec.Disks))
	for i, d := range m.Spec.Disks {
		out[i] = "disk:" + m.Metadata.Tenant + "/" + m.Spec.Source.Node + ":" + d.Path
	}
	return out
}

// claimAll takes what the owner has now and did not before, and gives back what it has no more.
func (r *resources) claimAll(ctx context.Context, w *writing, owner api.Ref, had, want []string, where func(claim string) (field, value string)) error {
	var bad api.Invalid
	for _, c := range want {
		if slices.Contains(had, c) {
			continue
		}
		e, err := r.maybe(ctx, api.ClaimKey(c))
		if err != nil {
			return err
		}
		if e.Rev != 0 && string(e.Value) != owner.String() {
			field, value := where(c)
			bad.Add(field, value, "one that no other machine has: "+string(e.Value)+" has it")
			continue
		}
		w.cond(e)
		w.put(e.Key, []byte(owner.String()))
	}
	for _, c := range had {
		if !slices.Contains(want, c) {
			w.delete(api.ClaimKey(c))
		}
	}
	return bad.Err()
}

// outOfReach refuses a machine whose way back would be lost together with its site, unless that is overridden by name.
func (r *resources) outOfReach(ctx context.Context, m *api.ProtectedMachine, v *api.Vault) error {
	found, err := r.reach(ctx, m, v)
	if err != nil {
		return err
	}
	var bad api.Invalid
	for _, f := range found {
		if !f.Overridden {
			bad.Add("spec.overrides", f.Code, "what survives the loss of site "+m.Spec.Source.Site+", or "+f.Code+" in the list: "+f.Message)
		}
	}
	return bad.Err()
}

// reach finds what would be lost together with the machine's site.
func (r *resources) reach(ctx context.Context, m *api.ProtectedMachine, v *api.Vault) ([]recovery.Finding, error) {
	sites, err := r.list(ctx, api.KindSite, m.Metadata.Tenant)
	if err != nil {
		return nil, err
	}
	g := recovery.Ground{Vault: v, Controllers: r.members, StoreNodes: r.storeNodes}
	for _, s := range sites {
		g.Sites = append(g.Sites, *s.(*api.Site))
	}
	return recovery.Reach(m, g), nil
}

func (r *resources) admitPlan(ctx context.Context, w *writing, p *api.RecoveryPlan) error {
	f := r.refs(ctx, w, p.Ref())
	for i, g := range p.Spec.Groups {
		for j, it := range g.Items {
			at := fmt.Sprintf("spec.groups[%d].items[%d]", i, j)
			f.need(at+".machine", api.KindProtectedMachine, it.Machine)
			group, _ := f.need(at+".applianceGroup", api.KindApplianceGroup, it.ApplianceGroup).(*api.ApplianceGroup)
			if group == nil {
				continue
			}
			for _, m := range []struct{ field, name string }{{".to", it.To}, {".back", it.Back}} {
				if m.name != "" && !slices.ContainsFunc(group.Spec.Members, func(x api.Member) bool { return x.Name == m.name }) {
					f.bad.Add(at+m.field, fmt.Sprintf("%q", m.name), "a member of "+it.ApplianceGroup+": "+memberNames(group))
				}
			}
		}
	}
	return f.err()
}

// users lists the references of every resource that may use others.
func users(o api.Object) (out []api.Ref) {
	use := func(kind api.Kind, names ...string) {
		for _, n := range names {
			if n != "" {
				out = append(out, api.Ref{Kind: kind, Tenant: o.Head().Metadata.Tenant, Name: n})
			}
		}
	}
	switch o := o.(type) {
	case *api.Site:
		use(api.KindNode, o.Spec.Nodes...)
	case *api.Fabric:
		use(api.KindSite, o.Spec.Site)
		use(api.KindNode, o.Spec.Nodes...)
	case *api.Vault:
		use(api.KindSite, o.Spec.Site)
		use(api.KindNode, o.Spec.Keeper)
		use(api.KindSecret, o.Spec.KeyRef, o.Spec.CredentialsRef)
	case *api.ProcessServer:
		use(api.KindSite, o.Spec.Site)
		use(api.KindNode, o.Spec.Node)
	case *api.ProtectedMachine:
		s := &o.Spec
		use(api.KindSite, s.Source.Site, s.Recovery.Site)
		use(api.KindFabric, s.Source.Fabric, s.Recovery.Fabric)
		use(api.KindNode, s.Source.Node, s.Recovery.Node)
		use(api.KindReplicationPolicy, s.Policy)
		use(api.KindVault, s.Vault)
		use(api.KindProcessServer, s.ProcessServer)
		if s.Failback != nil {
			use(api.KindVault, s.Failback.Vault)
			use(api.KindProcessServer, s.Failback.ProcessServer)
		}
	case *api.RecoveryPlan:
		for _, g := range o.Spec.Groups {
			for _, it := range g.Items {
				use(api.KindProtectedMachine, it.Machine)
				use(api.KindApplianceGroup, it.ApplianceGroup)
			}
		}
	}
	return out
}

// usingKinds are the kinds that users looks into.
var usingKinds = []api.Kind{api.KindSite, api.KindFabric, api.KindVault, api.KindProcessServer, api.KindProtectedMachine, api.KindRecoveryPlan}

// unusedBy refuses to remove what another resource of the tenant refers to.
func (r *resources) unusedBy(ctx context.Context, w *writing, ref api.Ref) error {
	use, err := r.maybe(ctx, useKey(ref))
	if err != nil {
		return err
	}
	w.condOnce(use)
	for _, kind := range usingKinds {
		list, err := r.list(ctx, kind, ref.Tenant)
		if err != nil {
			return err
		}
		for _, o := range list {
			if o.Head().Ref() != ref && slices.Contains(users(o), ref) {
				return api.Errorf(api.CodeConflict, "%s is used by %s; change or delete that first", ref, o.Head().Ref())
			}
		}
	}
	return nil
}

// removeMachine adds what goes with a machine. One that is protected is disabled first: its streams end in order.
func (r *resources) removeMachine(ctx context.Context, w *writing, m *api.ProtectedMachine) error {
	a, err := r.boundAssignment(ctx, w, m.Ref())
	if err != nil {
		return err
	}
	if a != nil && a.Machine != nil && a.Machine.UID == m.Spec.UID {
		if a.Machine.Stage != api.StageDisabled {
			return api.Errorf(api.CodeConflict, "%s is %s at %s; disable its protection first (operation Disable), then delete it", m.Ref(), a.Machine.Stage, a.Machine.Location)
		}
		if m.Spec.VM != nil && !a.Machine.Stopped {
			return api.Errorf(api.CodeConflict, "%s: its virtual machine is up, and is not served any more once it is deleted; shut it down first (operation Shutdown), then delete it", m.Ref())
		}
		if err := r.jobEnded(ctx, w, m.Ref(), a.Job); err != nil {
			return err
		}
	}
	for _, c := range diskClaims(m) {
		w.delete(api.ClaimKey(c))
	}
	w.delete(api.RequestKey(m.Ref())) // the assignment stays: its generation must go on if the machine is made anew
	return nil
}

// removePlan adds what goes with a plan.
func (r *resources) removePlan(ctx context.Context, w *writing, p *api.RecoveryPlan) error {
	a, err := r.boundAssignment(ctx, w, p.Ref())
	if err != nil {
		return err
	}
	if a != nil {
		if err := r.jobEnded(ctx, w, p.Ref(), a.Job); err != nil {
			return err
		}
	}
	w.delete(api.RequestKey(p.Ref()))
	return nil
}
