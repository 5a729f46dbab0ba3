package sim

import (
	"errors"
	"slices"
	"strconv"
	"time"

	"github.com/understudy-ha/understudy/api"
	"github.com/understudy-ha/understudy/clock"
	"github.com/understudy-ha/understudy/controller"
	"github.com/understudy-ha/understudy/lead"
)

// node is a machine with an agent: a router, or an appliance.
type node struct {
	w    *world
	m    *machine
	name string // tenant/name
	at   place
	box  *box // of an appliance; nil for a router

	gate     *lead.Gate
	holder   *lead.Holder
	lifeID   string
	seq      uint64
	sent     map[uint64]clock.Instant
	sessions []*session
	asks     map[string]*ask

	disk   disk
	kernel kernel
	// waking: the machine was suspended, and the process has not run since.
	waking bool
}

// disk outlives the process and the machine's boots.
type disk struct {
	gate     lead.GateState
	sections []api.SectionStatus
	grants   []grant
	boot     int // of grants
}

type grant struct {
	owner string
	from  clock.Instant
}

// kernel outlives the process and ends with the boot.
type kernel struct {
	boot   int
	routes []owned[api.KernelRoute]
	held   []owned[api.HeldAddress]
}

type owned[T any] struct {
	owner string
	items []T
}

func put[T any](list []owned[T], owner string, items []T) []owned[T] {
	i := slices.IndexFunc(list, func(o owned[T]) bool { return o.owner == owner })
	if i < 0 {
		return append(list, owned[T]{owner, items})
	}
	list[i].items = items
	return list
}

func of[T any](list []owned[T], owner string) []T {
	for _, o := range list {
		if o.owner == owner {
			return o.items
		}
	}
	return nil
}

type echoMsg struct {
	seq    uint64
	life   string
	epoch  int64
	renews []string
}

type pushMsg struct {
	id       uint64
	token    api.Token
	tick     uint64
	life     string
	sections []api.Section
}

// ask is a round of promises for one owner.
type ask struct {
	at   clock.Instant
	need []string
}

