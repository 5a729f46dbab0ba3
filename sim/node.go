package sim

import (
	"fmt"
	"slices"
	"strconv"
	"time"

	"github.com/understudy-ha/understudy/api"
	"github.com/understudy-ha/understudy/clock"
	"github.com/understudy-ha/understudy/controller"
	"github.com/understudy-ha/understudy/steward"
)

// node is a machine with an agent, a router or an appliance: the product's steward, and around it what package
// agent does with goroutines, a disk and a kernel.
type node struct {
	w    *world
	m    *machine
	name string // tenant/name
	at   place
	box  *box // of an appliance; nil for a router
	// house is what a node of an estate has besides; nil elsewhere.
	house *house

	core     *steward.Core
	lifeID   string
	sessions []*session // by controller
	pending  []steward.Event
	stepped  clock.Instant // the time of the last step

	wakeDue time.Duration // on the machine's clock
	armed   time.Duration // when the timer comes that is set; 0: none
	wakeSeq int

	asked  map[uint64]func(promised bool)
	lastID uint64

	disk   disk
	kernel kernel
	// seen is the newest state the steward asked to store: it tells the token of what it applies.
	seen steward.State
	// waking: the machine was suspended, and the process has not run since.
	waking bool
	// misled is until when the process may believe a clock that hid a suspension.
	misled time.Duration
}

// disk outlives the process and the machine's boots.
type disk struct {
	state  *steward.State
	grants steward.Grants
}

func (a *node) start() {
	a.m.setPower(running)
	a.lifeID = a.name + "#" + strconv.Itoa(a.m.life)
	a.sessions = make([]*session, len(a.w.hosts))
	a.asked, a.pending, a.armed = map[uint64]func(bool){}, nil, 0
	a.wakeSeq++
	a.kernel.begin()
	if a.house != nil {
		a.house.begin()
	}
	a.waking = false
	a.stepped = a.m.now()
	if a.disk.state != nil {
		a.seen = *a.disk.state
		a.w.check.resumed(a)
	}
	var effects []steward.Effect
	a.core, effects = steward.New(steward.Config{Timing: a.w.timing, Life: a.lifeID, Boot: strconv.Itoa(a.kernel.boot)}, a.stepped, a.disk.state, a.disk.grants)
	if a.house != nil {
		for _, e := range effects {
			if e, ok := e.(steward.Apply); ok {
				a.w.estate.word(a, e)
			}
		}
	}
	a.perform(effects)
	a.step(steward.Wake{})
	for _, h := range a.w.hosts {
		a.redial(h)
	}
}

func (a *node) crash() {
	if a.m.power != off {
		a.m.setPower(off)
		a.w.sessionsLost(a.m)
	}
}

// redial opens a session to a controller, trying until there is one.
func (a *node) redial(h *host) {
	a.m.after(a.w.between(100*time.Millisecond, 1200*time.Millisecond), func(bool) {
		if a.sessions[h.index] == nil {
			a.w.connect(a, h)
		}
		if a.sessions[h.index] == nil {
			a.redial(h)
		}
	})
}

func (a *node) opened(s *session) { a.step(steward.Opened{Session: s.id}) }

func (a *node) closed(s *session) {
	if a.sessions[s.h.index] == s {
		a.sessions[s.h.index] = nil
		a.step(steward.Closed{Session: s.id})
		a.redial(s.h)
	}
}

// receive gives the process what came down a session, unless the session is another by then.
func (a *node) receive(s *session, ev steward.Event) {
	a.m.by(s.id, s.aLife, func(bool) {
		if a.sessions[s.h.index] == s {
			a.step(ev)
		}
	})
}

// step takes an event, and then what the engines answer at once.
func (a *node) step(ev steward.Event) {
	a.pending = append(a.pending, ev)
	a.settle()
}

func (a *node) settle() {
	for len(a.pending) > 0 && a.m.power == running {
		ev := a.pending[0]
		a.pending = a.pending[1:]
		a.stepped = a.m.now()
		effects, again := a.core.Step(a.stepped, ev)
		a.wakeIn(again)
		for _, e := range effects {
			a.issued(e)
		}
		if a.w.faults.freezeNode(a) {
			a.m.by(inHand, a.m.life, func(bool) { a.perform(effects); a.settle() })
			return
		}
		a.perform(effects)
	}
	if a.m.power == running {
		a.waking = false
	}
}

// issued looks at an effect when the steward gives it, before anything can delay it.
func (a *node) issued(e steward.Effect) {
	switch e := e.(type) {
	case steward.Store:
		a.seen = e.State
	case steward.Apply:
		a.w.check.applies(a, e.Section)
		if a.house != nil {
			a.w.estate.word(a, e)
		}
	}
}

func (a *node) perform(effects []steward.Effect) {
	for _, e := range effects {
		a.do(e)
	}
}

