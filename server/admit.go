package server

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/understudy-ha/understudy/api"
	"github.com/understudy-ha/understudy/appliance"
	"github.com/understudy-ha/understudy/cloud"
	"github.com/understudy-ha/understudy/store"
)

// admit checks a valid resource against the others, and adds to the transaction what must hold and what it takes.
func (r *resources) admit(ctx context.Context, w *writing, old, o api.Object) error {
	switch o := o.(type) {
	case *api.ApplianceGroup:
		g, _ := old.(*api.ApplianceGroup)
		return r.admitGroup(ctx, w, g, o)
	case *api.Provider:
		p, _ := old.(*api.Provider)
		return r.admitProvider(ctx, w, p, o)
	case *api.Secret:
		return admitSecret(o)
	case *api.Site:
		return r.admitSite(ctx, w, o)
	case *api.Fabric:
		return r.admitFabric(ctx, w, o)
	case *api.Vault:
		v, _ := old.(*api.Vault)
		return r.admitVault(ctx, w, v, o)
	case *api.ProcessServer:
		return r.admitProcessServer(ctx, w, o)
	case *api.ProtectedMachine:
		m, _ := old.(*api.ProtectedMachine)
		return r.admitMachine(ctx, w, m, o)
	case *api.RecoveryPlan:
		return r.admitPlan(ctx, w, o)
	}
	return nil
}

func invalid(field, value, want string) error {
	var bad api.Invalid
	bad.Add(field, value, want)
	return &bad
}

// admitSecret refuses empty values: answers carry them, so that a resource which was read and sent back would wipe its
// secrets.
func admitSecret(s *api.Secret) error {
	var bad api.Invalid
	for k, v := range s.Data {
		if v == "" {
			bad.Add("data."+k, "", "a value; leave the key out to remove it")
		}
	}
	slices.SortFunc(bad.Fields, func(a, b api.FieldError) int { return strings.Compare(a.Field, b.Field) })
	return bad.Err()
}

func (r *resources) admitProvider(ctx context.Context, w *writing, old, p *api.Provider) error {
	if a := p.Spec.Azure; a != nil && a.Credential.SecretRef != "" {
		ref := api.Ref{Kind: api.KindSecret, Tenant: p.Metadata.Tenant, Name: a.Credential.SecretRef}
		e, err := r.maybe(ctx, api.ObjectKey(ref))
		if err != nil {
			return err
		}
		if e.Rev == 0 {
			return invalid("spec.azure.credential.secretRef", fmt.Sprintf("%q", ref.Name), "a Secret of the same tenant that exists")
		}
		w.cond(e)
		w.put(useKey(ref), []byte(p.Ref().String()))
	}
	if old == nil || old.Spec.Type == p.Spec.Type && effects(old) == effects(p) {
		return nil
	}
	return r.unused(ctx, w, p.Ref(), func(g *api.ApplianceGroup) bool { return g.Spec.Provider == p.Metadata.Name })
}

func effects(p *api.Provider) api.Effects {
	if p.Spec.Linux == nil {
		return ""
	}
	return p.Spec.Linux.Effects
}

func (r *resources) admitGroup(ctx context.Context, w *writing, old, g *api.ApplianceGroup) error {
	if q := g.Spec.Observers.Quorum; q > r.controllers {
		return invalid("spec.observers.quorum", fmt.Sprint(q), fmt.Sprintf("at most %d: there are no more controllers", r.controllers))
	}
	ref := api.Ref{Kind: api.KindProvider, Tenant: g.Metadata.Tenant, Name: g.Spec.Provider}
	o, rev, err := r.get(ctx, ref)
	if isNotFound(err) {
		return invalid("spec.provider", fmt.Sprintf("%q", ref.Name), "a Provider of tenant "+ref.Tenant+" that exists; apply it first")
	}
	if err != nil {
		return err
	}
	w.cond(store.Entry{Key: api.ObjectKey(ref), Rev: rev})
	if old == nil || old.Spec.Provider != g.Spec.Provider {
		w.put(useKey(ref), []byte(g.Ref().String()))
	}
	if err := r.plannable(g, o.(*api.Provider)); err != nil {
		return err
	}
	for _, f := range appliance.Reach(g, r.site(o.(*api.Provider))) {
		if f.Blocks {
			return invalid("spec.routeTables", f.Code, "routes that leave the control plane reachable: "+f.Message)
		}
	}
	if err := r.keepsActive(ctx, w, old, g); err != nil {
		return err
	}
	return r.claim(ctx, w, old, g)
}

