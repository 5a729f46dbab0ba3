package server

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"slices"
	"strings"

	"github.com/understudy-ha/understudy/api"
	"github.com/understudy-ha/understudy/appliance"
	"github.com/understudy-ha/understudy/cloud"
	"github.com/understudy-ha/understudy/cloud/azure"
	"github.com/understudy-ha/understudy/cloud/linux"
	"github.com/understudy-ha/understudy/lead"
	"github.com/understudy-ha/understudy/store"
)

// planners lists the planner of each provider type.
func planners(t lead.Timing) map[api.ProviderType]cloud.Planner {
	return map[api.ProviderType]cloud.Planner{api.ProviderAzure: azure.Planner{}, api.ProviderLinux: linux.Planner{Timing: t}}
}

func (s *Server) getStatus(c *call) error {
	leading, _ := s.runtime.leading()
	st := api.ClusterStatus{Controller: s.name, Version: s.opt.Version, ClusterID: s.cluster.ClusterID, Leading: leading, Store: s.cfg.Store.Type, Agents: []string{}}
	var epoch lead.EpochDoc
	var beat lead.BeatDoc
	_ = json.Unmarshal(s.hub.entry(lead.EpochKey).Value, &epoch) // absent before the first leader
	_ = json.Unmarshal(s.hub.entry(lead.BeatKey).Value, &beat)
	st.Epoch = epoch.Epoch
	if !beat.Released {
		st.Leader = epoch.Holder
	}
	for _, name := range s.cfg.ControllerNames() {
		st.Members = append(st.Members, api.ControllerStatus{Name: name, Address: s.cfg.Peers[name], Heard: name == s.name || s.runtime.peers.lately(name)})
	}
	for _, n := range s.runtime.sessions.nodes() {
		if tenant, _, _ := strings.Cut(n, "/"); c.who.sees(tenant) {
			st.Agents = append(st.Agents, n)
		}
	}
	slices.Sort(st.Agents)
	writeJSON(c.w, http.StatusOK, st)
	return nil
}

// getPlan answers what a planned move of the group would do.
func (s *Server) getPlan(c *call) error {
	g, _, err := s.group(c.r.Context(), api.Ref{Kind: api.KindApplianceGroup, Tenant: c.tenant, Name: c.name})
	if err != nil {
		return err
	}
	ref := api.Ref{Kind: api.KindProvider, Tenant: c.tenant, Name: g.Spec.Provider}
	o, _, err := s.resources.get(c.r.Context(), ref)
	if err != nil {
		return err
	}
	p, err := s.plan(g, o.(*api.Provider), c.r.URL.Query().Get("to"))
	if err != nil {
		return err
	}
	writeJSON(c.w, http.StatusOK, p)
	return nil
}

// plan makes a plan onto a member; to "" means the first that is not active.
func (s *Server) plan(g *api.ApplianceGroup, p *api.Provider, to string) (*api.Plan, error) {
	g.Default()
	p.Default()
	m := cloud.Move{Group: g, Provider: p, To: to, Planned: true, Generation: 1, Peers: map[string]string{}}
	if a := g.Status.Assignment; a != nil {
		m.From, m.Generation = a.Active, a.Generation+1
	} else if len(g.Spec.Members) > 0 && to != g.Spec.Members[0].Name {
		m.From = g.Spec.Members[0].Name
	}
	for _, member := range g.Spec.Members {
		if m.To == "" && member.Name != m.From {
			m.To = member.Name
		}
	}
	if !slices.ContainsFunc(g.Spec.Members, func(x api.Member) bool { return x.Name == m.To }) {
		return nil, invalid("to", fmt.Sprintf("%q", m.To), "a member of "+g.Metadata.Name+": "+memberNames(g))
	}
	planner := s.opt.Planners[p.Spec.Type]
	if planner == nil {
		return nil, api.Errorf(api.CodeInternal, "provider type %s has no planner", p.Spec.Type)
	}
	steps, err := appliance.Plan(planner, m)
	if err != nil {
		return nil, invalid("spec", g.Metadata.Name, err.Error())
	}
	probe := g.Spec.Probe
	out := &api.Plan{Group: g.Ref(), From: m.From, To: m.To, Steps: steps,
		Detect: api.Duration(probe.Fall)*probe.Interval + probe.Timeout}
	out.Total()
	return out, nil
}

