package sim

import (
	"fmt"
	"slices"
	"strconv"
	"time"

	"github.com/understudy-ha/understudy/api"
)

type access int

const (
	unconfirmed access = iota // reads are answered, writes wait
	writable
	readOnly // writes are refused
)

func (a access) String() string { return [...]string{"waiting", "writable", "readonly"}[a] }

// liveSpec is how a machine is to live.
type liveSpec struct {
	stream     string
	epoch      int64
	access     access
	vm, run    bool
	grace      time.Duration
	servers    []string
	crashEvery time.Duration
	pointNow   string
	yield      *api.YieldConfig
}

// live is a machine whose disks are open in a process, as package engines/live has it.
type live struct {
	p       *process
	closed  bool
	spec    liveSpec
	access  access
	disk    *image
	capture *capture

	wish, done int // of the virtual machine
	wantUp     bool
	last       point // newest made here
	askedAt    uint64
	nextCrash  time.Duration
	wholeAt    uint64
	stored     bool
	shipping   bool
	sending    bool
	pointing   bool
	yielding   bool
}

// open opens the disks. Writes that were not stored when the last process ended left a gap.
func (p *process) open(s liveSpec, disk *image, zeroBase bool) {
	h := p.c.home
	if h.cap == nil || h.cap.stream != s.stream {
		h.cap = &capture{stream: s.stream, zeroBase: zeroBase}
		if zeroBase {
			h.cap.mark(everything())
		}
	}
	h.cap.epoch = s.epoch
	p.live = &live{p: p, spec: s, disk: disk, capture: h.cap}
	p.live.recallPoint()
	p.live.guestTurn()
	p.live.vmTurn()
}

func (l *live) w() *world { return l.p.c.h.n.w }

// after runs f while the disks are open.
func (l *live) after(d time.Duration, f func()) {
	l.p.after(d, func() {
		if !l.closed {
			f()
		}
	})
}

// set makes everything as s wants it: what must not be written any more is not, before anything else.
func (l *live) set(s liveSpec) {
	l.spec = s
	want := s.access
	if want == unconfirmed && l.access == writable {
		want = writable
	}
	if want != l.access {
		l.w().note(l.p.c.h.n.m.name, "disks", l.p.c.key, want.String(), strconv.FormatInt(s.epoch, 10))
		if want == writable {
			l.w().estate.opened(l.p)
		}
		l.access = want
	}
	switch {
	case !s.vm:
	case !s.run || s.access == readOnly:
		l.wish, l.wantUp = l.wish+1, false
	case l.access == writable:
		l.wish, l.wantUp = l.wish+1, true
	}
	if s.vm {
		l.tryVM()
	}
	l.shipping = len(s.servers) > 0 && s.access != readOnly
	l.capture.epoch = s.epoch
	l.closeGap()
	l.send()
	l.pointTurn()
	l.yieldTurn()
}

// tryVM carries out the newest wish.
func (l *live) tryVM() {
	wish := l.wish
	if wish == l.done {
		return
	}
	c, up := l.p.c, l.wantUp
	d := l.w().between(500*time.Millisecond, 3*time.Second)
	if up == c.vm {
		d = 0
	} else if !up {
		d = l.p.downTime(l.spec.grace, l.spec.access == readOnly)
	}
	l.after(d, func() {
		if wish != l.wish || l.done == wish {
			return
		}
		l.done = wish
		c.power(up)
	})
}

// vmTurn tries again now and then.
func (l *live) vmTurn() {
	l.after(5*time.Second, func() {
		l.tryVM()
		l.vmTurn()
	})
}

// power brings the virtual machine up or down.
func (c *child) power(up bool) {
	if c.vm == up {
		return
	}
	c.vm = up
	c.h.n.w.note(c.h.n.m.name, "vm", c.key, strconv.FormatBool(up))
	if c.proc != nil {
		c.proc.answers = answering{}
	}
	c.changed()
}

// stopVM brings the virtual machine down, and then runs f. It may run although this process did not start it.
func (p *process) stopVM(grace time.Duration, f func()) {
	if p.live != nil {
		p.live.wish++
		p.live.wantUp = false
		p.live.done = p.live.wish
	}
	if !p.c.vm {
		f()
		return
	}
	p.after(p.downTime(grace, p.live != nil && p.live.access == readOnly), func() {
		p.c.power(false)
		f()
	})
}

// downTime is how long a guest takes to go down: one whose disks refuse to be written has its power cut.
func (p *process) downTime(grace time.Duration, cut bool) time.Duration {
	w := p.c.h.n.w
	if cut || grace < 200*time.Millisecond {
		return w.between(50*time.Millisecond, 200*time.Millisecond)
	}
	return w.between(200*time.Millisecond, grace)
}

// runs tells whether something may write to the disks now: the virtual machine, or whatever else there is.
func (l *live) runs() bool {
	return l.access == writable && (!l.spec.vm || l.p.c.vm)
}

