package server

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/understudy-ha/understudy/api"
	"github.com/understudy-ha/understudy/cloud"
	"github.com/understudy-ha/understudy/store"
)

// match is what a writer says about the version it knows.
type match struct {
	// etag it read; "" if it said none.
	etag string
	// create: it must not exist yet.
	create bool
	// any: whether it exists, and in which version, does not matter.
	any bool
}

// writing collects one transaction.
type writing struct {
	conds []store.Cond
	ops   []store.Op
}

func (w *writing) cond(e store.Entry) { w.conds = append(w.conds, store.Cond{Key: e.Key, Rev: e.Rev}) }
func (w *writing) put(key string, v []byte) {
	w.ops = append(w.ops, store.Op{Key: key, Value: v})
}

// condOnce and putOnce are for what several references of one resource may name.
func (w *writing) condOnce(e store.Entry) {
	if !slices.ContainsFunc(w.conds, func(c store.Cond) bool { return c.Key == e.Key }) {
		w.cond(e)
	}
}
func (w *writing) putOnce(key string, v []byte) {
	if !slices.ContainsFunc(w.ops, func(o store.Op) bool { return o.Key == key }) {
		w.put(key, v)
	}
}
func (w *writing) delete(key string) { w.ops = append(w.ops, store.Op{Key: key, Delete: true}) }

// put creates or updates a resource, which it defaults, validates and admits first. With dry nothing is written. It
// gives the resource as it is (or would be) then, and whether it was created.
func (r *resources) put(ctx context.Context, o api.Object, m match, dry bool) (api.Object, bool, error) {
	o.Default()
	if err := o.Validate(); err != nil {
		return nil, false, err
	}
	ref := o.Head().Ref()
	old, rev, err := r.get(ctx, ref)
	if err != nil && !isNotFound(err) {
		return nil, false, err
	}
	if err := checkMatch(ref, old, rev, m); err != nil {
		return nil, false, err
	}
	var w writing
	w.cond(store.Entry{Key: api.ObjectKey(ref), Rev: rev})
	if err := r.admit(ctx, &w, old, o); err != nil {
		return nil, false, err
	}
	if old != nil && sameSpec(old, o) {
		return old, false, nil
	}
	r.stamp(old, o)
	value, err := r.encodeStored(o)
	if err != nil {
		return nil, false, err
	}
	w.put(api.ObjectKey(ref), value)
	if err := store.ValidTxn(w.conds, w.ops); err != nil {
		return nil, false, api.Errorf(api.CodeTooLarge, "%s: %v; make the change in smaller parts", ref, err)
	}
	if !dry {
		if err := r.commit(ctx, ref, &w, m); err != nil {
			return nil, false, err
		}
		o, _, err = r.get(ctx, ref)
		return o, old == nil, err
	}
	if s, ok := o.(*api.Secret); ok {
		for k := range s.Data {
			s.Data[k] = ""
		}
	}
	return o, old == nil, nil
}

// stamp sets what the server says of a resource.
func (r *resources) stamp(old, o api.Object) {
	m := &o.Head().Metadata
	m.Created, m.Updated, m.Generation = r.now().UTC(), r.now().UTC(), 1
	if old != nil {
		before := old.Head().Metadata
		m.Created, m.Generation = before.Created, before.Generation+1
	}
	m.ETag = ""
}

func checkMatch(ref api.Ref, old api.Object, rev store.Rev, m match) error {
	switch {
	case m.any:
		return nil
	case old != nil && m.create:
		return api.Errorf(api.CodeAlreadyExists, "%s exists already; update it with PUT", ref)
	case old == nil && m.etag != "":
		return notFound(ref)
	case old != nil && m.etag == "":
		return api.Errorf(api.CodeNeedsMatch, "%s exists: send the etag that you read (%q) in If-Match", ref, etag(rev))
	case old != nil && m.etag != "*" && m.etag != etag(rev):
		return api.Errorf(api.CodePreconditionFailed, "%s has changed: its etag is %q, yours is %q; read it again", ref, etag(rev), m.etag)
	}
	return nil
}

// commit runs the transaction. A conflict means that something changed between reading and writing.
func (r *resources) commit(ctx context.Context, ref api.Ref, w *writing, m match) error {
	_, err := r.store.Txn(ctx, w.conds, w.ops)
	if !errors.Is(err, store.ErrConflict) {
		return err
	}
	if m.create {
		return api.Errorf(api.CodeConflict, "%s: something that it depends on changed at the same moment; try again", ref)
	}
	return api.Errorf(api.CodePreconditionFailed, "%s, or something that it depends on, changed at the same moment; read it again", ref)
}

func isNotFound(err error) bool {
	var e *api.Error
	return errors.As(err, &e) && e.Code == api.CodeNotFound
}

