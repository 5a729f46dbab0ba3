package server

import (
	"context"
	"net/http"
	"time"

	"github.com/understudy-ha/understudy/api"
	"github.com/understudy-ha/understudy/recovery"
)

// getForesight answers what an operation of a machine or a recovery plan would do now: ?operation=…, with point=KIND and
// shutdownSource=1 as in the operation. What is not allowed is refused as the leader would.
func (s *Server) getForesight(c *call) error {
	q := c.r.URL.Query()
	op := api.Operation{Operation: api.OperationKind(q.Get("operation")), ShutdownSource: q.Get("shutdownSource") == "1"}
	if k := q.Get("point"); k != "" {
		op.Point = &api.PointChoice{Kind: api.PointKind(k)}
	}
	known := api.Operations()
	if c.kind.Kind == api.KindRecoveryPlan {
		known = api.PlanOperations()
	}
	if err := api.CheckOperation(&op, known); err != nil {
		return err
	}
	for deadline := s.now().Add(requestWait); ; {
		o, _, err := s.resources.get(c.r.Context(), c.ref())
		if err != nil {
			return err
		}
		p, refused, err := s.foresee(c.r.Context(), o, &op)
		if err != nil {
			return err
		}
		if refused == "" {
			writeJSON(c.w, http.StatusOK, p)
			return nil
		}
		// What nodes say is written once a second, after what follows from it.
		if forbidden(o, op.Operation) != "" || s.now().After(deadline) {
			return api.Errorf(api.CodeConflict, "%s: %s", c.ref(), refused)
		}
		if err := sleep(c.r.Context(), 100*time.Millisecond); err != nil {
			return err
		}
	}
}

// foresee gives what an operation of a machine or a recovery plan would do now, or why it is refused.
func (s *Server) foresee(ctx context.Context, o api.Object, op *api.Operation) (p api.Plan, refused string, err error) {
	switch o := o.(type) {
	case *api.ProtectedMachine:
		v, err := s.machineView(ctx, o)
		if err != nil {
			return p, "", err
		}
		p, refused = v.Foresee(op)
	case *api.RecoveryPlan:
		v, err := s.planView(ctx, o)
		if err != nil {
			return p, "", err
		}
		p, refused = v.Foresee(op)
	}
	return p, refused, nil
}

// machineView is what the leader looks at when it decides about a machine, as far as the store tells.
func (s *Server) machineView(ctx context.Context, m *api.ProtectedMachine) (recovery.View, error) {
	m.Default()
	v := recovery.View{Machine: m, Assignment: m.Status.Assignment, Generation: 1, Now: s.now()}
	l := looking{s: s, ctx: ctx, tenant: m.Metadata.Tenant}
	if v.Assignment != nil {
		v.Generation = v.Assignment.Generation + 1
		v.Job = look[api.Job](&l, api.KindJob, v.Assignment.Job)
	}
	v.Policy = look[api.ReplicationPolicy](&l, api.KindReplicationPolicy, m.Spec.Policy)
	v.Vault = look[api.Vault](&l, api.KindVault, m.Spec.Vault)
	v.ProcessServer = look[api.ProcessServer](&l, api.KindProcessServer, m.Spec.ProcessServer)
	if f := m.Spec.Failback; f != nil {
		v.BackVault = look[api.Vault](&l, api.KindVault, f.Vault)
		v.BackServer = look[api.ProcessServer](&l, api.KindProcessServer, f.ProcessServer)
	}
	nodes := map[string]*api.Node{}
	for _, name := range []string{m.Spec.Source.Node, m.Spec.Recovery.Node} {
		if n := look[api.Node](&l, api.KindNode, name); n != nil && n.Status.Connected {
			nodes[name] = n
		}
	}
	v.Silent = func(node string) time.Duration {
		if nodes[node] != nil {
			return 0
		}
		return time.Second
	}
	v.Report = func(node, engine, owner string) (api.SectionStatus, bool) {
		if n := nodes[node]; n != nil {
			for _, has := range n.Status.Sections {
				if has.Engine == engine && has.Owner == owner {
					return has, true
				}
			}
		}
		return api.SectionStatus{}, false
	}
	return v, l.failed
}

// planView is the same of a recovery plan.
func (s *Server) planView(ctx context.Context, p *api.RecoveryPlan) (recovery.PlanView, error) {
	p.Default()
	v := recovery.PlanView{Plan: p, Assignment: p.Status.Assignment, Machines: map[string]recovery.View{}, Generation: 1}
	l := looking{s: s, ctx: ctx, tenant: p.Metadata.Tenant}
	if v.Assignment != nil {
		v.Generation = v.Assignment.Generation + 1
		v.Job = look[api.Job](&l, api.KindJob, v.Assignment.Job)
	}
	for _, g := range p.Spec.Groups {
		for _, it := range g.Items {
			if _, seen := v.Machines[it.Machine]; seen || it.Machine == "" {
				continue
			}
			m := look[api.ProtectedMachine](&l, api.KindProtectedMachine, it.Machine)
			if m == nil {
				continue
			}
			mv, err := s.machineView(ctx, m)
			if err != nil {
				return v, err
			}
			v.Machines[it.Machine] = mv
		}
	}
	return v, l.failed
}

// looking reads resources of one tenant, one after the other, until one cannot be read.
type looking struct {
	s      *Server
	ctx    context.Context
	tenant string
	failed error
}

// look gives a resource, or nil if there is none of that name.
func look[T any, P interface {
	*T
	api.Object
}](l *looking, kind api.Kind, name string) *T {
	if l.failed != nil || name == "" {
		return nil
	}
	o, _, err := l.s.resources.get(l.ctx, api.Ref{Kind: kind, Tenant: l.tenant, Name: name})
	if err != nil {
		if !isNotFound(err) {
			l.failed = err
		}
		return nil
	}
	o.Default()
	return (*T)(o.(P))
}