// plannable refuses a group for which the provider's planner has no plan, onto whichever member.
func (r *resources) plannable(g *api.ApplianceGroup, p *api.Provider) error {
	planner := r.planners[p.Spec.Type]
	if planner == nil {
		return api.Errorf(api.CodeInternal, "provider type %s has no planner", p.Spec.Type)
	}
	p.Default()
	var bad api.Invalid
	for i, m := range g.Spec.Members {
		if _, err := appliance.Plan(planner, cloud.Move{Group: g, Provider: p, To: m.Name, Generation: 1}); err != nil {
			var inv *api.Invalid
			if errors.As(err, &inv) {
				return inv
			}
			bad.Add(fmt.Sprintf("spec.members[%d]", i), fmt.Sprintf("%q", m.Name), fmt.Sprintf("a group that %s can move: %v", p.Spec.Type, err))
		}
	}
	return bad.Err()
}

// keepsActive refuses to take away the member that is active.
func (r *resources) keepsActive(ctx context.Context, w *writing, old, g *api.ApplianceGroup) error {
	if old == nil || old.Status.Assignment == nil {
		return nil
	}
	active := old.Status.Assignment.Active
	if slices.ContainsFunc(g.Spec.Members, func(m api.Member) bool { return m.Name == active }) {
		return nil
	}
	if !slices.ContainsFunc(old.Spec.Members, func(m api.Member) bool { return m.Name == active }) {
		return nil
	}
	assign, err := r.maybe(ctx, api.AssignKey(g.Ref()))
	if err != nil {
		return err
	}
	w.cond(assign)
	return api.Errorf(api.CodeConflict, "%s: member %s is active and would be gone; fail over first (understudy failover %s)", g.Ref(), active, g.Metadata.Name)
}

// claim takes what the group owns now and did not before, and gives back what it owns no more.
func (r *resources) claim(ctx context.Context, w *writing, old, g *api.ApplianceGroup) error {
	var had []string
	if old != nil {
		had = cloud.Claims(old)
	}
	want := cloud.Claims(g)
	var bad api.Invalid
	for _, c := range want {
		if slices.Contains(had, c) {
			continue
		}
		e, err := r.maybe(ctx, api.ClaimKey(c))
		if err != nil {
			return err
		}
		if owner := string(e.Value); e.Rev != 0 && owner != g.Ref().String() {
			field, value := claimField(g, c)
			bad.Add(field, value, "one that no other group has: "+ownerText(g, owner)+" owns it, so "+g.Ref().String()+" cannot")
			continue
		}
		w.cond(e)
		w.put(e.Key, []byte(g.Ref().String()))
	}
	for _, c := range had {
		if !slices.Contains(want, c) {
			w.delete(api.ClaimKey(c))
		}
	}
	return bad.Err()
}

// ownerText names the owner of a claim; another tenant's is not named.
func ownerText(g *api.ApplianceGroup, owner string) string {
	ref, ok := api.ParseRef(owner)
	if !ok || ref.Tenant != g.Metadata.Tenant {
		return "a group of another tenant"
	}
	return owner
}

// claimField finds the field whose claim it is.
func claimField(g *api.ApplianceGroup, claim string) (field, value string) {
	scope := g.Metadata.Tenant + "/" + g.Spec.Provider
	for i, a := range g.Spec.PublicAddresses {
		if cloud.AddressClaim(scope, a) == claim {
			return fmt.Sprintf("spec.publicAddresses[%d]", i), a.Name + " (" + strings.TrimPrefix(claim, "address:") + ")"
		}
	}
	for i, t := range g.Spec.RouteTables {
		for j, rt := range t.Routes {
			if cloud.RouteClaim(scope, t, rt) == claim {
				return fmt.Sprintf("spec.routeTables[%d].routes[%d]", i, j), rt.Prefix + " in " + t.ID
			}
		}
	}
	return "spec", claim
}
