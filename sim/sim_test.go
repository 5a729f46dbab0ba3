package sim

import (
	"bytes"
	"runtime"
	"testing"
	"time"

	"github.com/understudy-ha/understudy/controller"
)

// TestSeeds plays seeds that must be clean, have three failovers each, and hit every boundary with every fault.
func TestSeeds(t *testing.T) {
	seeds, hits := 300, 20
	if raced {
		seeds, hits = 6, 0
	}
	r := RunMany(Appliances, 1, seeds, runtime.NumCPU(), nil)
	for _, f := range r.Failed {
		t.Errorf("seed %d: %s", f.Seed, f.Failure)
	}
	if r.LeastFailovers < 3 {
		t.Errorf("a seed had %d failovers, want at least 3", r.LeastFailovers)
	}
	if r.Virtual < time.Duration(seeds)*faultsLast {
		t.Errorf("%v of virtual time, want 30 minutes a seed", r.Virtual)
	}
	for f, kind := range Faults(Appliances) {
		for b, where := range controller.Boundaries() {
			if n := r.Coverage[f][b]; n < hits {
				t.Errorf("%s %s: %d hits, want at least %d", kind, where, n, hits)
			}
		}
	}
}

// TestMachines plays seeds of the other world.
func TestMachines(t *testing.T) {
	seeds, hits := 300, 20
	if raced {
		seeds, hits = 6, 0
	}
	r := RunMany(Machines, 1, seeds, runtime.NumCPU(), nil)
	for _, f := range r.Failed {
		t.Errorf("seed %d: %s", f.Seed, f.Failure)
	}
	if r.LeastFailovers < 3 {
		t.Errorf("a seed had %d moves, want at least 3", r.LeastFailovers)
	}
	for f, kind := range Faults(Machines) {
		for b, where := range controller.Boundaries() {
			if n := r.Coverage[f][b]; n < hits {
				t.Errorf("%s %s: %d hits, want at least %d", kind, where, n, hits)
			}
		}
	}
}

// TestDeterminism plays seeds twice: not a byte of the trace may differ.
func TestDeterminism(t *testing.T) {
	last := uint64(3)
	if raced {
		last = 1
	}
	for _, kind := range []World{Appliances, Machines} {
		for seed := uint64(1); seed <= last; seed++ {
			var a, b bytes.Buffer
			first, second := Run(kind, seed, &a), Run(kind, seed, &b)
			if !bytes.Equal(a.Bytes(), b.Bytes()) || first.Hash != second.Hash {
				t.Errorf("%s, seed %d: two runs gave traces %s and %s", kind, seed, first.Hash, second.Hash)
			}
			if third := Run(kind, seed, nil); third.Hash != first.Hash {
				t.Errorf("%s, seed %d: printing the trace changes it", kind, seed)
			}
		}
		if Run(kind, 1, nil).Hash == Run(kind, 2, nil).Hash {
			t.Errorf("%s: two seeds gave the same trace", kind)
		}
	}
}
