package probe

import (
	"slices"
	"sync"
	"time"
)

// stallMeter knows when this process did not get to run. A beat comes at a fixed period; each time it comes late, the
// time between due and done is lost, and so is the time by which a probe's own deadline was missed. A probe that
// failed while the prober stalled says nothing of its target. Safe for concurrent use.
type stallMeter struct {
	mu   sync.Mutex
	due  time.Time // of the next beat
	lost [1024]window
	next int
}

// window of time that was lost.
type window struct{ from, to time.Time }

// jitter is lateness that every timer has.
const jitter = 2 * time.Millisecond

// late takes note that what was due at due happened at now.
func (s *stallMeter) late(due, now time.Time) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.note(due, now)
}

func (s *stallMeter) note(due, now time.Time) {
	if now.Sub(due) > jitter {
		s.lost[s.next] = window{due, now}
		s.next = (s.next + 1) % len(s.lost)
	}
}

// beat takes note that a beat happened at now, and that the next is due at next.
func (s *stallMeter) beat(now, next time.Time) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if !s.due.IsZero() {
		s.note(s.due, now)
	}
	s.due = next
}

// between tells how much of the time from from to to was lost. A beat that is overdue at to counts already.
func (s *stallMeter) between(from, to time.Time) time.Duration {
	s.mu.Lock()
	defer s.mu.Unlock()
	var hit []window
	if !s.due.IsZero() && to.Sub(s.due) > jitter {
		hit = append(hit, window{s.due, to})
	}
	for _, w := range s.lost {
		if w.to.After(from) && w.from.Before(to) {
			hit = append(hit, w)
		}
	}
	return covered(hit, from, to)
}

// covered is how much of the time from from to to the windows cover together.
func covered(windows []window, from, to time.Time) time.Duration {
	slices.SortFunc(windows, func(a, b window) int { return a.from.Compare(b.from) })
	var sum time.Duration
	for _, w := range windows {
		if w.from.Before(from) {
			w.from = from
		}
		if w.to.After(to) {
			w.to = to
		}
		if w.to.After(w.from) {
			sum += w.to.Sub(w.from)
			from = w.to
		}
	}
	return sum
}

// tolerance is how much a prober may stall during a probe whose failure is still held against its target.
func (t Target) tolerance() time.Duration {
	return max(5*time.Millisecond, min(t.Interval, t.Timeout/2))
}
