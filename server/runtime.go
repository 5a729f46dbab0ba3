package server

import (
	"context"
	"log/slog"
	"sync"
	"sync/atomic"

	"github.com/understudy-ha/understudy/api"
	"github.com/understudy-ha/understudy/cloud"
	"github.com/understudy-ha/understudy/controller"
	"github.com/understudy-ha/understudy/health"
	"github.com/understudy-ha/understudy/store"
)

// runtime is everything around the loop that steps controller.Core: agents, other controllers, probes, clouds, hooks
// and the store's watch bring it events; it carries its effects out.
type runtime struct {
	s        *Server
	loop     *loop
	sessions *sessions
	peers    *peers
	probing  *probing
	drivers  *drivers
	hooks    *hooks
	recorder *recorder

	mu       sync.Mutex
	leadCtx  context.Context // ends with this leadership; it has ended while not leading
	leadStop context.CancelFunc
	isLeader atomic.Bool
	epoch    atomic.Int64
}

func newRuntime(s *Server) *runtime {
	rt := &runtime{s: s}
	rt.leadCtx, rt.leadStop = context.WithCancel(context.Background())
	rt.leadStop()
	core := controller.New(controller.Config{Self: s.name, Controllers: s.cfg.ControllerNames(), Timing: s.cfg.Timing(),
		ClusterID: s.cluster.ClusterID, Planners: s.opt.Planners, Version: s.opt.Version})
	rt.sessions = newSessions(rt)
	rt.peers = newPeers(s)
	rt.probing = newProbing(rt)
	rt.hooks = &hooks{dir: s.cfg.HooksDir}
	rt.drivers = newDrivers(s)
	rt.recorder = newRecorder(s)
	rt.loop = newLoop(&timed{core, s.metrics}, s.cfg.Timing().TTL, loopPorts{store: &timedStore{s.store, s.metrics}, driver: rt.driver,
		hook: rt.hook, choose: rt.choose, probe: rt.probing.set, tell: rt.peers.tell, send: rt.sessions.effect, record: rt.recorder.record, lead: rt.lead},
		newFailpoints(s.opt.FailpointFile))
	return rt
}

// leading tells whether this controller leads, and the epoch last seen.
func (rt *runtime) leading() (bool, int64) { return rt.isLeader.Load(), rt.epoch.Load() }

// storeChanged takes the store's deliveries, from the hub.
func (rt *runtime) storeChanged(b store.Batch) { rt.loop.post(controller.Changed{Batch: b}) }

// run steps the core until ctx ends and the lease was given back; everything around it ends after that.
func (rt *runtime) run(ctx context.Context) {
	inner, cancel := context.WithCancel(context.Background())
	var work sync.WaitGroup
	for _, f := range []func(context.Context){rt.peers.run, rt.probing.run, rt.recorder.run, rt.watchNodes, rt.watchGroups, rt.checkGroups, rt.keepMirrors} {
		work.Go(func() { f(inner) })
	}
	rt.loop.run(ctx)
	rt.lead(false, rt.epoch.Load())
	cancel()
	work.Wait()
	rt.drivers.close()
}

// lead follows leadership: what a leader has under way in clouds ends with it.
func (rt *runtime) lead(leading bool, epoch int64) {
	rt.mu.Lock()
	defer rt.mu.Unlock()
	was := rt.isLeader.Swap(leading)
	rt.epoch.Store(epoch)
	rt.s.metrics.epoch.Set(float64(epoch))
	rt.leadStop()
	if leading {
		rt.leadCtx, rt.leadStop = context.WithCancel(context.Background())
		rt.s.metrics.leading.Set(1)
		slog.Info("leading", "epoch", epoch)
		return
	}
	rt.s.metrics.leading.Set(0)
	if was {
		slog.Info("not leading any more", "epoch", epoch)
	}
}

// whileLeading gives ctx an end with the leadership that holds now.
func (rt *runtime) whileLeading(ctx context.Context) (context.Context, context.CancelFunc) {
	rt.mu.Lock()
	leadership := rt.leadCtx
	rt.mu.Unlock()
	ctx, cancel := context.WithCancel(ctx)
	stop := context.AfterFunc(leadership, cancel)
	return ctx, func() { stop(); cancel() }
}

// driver gives a provider's driver, bound to the leadership that holds now.
func (rt *runtime) driver(p *api.Provider) (cloud.Driver, error) {
	d, err := rt.drivers.of(p)
	return &leaderDriver{d, rt}, err
}

// leaderDriver stops writing to a cloud when leadership ends.
type leaderDriver struct {
	cloud.Driver
	rt *runtime
}

// Do implements cloud.Driver.
func (d *leaderDriver) Do(ctx context.Context, token api.Token, step api.Step) (string, error) {
	ctx, cancel := d.rt.whileLeading(ctx)
	defer cancel()
	return d.Driver.Do(ctx, token, step)
}

func (rt *runtime) hook(ctx context.Context, e controller.Execute) (string, error) {
	ctx, cancel := rt.whileLeading(ctx)
	defer cancel()
	return rt.hooks.run(ctx, e)
}

// heard takes another controller's opinions.
func (rt *runtime) heard(observer string, opinions []health.Opinion, full bool) {
	rt.peers.noteHeard(observer)
	rt.loop.post(controller.Heard{Observer: observer, Opinions: opinions, Full: full})
}

// watchGroups keeps the metrics of groups, and counts jobs that end.
func (rt *runtime) watchGroups(ctx context.Context) {
	sub, err := rt.s.hub.subscribeWait(ctx, func(r api.Ref) bool { return r.Kind == api.KindApplianceGroup || r.Kind == api.KindJob })
	if err != nil {
		return // ctx has ended
	}
	defer sub.close()
	running := map[api.Ref]bool{}
	for {
		for _, d := range sub.take() {
			switch o := d.object.(type) {
			case *api.ApplianceGroup:
				rt.s.metrics.group(o)
			case *api.Job:
				ended := o.Status.Phase.Ended()
				if running[d.ref] && ended {
					rt.s.metrics.jobs.WithLabelValues(string(o.Spec.Subject.Kind), string(o.Spec.Kind), string(o.Status.Phase)).Inc()
				}
				running[d.ref] = !ended
			}
			if d.gone {
				delete(running, d.ref)
				if d.ref.Kind == api.KindApplianceGroup {
					rt.s.metrics.forget(d.ref.Tenant, d.ref.Name)
				}
			}
		}
		select {
		case <-ctx.Done():
			return
		case <-sub.wake:
		}
	}
}
