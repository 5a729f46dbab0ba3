// Package sim runs the control plane under one seed: the product's own controllers, agents and decisions in a world
// of virtual time, with a store, a network, a cloud, machines and clocks that fail in every way the design allows
// for. After every event the invariants of DESIGN.md are asserted. The same seed gives the same trace, byte for byte.
package sim

import (
	"io"
	"time"
)

// Result of one seed.
type Result struct {
	Seed uint64 `json:"seed"`
	// Hash of the trace.
	Hash string `json:"hash"`
	// Lines of the trace, and virtual time.
	Lines   int           `json:"lines"`
	Virtual time.Duration `json:"virtual"`
	// Failovers, Moves and Jobs that happened.
	Failovers int `json:"failovers"`
	Moves     int `json:"moves"`
	Jobs      int `json:"jobs"`
	// Coverage of faults at boundaries.
	Coverage Coverage `json:"coverage"`
	// Failure is nil if every invariant held.
	Failure *Failure `json:"failure,omitempty"`
}

// World is a kind of world.
type World string

// The worlds.
const (
	Appliances World = "appliances" // groups of appliances, their addresses and routes
	Machines   World = "machines"   // machines that are protected from one site to another
)

// Run plays one seed. The trace goes to out as well, unless that is nil. Runs share nothing.
func Run(kind World, seed uint64, out io.Writer) Result {
	w := newWorld(kind, seed, out)
	w.run()
	return Result{Seed: seed, Hash: w.trace.hash(), Lines: w.trace.lines, Virtual: w.now, Failovers: w.check.failovers,
		Moves: w.check.moves, Jobs: w.check.endedJobs, Coverage: w.faults.coverage, Failure: w.failure}
}
