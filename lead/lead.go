// Package lead decides who may act.
//
// One controller leads at a time, by a lease that lives in the store as two small
// documents and is kept by compare-and-swap alone: no store session, no clock but
// each machine's own.
//
//	          seen unchanged for ttl+margin, or released
//	Follower ──────────────────────────────────────────► Candidate
//	   ▲  ▲                                                  │ transaction: epoch+1
//	   │  └──────────── conflict, unknown ───────────────────┤
//	   │                                                     ▼
//	   └── no renewal began within ttl−margin, or epoch ── Leader
//	       is another's
//
// The leader counts its right from the moment its last successful renewal *began*
// and stops at ttl−margin; a successor waits ttl+margin from the moment it *saw*
// the last renewal. So long as clocks run at the same rate within margin/ttl, the
// two never overlap. Beyond that, three fences hold: store transactions are bound
// to the epoch (Guard), agents refuse older tokens (Gate), and agents refuse pushes
// that carry a stale tick (Gate, Echoes).
package lead

import (
	"fmt"
	"time"

	"github.com/understudy-ha/understudy/mutant"
)

// Timing is one cluster's lease arithmetic. All controllers and agents of a cluster use the same.
type Timing struct {
	// TTL is the lease's length: 300ms to 1h.
	TTL time.Duration
	// Margin is taken off by holders and added by successors: at least TTL/20, at most TTL/3. It pays for clocks
	// that run at different rates.
	Margin time.Duration
}

// DefaultTiming suits disks that sometimes take a second to sync.
var DefaultTiming = Timing{TTL: 3 * time.Second, Margin: 500 * time.Millisecond}

// Validate refuses margins that guard nothing and leases that cannot be kept.
func (t Timing) Validate() error {
	if t.TTL < 300*time.Millisecond || t.TTL > time.Hour {
		return fmt.Errorf("lease ttl %v: want 300ms to 1h", t.TTL)
	}
	if t.Margin < t.TTL/20 || t.Margin > t.TTL/3 {
		return fmt.Errorf("lease margin %v: want %v to %v with a ttl of %v", t.Margin, t.TTL/20, t.TTL/3, t.TTL)
	}
	return nil
}

// Hold is how long a holder may act after the beginning of what renewed it.
func (t Timing) Hold() time.Duration {
	if mutant.On(mutant.MarginZero) {
		return t.TTL + t.Margin
	}
	return t.TTL - t.Margin
}

// Wait is how long a successor waits.
func (t Timing) Wait() time.Duration {
	if mutant.On(mutant.MarginZero) {
		return t.TTL - t.Margin
	}
	return t.TTL + t.Margin
}

// RenewEvery is the time between the beginnings of renewals.
func (t Timing) RenewEvery() time.Duration { return t.TTL / 6 }

// TickEvery is the time between an agent's ticks.
func (t Timing) TickEvery() time.Duration { return t.TTL / 6 }
