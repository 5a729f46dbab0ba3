// Package steward is what an agent decides: which pushes may take effect, which grants
// are still good, whom to ask for promises, what to tell the controllers. It is a
// plain value: events and the time go in, effects come out. package agent carries
// the effects out on a real host, package sim in a simulated one.
//
//	push ─► admitted? ─► stored on disk ─► still admitted? ─► engines ─► answered
//	            │                               │
//	            └───────── refused ◄────────────┘
//
// Pushes go through one after the other. What is on disk is therefore always at least
// as new as what the engines have, and after a crash the engines are given what is on disk.
package steward

import (
	"maps"
	"slices"
	"time"

	"github.com/understudy-ha/understudy/api"
	"github.com/understudy-ha/understudy/clock"
	"github.com/understudy-ha/understudy/lead"
	"github.com/understudy-ha/understudy/mutant"
)

// retryEvery is how often a section is tried again that an engine refused.
const retryEvery = time.Second

// redropEvery is how often addresses are taken away again that would not go.
const redropEvery = 100 * time.Millisecond

// Config of one life of an agent.
type Config struct {
	Timing lead.Timing
	// Life is random, one a process.
	Life string
	// Boot names the boot of the machine: grants of another boot are void.
	Boot string
}

// Core is an agent's decisions. One goroutine drives it.
type Core struct {
	cfg    Config
	gate   *lead.Gate
	holder *lead.Holder
	now    clock.Instant
	out    []Effect

	sessions map[uint64]*session
	greeting map[uint64]bool // sessions whose welcome is to come: has something changed since the hello?
	seq      uint64
	ticks    []tick // of the last Hold, oldest first
	nextTick clock.Instant

	sections map[string]*section // by lead.SectionKey
	queue    []*push             // the first is being worked on
	stores   uint64              // Store effects so far
	applies  uint64              // Apply effects so far
	onDisk   State               // newest that a Store was asked for

	grantsOnDisk map[string]clock.Instant // nil: not known

	rounds    map[string]*round // of promises, by owner
	lastRound uint64
	undropped map[string]clock.Instant // owner whose addresses would not go → when to try again
	backstop  map[string]clock.Instant // owner → when the kernel itself ends its addresses

	dirty bool // the controllers have not been told the newest
}

// session is a connection to one controller whose welcome came.
type session struct {
	cluster string
	proven  bool
}

type tick struct {
	seq uint64
	at  clock.Instant
}

// section is one part of the config.
type section struct {
	want api.Section
	// token of want.
	token api.Token
	// applied is the newest token that took effect.
	applied  api.Token
	err      string
	repaired int64
	retryAt  clock.Instant // zero: no need
	applyN   uint64        // the newest Apply
	// confirmed: in this life a leader said that the section's generation holds.
	confirmed bool
	secrets   map[string]map[string]string
	state     *api.EngineState // what the engine's process last said
}

// New starts an agent with what an earlier life left: state nil if there is nothing on disk. The effects bring the engines to
// where they were, and then remove what nobody wants any more.
func New(cfg Config, now clock.Instant, state *State, grants Grants) (*Core, []Effect) {
	c := &Core{cfg: cfg, now: now, sessions: map[uint64]*session{}, greeting: map[uint64]bool{}, sections: map[string]*section{},
		rounds: map[string]*round{}, undropped: map[string]clock.Instant{}, backstop: map[string]clock.Instant{}, nextTick: now}
	c.holder = lead.NewHolder(cfg.Timing, now)
	if state != nil {
		c.onDisk = state.clone()
	}
	c.gate = lead.NewGate(cfg.Timing, c.onDisk.clone().Gate)
	if grants.Boot == cfg.Boot {
		for owner, since := range grants.Since {
			c.holder.Restore(owner, since)
		}
	}
	c.holder.Expired(now)
	for _, key := range slices.Sorted(maps.Keys(c.onDisk.Sections)) {
		c.resume(key, c.onDisk.Sections[key])
	}
	c.do(Sweep{Routes: state != nil})
	c.storeGrants()
	return c, c.take()
}

