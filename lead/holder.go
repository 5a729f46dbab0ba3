package lead

import (
	"maps"

	"github.com/understudy-ha/understudy/clock"
	"github.com/understudy-ha/understudy/mutant"
)

// Holder is an agent's knowledge of the grants it has and the promises it gave. A grant is the right to hold what
// one owner (a group) moves by lease. Driven by one goroutine.
//
// A grant lasts Hold from the moment the agent *sent* the tick whose echo renewed it. When no controller echoes any
// more, the agent may ask every other candidate to promise that it accepts no grant for Wait; with all promises it
// keeps the grant for Hold from the moment it asked. A candidate that is itself in touch with a leader does not promise:
// then the leader is right to move the grant.
type Holder struct {
	timing   Timing
	grants   map[string]clock.Instant // owner → the instant the right counts from
	promised map[string]clock.Instant // owner → when a promise was last given
	echoed   clock.Instant            // the send time of the newest echoed tick
	born     clock.Instant
}

// NewHolder holds nothing. Because promises do not survive a restart, it takes no grant for Wait after born,
// except those that Restore brings back.
func NewHolder(t Timing, born clock.Instant) *Holder {
	return &Holder{timing: t, born: born, grants: map[string]clock.Instant{}, promised: map[string]clock.Instant{}}
}

// Echoed takes note of an echo of the tick sent at tickSent, which renews the named owners' grants that this agent has.
func (h *Holder) Echoed(tickSent clock.Instant, renews []string) {
	if h.echoed.Before(tickSent) {
		h.echoed = tickSent
	}
	for _, owner := range renews {
		if from, ok := h.grants[owner]; ok && from.Before(tickSent) {
			h.grants[owner] = tickSent
		}
	}
}

// Grant takes a new grant that a push brought with the tick sent at tickSent. It must wait while a
// promise stands; the leader tries again.
func (h *Holder) Grant(now, tickSent clock.Instant, owner string) (wait bool) {
	from, held := h.grants[owner]
	if !held && h.promises(now, owner) && !mutant.On(mutant.PromiseIgnored) {
		return true
	}
	if !held || from.Before(tickSent) {
		h.grants[owner] = tickSent
	}
	return false
}

// promises tells whether this agent has, or may have in an earlier life, promised to take no grant.
func (h *Holder) promises(now clock.Instant, owner string) bool {
	at, ok := h.promised[owner]
	return ok && now.Since(at) < h.timing.Wait() || now.Since(h.born) < h.timing.Wait()
}

// Restore brings back a grant that was kept on disk by an earlier life in the same boot of the machine.
func (h *Holder) Restore(owner string, from clock.Instant) { h.grants[owner] = from }

// Grants gives a copy of what is held and since when each right counts.
func (h *Holder) Grants() map[string]clock.Instant { return maps.Clone(h.grants) }

// Release gives a grant back.
func (h *Holder) Release(owner string) { delete(h.grants, owner) }

// Holds tells whether the grant is still good at now.
func (h *Holder) Holds(now clock.Instant, owner string) bool {
	from, ok := h.grants[owner]
	return ok && now.AtMostSince(from) < h.timing.Hold()
}

// Expired lists the owners whose grant has run out, and forgets them.
func (h *Holder) Expired(now clock.Instant) []string {
	var out []string
	for owner, from := range h.grants {
		if now.AtMostSince(from) >= h.timing.Hold() {
			out = append(out, owner)
			delete(h.grants, owner)
		}
	}
	return out
}

// InTouch tells whether a leader has echoed lately: within three fifths of Hold. Echoes come several times in
// that, and once they do not, enough of a grant is left to ask for promises. Safety does not rest on it.
func (h *Holder) InTouch(now clock.Instant) bool {
	return !h.echoed.IsZero() && now.AtMostSince(h.echoed) < h.timing.Hold()*3/5
}

// MustAsk lists the owners whose grant needs promises: half of its time is gone.
func (h *Holder) MustAsk(now clock.Instant) []string {
	var out []string
	for owner, from := range h.grants {
		if now.AtMostSince(from) >= h.timing.Hold()/2 {
			out = append(out, owner)
		}
	}
	return out
}

// AllPromised renews a grant by the promises of every other candidate, all asked at or after asked.
func (h *Holder) AllPromised(asked clock.Instant, owner string) {
	if from, ok := h.grants[owner]; ok && from.Before(asked) {
		h.grants[owner] = asked
	}
}

// Promise answers another candidate that asks this agent to accept no grant for Wait: the holder stops after Hold by its own
// clock, and as everywhere the difference pays for clocks that run at different rates.
func (h *Holder) Promise(now clock.Instant, owner string) bool {
	if h.Holds(now, owner) || h.InTouch(now) {
		return false
	}
	h.promised[owner] = now
	return true
}
