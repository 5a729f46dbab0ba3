package sim

import (
	"slices"
	"time"

	"github.com/understudy-ha/understudy/api"
	"github.com/understudy-ha/understudy/store"
)

// random injects one fault and arranges for the next.
func (f *faults) random() {
	w := f.w
	if w.now >= w.calm {
		return
	}
	w.after(time.Duration(w.rng.ExpFloat64()*float64(40*time.Second)), f.random)
	h := w.hosts[w.rng.IntN(3)]
	if l := w.leader(); l != nil && w.chance(0.5) {
		h = l
	}
	n := w.nodes[w.rng.IntN(len(w.nodes))]
	b := w.boxes[w.rng.IntN(len(w.boxes))]
	switch w.rng.IntN(24) {
	case 0:
		f.killActive(w.groups[w.rng.IntN(len(w.groups))])
	case 1:
		f.kill(b, f.lasts(5*time.Second, 2*time.Minute))
	case 2:
		for _, m := range w.groups[w.rng.IntN(len(w.groups))].spec.Spec.Members {
			f.kill(w.boxNamed(m.Name), f.lasts(5*time.Second, 40*time.Second))
		}
	case 3, 4:
		f.flap(b, 1+w.rng.IntN(6))
	case 5:
		f.crashNode(n)
	case 6:
		if f.freezeAgent = n; w.chance(0.5) {
			f.stop(n.m, paused, f.lasts(500*time.Millisecond, 2*w.timing.TTL))
		}
	case 7:
		f.suspendNode(n)
	case 8:
		w.note(h.m.name, "told to stop")
		f.stopHost(h)
	case 9:
		f.freeze, f.onPush, f.until, f.frozen = h, nil, w.now+time.Minute, w.between(w.timing.TTL/2, 3*w.timing.TTL)
	case 10:
		f.lonely = f.beginMove()
	case 11:
		f.orphanGrants()
	case 12:
		w.store.down = true
		w.note("store", "down")
		w.after(f.lasts(time.Second, 15*time.Second), func() { w.store.down = false; w.note("store", "back") })
	case 13:
		for _, wt := range w.store.watches {
			wt.gap = true
		}
	case 14:
		f.stranger()
	case 15:
		f.probesCut(h)
	case 16:
		f.cut(n.at, w.hosts[w.rng.IntN(3)].at, f.lasts(time.Second, 30*time.Second))
	case 17:
		f.hiddenPause()
	default:
		kind := Fault(w.rng.IntN(int(faultKinds)))
		w.note(h.m.name, "random", kind.String())
		f.inject(kind, h)
	}
}

// killActive kills the active member of a group that has another one to go to.
func (f *faults) killActive(g *group) {
	a := f.w.assignment(g.ref)
	if a == nil || g.spec.Spec.Paused {
		return
	}
	if slices.ContainsFunc(g.spec.Spec.Members, func(m api.Member) bool { return m.Name != a.Active && g.boxes[m.Name].up() }) {
		f.kill(g.boxes[a.Active], f.lasts(40*time.Second, 100*time.Second))
	}
}

func (f *faults) kill(b *box, d time.Duration) {
	if b.on {
		b.kill()
		f.w.after(d, b.boot)
	}
}

// flap makes a box hang and answer again, some times.
func (f *faults) flap(b *box, times int) {
	if times == 0 || b.hung {
		return
	}
	b.hang(true)
	f.w.after(f.lasts(time.Second, 20*time.Second), func() {
		b.hang(false)
		f.w.after(f.w.between(500*time.Millisecond, 6*time.Second), func() {
			if f.w.now < f.w.calm {
				f.flap(b, times-1)
			}
		})
	})
}

func (f *faults) crashNode(n *node) {
	if n.m.power == off {
		return
	}
	n.crash()
	f.w.after(f.lasts(300*time.Millisecond, 10*time.Second), func() {
		if n.m.power == off && (n.box == nil || n.box.on) {
			n.start()
		}
	})
}

func (f *faults) suspendNode(n *node) {
	f.suspend(n.m, f.lasts(time.Second, 20*time.Second))
	if n.m.power == suspended {
		n.waking = true
	}
}

// beginMove asks for a move of a group that agents carry out, so that pushes are under way. It gives who leads.
func (f *faults) beginMove() *host {
	w := f.w
	i := slices.IndexFunc(w.groups, func(g *group) bool { return g.flavour != byAzure && !g.spec.Spec.Paused })
	l := w.leader()
	if i < 0 || l == nil || l.m.power != running {
		return nil
	}
	w.request(w.groups[i], api.Request{Kind: api.RequestFailover})
	return l
}

// lonelyLeader cuts a leader that is about to push off the store, and its words to agents, not theirs to it. What it
// says while it still believes that it leads arrives when its successor may act.
func (f *faults) lonelyLeader(h *host) {
	w, t := f.w, f.w.timing
	if f.lonely = nil; w.calm-w.now < 3*t.TTL {
		return
	}
	w.note(h.m.name, "lonely")
	f.sever(h.at, w.store.at, 3*t.TTL)
	d := w.between(t.TTL+t.Margin, max(2*(t.TTL-t.Margin), t.TTL+2*t.Margin))
	for _, n := range w.nodes {
		p := w.net.path(h.at, n.at)
		p.cut++
		w.after(d, func() { p.cut-- })
	}
	w.sessionsChanged()
}

