package sim

import (
	"fmt"
	"strconv"
	"time"

	"github.com/understudy-ha/understudy/api"
)

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
