// Package keeper is the engine that keeps a vault at its recovery site: it prunes
// recovery points by their retention, makes layers, and collects what nothing refers to
// any more. One process a vault; more than one do no harm.
package keeper

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"sync"
	"time"

	"github.com/understudy-ha/understudy/api"
	"github.com/understudy-ha/understudy/engines"
	"github.com/understudy-ha/understudy/retain"
	"github.com/understudy-ha/understudy/vault"
)

// round is how often every stream is looked at.
const round = time.Minute

type engine struct {
	home engines.Home

	ctx  context.Context
	stop context.CancelFunc
	work sync.WaitGroup
	poke chan struct{}

	mu     sync.Mutex
	cfg    engines.Config
	failed error // of the newest round
	since  time.Time
}

// New makes the engine of a home.
func New(ctx context.Context, h engines.Home) (engines.Engine, error) {
	e := &engine{home: h, since: time.Now().UTC(), poke: make(chan struct{}, 1)}
	e.ctx, e.stop = context.WithCancel(context.WithoutCancel(ctx))
	e.work.Go(e.keep)
	return e, nil
}

// Set implements engines.Engine.
func (e *engine) Set(_ context.Context, c engines.Config) error {
	if c.Section.Keeper == nil {
		return errors.New("the section has no keeper payload")
	}
	e.mu.Lock()
	e.cfg = c
	e.mu.Unlock()
	select {
	case e.poke <- struct{}{}:
	default:
	}
	return nil
}

func (e *engine) keep() {
	tick := time.NewTicker(round)
	defer tick.Stop()
	for {
		select {
		case <-e.ctx.Done():
			return
		case <-e.poke:
		case <-tick.C:
		}
		e.mu.Lock()
		c := e.cfg
		e.mu.Unlock()
		if c.Section.Keeper == nil || c.Section.Keeper.Retired {
			continue
		}
		err := keepVault(e.ctx, c, time.Now())
		if e.ctx.Err() != nil {
			return
		}
		e.mu.Lock()
		e.failed = err
		e.mu.Unlock()
	}
}

// keepVault does one round. What fails for one stream does not keep the others from being kept.
func keepVault(ctx context.Context, c engines.Config, now time.Time) error {
	k := c.Section.Keeper
	v, err := c.OpenVault(ctx, k.Vault, "")
	if err != nil {
		return err
	}
	defer v.Close()
	grace := k.CollectAfter.D()
	if grace == 0 {
		grace = vault.Grace
	}
	var failed error
	for _, s := range k.Streams {
		if err := keepStream(ctx, v.Vault, s, now, grace); err != nil && !errors.Is(err, vault.ErrNoStream) {
			failed = errors.Join(failed, fmt.Errorf("stream %s: %w", s.Stream, err))
		}
	}
	return failed
}

func keepStream(ctx context.Context, v *vault.Vault, s api.KeptStream, now time.Time, grace time.Duration) error {
	pruned, err := v.Prune(ctx, s.Stream, func(points []vault.PointInfo) []bool { return keepPoints(points, s, now) })
	if err != nil {
		return err
	}
	compacted, err := v.Compact(ctx, s.Stream)
	if err != nil {
		return err
	}
	collected, err := v.Collect(ctx, s.Stream, now, grace)
	if pruned+compacted.Made+collected.Deleted > 0 {
		slog.Info("kept", "stream", s.Stream, "points gone", pruned, "layers made", compacted.Made, "objects deleted", collected.Deleted)
	}
	return err
}

// keepPoints says which points stay: what a failover or a drill stands on does, and else the retention decides; after a commit
// nothing but the point that was recovered to.
//
// Points grow old by newer ones, not by the clock here: of a machine whose site is gone, or whose link is down, no point expires until there
// is a new one, and a clock that is set wrong for a minute costs none. The newest, by its place in the stream, stays even if the source's clock
// was set back behind an older one's.
func keepPoints(points []vault.PointInfo, s api.KeptStream, now time.Time) []bool {
	if n := len(points); n > 0 && points[n-1].At.Before(now) {
		now = points[n-1].At
	}
	list := make([]retain.Point, len(points))
	for i, p := range points {
		list[i] = retain.Point{At: p.At, App: p.Consistency == "app", Pinned: slices.Contains(s.Pins, p.Seq)}
	}
	keep := retain.Keep(list, retain.Policy{Retention: s.Retention.D()}, now)
	if n := len(keep); n > 0 {
		keep[n-1] = true
	}
	// One that is not there must not cost all the others.
	if s.Only != 0 && slices.ContainsFunc(points, func(p vault.PointInfo) bool { return p.Seq == s.Only }) {
		for i, p := range points {
			keep[i] = p.Seq == s.Only || list[i].Pinned
		}
	}
	return keep
}

// State implements engines.Engine.
func (e *engine) State() api.EngineState {
	e.mu.Lock()
	defer e.mu.Unlock()
	s := api.EngineState{Phase: "keeping", Since: e.since}
	if k := e.cfg.Section.Keeper; k != nil && k.Retired {
		s.Phase = "retired"
		return s
	}
	if e.failed != nil {
		s.Conditions = append(s.Conditions, api.Condition{Code: "VaultNotKept", Severity: api.Warning, Message: e.failed.Error(),
			Impacts: "old recovery points stay, reading gets slower"})
	}
	return s
}

// Close implements engines.Engine.
func (e *engine) Close(context.Context) error {
	e.stop()
	e.work.Wait()
	return nil
}
