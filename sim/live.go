package sim

import (
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

func everything() (all [blocks]bool) {
	for i := range all {
		all[i] = true
	}
	return all
}

func none(where [blocks]bool) bool { return !slices.Contains(where[:], true) }