// hiddenPause stops a leader between deciding on a push and sending it, and suspends the push's target under a
// hypervisor that hides it from every clock. When the target goes on, it hears the successor first, and then the old
// leader, whose tick looks fresh: here the epoch alone refuses.
func (f *faults) hiddenPause() {
	w, t := f.w, f.w.timing
	h := f.beginMove()
	if h == nil || w.calm-w.now < 5*t.TTL {
		return
	}
	d := w.between(t.TTL+2*t.Margin, 2*t.TTL)
	f.freeze, f.until = h, w.now+5*time.Second
	f.onPush = func(node string) time.Duration {
		n := w.nodeNamed(node)
		if n.m.power != running {
			return 0
		}
		n.m.deaf = true
		n.misled = w.now + d + 2*t.TTL
		w.note(n.m.name, "sleeps and will not know")
		f.stop(n.m, suspended, d)
		w.after(d, func() { n.m.deaf = false })
		return d + w.between(t.TTL/4, t.TTL-t.Margin)
	}
}

// orphanGrants cuts the appliances off every controller. The one that holds a group's grants looks dead as well, and
// is cut off longer than those that may be granted them next.
func (f *faults) orphanGrants() {
	w := f.w
	i := slices.IndexFunc(w.groups, func(g *group) bool { return g.flavour == byLease })
	if i < 0 {
		return
	}
	a := w.assignment(w.groups[i].ref)
	if a == nil {
		return
	}
	w.note("world", "appliances cut off")
	d := f.lasts(w.timing.TTL, 4*w.timing.TTL)
	for _, b := range w.boxes {
		if b.agent == nil {
			continue
		}
		for _, h := range w.hosts {
			f.sever(h.at, b.agent.at, f.lasts(d, d+w.timing.TickEvery()))
			if b.name == a.Active {
				f.sever(h.at, b.agent.at, f.lasts(d+w.timing.TTL, d+2*w.timing.TTL))
				f.sever(h.at, b.probe, f.lasts(d+w.timing.TTL, d+2*w.timing.TTL))
			}
		}
	}
	w.sessionsChanged()
}

// sever cuts both directions.
func (f *faults) sever(a, b place, d time.Duration) {
	for _, p := range []*path{f.w.net.path(a, b), f.w.net.path(b, a)} {
		p.cut++
		f.w.after(d, func() { p.cut-- })
	}
}

// partition cuts a controller off something.
func (f *faults) partition(h *host) {
	w := f.w
	d := f.lasts(time.Second, 40*time.Second)
	switch w.rng.IntN(6) {
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
		f.cut(h.at, w.cloud.at, d)
	case 5:
		for i := range w.net.names {
			f.cut(h.at, place(i), d)
		}
	}
}

// probesCut makes a controller blind for one appliance, or for all.
func (f *faults) probesCut(h *host) {
	w := f.w
	d := f.lasts(2*time.Second, 40*time.Second)
	only := w.rng.IntN(2 * len(w.boxes))
	for i, b := range w.boxes {
		if only >= len(w.boxes) || only == i {
			f.cut(h.at, b.probe, d)
		}
	}
}

// cut cuts both directions, or one.
func (f *faults) cut(a, b place, d time.Duration) {
	w := f.w
	if a == b {
		return
	}
	paths := []*path{w.net.path(a, b), w.net.path(b, a)}
	if w.chance(0.3) {
		paths = paths[w.rng.IntN(2):][:1]
	}
	for _, p := range paths {
		p.cut++
		w.after(d, func() { p.cut-- })
	}
	w.note("net", "cut", w.net.names[a], w.net.names[b], d.String())
	w.sessionsChanged()
}

// stranger changes something in the cloud that is not his.
func (f *faults) stranger() {
	w := f.w
	if len(w.cloud.ids) == 0 {
		return
	}
	r := w.cloud.resources[w.cloud.ids[w.rng.IntN(len(w.cloud.ids))]]
	if r.nic || r.op != nil || len(r.what) == 0 {
		return
	}
	r.what[0].value = "10.1.2.99"
	r.etag++
	w.note("cloud", "changed by a stranger", r.String())
}

// settle lets every machine run again, and leaves some appliances dead for good.
func (w *world) settle() {
	if w.estate != nil {
		w.estate.settle()
		return
	}
	for _, b := range w.boxes {
		if b.on && w.chance(0.15) {
			b.kill()
		}
	}
	w.resumeGroups()
}

func (w *world) boxNamed(name string) *box {
	i := slices.IndexFunc(w.boxes, func(b *box) bool { return b.name == name })
	return w.boxes[i]
}

func (w *world) write(key string, v any) {
	if _, err := w.store.commit(nil, []store.Op{{Key: key, Value: encode(v)}}); err != nil {
		w.violate(0, err.Error())
	}
}
