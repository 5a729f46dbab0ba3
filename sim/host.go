package sim

import (
	"errors"
	"fmt"
	"strconv"
	"time"

	"github.com/understudy-ha/understudy/api"
	"github.com/understudy-ha/understudy/cloud"
	"github.com/understudy-ha/understudy/controller"
	"github.com/understudy-ha/understudy/health"
	"github.com/understudy-ha/understudy/steward"
	"github.com/understudy-ha/understudy/store"
)

// host is a controller: the product's core, and around it what package server does with goroutines.
type host struct {
	w     *world
	m     *machine
	index int
	at    place
	core  controller.Stepper
	watch *watch

	wakeDue time.Duration // on the machine's clock
	armed   time.Duration // when the timer comes that is set; 0: none
	wakeSeq int

	probing  int // numbers the sets of targets
	shadow   shadows
	sessions []*session // open at this side

	// epoch that the core leads with, 0 if it does not; as of its last Step.
	epoch int64
	// told is when the newest opinions sent to each other controller arrive.
	told []time.Duration
}

func (h *host) start() {
	h.m.setPower(running)
	h.core = controller.New(h.w.coreConfig(h))
	h.epoch, h.sessions = 0, nil
	h.wakeSeq++
	h.armed = 0
	h.probing++
	h.shadow.reset(h.w.now)
	life := h.m.life
	h.watch = h.w.store.watch(h.at, func(b store.Batch) {
		h.receive(life, controller.Changed{Batch: b})
	})
	h.step(controller.Wake{})
}

// crash ends the process. It keeps nothing.
func (h *host) crash() {
	if h.m.power == off {
		return
	}
	h.m.setPower(off)
	h.watch.end()
	h.w.sessionsLost(h.m)
}

// receive gives the process an event, now or when it runs again.
func (h *host) receive(life int, ev controller.Event) {
	h.m.do(life, func(bool) { h.step(ev) })
}

func (h *host) step(ev controller.Event) {
	h.w.traceEvent(h, ev)
	effects := h.core.Step(h.m.now(), ev)
	for _, e := range effects {
		h.w.check.issued(h, e)
	}
	if h.w.faults.freezeBeforeEffects(h, effects) {
		life := h.m.life
		h.m.by(inHand, life, func(bool) { h.perform(effects) })
		return
	}
	h.perform(effects)
}

// perform does what the core wants, in order. A fault at a boundary may stop it there: for good, or until later.
func (h *host) perform(effects []controller.Effect) {
	for i, e := range effects {
		b, ok := e.(controller.Boundary)
		if !ok {
			h.do(e)
			continue
		}
		life := h.m.life
		h.w.faults.boundary(h, b)
		if h.m.life != life || h.m.power == off {
			return
		}
		if h.m.power != running {
			rest := effects[i+1:]
			h.m.by(inHand, life, func(bool) { h.perform(rest) })
			return
		}
	}
}

func (h *host) do(e controller.Effect) {
	life := h.m.life
	switch e := e.(type) {
	case controller.Transact:
		h.w.traceTxn(h, e)
		meta := h.w.check.txn(h, e)
		h.w.store.txn(h.at, e.Conds, e.Ops, func() { h.w.check.committed(meta, e.Ops) }, func(revs []store.Rev, err error) {
			h.receive(life, controller.TxnDone{ID: e.ID, Revs: revs, Err: err})
		})
	case controller.Read:
		h.w.store.read(h.at, e.Keys, e.Prefixes, func(entries []store.Entry, err error) {
			h.receive(life, controller.ReadDone{ID: e.ID, Entries: entries, Err: err})
		})
	case controller.Probe:
		h.probe(e.Targets)
	case controller.Tell:
		h.tell(e)
	case controller.Echo:
		if s := h.session(e.Session); s != nil {
			s.down.send(func() {
				s.a.receive(s, steward.Echoed{Session: s.id, Life: e.Life, Seq: e.Seq, Cluster: clusterID, Epoch: e.Epoch, Renews: e.Renews})
			})
		}
	case controller.Push:
		if s := h.session(e.Session); s != nil {
			h.w.note(h.m.name, "push", e.Node, strconv.FormatInt(e.Token.Epoch, 10), strconv.FormatInt(e.Token.Generation, 10))
			s.down.send(func() {
				s.a.receive(s, steward.Pushed{Session: s.id, ID: e.ID, Token: e.Token, Life: e.Life, Tick: e.Tick, Sections: e.Sections})
			})
		}
	case controller.Execute:
		h.execute(e)
	case controller.Observe:
		h.observe(e)
	case controller.Record:
		h.w.note(h.m.name, "event", e.Event.Code, e.Event.Message)
		if h.w.estate != nil {
			h.w.estate.recorded(e.Event)
		}
	case controller.WakeIn:
		h.wakeIn(e.In)
	case controller.Lead:
		h.w.note(h.m.name, "lead", strconv.FormatBool(e.Leading), strconv.FormatInt(e.Epoch, 10))
	case controller.Stopped:
		h.w.note(h.m.name, "stopped")
		h.crash()
		h.w.after(h.w.between(time.Second, 5*time.Second), h.start)
	default:
		h.w.violate(0, fmt.Sprintf("effect %T is not known to the simulator", e))
	}
}

