package server

import (
	"context"
	"log/slog"
	"sync"
	"time"

	"github.com/understudy-ha/understudy/api"
	"github.com/understudy-ha/understudy/clock"
	"github.com/understudy-ha/understudy/cloud"
	"github.com/understudy-ha/understudy/controller"
	"github.com/understudy-ha/understudy/health"
	"github.com/understudy-ha/understudy/store"
)

// loopQueue is how many events wait for the loop. Whoever posts one more waits: probes and sessions slow down
// rather than grow memory.
const loopQueue = 4096

// loopPorts is what the loop's effects reach. Every function must return soon; what takes time happens elsewhere.
type loopPorts struct {
	store store.Store
	// driver gives the cloud driver of a provider.
	driver func(*api.Provider) (cloud.Driver, error)
	// hook runs a webhook or program, until ctx ends.
	hook func(ctx context.Context, e controller.Execute) (outcome string, err error)
	// choose finds a recovery point in a vault, until ctx ends.
	choose func(ctx context.Context, e controller.Execute) (*api.RecoveryPoint, error)
	// probe replaces the probe targets.
	probe func([]controller.Target)
	// tell sends opinions to every other controller.
	tell func(opinions []health.Opinion, full bool)
	// send delivers an Echo or a Push to an agent's session; dropped if there is none any more.
	send func(node string, session uint64, e controller.Effect)
	// record keeps an event for people.
	record func(api.Event)
	// lead tells that this controller began or ceased to lead.
	lead func(leading bool, epoch int64)
}

// loop is the real shell around a controller.Core: the only goroutine that steps it. Effects that take time run in
// goroutines of their own and come back as events.
type loop struct {
	core   controller.Stepper
	ports  loopPorts
	ttl    time.Duration
	events chan controller.Event
	failed *failpoints

	ctx    context.Context // of work under way
	cancel context.CancelFunc
	work   sync.WaitGroup
	done   chan struct{}
}

func newLoop(core controller.Stepper, ttl time.Duration, ports loopPorts, f *failpoints) *loop {
	l := &loop{core: core, ports: ports, ttl: ttl, failed: f, events: make(chan controller.Event, loopQueue), done: make(chan struct{})}
	l.ctx, l.cancel = context.WithCancel(context.Background())
	return l
}

// post hands an event to the loop. It waits while the queue is full, and drops the event once the loop has ended.
func (l *loop) post(ev controller.Event) {
	select {
	case l.events <- ev:
	case <-l.done:
	}
}

// run steps the machine until it has stopped. When ctx ends it is asked to stop: it finishes what is under way and gives
// the lease back, but for at most one ttl.
func (l *loop) run(ctx context.Context) {
	defer l.finish()
	wake := time.NewTimer(0)
	defer wake.Stop()
	stop, patience := ctx.Done(), (<-chan time.Time)(nil)
	for {
		var ev controller.Event
		select {
		case ev = <-l.events:
		case <-wake.C:
			ev = controller.Wake{}
		case <-stop:
			stop, patience = nil, time.After(l.ttl)
			ev = controller.Stop{}
		case <-patience:
			slog.Warn("stopping without having given the lease back", "waited", l.ttl)
			return
		}
		for _, e := range l.core.Step(clock.System(), ev) {
			switch e := e.(type) {
			case controller.WakeIn:
				wake.Reset(e.In)
			case controller.Stopped:
				return
			default:
				l.perform(e)
			}
		}
	}
}

func (l *loop) finish() {
	close(l.done)
	l.cancel()
	l.work.Wait()
}

// aside runs f in a goroutine of its own and posts what it gives.
func (l *loop) aside(limit time.Duration, f func(ctx context.Context) controller.Event) {
	l.work.Go(func() {
		ctx, cancel := l.ctx, context.CancelFunc(func() {})
		if limit > 0 {
			ctx, cancel = context.WithTimeout(l.ctx, limit)
		}
		defer cancel()
		l.post(f(ctx))
	})
}

func (l *loop) perform(e controller.Effect) {
	switch e := e.(type) {
	case controller.Transact:
		l.aside(l.ttl, func(ctx context.Context) controller.Event {
			revs, err := l.ports.store.Txn(ctx, e.Conds, e.Ops)
			return controller.TxnDone{ID: e.ID, Revs: revs, Err: err}
		})
	case controller.Read:
		l.aside(l.ttl, func(ctx context.Context) controller.Event { return readAfresh(ctx, l.ports.store, e) })
	case controller.Execute:
		l.aside(e.Step.Deadline.D(), func(ctx context.Context) controller.Event { return l.execute(ctx, e) })
	case controller.Observe:
		l.aside(time.Minute, func(ctx context.Context) controller.Event { return l.observe(ctx, e) })
	case controller.Probe:
		l.ports.probe(e.Targets)
	case controller.Tell:
		l.ports.tell(e.Opinions, e.Full)
	case controller.Echo:
		l.ports.send(e.Node, e.Session, e)
	case controller.Push:
		l.ports.send(e.Node, e.Session, e)
	case controller.Record:
		l.ports.record(e.Event)
	case controller.Lead:
		l.ports.lead(e.Leading, e.Epoch)
	case controller.Boundary:
		l.failed.reached(e)
	}
}
