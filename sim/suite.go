package sim

import (
	"fmt"
	"io"
	"sync"
	"time"

	"github.com/understudy-ha/understudy/mutant"
)

// Report of many seeds.
type Report struct {
	Start uint64 `json:"start"`
	Seeds int    `json:"seeds"`
	// Failed lists the seeds that broke an invariant, in order; at most maxFailed.
	Failed []Result `json:"failed,omitempty"`
	// Virtual time, failovers, moves and jobs of all seeds; LeastFailovers is the fewest in one.
	Virtual        time.Duration `json:"virtual"`
	Failovers      int           `json:"failovers"`
	LeastFailovers int           `json:"leastFailovers"`
	Moves          int           `json:"moves"`
	Jobs           int           `json:"jobs"`
	Coverage       Coverage      `json:"coverage"`
	Took           time.Duration `json:"took"`
}

const maxFailed = 100

// RunMany plays seeds from start on, in so many goroutines; each seed is a world of its own.
func RunMany(kind World, start uint64, seeds, workers int, progress func(done int)) Report {
	began := time.Now()
	r := Report{Start: start, Seeds: seeds, Coverage: newCoverage(kind)}
	play(kind, start, seeds, workers, func(res Result) bool {
		r.Virtual += res.Virtual
		r.Failovers += res.Failovers
		r.Moves += res.Moves
		r.Jobs += res.Jobs
		r.Coverage.Add(res.Coverage)
		if res.Seed == start || res.Failovers < r.LeastFailovers {
			r.LeastFailovers = res.Failovers
		}
		if res.Failure != nil && len(r.Failed) < maxFailed {
			r.Failed = append(r.Failed, res)
		}
		if progress != nil {
			progress(int(res.Seed-start) + 1)
		}
		return true
	})
	r.Took = time.Since(began)
	return r
}

// play hands results over in the order of their seeds, until each says that it is enough.
func play(kind World, start uint64, seeds, workers int, each func(Result) bool) {
	var mu sync.Mutex
	var wg sync.WaitGroup
	next, stop := 0, false
	ready, handed := map[int]Result{}, 0
	take := func() (int, bool) {
		mu.Lock()
		defer mu.Unlock()
		if stop || next == seeds {
			return 0, false
		}
		next++
		return next - 1, true
	}
	give := func(i int, r Result) {
		mu.Lock()
		defer mu.Unlock()
		ready[i] = r
		for !stop {
			r, ok := ready[handed]
			if !ok {
				return
			}
			delete(ready, handed)
			handed++
			stop = !each(r)
		}
	}
	for range max(workers, 1) {
		wg.Go(func() {
			for i, ok := take(); ok; i, ok = take() {
				give(i, Run(kind, start+uint64(i), nil))
			}
		})
	}
	wg.Wait()
}

// Hunted is how a planted defect was found.
type Hunted struct {
	Mutant mutant.Name `json:"mutant"`
	// Found tells whether any of the seeds found it; Tried is how many were played.
	Found bool `json:"found"`
	Tried int  `json:"tried"`
	// Seed that found it first, and the invariant it broke.
	Seed    uint64   `json:"seed"`
	Failure *Failure `json:"failure,omitempty"`
}

// RunPlanted is Run with a defect planted. The build must have tag mutants.
func RunPlanted(kind World, n mutant.Name, seed uint64, out io.Writer) (Result, error) {
	if !plant(n) {
		return Result{}, fmt.Errorf("plant %s: this build has no defects; build with -tags mutants", n)
	}
	defer plant("")
	return Run(kind, seed, out), nil
}

// Hunt plants a defect for the whole process and plays seeds until one finds it. The build must have tag mutants.
func Hunt(kind World, n mutant.Name, start uint64, seeds, workers int) (Hunted, error) {
	if !plant(n) {
		return Hunted{}, fmt.Errorf("plant %s: this build has no defects; build with -tags mutants", n)
	}
	defer plant("")
	h := Hunted{Mutant: n}
	play(kind, start, seeds, workers, func(r Result) bool {
		h.Tried++
		if r.Failure == nil {
			return true
		}
		h.Found, h.Seed, h.Failure = true, r.Seed, r.Failure
		return false
	})
	return h, nil
}