func (a *node) start() {
	a.m.setPower(running)
	a.lifeID = a.name + "#" + strconv.Itoa(a.m.life)
	a.gate = lead.NewGate(a.w.timing, a.disk.gate)
	a.holder = lead.NewHolder(a.w.timing, a.m.now())
	if a.disk.boot == a.kernel.boot {
		for _, g := range a.disk.grants {
			a.holder.Restore(g.owner, g.from)
		}
	}
	a.seq, a.sent, a.asks = 0, map[uint64]clock.Instant{}, map[string]*ask{}
	a.sessions = make([]*session, len(a.w.hosts))
	a.tick()
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

func (a *node) opened(s *session) {
	s.toHost(controller.AgentHello{Node: a.name, Session: s.id, Life: a.lifeID, Version: "sim", PeerAddress: a.name,
		Sections: slices.Clone(a.disk.sections), Holds: a.holds()})
}

func (a *node) closed(s *session) {
	if a.sessions[s.h.index] == s {
		a.sessions[s.h.index] = nil
		a.redial(s.h)
	}
}

func (a *node) holds() []string {
	var out []string
	for owner := range a.holder.Grants() {
		out = append(out, owner)
	}
	slices.Sort(out)
	return out
}

// turn drops what has run out; it comes first in every step.
func (a *node) turn() {
	a.waking = false
	now := a.m.now()
	expired := a.holder.Expired(now)
	slices.Sort(expired)
	for _, owner := range expired {
		a.w.note(a.m.name, "expired", owner)
		a.take(owner, nil)
	}
	if len(expired) > 0 {
		a.report()
	}
}

func (a *node) tick() {
	a.turn()
	a.seq++
	a.sent[a.seq] = a.m.now()
	delete(a.sent, a.seq-64)
	for _, s := range a.sessions {
		if s != nil {
			s.toHost(controller.AgentTick{Node: a.name, Session: s.id, Life: a.lifeID, Seq: a.seq})
		}
	}
	a.m.after(a.w.timing.TickEvery(), func(bool) { a.tick() })
	a.arm()
}

// arm makes sure that a step comes when the first grant ends.
func (a *node) arm() {
	now := a.m.now()
	for _, owner := range a.holds() {
		left := a.w.timing.Hold() - now.AtMostSince(a.holder.Grants()[owner])
		if left < a.w.timing.TickEvery() {
			a.m.after(max(left, 0), func(bool) { a.turn() })
		}
	}
}

func (a *node) receive(s *session, msg any) {
	a.m.do(s.aLife, func(bool) {
		if a.sessions[s.h.index] != s {
			return
		}
		a.turn()
		switch msg := msg.(type) {
		case echoMsg:
			if at, ok := a.sent[msg.seq]; ok && msg.life == a.lifeID {
				a.holder.Echoed(at, msg.renews)
				a.keep()
			}
		case pushMsg:
			code, detail := a.push(msg)
			a.w.note(a.m.name, "applied", code, detail)
			s.toHost(controller.AgentApplied{Node: a.name, Session: s.id, Push: msg.id, Code: code, Detail: detail})
		}
	})
}

func (a *node) push(msg pushMsg) (code, detail string) {
	now := a.m.now()
	at := a.sent[msg.tick]
	if msg.life != a.lifeID {
		at = clock.Instant{}
	}
	if err := a.gate.Admit(now, at, msg.token, true, msg.sections); err != nil {
		for _, c := range []struct {
			err  error
			code string
		}{{lead.ErrStaleTick, "stale-tick"}, {lead.ErrOldEpoch, "old-epoch"}, {lead.ErrOldCluster, "old-cluster"}, {lead.ErrOldGeneration, "old-generation"}} {
			if errors.Is(err, c.err) {
				return c.code, err.Error()
			}
		}
		return "invalid", err.Error()
	}
	a.disk.gate = a.gate.State()
	a.w.check.admitted(a, msg.token, msg.sections)
	for _, s := range msg.sections {
		if s.Engine == api.EngineAddresses && len(s.Addresses.Addresses) > 0 && a.holder.Grant(now, at, s.Owner) {
			return "wait", "a promise stands"
		}
	}
	for _, s := range msg.sections {
		if a.w.faults.applyFails() {
			return "failed", "the kernel refused"
		}
		switch s.Engine {
		case api.EngineRoutes:
			a.kernel.routes = put(a.kernel.routes, s.Owner, s.Routes.Routes)
		case api.EngineAddresses:
			if len(s.Addresses.Addresses) == 0 {
				a.holder.Release(s.Owner)
			}
			a.take(s.Owner, s.Addresses.Addresses)
		}
		a.w.check.applied(a, s)
		t := msg.token
		t.Generation = s.Generation
		a.mark(api.SectionStatus{Engine: s.Engine, Owner: s.Owner, Applied: t})
	}
	a.keep()
	a.report()
	return "ok", ""
}

func (a *node) mark(s api.SectionStatus) {
	a.disk.sections = slices.DeleteFunc(a.disk.sections, func(o api.SectionStatus) bool { return o.Engine == s.Engine && o.Owner == s.Owner })
	a.disk.sections = append(a.disk.sections, s)
}

// take makes the kernel hold exactly these addresses of the owner.
func (a *node) take(owner string, addresses []api.HeldAddress) {
	a.kernel.held = put(a.kernel.held, owner, addresses)
	a.w.check.holders()
}

func (a *node) keep() {
	a.disk.boot, a.disk.grants = a.kernel.boot, nil
	for _, owner := range a.holds() {
		a.disk.grants = append(a.disk.grants, grant{owner, a.holder.Grants()[owner]})
	}
}

func (a *node) report() {
	for _, s := range a.sessions {
		if s != nil {
			s.toHost(controller.AgentReport{Node: a.name, Session: s.id, Sections: slices.Clone(a.disk.sections), Holds: a.holds()})
		}
	}
}

// holding tells whether the machine answers for an address now.
func (a *node) holding(address string) bool {
	if a.m.power == suspended || a.box != nil && !a.box.on {
		return false
	}
	for _, o := range a.kernel.held {
		for _, h := range o.items {
			if h.Address == address {
				return true
			}
		}
	}
	return false
}

func (a *node) routesOf(owner string) []api.KernelRoute { return of(a.kernel.routes, owner) }
