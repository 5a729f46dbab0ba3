package sim

import (
	"slices"
	"strings"
	"time"

	"github.com/understudy-ha/understudy/controller"
)

// Fault is a kind of fault that is injected at the boundaries of steps.
type Fault int

// The faults.
const (
	Crash Fault = iota
	Pause
	Partition
	SkewedClock
	StoppedClock
	SlowCloud
	FailingCloud
	LostMessages
	LateMessages
	faultKinds // of a world of appliances; one of machines has more
)

// The faults that a world of machines has besides. There, the clouds are vaults.
const (
	StoreTrouble Fault = faultKinds + iota
	EngineDies
	SourceDies
	ServerDies
	estateFaults
)

var faultNames = [estateFaults]string{"crash", "pause", "partition", "skewed-clock", "stopped-clock", "slow-cloud", "failing-cloud", "lost-messages", "late-messages",
	"store-trouble", "engine-dies", "source-dies", "server-dies"}

func (f Fault) String() string { return faultNames[f] }

// Faults lists those of a kind of world.
func Faults(kind World) []Fault {
	n := faultKinds
	if kind == Machines {
		n = estateFaults
	}
	var out []Fault
	for f := range n {
		out = append(out, f)
	}
	return out
}

// Coverage counts the faults injected at each boundary: [fault][boundary].
type Coverage [][4]int

func newCoverage(kind World) Coverage { return make(Coverage, len(Faults(kind))) }

// Add adds another's counts.
func (c Coverage) Add(o Coverage) {
	for f := range c {
		for b := range c[f] {
			c[f][b] += o[f][b]
		}
	}
}

// Least gives the smallest count.
func (c Coverage) Least() int {
	least := c[0][0]
	for f := range c {
		for _, n := range c[f] {
			least = min(least, n)
		}
	}
	return least
}

// lateBy is the most that a slow network delays a message.
const lateBy = 4 * time.Second

// faults injects what goes wrong: at the boundaries of steps, and at random times.
type faults struct {
	w        *world
	coverage Coverage
	// next is when a boundary may hurt again, so that jobs get on between.
	next time.Duration
	// freeze is a controller that stops between deciding and acting, the next time that it has something to do before
	// until: for frozen or, if onPush is set, when it has something to push, for what onPush says.
	freeze *host
	onPush func(node string) time.Duration
	until  time.Duration
	frozen time.Duration
	// lonely is a leader that loses its company when it is about to push.
	lonely *host
	// freezeAgent is the same for an agent.
	freezeAgent *node
	// refusing counts the faults that make agents fail to apply.
	refusing int
	forced   int
	ended    bool
}

func newFaults(w *world, kind World) *faults { return &faults{w: w, coverage: newCoverage(kind)} }

// begin starts the random faults, the operator, and the failures of active members that every seed has.
func (f *faults) begin() {
	w := f.w
	if w.estate != nil {
		w.after(40*time.Second, f.randomEstate)
		w.after(20*time.Second, w.estate.operate)
		return
	}
	w.after(20*time.Second, f.random)
	w.after(30*time.Second, w.operate)
	w.after(w.between(90*time.Second, 4*time.Minute), f.force)
}

// force kills an active member whose group has another that works, again and again.
func (f *faults) force() {
	w := f.w
	if w.now < w.calm-time.Minute {
		f.killActive(w.groups[f.forced%len(w.groups)])
		f.forced++
		w.after(w.between(4*time.Minute, 8*time.Minute), f.force)
	}
}

// end ends the faults, unless the seed has not seen enough yet.
func (f *faults) end() bool {
	w := f.w
	most := 2 * faultsLast
	if w.estate != nil {
		most = 4 * faultsLast // each waits for an operator
	}
	if w.check.failovers < 3 && w.calm < most {
		w.calm += 3 * time.Minute
		if w.estate != nil {
			w.after(10*time.Second, f.randomEstate)
			w.after(time.Second, w.estate.operate)
			return false
		}
		w.after(time.Second, f.force)
		w.after(10*time.Second, f.random)
		return false
	}
	f.ended = true
	w.check.from, w.check.examine = w.now, w.chance(0.3)
	w.settle()
	w.note("world", "calm")
	return true
}

// lasts clips a fault so that it ends when all do.
func (f *faults) lasts(a, b time.Duration) time.Duration {
	return min(f.w.between(a, b), max(f.w.calm-f.w.now, 0))
}

// boundary may inject a fault where it hurts a step most.
func (f *faults) boundary(h *host, b controller.Boundary) {
	w := f.w
	w.note(h.m.name, "boundary", string(b.Where), b.Job)
	if f.lonely == h && b.Where == controller.AfterIntent && slices.ContainsFunc(b.Steps, isNodeStep) {
		f.lonelyLeader(h)
		return
	}
	if w.now >= w.calm || w.now < f.next || !w.chance(0.25) {
		return
	}
	kind := Fault(w.rng.IntN(len(f.coverage)))
	for i, where := range controller.Boundaries() {
		if where == b.Where {
			f.coverage[kind][i]++
		}
	}
	w.note(h.m.name, "fault", kind.String())
	f.next = w.now + w.between(3*time.Second, 30*time.Second)
	f.inject(kind, h)
}