// guestTurn writes something now and then.
func (l *live) guestTurn() {
	l.after(l.w().between(time.Second, 6*time.Second), func() {
		if l.runs() {
			l.write(l.w().rng.IntN(blocks), l.w().rng.IntN(values))
		}
		l.guestTurn()
	})
}

func (l *live) write(b, v int) {
	l.disk[b] = v
	l.p.c.home.wrote[b] = true
	l.capture.write(b, v, l.shipping)
	l.send()
}

// addDirty says where the disks may differ from what the stream stands on.
func (l *live) addDirty(where [blocks]bool) {
	l.capture.mark(where)
	l.closeGap()
}

// closeGap reads again, in a while, what is marked.
func (l *live) closeGap() {
	if !l.capture.gap || !l.shipping {
		return
	}
	l.after(l.w().between(200*time.Millisecond, 3*time.Second), func() {
		if l.capture.gap && l.shipping {
			l.capture.reread(*l.disk, l.p.told)
			l.send()
			l.pointTurn()
			l.p.c.changed()
		}
	})
}

// pointTurn makes the points that are due, and arranges for the next look.
func (l *live) pointTurn() {
	if !l.shipping || l.pointing {
		return
	}
	l.pointing = true
	wait := 500 * time.Millisecond
	if l.duePoints() {
		wait = min(max(l.nextCrash-l.w().now, time.Millisecond), l.spec.crashEvery)
	}
	l.after(wait, func() {
		l.pointing = false
		l.pointTurn()
	})
}

// duePoints tells whether nothing is left to be done before the next point's time.
func (l *live) duePoints() bool {
	l.settlePoints()
	marks, now := l.p.c.home.marks, l.w().now
	settled := l.askedAt == 0
	if id := l.spec.pointNow; id != "" && marks["point"] != id {
		settled = false
		if goingDown := l.spec.vm && !l.spec.run && l.p.c.vm; !goingDown && l.point(id) {
			l.askedAt = l.last.seq
			marks["pointSeq"], marks["point"] = strconv.FormatUint(l.last.seq, 10), id
			l.p.c.changed()
		}
	}
	if now >= l.nextCrash {
		if !l.point("") {
			return false
		}
		l.nextCrash = now + l.spec.crashEvery
	}
	return settled
}

// point makes one, unless the stream has a gap.
func (l *live) point(tag string) bool {
	if l.capture.gap {
		return false
	}
	e := l.w().estate
	e.points++
	l.last = point{id: fmt.Sprintf("p%d", e.points), at: l.p.c.h.n.m.now().Wall, tag: tag, app: e.w.chance(0.2), made: e.w.now}
	l.p.c.guest.points[l.last.id] = *l.disk
	l.last.seq = l.capture.point(l.last)
	l.send()
	l.p.c.changed()
	return true
}

// settlePoints forgets what a gap has taken, so that a point that was asked for is made again.
func (l *live) settlePoints() {
	if l.last.seq != 0 && l.capture.lost(l.last.seq) {
		l.last = point{}
	}
	if l.askedAt != 0 && l.capture.lost(l.askedAt) {
		l.p.c.home.marks["point"], l.askedAt = "", 0
	}
	if l.askedAt <= l.capture.stored {
		l.askedAt = 0
	}
}

// recallPoint takes up the point that an earlier process was asked for.
func (l *live) recallPoint() {
	seq, err := strconv.ParseUint(l.p.c.home.marks["pointSeq"], 10, 64)
	switch {
	case err != nil:
	case l.capture.lost(seq):
		l.p.c.home.marks["point"] = ""
	case l.capture.stored < seq:
		l.askedAt = seq
	}
}

func (l *live) describe(s *api.EngineState) {
	k, marks := l.capture, l.p.c.home.marks
	switch {
	case k.gap:
		l.wholeAt = 0
	case l.wholeAt == 0:
		l.wholeAt = max(1, k.seq)
	}
	protection := "initial"
	if l.wholeAt > 0 && k.stored >= l.wholeAt {
		l.stored, protection = true, "protected"
	} else if l.stored || k.gap && k.gapFrom > 1 {
		protection = "gap"
	}
	s.Stream, s.Stored, s.Done = k.stream, k.stored, marks["point"]
	switch l.access {
	case readOnly:
		s.Phase = "readonly"
	case unconfirmed:
		s.Phase = "waiting"
	default:
		s.Phase = protection
	}
	last := l.last
	if last.seq != 0 && k.lost(last.seq) {
		last = point{}
	}
	if l.askedAt != 0 && k.lost(l.askedAt) {
		s.Done = ""
	}
	if y := marks["yield"]; y != "" && l.access == readOnly {
		s.Phase, s.Done = "yielded", y
	}
	s.LastPoint, s.LastPointSeq, s.LastPointAt = last.id, last.seq, last.at
	if l.shipping {
		s.Protection = protection
	}
}

func everything() (all [blocks]bool) {
	for i := range all {
		all[i] = true
	}
	return all
}

func none(where [blocks]bool) bool { return !slices.Contains(where[:], true) }
