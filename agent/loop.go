package agent

import (
	"context"
	"fmt"
	"log/slog"
	"sync"
	"time"

	"github.com/understudy-ha/understudy/api"
	"github.com/understudy-ha/understudy/clock"
	"github.com/understudy-ha/understudy/hostnet"
	"github.com/understudy-ha/understudy/lead"
	"github.com/understudy-ha/understudy/steward"
)

// eventQueue is how many events wait for the loop. When it is full, who brings the next one waits.
const eventQueue = 256

// loop drives the steward and carries out its effects.
type loop struct {
	cfg     Config
	id      *identity
	disk    *disk
	engines *hostEngines
	life    string
	core    *steward.Core
	log     *slog.Logger
	peers   *peers

	events  chan steward.Event
	done    chan struct{}     // closed when run has ended
	said    map[string]string // what was last logged of a section
	pending []steward.Event   // answers of engines, taken before anything else
	again   time.Duration
	at      clock.Instant // of the last step

	mu       sync.Mutex
	sessions map[uint64]*session
	lastID   uint64
	asked    map[uint64]chan steward.Answer // promises that others wait for
}

func newLoop(cfg Config, id *identity, d *disk, e *hostEngines, life string) *loop {
	l := &loop{cfg: cfg, id: id, disk: d, engines: e, life: life, log: cfg.Log, peers: newPeers(id),
		events: make(chan steward.Event, eventQueue), done: make(chan struct{}), said: map[string]string{}, sessions: map[uint64]*session{}, asked: map[uint64]chan steward.Answer{}}
	d.stored = func(s steward.Stored) { l.post(s) }
	return l
}

// run steps until ctx ends. Nothing in it waits for the disk or the network.
func (l *loop) run(ctx context.Context) error {
	defer l.peers.close()
	defer close(l.done)
	l.settle()
	l.engines.roles.setReady()
	timer := time.NewTimer(0)
	defer timer.Stop()
	for {
		select {
		case <-ctx.Done():
			return nil
		case ev := <-l.events:
			l.step(ev)
		case <-timer.C:
			l.step(steward.Wake{})
		}
		timer.Reset(l.again)
	}
}

func (l *loop) step(ev steward.Event) {
	l.pending = append(l.pending, ev)
	l.settle()
}

// settle steps until no engine has anything more to say.
func (l *loop) settle() {
	for len(l.pending) > 0 {
		ev := l.pending[0]
		l.pending = l.pending[1:]
		var effects []steward.Effect
		l.at = clock.System()
		effects, l.again = l.core.Step(l.at, ev)
		l.perform(effects)
	}
}

// left is what is left of a time that counts from the last step. The process may have been stopped since: what it then
// does late must not make a right longer.
func (l *loop) left(valid time.Duration) time.Duration {
	return valid - clock.System().AtMostSince(l.at)
}

// perform carries out effects in their order.
func (l *loop) perform(effects []steward.Effect) {
	for _, e := range effects {
		switch e := e.(type) {
		case steward.Store:
			l.disk.store(e)
		case steward.StoreGrants:
			l.disk.storeGrants(e.Grants)
		case steward.Apply:
			err := l.engines.apply(e, l.left(e.Valid))
			l.tell(e.Section, err)
			l.pending = append(l.pending, steward.Applied{N: e.N, Engine: e.Section.Engine, Owner: e.Section.Owner, Err: err})
		case steward.Renew:
			if err := l.engines.addresses.Renew(e.Owner, l.left(e.Valid)); err != nil {
				l.log.Warn("addresses not renewed", "owner", e.Owner, "err", err)
			}
		case steward.Drop:
			err := l.engines.addresses.Set(e.Owner, nil, 0)
			if err != nil {
				l.log.Error("grant is over, but its addresses do not go", "owner", e.Owner, "err", err)
			} else {
				l.log.Warn("grant is over; addresses given up", "owner", e.Owner)
			}
			l.pending = append(l.pending, steward.Dropped{Owner: e.Owner, Err: err})
		case steward.Sweep:
			if err := l.engines.sweep(e.Routes); err != nil {
				l.log.Warn("what an earlier life left was not removed", "err", err)
			}
		case steward.Ask:
			l.peers.ask(e, l.id.timing().TickEvery(), l.post)
		case steward.Answer:
			l.answer(e)
		default:
			l.send(e)
		}
	}
}

// post brings an event to the loop from another goroutine.
func (l *loop) post(ev steward.Event) {
	select {
	case l.events <- ev:
	case <-l.done:
	}
}

// engineSaid takes what an engine's process tells of itself.
func (l *loop) engineSaid(engine, owner string, s api.EngineState) {
	l.post(steward.Said{Engine: engine, Owner: owner, State: s})
}

// tell logs how a section was taken, once.
func (l *loop) tell(s api.Section, err error) {
	text := fmt.Sprint(s.Generation, err)
	if key := lead.SectionKey(s.Engine, s.Owner); l.said[key] != text {
		l.said[key] = text
		log := l.log.With("engine", s.Engine, "owner", s.Owner, "generation", s.Generation)
		if err != nil {
			log.Warn("section not applied", "err", err)
		} else {
			log.Info("section applied")
		}
	}
}

// How often the kernel is compared with what is wanted: after a change at most every settleTime, and now and then anyway.
const (
	settleTime  = 20 * time.Millisecond
	repairEvery = 5 * time.Second
)

// watchKernel puts right what others change.
func (l *loop) watchKernel(ctx context.Context) error {
	for ctx.Err() == nil {
		changes, err := l.engines.net.Watch(ctx, l.engines.routes.Wants)
		if err != nil {
			return err
		}
		for l.awaitChange(ctx, changes) {
			l.repair(api.EngineRoutes, l.engines.routes.Repair)
			l.repair(api.EngineAddresses, l.engines.addresses.Repair)
			sleep(ctx, settleTime)
		}
		sleep(ctx, time.Second) // the watch broke; watch anew
	}
	return nil
}

// awaitChange tells whether to look at the kernel; false means that the watch ended.
func (l *loop) awaitChange(ctx context.Context, changes <-chan struct{}) bool {
	select {
	case <-ctx.Done():
		return false
	case _, open := <-changes:
		if !open {
			return false
		}
	case <-time.After(repairEvery):
	}
	return true
}

func (l *loop) repair(engine string, f func() (map[string]int, error)) {
	counts, err := f()
	failed := hostnet.ByOwner(err)
	for owner, n := range counts {
		l.log.Warn("the kernel was changed by others and put right", "engine", engine, "owner", owner, "changes", n)
		l.post(steward.Repaired{Engine: engine, Owner: owner, Count: n, Err: failed[owner]})
		delete(failed, owner)
	}
	for owner, err := range failed {
		l.post(steward.Repaired{Engine: engine, Owner: owner, Err: err})
	}
}

func sleep(ctx context.Context, d time.Duration) {
	select {
	case <-ctx.Done():
	case <-time.After(d):
	}
}