func (f *faults) inject(kind Fault, h *host) {
	w := f.w
	switch kind {
	case Crash:
		f.crashHost(h)
	case Pause:
		f.stop(h.m, paused, f.lasts(500*time.Millisecond, 3*w.timing.TTL))
	case Partition:
		if w.estate != nil {
			f.partitionEstate(h)
			return
		}
		f.partition(h)
	case SkewedClock:
		f.clock(h.m)
	case StoppedClock:
		f.suspend(h.m, f.lasts(500*time.Millisecond, 3*w.timing.TTL))
	case SlowCloud:
		w.cloud.slow++
		w.after(f.lasts(20*time.Second, 2*time.Minute), func() { w.cloud.slow-- })
	case FailingCloud:
		w.cloud.failing++
		f.refusing++
		w.after(f.lasts(5*time.Second, time.Minute), func() { w.cloud.failing--; f.refusing-- })
	case LostMessages:
		f.quality(h.at, func(p *path) func() {
			p.loss += 0.3
			return func() { p.loss -= 0.3 }
		})
	case LateMessages:
		f.quality(h.at, func(p *path) func() {
			p.slow += lateBy / 2
			return func() { p.slow -= lateBy / 2 }
		})
	default:
		f.injectEstate(kind)
	}
}

func (f *faults) crashHost(h *host) {
	if h.m.power == off {
		return
	}
	h.crash()
	f.w.after(f.lasts(time.Second, 30*time.Second), func() {
		if h.m.power == off {
			h.start()
		}
	})
}

// stop stops a machine for a while.
func (f *faults) stop(m *machine, how power, d time.Duration) {
	if m.power != running || d == 0 {
		return
	}
	m.setPower(how)
	life := m.life
	f.w.sessionsChanged()
	f.w.after(d, func() {
		if m.life == life {
			m.resume()
		}
	})
}

// suspend stops a machine and its monotonic clock. A wall clock that was set back just before would hide it: that is
// one fault too many for anybody, and left out.
func (f *faults) suspend(m *machine, d time.Duration) {
	if f.w.now-m.setBack > 3*f.w.timing.TTL || m.setBack == 0 {
		f.stop(m, suspended, d)
	}
}

// clock gives a machine another rate and sets its time of day.
func (f *faults) clock(m *machine) {
	w := f.w
	if w.chance(0.5) || m.power == suspended || !m.awake() {
		m.now()
		m.drift = w.rate()
		return
	}
	if m.setClock(w.rate(), w.spread(w.skew.wall)) {
		m.setBack = w.now
	}
}

// quality makes every path of a place worse for a while.
func (f *faults) quality(at place, worsen func(*path) func()) {
	w := f.w
	d := f.lasts(2*time.Second, 20*time.Second)
	for i := range w.net.names {
		a, b := worsen(w.net.path(at, place(i))), worsen(w.net.path(place(i), at))
		w.after(d, func() { a(); b() })
	}
}

// freezeBeforeEffects stops a controller that has decided and not acted yet.
func (f *faults) freezeBeforeEffects(h *host, effects []controller.Effect) bool {
	if f.freeze != h || h.m.power != running {
		return false
	}
	if f.w.now > f.until {
		f.freeze = nil
		return false
	}
	d := f.frozen
	if f.onPush != nil {
		i := slices.IndexFunc(effects, isPush)
		if i < 0 {
			return false
		}
		d = f.onPush(effects[i].(controller.Push).Node)
	}
	f.freeze = nil
	f.stop(h.m, paused, min(d, max(f.w.calm-f.w.now, 0)))
	return h.m.power != running
}

func isNodeStep(id string) bool {
	return strings.HasPrefix(id, "node:") || strings.HasPrefix(id, "release:")
}

func isPush(e controller.Effect) bool {
	_, ok := e.(controller.Push)
	return ok
}

// freezeNode does the same to an agent.
func (f *faults) freezeNode(n *node) bool {
	if f.freezeAgent != n || n.m.power != running {
		return false
	}
	f.freezeAgent = nil
	f.stop(n.m, paused, f.lasts(500*time.Millisecond, 2*f.w.timing.TTL))
	return n.m.power != running
}

// applyFails tells whether an agent's kernel refuses now.
func (f *faults) applyFails() bool {
	return f.refusing > 0 && f.w.chance(0.4) || f.w.chance(f.w.faulty(0.01))
}

// stopHost asks a controller to finish and give its leadership back; it starts again a little later.
func (f *faults) stopHost(h *host) {
	h.m.do(h.m.life, func(bool) { h.step(controller.Stop{}) })
}