// remove deletes a resource with its status and what it owns.
func (r *resources) remove(ctx context.Context, ref api.Ref, m match, dry bool) error {
	old, rev, err := r.get(ctx, ref)
	if err != nil {
		return err
	}
	if err := checkMatch(ref, old, rev, m); err != nil {
		return err
	}
	var w writing
	w.cond(store.Entry{Key: api.ObjectKey(ref), Rev: rev})
	w.delete(api.ObjectKey(ref))
	if hasStatus(ref.Kind) {
		w.delete(api.StatusKey(ref))
	}
	switch o := old.(type) {
	case *api.ApplianceGroup:
		err = r.removeGroup(ctx, &w, o)
	case *api.Provider:
		err = r.unused(ctx, &w, ref, func(g *api.ApplianceGroup) bool { return g.Spec.Provider == ref.Name })
	case *api.Node:
		err = r.unused(ctx, &w, ref, func(g *api.ApplianceGroup) bool { return usesNode(g, ref.Name) })
	case *api.Secret:
		err = r.unusedSecret(ctx, &w, ref)
	case *api.ProtectedMachine:
		err = r.removeMachine(ctx, &w, o)
	case *api.RecoveryPlan:
		err = r.removePlan(ctx, &w, o)
	case *api.Job, *api.Event:
		err = api.Errorf(api.CodeReadOnly, "%s is removed by its retention, not by hand", ref)
	}
	if err == nil {
		err = r.unusedBy(ctx, &w, ref)
	}
	if err != nil || dry {
		return err
	}
	return r.commit(ctx, ref, &w, m)
}

// removeGroup adds what goes with a group. A job that runs is not left behind: it would move things that nobody owns.
func (r *resources) removeGroup(ctx context.Context, w *writing, g *api.ApplianceGroup) error {
	ref := g.Ref()
	assign, err := r.maybe(ctx, api.AssignKey(ref))
	if err != nil {
		return err
	}
	w.cond(assign)
	if assign.Rev != 0 {
		var a api.Assignment
		if err := json.Unmarshal(assign.Value, &a); err != nil {
			return fmt.Errorf("assignment of %s: %w", ref, err)
		}
		if err := r.jobEnded(ctx, w, ref, a.Job); err != nil {
			return err
		}
	}
	for _, c := range cloud.Claims(g) {
		w.delete(api.ClaimKey(c))
	}
	w.delete(api.RequestKey(ref)) // the assignment stays: its generation must go on if the group is made anew
	return nil
}

// jobEnded refuses while the job runs, and binds the transaction to what it saw.
func (r *resources) jobEnded(ctx context.Context, w *writing, group api.Ref, name string) error {
	job, err := r.maybe(ctx, api.ObjectKey(api.Ref{Kind: api.KindJob, Tenant: group.Tenant, Name: name}))
	if err != nil || name == "" || job.Rev == 0 {
		return err
	}
	var j api.Job
	if err := json.Unmarshal(job.Value, &j); err != nil {
		return fmt.Errorf("job %s: %w", name, err)
	}
	if !j.Status.Phase.Ended() {
		return api.Errorf(api.CodeConflict, "%s: its job %s (%s to %s) is running; wait until it has ended, or cancel it (understudy jobs cancel %s), then delete the group",
			group, name, j.Spec.Kind, j.Spec.To, name)
	}
	w.cond(job)
	return nil
}

func usesNode(g *api.ApplianceGroup, node string) bool {
	for _, m := range g.Spec.Members {
		if m.Node == node {
			return true
		}
	}
	for _, a := range g.Spec.PublicAddresses {
		if a.ID == node {
			return true
		}
	}
	for _, t := range g.Spec.RouteTables {
		if n, _, _ := strings.Cut(t.ID, "/"); n == node {
			return true
		}
	}
	return false
}

// useKey is written, with whatever value, by every transaction that begins to use a resource, so that its removal,
// which is bound to the key's revision, cannot miss one.
func useKey(ref api.Ref) string { return "use/" + ref.String() }

// unused refuses to remove what a group of the tenant uses.
func (r *resources) unused(ctx context.Context, w *writing, ref api.Ref, uses func(*api.ApplianceGroup) bool) error {
	if err := r.holdUse(ctx, w, ref); err != nil {
		return err
	}
	groups, err := r.list(ctx, api.KindApplianceGroup, ref.Tenant)
	if err != nil {
		return err
	}
	for _, g := range groups {
		if uses(g.(*api.ApplianceGroup)) {
			return api.Errorf(api.CodeConflict, "%s is used by %s; change or delete that first", ref, g.Head().Ref())
		}
	}
	return nil
}

func (r *resources) holdUse(ctx context.Context, w *writing, ref api.Ref) error {
	use, err := r.maybe(ctx, useKey(ref))
	if err != nil {
		return err
	}
	w.cond(use)
	w.delete(use.Key)
	return nil
}

func (r *resources) unusedSecret(ctx context.Context, w *writing, ref api.Ref) error {
	if err := r.holdUse(ctx, w, ref); err != nil {
		return err
	}
	providers, err := r.list(ctx, api.KindProvider, ref.Tenant)
	if err != nil {
		return err
	}
	for _, o := range providers {
		if a := o.(*api.Provider).Spec.Azure; a != nil && a.Credential.SecretRef == ref.Name {
			return api.Errorf(api.CodeConflict, "%s is used by %s; change or delete that first", ref, o.Head().Ref())
		}
	}
	return nil
}