// wakeIn keeps one timer: one that is set for earlier asks for the rest when it comes.
func (h *host) wakeIn(d time.Duration) {
	h.wakeDue = h.m.now().Mono + d
	if h.armed == 0 || h.armed > h.wakeDue {
		h.arm()
	}
}

func (h *host) arm() {
	h.armed = h.wakeDue
	h.wakeSeq++
	seq := h.wakeSeq
	h.m.timer(h.m.life, h.armed, func(bool) {
		if seq != h.wakeSeq {
			return
		}
		h.armed = 0
		if h.m.now().Mono < h.wakeDue {
			h.arm()
			return
		}
		h.step(controller.Wake{})
	})
}

// probe starts to probe a new set of targets.
func (h *host) probe(targets []controller.Target) {
	h.probing++
	set := h.probing
	h.shadow.retarget(h, targets)
	for _, t := range targets {
		b := h.w.boxAt(t.Address)
		h.m.after(h.w.upTo(t.Probe.Interval.D()), func(bool) { h.probeOnce(set, t, b) })
	}
}

// probeOnce makes one probe and arranges for the next. A probe whose answer was due while the prober did not run
// says nothing.
func (h *host) probeOnce(set int, t controller.Target, b *box) {
	if set != h.probing {
		return
	}
	h.m.after(t.Probe.Interval.D(), func(bool) { h.probeOnce(set, t, b) })
	n := h.w.net
	rtt := n.latency(h.at, b.probe) + n.latency(b.probe, h.at)
	ev := controller.Probed{Group: t.Group, Member: t.Member, Outcome: health.OK}
	if !b.up() || rtt >= t.Probe.Timeout.D() || n.lost(h.at, b.probe) || n.lost(b.probe, h.at) {
		rtt, ev.Outcome, ev.Detail = t.Probe.Timeout.D(), health.Fail, "no answer"
	}
	h.m.after(rtt, func(late bool) {
		if set != h.probing {
			return
		}
		if late {
			ev.Outcome = health.Inconclusive
		}
		h.shadow.probed(h, ev)
		h.step(ev)
	})
}

// tell sends opinions to the other controllers: in order, and lost when the network loses them.
func (h *host) tell(e controller.Tell) {
	for i, o := range h.w.hosts {
		if o == h || h.w.net.lost(h.at, o.at) {
			continue
		}
		h.told[i] = max(h.told[i], h.w.now+h.w.net.latency(h.at, o.at))
		h.w.at(h.told[i], func() {
			if h.w.net.open(h.at, o.at) {
				o.receive(o.m.life, controller.Heard{Observer: h.m.name, Opinions: e.Opinions, Full: e.Full})
			}
		})
	}
}

// session gives the open session of that number.
func (h *host) session(id uint64) *session {
	for _, s := range h.sessions {
		if s.id == id {
			return s
		}
	}
	return nil
}

func (h *host) execute(e controller.Execute) {
	w, life := h.w, h.m.life
	w.note(h.m.name, "execute", e.Job.Metadata.Name, e.Step.ID)
	done := func(outcome string, err error) {
		why := ""
		if err != nil {
			why = err.Error()
		}
		w.note(h.m.name, "executed", e.Job.Metadata.Name, e.Step.ID, outcome, why)
		if err == nil {
			w.check.effectDone(e.Job.Metadata.Name, e.Step.ID)
		}
		h.step(controller.StepDone{Job: e.Job.Metadata.Name, Step: e.Step.ID, Attempt: e.Attempt, Outcome: outcome, Err: err,
			Permanent: errors.Is(err, cloud.ErrPermanent) || errors.Is(err, cloud.ErrStale)})
	}
	switch e.Step.Kind {
	case api.StepChoose:
		h.choose(e)
	case api.StepHook:
		w.hooks++
		d := w.between(50*time.Millisecond, 2*time.Second)
		var err error
		if w.chance(w.faulty(0.1)) {
			err = errors.New("the hook failed")
		}
		w.after(d, func() { h.m.do(life, func(bool) { done("", err) }) })
	case api.StepVerify:
		h.lookAt(e.Group, func(s cloud.State, err error) {
			if err == nil && s.On() != e.Job.Spec.To {
				err = fmt.Errorf("not on %s: %v", e.Job.Spec.To, s.Astray(e.Job.Spec.To))
			}
			done("read back", err)
		})
	default:
		w.cloud.run(h.m, h.at, e.Token, e.Step, done)
	}
}

func (h *host) observe(e controller.Observe) {
	h.lookAt(e.Group, func(s cloud.State, err error) {
		h.step(controller.Observed{Group: e.Group.Ref(), State: s, Err: err})
	})
}

// lookAt reads where a group's things are.
func (h *host) lookAt(g *api.ApplianceGroup, done func(cloud.State, error)) {
	w, life := h.w, h.m.life
	if w.net.lost(h.at, w.cloud.at) || w.net.lost(w.cloud.at, h.at) {
		w.after(5*time.Second, func() { h.m.do(life, func(bool) { done(cloud.State{}, errCloudGone) }) })
		return
	}
	w.after(w.net.latency(h.at, w.cloud.at)+50*time.Millisecond, func() {
		s := w.cloud.state(g)
		w.after(w.net.latency(w.cloud.at, h.at), func() { h.m.do(life, func(bool) { done(s, nil) }) })
	})
}