// PlanRequest is the body of POST /v1/plan: resources that are not stored, each as JSON.
type PlanRequest struct {
	Items []json.RawMessage `json:"items"`
	// To names the member to plan onto; "" means the first that is not active.
	To string `json:"to,omitempty"`
}

// postPlan applies resources to a copy of the store in memory and plans every group among them.
func (s *Server) postPlan(c *call) error {
	b, err := c.body()
	if err != nil {
		return err
	}
	var q PlanRequest
	if err := strict(b, &q); err != nil {
		return err
	}
	draft := *s.resources
	layer := &overlay{Store: s.store, changed: map[string]store.Entry{}}
	draft.store = layer
	plans := []*api.Plan{}
	var objs []api.Object
	for _, raw := range q.Items {
		o, err := api.Decode(raw)
		if err != nil {
			return err
		}
		if o.Head().Metadata.Tenant == "" {
			o.Head().Metadata.Tenant = c.tenant
		}
		if !c.who.sees(o.Head().Metadata.Tenant) {
			c.detail = otherTenant
			return notFound(o.Head().Ref())
		}
		objs = append(objs, o)
	}
	for _, o := range inOrder(objs) {
		o, _, err := draft.put(c.r.Context(), o, match{any: true}, false)
		if err != nil {
			return err
		}
		g, ok := o.(*api.ApplianceGroup)
		if !ok {
			continue
		}
		p, _, err := draft.get(c.r.Context(), api.Ref{Kind: api.KindProvider, Tenant: g.Metadata.Tenant, Name: g.Spec.Provider})
		if err != nil {
			return err
		}
		plan, err := s.plan(g, p.(*api.Provider), q.To)
		if err != nil {
			return err
		}
		plans = append(plans, plan)
	}
	writeJSON(c.w, http.StatusOK, map[string]any{"items": plans})
	return nil
}

// inOrder puts what others refer to first.
func inOrder(objs []api.Object) []api.Object {
	order := []api.Kind{api.KindSecret, api.KindNode, api.KindProvider, api.KindApplianceGroup, api.KindSite, api.KindFabric, api.KindVault,
		api.KindReplicationPolicy, api.KindProcessServer, api.KindProtectedMachine, api.KindRecoveryPlan}
	out := slices.Clone(objs)
	slices.SortStableFunc(out, func(a, b api.Object) int {
		return slices.Index(order, a.Head().Kind) - slices.Index(order, b.Head().Kind)
	})
	return out
}

// overlay is a store whose writes stay in memory. One request uses it, alone.
type overlay struct {
	store.Store
	changed map[string]store.Entry // Rev 0: deleted
	rev     store.Rev
}

// Get implements store.Store.
func (o *overlay) Get(ctx context.Context, key string) (store.Entry, error) {
	if e, ok := o.changed[key]; ok {
		if e.Rev == 0 {
			return store.Entry{}, store.ErrNotFound
		}
		return e, nil
	}
	return o.Store.Get(ctx, key)
}

// List implements store.Store.
func (o *overlay) List(ctx context.Context, prefix string) ([]store.Entry, error) {
	es, err := o.Store.List(ctx, prefix)
	if err != nil {
		return nil, err
	}
	out := slices.DeleteFunc(slices.Clone(es), func(e store.Entry) bool { _, ok := o.changed[e.Key]; return ok })
	for key, e := range o.changed {
		if e.Rev != 0 && strings.HasPrefix(key, prefix) {
			out = append(out, e)
		}
	}
	slices.SortFunc(out, func(a, b store.Entry) int { return strings.Compare(a.Key, b.Key) })
	return out, nil
}

// Txn implements store.Store. Nobody else writes here, so conditions are what was just read.
func (o *overlay) Txn(_ context.Context, _ []store.Cond, ops []store.Op) ([]store.Rev, error) {
	revs := make([]store.Rev, len(ops))
	for i, op := range ops {
		o.rev--
		revs[i] = o.rev
		if op.Delete {
			revs[i] = 0
		}
		o.changed[op.Key] = store.Entry{Key: op.Key, Value: op.Value, Rev: revs[i]}
	}
	return revs, nil
}
