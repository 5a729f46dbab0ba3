package controller

import (
	"cmp"
	"slices"
	"time"

	"github.com/understudy-ha/understudy/api"
	"github.com/understudy-ha/understudy/clock"
	"github.com/understudy-ha/understudy/lead"
	"github.com/understudy-ha/understudy/store"
)

// Core is one controller's mind. Driven by one goroutine: Step is not safe for concurrent use.
type Core struct {
	cfg Config
	now clock.Instant
	out []Effect

	elector           *lead.Elector
	leading           bool
	fresh             bool // since leadership began, everything was read once
	lead              leadSeen
	leadReads         int           // reads of the election's keys under way
	leadReadNotBefore time.Duration // Mono

	lastID    uint64
	txns      map[uint64]func(TxnDone)
	reads     map[uint64]func(ReadDone)
	providers map[api.Ref]*api.Provider
	subjects  map[api.Ref]driven
	order     []driven // the subjects, sorted by reference
	groups    map[api.Ref]*group
	things    map[api.Ref]api.Object // what machines refer to
	secrets   map[api.Ref]store.Rev
	standing  standing
	refusals  map[string]string // of requests that a step waits for, by id
	jobs      map[api.Ref]jobEntry
	steps     uint64               // counts calls of Step
	learned   map[string]uint64    // by key: the step that brought its state
	own       map[string]store.Rev // by key: what was written here and the watch has not shown yet
	agents    map[string]*agent
	// unanswered pushes, and when they were sent; of those too that nobody waits for any more.
	unanswered map[uint64]clock.Instant
	told       clock.Instant // when opinions were last told in full
	stopping   bool
	stopped    bool

	timers []timer
}

// timer is something that wants to be looked at again.
type timer struct {
	at  time.Duration // Mono
	run func()
}

// New makes a controller that has seen nothing yet. Its first Step must be a Wake.
func New(cfg Config) *Core {
	c := &Core{cfg: cfg, elector: lead.NewElector(cfg.Self, cfg.Timing),
		txns: map[uint64]func(TxnDone){}, reads: map[uint64]func(ReadDone){},
		providers: map[api.Ref]*api.Provider{}, subjects: map[api.Ref]driven{}, things: map[api.Ref]api.Object{}, secrets: map[api.Ref]store.Rev{}, refusals: map[string]string{}, groups: map[api.Ref]*group{},
		jobs: map[api.Ref]jobEntry{}, learned: map[string]uint64{}, own: map[string]store.Rev{}, agents: map[string]*agent{}, unanswered: map[uint64]clock.Instant{}}
	return c
}

// Step takes one event at now and gives what is to be done about it, in order.
func (c *Core) Step(now clock.Instant, ev Event) []Effect {
	c.now, c.out = now, nil
	c.steps++
	if c.stopped {
		return nil
	}
	c.checkLeading()
	switch e := ev.(type) {
	case Changed:
		c.changed(e)
	case TxnDone:
		c.txnDone(e)
	case ReadDone:
		c.readDone(e)
	case Probed:
		c.probed(e)
	case Heard:
		c.heard(e)
	case AgentHello:
		c.agentHello(e)
	case AgentReport:
		c.agentReport(e)
	case AgentTick:
		c.agentTick(e)
	case AgentApplied:
		c.agentApplied(e)
	case AgentGone:
		c.agentGone(e)
	case StepDone:
		c.stepDone(e)
	case Observed:
		c.observed(e)
	case Checked:
		c.checked(e)
	case Stop:
		c.stopping = true
	}
	c.runTimers()
	c.electionTurn()
	c.tellTurn()
	c.driveDirty()
	c.giveOrders()
	c.stopTurn()
	c.out = append(c.out, WakeIn{In: c.nextWake()})
	return c.out
}

func (c *Core) do(e Effect) { c.out = append(c.out, e) }

// after runs f once d has passed, at the next Step.
func (c *Core) after(d time.Duration, f func()) {
	t := timer{at: c.now.Mono + max(d, 0), run: f}
	i, _ := slices.BinarySearchFunc(c.timers, t, func(a, b timer) int { return cmp.Or(cmp.Compare(a.at, b.at), -1) })
	c.timers = slices.Insert(c.timers, i, t)
}

func (c *Core) runTimers() {
	for len(c.timers) > 0 && c.timers[0].at <= c.now.Mono {
		t := c.timers[0]
		c.timers = c.timers[1:]
		t.run()
	}
}

// nextWake is the time until something is due.
func (c *Core) nextWake() time.Duration {
	d := c.cfg.Timing.RenewEvery()
	if len(c.timers) > 0 {
		d = min(d, c.timers[0].at-c.now.Mono)
	}
	return max(d, time.Millisecond)
}

// stopTurn lets go of the lease once nothing is under way any more, and then stops.
func (c *Core) stopTurn() {
	if !c.stopping || c.leading && c.busy() {
		return
	}
	c.elector.Resign() // one that does not lead must not begin to
	if !c.leading && !c.elector.InFlight() {
		c.stopped = true
		c.do(Stopped{})
	}
}

// busy tells whether effects are under way that a successor would not expect. A push without an answer may still be let
// in by an agent that is slow to read it, for as long as a successor waits when nothing was given back.
func (c *Core) busy() bool {
	c.dropUnanswered()
	if len(c.unanswered) > 0 {
		return true
	}
	for _, d := range c.order {
		s := d.base()
		if s.writing {
			return true
		}
		for _, r := range s.runs {
			if !r.waits() {
				return true
			}
		}
	}
	return false
}

// dropUnanswered forgets pushes that no agent can let in any more.
func (c *Core) dropUnanswered() {
	for id, at := range c.unanswered {
		if c.now.Since(at) >= c.cfg.Timing.Wait() {
			delete(c.unanswered, id)
		}
	}
}

// sortedGroups lists the groups in a fixed order, for the sake of reproducible runs.
func (c *Core) sortedGroups() []*group {
	out := make([]*group, 0, len(c.groups))
	for _, g := range c.groups {
		out = append(out, g)
	}
	slices.SortFunc(out, func(a, b *group) int { return cmp.Compare(a.ref.String(), b.ref.String()) })
	return out
}