func (a *node) do(e steward.Effect) {
	switch e := e.(type) {
	case steward.Store:
		a.store(e)
	case steward.StoreGrants:
		a.disk.grants = e.Grants
	case steward.Apply:
		err := error(nil)
		if a.house != nil {
			a.house.set(e.Section, e.Confirmed)
			a.w.check.applied(a, e.Section)
		} else {
			err = a.apply(e.Section, a.remaining(e.Valid))
		}
		a.w.note(a.m.name, "applies", e.Section.Engine, e.Section.Owner, strconv.FormatInt(e.Section.Generation, 10), errText(err))
		a.pending = append(a.pending, steward.Applied{N: e.N, Engine: e.Section.Engine, Owner: e.Section.Owner, Err: err})
	case steward.Renew:
		if left := a.remaining(e.Valid); left > 0 {
			a.kernel.renew(a, e.Owner, left)
		}
	case steward.Drop:
		a.w.note(a.m.name, "drops", e.Owner)
		var err error
		if a.m.awake() && a.w.faults.applyFails() {
			err = errKernel
		} else {
			a.kernel.hold(a, e.Owner, nil, 0)
		}
		a.pending = append(a.pending, steward.Dropped{Owner: e.Owner, Err: err})
	case steward.Sweep:
		a.kernel.sweep(e.Routes)
	case steward.Ask:
		a.ask(e)
	case steward.Answer:
		if reply := a.asked[e.ID]; reply != nil {
			delete(a.asked, e.ID)
			reply(e.Promised)
		}
	case steward.SendHello:
		if s := a.session(e.Session); s != nil {
			s.hello(controller.AgentHello{Node: a.name, Session: s.id, Life: a.lifeID, Version: "sim", PeerAddress: a.name, Sections: e.Sections, Holds: e.Holds})
		}
	case steward.SendTick:
		if s := a.session(e.Session); s != nil {
			s.toHost(controller.AgentTick{Node: a.name, Session: s.id, Life: a.lifeID, Seq: e.Seq})
		}
	case steward.SendApplied:
		a.w.note(a.m.name, "answers", strconv.FormatUint(e.Push, 10), e.Code, e.Detail)
		if s := a.session(e.Session); s != nil {
			s.toHost(controller.AgentApplied{Node: a.name, Session: s.id, Push: e.Push, Code: e.Code, Detail: e.Detail})
		}
	case steward.SendReport:
		if s := a.session(e.Session); s != nil {
			s.toHost(controller.AgentReport{Node: a.name, Session: s.id, Sections: e.Sections, Holds: e.Holds})
		}
	default:
		a.w.violate(0, fmt.Sprintf("agent effect %T is not known to the simulator", e))
	}
}

// said passes on what an engine's process says of itself.
func (a *node) said(s api.Section, st api.EngineState) {
	a.step(steward.Said{Engine: s.Engine, Owner: s.Owner, State: st})
}

// remaining is what is left of a time that counted from the step, however late its effects are carried out.
func (a *node) remaining(valid time.Duration) time.Duration {
	return valid - a.m.now().AtMostSince(a.stepped)
}

func (a *node) session(id uint64) *session {
	i := slices.IndexFunc(a.sessions, func(s *session) bool { return s != nil && s.id == id })
	if i < 0 {
		return nil
	}
	return a.sessions[i]
}

// store writes to the disk, which takes a moment, sometimes a long one. A crash meanwhile leaves the old state or the new.
func (a *node) store(e steward.Store) {
	w, life, state := a.w, a.m.life, e.State
	d := w.between(500*time.Microsecond, 10*time.Millisecond)
	if w.chance(w.faulty(0.01)) {
		d = w.upTo(2 * time.Second)
	}
	w.after(d, func() {
		if a.m.life == life || w.chance(0.5) && (a.disk.state == nil || a.m.life == life+1 && a.m.power == off) {
			a.disk.state = &state
		}
		a.m.do(life, func(bool) { a.step(steward.Stored{N: e.N}) })
	})
}

// wakeIn keeps one timer: one that is set for earlier asks for the rest when it comes.
func (a *node) wakeIn(d time.Duration) {
	a.wakeDue = a.m.now().Mono + d
	if a.armed == 0 || a.armed > a.wakeDue {
		a.arm()
	}
}

func (a *node) arm() {
	a.armed = a.wakeDue
	a.wakeSeq++
	seq := a.wakeSeq
	a.m.timer(a.m.life, a.armed, func(bool) {
		if seq != a.wakeSeq {
			return
		}
		a.armed = 0
		if a.m.now().Mono < a.wakeDue {
			a.arm()
			return
		}
		a.step(steward.Wake{})
	})
}

// ask carries a question to another candidate and the answer back; late answers are dropped.
func (a *node) ask(e steward.Ask) {
	w, o, life, asked := a.w, a.w.nodeNamed(e.Address), a.m.life, a.w.now
	a.w.note(a.m.name, "asks", e.Candidate, e.Owner)
	if o == nil {
		return
	}
	w.net.send(a.at, o.at, func() {
		o.m.do(o.m.life, func(bool) {
			o.lastID++
			o.asked[o.lastID] = func(promised bool) {
				w.note(o.m.name, "promises", a.name, strconv.FormatBool(promised))
				w.net.send(o.at, a.at, func() {
					a.m.do(life, func(bool) {
						if w.now-asked <= w.timing.TickEvery() {
							a.step(steward.Answered{Round: e.Round, Owner: e.Owner, Candidate: e.Candidate, Promised: promised})
						}
					})
				})
			}
			o.step(steward.Asked{ID: o.lastID, Owner: e.Owner, Node: a.name})
		})
	})
}

func (w *world) nodeNamed(name string) *node {
	for _, n := range w.nodes {
		if n.name == name {
			return n
		}
	}
	return nil
}
