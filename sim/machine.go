package sim

import (
	"cmp"
	"slices"
	"time"

	"github.com/understudy-ha/understudy/clock"
)

// power is what a machine does now.
type power int

const (
	running   power = iota
	paused          // its process does not run (SIGSTOP); the clocks go on
	suspended       // nothing of it runs; its monotonic clock stands still and its wall clock jumps when it resumes
	off             // no process
)

func (p power) String() string { return [...]string{"running", "paused", "suspended", "off"}[p] }

// machine is one computer with one process of ours and its own clocks. Whatever reaches the process goes through do
// or after, so that a pause makes it late and a crash loses it.
type machine struct {
	w     *world
	name  string
	power power
	// life numbers the processes; what was meant for an older one is lost.
	life    int
	backlog []waiting

	at    time.Duration // true time of mono and wall
	mono  time.Duration
	wall  time.Time
	drift float64
	// setBack and slept are when the time of day was last set back, and when the machine last was suspended.
	setBack, slept time.Duration
	// deaf: in this suspension the wall clock stands still too, as under a hypervisor that hides it.
	deaf bool
	// changed, if set, is told of every change of power.
	changed func()
	// asleep goes on when a suspension ends.
	asleep []func()
}

var epoch = time.Date(2031, 5, 1, 12, 0, 0, 0, time.UTC)

func newMachine(w *world, name string) *machine {
	m := &machine{w: w, name: name, power: off, life: 1}
	m.mono = time.Hour + time.Duration(w.rng.Int64N(int64(1000*time.Hour)))
	m.wall = epoch.Add(w.spread(w.skew.wall))
	m.drift = w.rate()
	return m
}

// now reads the machine's clocks.
func (m *machine) now() clock.Instant {
	if d := m.w.now - m.at; d > 0 {
		local := time.Duration(float64(d) * (1 + m.drift))
		if m.power != suspended {
			m.mono += local
		}
		if m.power != suspended || !m.deaf {
			m.wall = m.wall.Add(local)
		}
		m.at = m.w.now
	}
	return clock.Instant{Mono: m.mono, Wall: m.wall}
}

// setClock gives the machine another rate, and sets its time of day to what is wrong by so much. It tells whether that
// is back.
func (m *machine) setClock(drift float64, wrong time.Duration) (back bool) {
	m.now()
	m.drift = drift
	old := m.wall
	m.wall = epoch.Add(m.w.now + wrong)
	return m.wall.Before(old)
}

func (m *machine) setPower(p power) {
	if m.power == p {
		return
	}
	m.now()
	if m.power == suspended {
		for _, f := range m.asleep {
			m.w.after(0, f)
		}
		m.asleep = nil
	}
	m.power = p
	m.w.note(m.name, p.String())
	if m.changed != nil {
		m.changed()
	}
	if p == off {
		m.life++
		m.backlog = nil
	}
}

// awake tells that the machine was not suspended lately. After that, what is late already must not fail as well: the
// kernel's own end of addresses, which is there for that, has slept too.
func (m *machine) awake() bool { return m.slept == 0 || m.w.now-m.slept > m.w.timing.TTL }

// resume ends a pause or suspension. What waited happens now, late.
func (m *machine) resume() {
	if m.power != paused && m.power != suspended {
		return
	}
	if m.power == suspended {
		m.slept = m.w.now
	}
	m.setPower(running)
	if m.w.chance(0.5) {
		m.w.mix(m.backlog)
	}
	for len(m.backlog) > 0 && m.power == running {
		f := m.backlog[0].f
		m.backlog = m.backlog[1:]
		f(true)
	}
}

// waiting is something for a process that does not run. What came by one connection stays in order.
type waiting struct {
	lane uint64 // of a session its id; of what the process was just doing, inHand; else 0
	f    func(late bool)
}

// inHand is the lane of what a process was in the middle of: it comes first.
const inHand = ^uint64(0)

// mix puts what waits on different connections into another order, as a process may read its sockets in any.
func (w *world) mix(list []waiting) {
	var lanes []uint64
	for _, x := range list {
		if !slices.Contains(lanes, x.lane) {
			lanes = append(lanes, x.lane)
		}
	}
	w.rng.Shuffle(len(lanes), func(i, j int) { lanes[i], lanes[j] = lanes[j], lanes[i] })
	if i := slices.Index(lanes, inHand); i > 0 {
		lanes[0], lanes[i] = lanes[i], lanes[0]
	}
	slices.SortStableFunc(list, func(a, b waiting) int {
		return cmp.Compare(slices.Index(lanes, a.lane), slices.Index(lanes, b.lane))
	})
}

// do runs f in the process as it is now: at once, or when it runs again; never, if it ends first.
func (m *machine) do(life int, f func(late bool)) { m.by(0, life, f) }

// by is do for what came by a connection.
func (m *machine) by(lane uint64, life int, f func(late bool)) {
	switch {
	case m.life != life || m.power == off:
	case m.power == running && len(m.backlog) == 0:
		f(false)
	default:
		m.backlog = append(m.backlog, waiting{lane, f})
	}
}

// after runs f once d has passed on the machine's monotonic clock.
func (m *machine) after(d time.Duration, f func(late bool)) {
	m.timer(m.life, m.now().Mono+d, f)
}

func (m *machine) timer(life int, due time.Duration, f func(late bool)) {
	left := due - m.now().Mono
	m.w.after(time.Duration(float64(left)/(1+m.drift))+time.Microsecond, func() {
		m.do(life, func(late bool) {
			if m.now().Mono < due {
				m.timer(life, due, f)
				return
			}
			f(late)
		})
	})
}
