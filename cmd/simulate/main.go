// Command simulate plays the control plane under seeds and asserts its invariants. Built with -tags mutants it also
// shows that it would find known defects.
//
//	simulate -seeds 10000         clean runs, with the table of faults and boundaries
//	simulate -world machines      the same of machines between two sites; the other world is that of appliances
//	simulate -seed 7 -v           one seed, with its trace
//	simulate -mutants -seeds 1000 every planted defect, and the seed that finds it
package main

import (
	"encoding/json"
	"flag"
	"fmt"
	"io"
	"os"
	"runtime"
	"runtime/debug"
	"strings"
	"time"

	"github.com/understudy-ha/understudy/controller"
	"github.com/understudy-ha/understudy/mutant"
	"github.com/understudy-ha/understudy/sim"
)

type options struct {
	seeds, workers       int
	start, seed          uint64
	verbose, mutants, js bool
	only                 string
	world                sim.World
}

func main() {
	var o options
	flag.IntVar(&o.seeds, "seeds", 300, "how many seeds to play")
	flag.Uint64Var(&o.start, "start", 1, "the first seed")
	flag.Uint64Var(&o.seed, "seed", 0, "play this one seed alone")
	flag.BoolVar(&o.verbose, "v", false, "with -seed: print the trace")
	flag.BoolVar(&o.mutants, "mutants", false, "plant each known defect in turn, and find it")
	flag.StringVar(&o.only, "only", "", "with -mutants: these defects alone, separated by commas; with -seed: plant this one")
	flag.BoolVar(&o.js, "json", false, "print the report as JSON")
	flag.IntVar(&o.workers, "j", runtime.NumCPU(), "how many seeds at once")
	world := flag.String("world", string(sim.Appliances), "what there is in the worlds: appliances or machines")
	flag.Parse()
	o.world = sim.World(*world)
	if flag.NArg() > 0 || o.seeds < 1 || o.workers < 1 || o.world != sim.Appliances && o.world != sim.Machines {
		fmt.Fprintln(os.Stderr, "simulate: want -world appliances or machines, -seeds and -j of at least 1, and no arguments")
		os.Exit(2)
	}
	debug.SetGCPercent(800) // worlds are small and short-lived
	ok, err := run(o, os.Stdout)
	if err != nil {
		fmt.Fprintln(os.Stderr, "simulate:", err)
		os.Exit(2)
	}
	if !ok {
		os.Exit(1)
	}
}

// run does what was asked for and tells whether everything is as it should be.
func run(o options, out io.Writer) (bool, error) {
	switch {
	case o.seed != 0:
		return one(o, out)
	case o.mutants:
		return hunt(o, out)
	}
	return many(o, out), nil
}

func one(o options, out io.Writer) (bool, error) {
	var trace io.Writer
	if o.verbose {
		trace = out
	}
	r, err := sim.Result{}, error(nil)
	if o.only != "" {
		r, err = sim.RunPlanted(o.world, mutant.Name(o.only), o.seed, trace)
	} else {
		r = sim.Run(o.world, o.seed, trace)
	}
	if err != nil {
		return false, err
	}
	if o.js {
		show(out, r)
	} else {
		fmt.Fprintf(out, "seed %d: %v virtual, %d failovers, %d moves, %d jobs, trace %s of %d lines\n", r.Seed, r.Virtual.Round(time.Second), r.Failovers, r.Moves, r.Jobs, r.Hash, r.Lines)
		tell(out, o.world, r)
	}
	return r.Failure == nil, nil
}

func tell(out io.Writer, w sim.World, r sim.Result) {
	if r.Failure != nil {
		again := ""
		if w != sim.Appliances {
			again = " -world " + string(w)
		}
		fmt.Fprintf(out, "seed %d breaks %s\nlast lines:\n  %s\nrun it again: simulate%s -seed %d -v\n", r.Seed, r.Failure, strings.Join(r.Failure.Tail, "\n  "), again, r.Seed)
	}
}

func show(out io.Writer, v any) {
	b, err := json.MarshalIndent(v, "", "  ")
	if err != nil {
		panic("simulate: " + err.Error()) // reports are plain structs
	}
	fmt.Fprintf(out, "%s\n", b)
}

func many(o options, out io.Writer) bool {
	r := sim.RunMany(o.world, o.start, o.seeds, o.workers, progress(o.seeds))
	if o.js {
		show(out, r)
		return good(r)
	}
	for _, f := range r.Failed {
		tell(out, o.world, f)
	}
	fmt.Fprintf(out, "%d seeds from %d: %d failed; %v virtual in %v; %d failovers (at least %d a seed), %d moves, %d jobs ended\n",
		r.Seeds, r.Start, len(r.Failed), r.Virtual.Round(time.Minute), r.Took.Round(time.Second), r.Failovers, r.LeastFailovers, r.Moves, r.Jobs)
	fmt.Fprintf(out, "\n%-16s", "fault \\ boundary")
	for _, b := range controller.Boundaries() {
		fmt.Fprintf(out, "%15s", b)
	}
	for i, f := range sim.Faults(o.world) {
		fmt.Fprintf(out, "\n%-16s", f)
		for _, n := range r.Coverage[i] {
			fmt.Fprintf(out, "%15d", n)
		}
	}
	fmt.Fprintf(out, "\nleast: %d\n", r.Coverage.Least())
	return good(r)
}

// good tells whether every invariant held and, if there were seeds enough, every fault hit every boundary often enough.
func good(r sim.Report) bool {
	return len(r.Failed) == 0 && r.LeastFailovers >= 3 && (r.Seeds < enough || r.Coverage.Least() >= hits)
}

const (
	enough = 300 // seeds
	hits   = 20  // in every cell of the table
)

// progress says on stderr, now and then, how far it got.
func progress(seeds int) func(int) {
	last := time.Now()
	return func(done int) {
		if time.Since(last) > 10*time.Second {
			last = time.Now()
			fmt.Fprintf(os.Stderr, "simulate: %d of %d seeds\n", done, seeds)
		}
	}
}

// defects that a kind of world must find.
func defects(w sim.World) []mutant.Name {
	if w == sim.Machines {
		return mutant.Machines()
	}
	return mutant.All()
}

func hunt(o options, out io.Writer) (bool, error) {
	all, ok := []sim.Hunted{}, true
	for _, n := range defects(o.world) {
		if o.only != "" && !strings.Contains(","+o.only+",", ","+string(n)+",") {
			continue
		}
		h, err := sim.Hunt(o.world, n, o.start, o.seeds, o.workers)
		if err != nil {
			return false, err
		}
		all, ok = append(all, h), ok && h.Found
		if !o.js {
			printHunted(out, h)
		}
	}
	if o.js {
		show(out, all)
	}
	return ok, nil
}

func printHunted(out io.Writer, h sim.Hunted) {
	if !h.Found {
		fmt.Fprintf(out, "%-20s NOT FOUND in %d seeds\n", h.Mutant, h.Tried)
		return
	}
	fmt.Fprintf(out, "%-20s seed %-5d invariant %d: %s\n", h.Mutant, h.Seed, h.Failure.Invariant, h.Failure.Text)
}
