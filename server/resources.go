package server

import (
	"bytes"
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/understudy-ha/understudy/api"
	"github.com/understudy-ha/understudy/appliance"
	"github.com/understudy-ha/understudy/cloud"
	"github.com/understudy-ha/understudy/pki"
	"github.com/understudy-ha/understudy/store"
)

// resources is the API's view of the store: what people write lies at obj/, what leaders say at status/ and assign/.
// Safe for concurrent use.
type resources struct {
	store    store.Store
	seal     *pki.Sealer
	planners map[api.ProviderType]cloud.Planner
	now      func() time.Time
	// site says where the control plane stands, as seen by groups of a provider.
	site func(*api.Provider) appliance.Site
	// controllers is how many observers there are; members are their names, storeNodes those of a remote store.
	controllers         int
	members, storeNodes []string
}

// hasStatus tells whether a kind's status lies beside it.
func hasStatus(k api.Kind) bool {
	return k == api.KindNode || k == api.KindVault || hasAssignment(k)
}

// hasAssignment tells whether an assignment does.
func hasAssignment(k api.Kind) bool {
	return k == api.KindApplianceGroup || k == api.KindProtectedMachine || k == api.KindRecoveryPlan
}

// sealedSecret is how a Secret lies in the store.
type sealedSecret struct {
	api.Header
	Keys   []string `json:"keys"`
	Sealed []byte   `json:"sealed"`
}

// etag of a revision.
func etag(r store.Rev) string { return strconv.FormatInt(int64(r), 10) }

// assemble joins what the store holds of one resource.
func assemble(ref api.Ref, obj store.Entry, status, assign []byte) (api.Object, error) {
	info, ok := api.LookupKind(string(ref.Kind))
	if !ok {
		return nil, fmt.Errorf("%s: kind is not known", ref)
	}
	o := info.New()
	if s, isSecret := o.(*api.Secret); isSecret {
		var stored sealedSecret
		if err := json.Unmarshal(obj.Value, &stored); err != nil {
			return nil, fmt.Errorf("read %s: %w", ref, err)
		}
		s.Header, s.Data = stored.Header, map[string]string{}
		for _, k := range stored.Keys {
			s.Data[k] = ""
		}
	} else if err := json.Unmarshal(obj.Value, o); err != nil {
		return nil, fmt.Errorf("read %s: %w", ref, err)
	}
	if err := addStatus(o, status, assign); err != nil {
		return nil, fmt.Errorf("read the status of %s: %w", ref, err)
	}
	o.Head().Metadata.ETag = etag(obj.Rev)
	return o, nil
}

func addStatus(o api.Object, status, assign []byte) error {
	var target any
	var assignment **api.Assignment
	switch o := o.(type) {
	case *api.Node:
		target = &o.Status
	case *api.Vault:
		target = &o.Status
	case *api.ApplianceGroup:
		target, assignment = &o.Status, &o.Status.Assignment
	case *api.ProtectedMachine:
		target, assignment = &o.Status, &o.Status.Assignment
	case *api.RecoveryPlan:
		target, assignment = &o.Status, &o.Status.Assignment
	default:
		return nil
	}
	if len(status) > 0 {
		if err := json.Unmarshal(status, target); err != nil {
			return err
		}
	}
	if assignment != nil && len(assign) > 0 {
		*assignment = new(api.Assignment)
		return json.Unmarshal(assign, *assignment)
	}
	return nil
}

// get reads one resource with its status.
func (r *resources) get(ctx context.Context, ref api.Ref) (api.Object, store.Rev, error) {
	obj, err := r.store.Get(ctx, api.ObjectKey(ref))
	if errors.Is(err, store.ErrNotFound) {
		return nil, 0, notFound(ref)
	}
	if err != nil {
		return nil, 0, err
	}
	var status, assign store.Entry
	if hasStatus(ref.Kind) {
		if status, err = r.maybe(ctx, api.StatusKey(ref)); err != nil {
			return nil, 0, err
		}
	}
	if hasAssignment(ref.Kind) {
		if assign, err = r.maybe(ctx, api.AssignKey(ref)); err != nil {
			return nil, 0, err
		}
	}
	o, err := assemble(ref, obj, status.Value, assign.Value)
	return o, obj.Rev, err
}

func notFound(ref api.Ref) error {
	return api.Errorf(api.CodeNotFound, "%s is not there", ref)
}

// maybe reads a key that may be absent: then its revision is 0.
func (r *resources) maybe(ctx context.Context, key string) (store.Entry, error) {
	e, err := r.store.Get(ctx, key)
	if errors.Is(err, store.ErrNotFound) {
		return store.Entry{Key: key}, nil
	}
	return e, err
}

