package sim

import (
	"time"

	"github.com/understudy-ha/understudy/api"
)

// injectEstate injects a fault that only a world of machines has.
func (f *faults) injectEstate(kind Fault) {
	w := f.w
	switch kind {
	case StoreTrouble:
		if !w.store.down {
			w.store.down = true
			w.note("store", "down")
			w.after(f.lasts(time.Second, 15*time.Second), func() { w.store.down = false; w.note("store", "back") })
		}
	case EngineDies:
		f.killEngine()
	case SourceDies:
		f.killNode(w.estate.source)
	case ServerDies:
		n := w.estate.home
		if w.chance(0.3) {
			n = w.estate.away
		}
		if c := n.house.server(); c != nil && c.proc != nil && w.chance(0.5) {
			f.killProcess(c, w.chance(0.3))
			return
		}
		f.killNode(n)
	}
}

// killEngine kills one of the processes that run, and sometimes what it had on disk of others goes with it.
func (f *faults) killEngine() {
	w := f.w
	var all []*child
	for _, n := range w.nodes {
		for _, c := range n.house.kids {
			if c.proc != nil {
				all = append(all, c)
			}
		}
	}
	if len(all) > 0 {
		f.killProcess(all[w.rng.IntN(len(all))], w.chance(0.1))
	}
}

// killProcess kills a process; with spools, what a process server had spooled is lost too.
func (f *faults) killProcess(c *child, spools bool) {
	f.w.note(c.h.n.m.name, "dies", c.key)
	c.proc.end()
	if spools && c.home.spools != nil {
		f.w.note(c.h.n.m.name, "loses its spools")
		c.home.spools = map[string]*spool{}
	}
}

// killNode takes a node's power away for a while.
func (f *faults) killNode(n *node) {
	if n.house.on {
		n.house.cut()
		f.w.after(f.lasts(5*time.Second, 2*time.Minute), n.house.restore)
	}
}

// randomEstate injects one fault and arranges for the next.
func (f *faults) randomEstate() {
	w := f.w
	if w.now >= w.calm {
		return
	}
	w.after(time.Duration(w.rng.ExpFloat64()*float64(50*time.Second)), f.randomEstate)
	h := w.hosts[w.rng.IntN(3)]
	if l := w.leader(); l != nil && w.chance(0.5) {
		h = l
	}
	n := w.nodes[w.rng.IntN(len(w.nodes))]
	switch w.rng.IntN(20) {
	case 0:
		f.crashAgent(n)
	case 1:
		if f.freezeAgent = n; w.chance(0.5) {
			f.stop(n.m, paused, f.lasts(500*time.Millisecond, 2*w.timing.TTL))
		}
	case 2:
		f.suspendNode(n)
	case 3:
		w.note(h.m.name, "told to stop")
		f.stopHost(h)
	case 4:
		f.freeze, f.onPush, f.until, f.frozen = h, nil, w.now+time.Minute, w.between(w.timing.TTL/2, 3*w.timing.TTL)
	case 5:
		for _, wt := range w.store.watches {
			wt.gap = true
		}
	case 6, 7:
		f.island(w.estate.source)
	case 8:
		f.killNode(n)
	case 9:
		f.killSite()
	default:
		kind := Fault(w.rng.IntN(len(f.coverage)))
		w.note(h.m.name, "random", kind.String())
		f.inject(kind, h)
	}
}

// crashAgent crashes an agent alone; what it started goes on.
func (f *faults) crashAgent(n *node) {
	if n.m.power == off {
		return
	}
	n.crash()
	f.w.after(f.lasts(300*time.Millisecond, 20*time.Second), func() {
		if n.m.power == off && n.house.on {
			n.start()
		}
	})
}

// island cuts a node off every controller, or off everything: it goes on, and nobody can tell it anything.
func (f *faults) island(n *node) {
	w := f.w
	d := f.lasts(5*time.Second, 4*time.Minute)
	w.note(n.m.name, "is cut off")
	if w.chance(0.5) {
		for _, h := range w.hosts {
			f.sever(h.at, n.at, d)
		}
	} else {
		for i := range w.net.names {
			if place(i) != n.at {
				f.sever(place(i), n.at, d)
			}
		}
	}
	w.sessionsChanged()
}

// killSite takes the source's whole site away.
func (f *faults) killSite() {
	w := f.w
	e := w.estate
	w.note("hq", "is lost")
	d := f.lasts(10*time.Second, 4*time.Minute)
	for _, n := range []*node{e.source, e.home} {
		if n.house.on {
			n.house.cut()
			w.after(d+w.upTo(10*time.Second), n.house.restore)
		}
	}
	back := e.vaults["back"].at
	for i := range w.net.names {
		if place(i) != back {
			f.sever(place(i), back, d)
		}
	}
}

// partitionEstate cuts a controller off something, or nodes off each other.
func (f *faults) partitionEstate(h *host) {
	w, e := f.w, f.w.estate
	d := f.lasts(time.Second, 40*time.Second)
	switch w.rng.IntN(8) {
	case 0:
		f.cut(h.at, w.store.at, d)
	case 1:
		for _, o := range w.hosts {
			f.cut(h.at, o.at, d)
		}
	case 2:
		for _, n := range w.nodes {
			f.cut(h.at, n.at, d)
		}
	case 3:
		f.cut(h.at, w.nodes[w.rng.IntN(len(w.nodes))].at, d)
	case 4:
		for i := range w.net.names {
			f.cut(h.at, place(i), d)
		}
	case 5:
		f.cut(e.source.at, e.home.at, d)
	case 6:
		for _, n := range w.nodes {
			f.cut(n.at, e.vaults["vault"].at, d)
		}
	case 7:
		for _, n := range w.nodes {
			f.cut(n.at, e.vaults["back"].at, d)
		}
	}
}

// settle: from now on nothing fails, and nobody asks for anything.
func (e *estate) settle() {}

// estateSettles is how long after the last fault everything of an estate must have come to rest, besides a leader's election: a
// job that was blocked is tried again after 30 s, and a repair of both sides takes a guest's shutdown, a start, a point that is
// read from a slow vault, the service's answer, which may take six minutes, and as much again for the next one.
const estateSettles = 12 * time.Minute

// unsettled says what is not as it must be in the end.
func (e *estate) unsettled() (string, int) {
	for _, g := range e.guests {
		a := e.w.assignment(g.ref)
		if a == nil {
			return g.ref.String() + " is not set up", 3
		}
		if e.w.store.get(api.RequestKey(g.ref)).Rev != 0 {
			return "a request of " + g.ref.String() + " is not answered", 3
		}
		j := e.w.check.jobs[a.Job]
		if e.waits(j, a) {
			continue
		}
		if wrong := e.astray(g, a); wrong != "" {
			return wrong, 4
		}
	}
	return "", 0
}

// waits tells whether the operator has to say how to go on.
func (e *estate) waits(j *api.Job, a *api.Assignment) bool {
	switch {
	case j.Status.Phase == api.Cancelled:
		return true
	case j.Status.Phase == api.Blocked && j.Spec.Kind == api.JobKind(api.OpTestFailover):
		return true
	}
	looks := j.Status.Phase == api.Running && j.Spec.Kind == api.JobRepair // for the point, again and again
	return e.pointless(a) && (j.Status.Phase == api.Blocked || looks)
}
