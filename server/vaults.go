package server

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/understudy-ha/understudy/api"
	"github.com/understudy-ha/understudy/cloud"
	"github.com/understudy-ha/understudy/controller"
	"github.com/understudy-ha/understudy/journal"
	"github.com/understudy-ha/understudy/objstore/open"
	"github.com/understudy-ha/understudy/recovery"
	"github.com/understudy-ha/understudy/vault"
)

// PointReader lists the recovery points that a vault offers of a stream, oldest first. Secrets are those that access names.
type PointReader func(ctx context.Context, access api.VaultAccess, secrets map[string]map[string]string, stream string) ([]api.RecoveryPoint, error)

// readPoints reads them from the vault's own index.
func readPoints(ctx context.Context, a api.VaultAccess, secrets map[string]map[string]string, stream string) (points []api.RecoveryPoint, err error) {
	st, err := open.Store(ctx, a.URL, secrets[a.CredentialsRef])
	if err != nil {
		return nil, fmt.Errorf("vault %s: %w", a.Name, err)
	}
	defer func() { err = errors.Join(err, st.Close()) }()
	v, err := vault.Open(ctx, st, vault.Options{}) // the index is no secret
	if err != nil {
		return nil, fmt.Errorf("vault %s: %w", a.Name, err)
	}
	list, err := v.Points(ctx, stream)
	if err != nil {
		return nil, fmt.Errorf("vault %s, stream %s: %w", a.Name, stream, err)
	}
	for _, p := range list {
		c := api.CrashConsistent
		if p.Consistency == journal.App {
			c = api.AppConsistent
		}
		points = append(points, api.RecoveryPoint{ID: p.ID, Stream: stream, Seq: p.Seq, At: p.At, Consistency: c, Tag: p.Tag})
	}
	return points, nil
}

// points asks the vault, with the secrets of the tenant.
func (s *Server) points(ctx context.Context, tenant string, a api.VaultAccess, stream string) ([]api.RecoveryPoint, error) {
	secrets := map[string]map[string]string{}
	if name := a.CredentialsRef; name != "" {
		data, err := s.resources.openSecret(ctx, tenant, name)
		if err != nil {
			return nil, err
		}
		secrets[name] = data
	}
	return s.opt.Points(ctx, a, secrets, stream)
}

// choose carries out a choose step.
func (rt *runtime) choose(ctx context.Context, e controller.Execute) (*api.RecoveryPoint, error) {
	c := e.Step.Choose
	if c == nil {
		return nil, fmt.Errorf("%w: step %s chooses nothing", cloud.ErrPermanent, e.Step.ID)
	}
	ctx, cancel := rt.whileLeading(ctx)
	defer cancel()
	points, err := rt.s.points(ctx, e.Subject.Tenant, c.Vault, c.Stream)
	if err != nil {
		return nil, err
	}
	p, err := recovery.Choose(points, c.Choice)
	if err != nil && c.Choice.Kind == api.PointCustom {
		return nil, fmt.Errorf("%w: %w", cloud.ErrPermanent, err)
	}
	if err != nil {
		return nil, err
	}
	return &p, nil
}

// getPoints answers what a machine could be recovered from now.
func (s *Server) getPoints(c *call) error {
	o, _, err := s.resources.get(c.r.Context(), c.ref())
	if err != nil {
		return err
	}
	list, err := s.offered(c.r.Context(), o.(*api.ProtectedMachine))
	if err != nil {
		return err
	}
	writeJSON(c.w, 200, list)
	return nil
}

// offered lists what a machine could be recovered from now, the newest first.
func (s *Server) offered(ctx context.Context, m *api.ProtectedMachine) (list api.PointList, err error) {
	a := m.Status.Assignment
	if a == nil || a.Machine == nil {
		return list, api.Errorf(api.CodeConflict, "%s has not been set up yet; it has no points", m.Ref())
	}
	list = api.PointList{Vault: m.Spec.Vault, Stream: a.Machine.Stream, Items: []api.RecoveryPoint{}}
	switch am := a.Machine; {
	case am.Run != nil && am.Stage != api.StageProtected && am.Stage != api.StageDisabled: // what it may be moved to another point of
		list.Vault, list.Stream = am.Run.Vault, am.Run.Stream
	case am.Location == api.Recovery && m.Spec.Failback != nil:
		list.Vault = m.Spec.Failback.Vault
	}
	v, _, err := s.resources.get(ctx, api.Ref{Kind: api.KindVault, Tenant: m.Metadata.Tenant, Name: list.Vault})
	if err != nil {
		return list, err
	}
	points, err := s.points(ctx, m.Metadata.Tenant, v.(*api.Vault).Access(false), list.Stream)
	if err != nil {
		return list, api.Errorf(api.CodeUnavailable, "the points of %s cannot be read: %v", m.Ref(), err)
	}
	slices.Reverse(points)
	list.Items = append(list.Items, points...)
	return list, nil
}

// pointWait is how long a request waits for the vault to tell whether it has the point that is asked for.
const pointWait = 5 * time.Second

// hasPoint refuses an operation whose point the vault is known not to have. One that does not answer is the job's business.
func (s *Server) hasPoint(ctx context.Context, o api.Object, op *api.Operation) error {
	m, ok := o.(*api.ProtectedMachine)
	if !ok || op.Point == nil || op.Point.Kind != api.PointCustom && op.Point.Kind != api.PointLatestAppConsistent {
		return nil
	}
	ctx, cancel := context.WithTimeout(ctx, pointWait)
	defer cancel()
	list, err := s.offered(ctx, m)
	if err != nil {
		return nil
	}
	if _, err = recovery.Choose(list.Items, *op.Point); err != nil {
		value := string(op.Point.Kind)
		if op.Point.ID != "" {
			value = op.Point.ID
		} else if !op.Point.At.IsZero() {
			value = op.Point.At.UTC().Format(time.RFC3339)
		}
		return invalid("point", fmt.Sprintf("%q", value), fmt.Sprintf("one that vault %s offers of stream %s (see understudy points): %v", list.Vault, list.Stream, err))
	}
	return nil
}