// list reads the resources of a kind, of one tenant or of all ("*"), sorted by tenant and name; events and jobs by time.
func (r *resources) list(ctx context.Context, kind api.Kind, tenant string) ([]api.Object, error) {
	under := string(kind) + "/"
	if tenant != api.AllTenants {
		under += tenant + "/"
	}
	objs, err := r.store.List(ctx, "obj/"+under)
	if err != nil {
		return nil, err
	}
	beside := map[string][]byte{}
	for _, prefix := range []string{"status/", "assign/"} {
		if !hasStatus(kind) {
			break
		}
		es, err := r.store.List(ctx, prefix+under)
		if err != nil {
			return nil, err
		}
		for _, e := range es {
			beside[e.Key] = e.Value
		}
	}
	out := make([]api.Object, 0, len(objs))
	for _, e := range objs {
		ref, ok := api.ParseRef(strings.TrimPrefix(e.Key, "obj/"))
		if !ok {
			return nil, fmt.Errorf("key %q is no resource", e.Key)
		}
		o, err := assemble(ref, e, beside[api.StatusKey(ref)], beside[api.AssignKey(ref)])
		if err != nil {
			return nil, err
		}
		out = append(out, o)
	}
	sortObjects(out)
	return out, nil
}

func sortObjects(objs []api.Object) {
	slices.SortStableFunc(objs, func(a, b api.Object) int {
		x, y := a.Head(), b.Head()
		if x.Kind == api.KindEvent || x.Kind == api.KindJob {
			if c := x.Metadata.Created.Compare(y.Metadata.Created); c != 0 {
				return c
			}
		}
		return cmp.Or(cmp.Compare(x.Metadata.Tenant, y.Metadata.Tenant), cmp.Compare(x.Metadata.Name, y.Metadata.Name))
	})
}

// encodeStored gives what lies at obj/ for a resource that people write: no status, no etag, secrets sealed.
func (r *resources) encodeStored(o api.Object) ([]byte, error) {
	h := *o.Head()
	h.Metadata.ETag = ""
	if plain := withoutStatus(o, h); plain != nil {
		return json.Marshal(plain)
	}
	if o, ok := o.(*api.Secret); ok {
		plain, err := json.Marshal(o.Data)
		if err != nil {
			return nil, err
		}
		s := sealedSecret{Header: h, Sealed: r.seal.Seal(api.ObjectKey(o.Ref()), plain)}
		for k := range o.Data {
			s.Keys = append(s.Keys, k)
		}
		slices.Sort(s.Keys)
		return json.Marshal(s)
	}
	return nil, api.Errorf(api.CodeReadOnly, "%s is written by controllers alone", o.Head().Kind)
}

// withoutStatus is a resource as people write it, with another header; nil for secrets, and for what they do not write.
func withoutStatus(o api.Object, h api.Header) api.Object {
	switch o := o.(type) {
	case *api.Node:
		return &api.Node{Header: h, Spec: o.Spec}
	case *api.Provider:
		return &api.Provider{Header: h, Spec: o.Spec}
	case *api.ApplianceGroup:
		return &api.ApplianceGroup{Header: h, Spec: o.Spec}
	case *api.Site:
		return &api.Site{Header: h, Spec: o.Spec}
	case *api.Fabric:
		return &api.Fabric{Header: h, Spec: o.Spec}
	case *api.Vault:
		return &api.Vault{Header: h, Spec: o.Spec}
	case *api.ReplicationPolicy:
		return &api.ReplicationPolicy{Header: h, Spec: o.Spec}
	case *api.ProcessServer:
		return &api.ProcessServer{Header: h, Spec: o.Spec}
	case *api.ProtectedMachine:
		return &api.ProtectedMachine{Header: h, Spec: o.Spec}
	case *api.RecoveryPlan:
		return &api.RecoveryPlan{Header: h, Spec: o.Spec}
	}
	return nil
}

// openSecret gives a secret's values, for drivers.
func (r *resources) openSecret(ctx context.Context, tenant, name string) (map[string]string, error) {
	ref := api.Ref{Kind: api.KindSecret, Tenant: tenant, Name: name}
	e, err := r.store.Get(ctx, api.ObjectKey(ref))
	if err != nil {
		return nil, fmt.Errorf("secret %s/%s: %w", tenant, name, err)
	}
	return r.unseal(ref, e.Value)
}

// unseal gives the values of a secret as it lies in the store.
func (r *resources) unseal(ref api.Ref, value []byte) (map[string]string, error) {
	var s sealedSecret
	if err := json.Unmarshal(value, &s); err != nil {
		return nil, fmt.Errorf("secret %s/%s: %w", ref.Tenant, ref.Name, err)
	}
	plain, err := r.seal.Open(api.ObjectKey(ref), s.Sealed)
	if err != nil {
		return nil, err
	}
	var data map[string]string
	return data, json.Unmarshal(plain, &data)
}

// sameSpec tells whether a write would change nothing that people write.
func sameSpec(old, new api.Object) bool {
	strip := func(o api.Object) []byte {
		h := *o.Head()
		meta := h.Metadata
		h.Metadata = api.Metadata{Name: meta.Name, Tenant: meta.Tenant, Labels: meta.Labels}
		if len(meta.Labels) == 0 {
			h.Metadata.Labels = nil
		}
		plain := withoutStatus(o, h)
		if plain == nil {
			return nil
		}
		b, _ := json.Marshal(plain)
		return b
	}
	a, b := strip(old), strip(new)
	return a != nil && bytes.Equal(a, b)
}
