package lead

import (
	"github.com/understudy-ha/understudy/clock"
	"github.com/understudy-ha/understudy/mutant"
)

// Echoes is a leader's side of the ticks of one agent. A tick may be echoed only after a lease renewal that began
// after the tick had arrived: the echo then proves that the sender still led after the agent sent it.
type Echoes struct {
	arrived []tick // not yet covered by a renewal, oldest first
	proven  uint64
	have    bool
}

type tick struct {
	seq uint64
	at  clock.Instant
}

// maxTicks that wait for a renewal; with a store that hangs the oldest are dropped.
const maxTicks = 64

// Arrived takes note of a tick.
func (e *Echoes) Arrived(now clock.Instant, seq uint64) {
	e.arrived = append(e.arrived, tick{seq, now})
	if len(e.arrived) > maxTicks {
		e.arrived = e.arrived[len(e.arrived)-maxTicks:]
	}
}

// Renewed takes note that a lease renewal succeeded which began at began. It tells whether a newer tick may be echoed now.
func (e *Echoes) Renewed(began clock.Instant) bool {
	moved := false
	for len(e.arrived) > 0 && (!began.Before(e.arrived[0].at) || mutant.On(mutant.EchoUnrenewed)) {
		e.proven, e.have, moved = e.arrived[0].seq, true, true
		e.arrived = e.arrived[1:]
	}
	return moved
}

// Proven gives the newest tick that may be echoed.
func (e *Echoes) Proven() (seq uint64, ok bool) {
	if mutant.On(mutant.EchoUnrenewed) && len(e.arrived) > 0 {
		return e.arrived[len(e.arrived)-1].seq, true
	}
	return e.proven, e.have
}

// Reset forgets everything: the agent's session or the leadership is another.
func (e *Echoes) Reset() { *e = Echoes{} }