// resume gives an engine what was kept for it. Addresses need a grant that is still good.
func (c *Core) resume(key string, k Kept) {
	s := &section{want: k.Section, token: k.Token, secrets: k.Secrets, confirmed: mutant.On(mutant.WordFromDisk)}
	c.sections[key] = s
	if holdsAny(k.Section) && !c.holder.Holds(c.now, k.Section.Owner) {
		s.err = errGrantOver
		return
	}
	c.apply(s)
}

// Step takes one event at now. It gives what is to be done, in this order, and when the next Wake is due at the latest.
func (c *Core) Step(now clock.Instant, ev Event) ([]Effect, time.Duration) {
	c.now = now
	c.expire()
	switch e := ev.(type) {
	case Wake:
	case Opened:
		c.greeting[e.Session] = false
		c.do(SendHello{Session: e.Session, Report: c.Report()})
	case Welcomed:
		if c.greeting[e.Session] {
			c.do(SendReport{Session: e.Session, Report: c.Report()})
		}
		delete(c.greeting, e.Session)
		c.sessions[e.Session] = &session{e.Cluster, e.Proven}
		c.sendTick(e.Session)
	case Closed:
		delete(c.greeting, e.Session)
		delete(c.sessions, e.Session)
	case Echoed:
		c.echoed(e)
	case Pushed:
		c.pushed(e)
	case Stored:
		c.storeDone(e)
	case Applied:
		c.applied(e)
	case Dropped:
		c.dropped(e)
	case Repaired:
		c.repaired(e)
	case Said:
		c.said(e)
	case Asked:
		c.asked(e)
	case Answered:
		c.answered(e)
	}
	c.ripe()
	return c.take(), c.again()
}

// ripe does what is due.
func (c *Core) ripe() {
	if !c.now.Before(c.nextTick) {
		c.nextTick = c.now.Add(c.cfg.Timing.TickEvery())
		c.sendTick(slices.Sorted(maps.Keys(c.sessions))...)
	}
	for _, key := range slices.Sorted(maps.Keys(c.sections)) {
		s := c.sections[key]
		if s.retryAt.IsZero() || c.now.Before(s.retryAt) {
			continue
		}
		if s.retryAt = (clock.Instant{}); !holdsAny(s.want) || c.holder.Holds(c.now, s.want.Owner) {
			c.apply(s)
		}
	}
	for _, owner := range slices.Sorted(maps.Keys(c.undropped)) {
		if !c.now.Before(c.undropped[owner]) {
			c.drop(owner)
		}
	}
	c.refresh()
	c.askForPromises()
	c.report()
}

// again is the time until something falls due.
func (c *Core) again() time.Duration {
	d := c.nextTick.Since(c.now)
	for _, s := range c.sections {
		if !s.retryAt.IsZero() {
			d = min(d, s.retryAt.Since(c.now))
		}
	}
	for _, at := range c.undropped {
		d = min(d, at.Since(c.now))
	}
	for owner := range c.holder.Grants() {
		d = min(d, c.left(owner), c.untilRefresh(owner))
	}
	return max(d, 0)
}

// sendTick sends one new tick to the sessions.
func (c *Core) sendTick(sessions ...uint64) {
	if len(sessions) == 0 {
		return
	}
	c.seq++
	c.ticks = append(c.ticks, tick{c.seq, c.now})
	for len(c.ticks) > 0 && c.now.Since(c.ticks[0].at) > c.cfg.Timing.Hold() {
		c.ticks = c.ticks[1:]
	}
	for _, s := range sessions {
		c.do(SendTick{Session: s, Seq: c.seq})
	}
}

// sentAt is when this life sent the tick; zero if it did not, or long ago.
func (c *Core) sentAt(life string, seq uint64) clock.Instant {
	if life != c.cfg.Life {
		return clock.Instant{}
	}
	for _, t := range c.ticks {
		if t.seq == seq {
			return t.at
		}
	}
	return clock.Instant{}
}

// proven tells whether the session's controller showed the CA's signature for the cluster.
func (c *Core) proven(id uint64, cluster string) bool {
	s := c.sessions[id]
	return s != nil && s.proven && s.cluster == cluster
}

func (c *Core) do(e Effect) { c.out = append(c.out, e) }

func (c *Core) take() []Effect {
	out := c.out
	c.out = nil
	return out
}
