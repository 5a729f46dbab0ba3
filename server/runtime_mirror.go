package server

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"log/slog"
	"slices"
	"sync"
	"time"

	"github.com/understudy-ha/understudy/api"
)

const (
	// mirrorTick is how often a leader looks whether mirrors are due; what changes meanwhile is put at once.
	mirrorTick = 2 * time.Second
	// mirrorRetry is how long a vault that failed is left alone at first; it doubles up to mirrorRetryMost.
	mirrorRetry     = 5 * time.Second
	mirrorRetryMost = 5 * time.Minute
)

// mirroring is one leadership's care for the mirrors.
type mirroring struct {
	rt     *runtime
	epoch  int64
	rounds int64
	vaults map[api.Ref]*mirrorCare
}

// mirrorCare is that for one vault.
type mirrorCare struct {
	mirrored
	wait    time.Duration // after a failure
	retryAt time.Time
	failed  string // why, and since when
	since   time.Time
}

// keepMirrors keeps the mirrors in vaults up to date while this controller leads. Nothing waits for it: a vault that cannot be
// written has a condition that says so, and is tried again.
func (rt *runtime) keepMirrors(ctx context.Context) {
	sub, err := rt.s.hub.subscribeWait(ctx, func(r api.Ref) bool { return slices.Contains(mirrorKinds, r.Kind) })
	if err != nil {
		return // ctx has ended
	}
	defer sub.close()
	var m *mirroring
	var sets map[string]*mirrorSet
	for sleep(ctx, mirrorTick) == nil {
		leading, epoch := rt.leading()
		if !leading {
			m = nil
			continue
		}
		changed := len(sub.take()) > 0
		if m == nil || m.epoch != epoch {
			m, changed = &mirroring{rt: rt, epoch: epoch, vaults: map[api.Ref]*mirrorCare{}}, true
		}
		used := usedVaults(rt.s.hub.objects(api.KindProtectedMachine))
		if changed {
			sets = map[string]*mirrorSet{}
			for _, ref := range used {
				if sets[ref.Tenant] == nil {
					if sets[ref.Tenant], err = rt.s.mirrorSet(ref.Tenant); err != nil {
						slog.Warn("mirror the resources", "tenant", ref.Tenant, "err", err)
						delete(sets, ref.Tenant)
					}
				}
			}
		}
		bounded, cancel := rt.whileLeading(ctx)
		m.turn(bounded, used, sets)
		cancel()
	}
}

// mirrorSet collects a tenant's resources as the watch last told of them.
func (s *Server) mirrorSet(tenant string) (*mirrorSet, error) {
	var all []api.Object
	for _, kind := range mirrorKinds {
		for _, o := range s.hub.objects(kind) {
			if o.Head().Metadata.Tenant != tenant {
				continue
			}
			if secret, ok := o.(*api.Secret); ok {
				data, err := s.resources.unseal(secret.Ref(), s.hub.entry(api.ObjectKey(secret.Ref())).Value)
				if err != nil {
					return nil, err
				}
				secret.Data = data
			}
			all = append(all, o)
		}
	}
	return newMirrorSet(all)
}

// turn brings every vault up to date that is due, side by side.
func (m *mirroring) turn(ctx context.Context, used []api.Ref, sets map[string]*mirrorSet) {
	s := m.rt.s
	var work sync.WaitGroup
	for _, ref := range used {
		care, set := m.vaults[ref], sets[ref.Tenant]
		if care == nil {
			care = &mirrorCare{mirrored: mirrored{cluster: s.cluster.ClusterID, version: s.opt.Version, now: s.now}}
			m.vaults[ref] = care
		}
		e := s.hub.entry(api.ObjectKey(ref))
		if set == nil || e.Rev == 0 || !care.due(set) || s.now().Before(care.retryAt) {
			continue
		}
		m.rounds++
		t := mirrorTurn{m.epoch, m.rounds}
		work.Go(func() { m.care(ctx, ref, care, set, t) })
	}
	work.Wait()
	for _, ref := range used {
		if care, set := m.vaults[ref], sets[ref.Tenant]; set != nil && ctx.Err() == nil {
			if err := m.rt.vaultStatus(ctx, ref, care.status(set), m.epoch); err != nil {
				slog.Debug("write the status of a vault", "vault", ref, "err", err)
			}
		}
	}
}

// care brings one vault up to date.
func (m *mirroring) care(ctx context.Context, ref api.Ref, care *mirrorCare, set *mirrorSet, t mirrorTurn) {
	s := m.rt.s
	err := func() error {
		bounded, cancel := context.WithTimeout(ctx, mirrorTimeout)
		defer cancel()
		o, _, err := s.resources.get(bounded, ref)
		if err != nil {
			return err
		}
		v := o.(*api.Vault)
		var creds map[string]string
		if name := v.Spec.CredentialsRef; name != "" {
			if creds, err = s.resources.openSecret(bounded, ref.Tenant, name); err != nil {
				return err
			}
		}
		return care.round(bounded, v, creds, set, t)
	}()
	if ctx.Err() != nil {
		return // not leading any more
	}
	care.outcome(err, s.now())
	if err != nil {
		s.metrics.machines.mirrorFailures.WithLabelValues(ref.Tenant, ref.Name).Inc()
		slog.Warn("mirror the resources", "vault", ref, "err", err)
	}
}

// outcome takes note of how a round went.
func (c *mirrorCare) outcome(err error, now time.Time) {
	if err == nil {
		c.wait, c.retryAt, c.failed = 0, time.Time{}, ""
		return
	}
	if c.failed == "" {
		c.since = now.UTC()
	}
	c.failed = err.Error()
	c.wait = min(max(2*c.wait, mirrorRetry), mirrorRetryMost)
	c.retryAt = now.Add(c.wait)
}

// status says how the mirror is.
func (c *mirrorCare) status(set *mirrorSet) (s api.VaultStatus) {
	if !c.at.IsZero() {
		s.Mirror = &api.MirrorStatus{At: c.at, Objects: len(c.has), Withheld: set.withheld}
	}
	if c.failed != "" {
		s.Conditions = []api.Condition{{Code: "MirrorFailed", Severity: api.Warning, Since: c.since, Impacts: "recovery after the loss of all controllers",
			Message: fmt.Sprintf("mirror: %s", c.failed)}}
	}
	return s
}

// vaultStatus stores the status of a vault if it differs from what is stored. What an earlier leader said of the mirror stands until this one
// knows better.
func (rt *runtime) vaultStatus(ctx context.Context, ref api.Ref, s api.VaultStatus, epoch int64) error {
	if rt.s.hub.entry(api.ObjectKey(ref)).Rev == 0 {
		return nil
	}
	was := rt.s.hub.entry(api.StatusKey(ref))
	if s.Mirror == nil {
		var old api.VaultStatus
		if json.Unmarshal(was.Value, &old) == nil {
			s.Mirror = old.Mirror
		}
	}
	value, err := json.Marshal(s)
	if err != nil || bytes.Equal(value, was.Value) {
		return err
	}
	return rt.putStatus(ctx, ref, value, epoch)
}
