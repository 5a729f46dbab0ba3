// Command bench measures the machines' data path beside its peers and beside its own parts. What is compared is measured in rounds
// ABBA: each round measures each contender twice, in mirrored order, so that a drift of the machine's speed falls on both. A ratio is
// the median of the rounds' ratios, with its 95 % interval.
//
//	bench -rounds 9 -seconds 5 -out bin nbd capture warm pipeline boot point
//
// It writes one bench-NAME.json for each and exits with 1 if a goal is missed.
package main

import (
	"context"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"os"
	"os/signal"
	"path/filepath"
	"strings"
	"syscall"

	"github.com/understudy-ha/understudy/lab"
)

// options of all benches.
type options struct {
	rounds, seconds int
	dir, far        string
	understudy, out string
	size            int64 // bytes of a disk
	segments        int64 // bytes of records of the warm point
	blocks, small   int   // indexed on the big disk and on the small one
}

// bench is one thing to measure. It works in a directory of its own on the source's side, and one on the far side.
type bench struct {
	name, about string
	run         func(ctx context.Context, o options, dir, far string, r *report) error
}

var benches = []bench{
	{"nbd", "our export of a plain file beside nbdkit's", benchNBD},
	{"capture", "a protected disk beside the same disk exported plainly", benchCapture},
	{"warm", "a recovery point that was read once beside nbdkit on the materialised image", benchWarm},
	{"pipeline", "shipping beside sealing, storing and spooling alone", benchPipeline},
	{"boot", "opening and reading a disk with many indexed blocks beside a small one", benchBoot},
	{"point", "what a recovery point costs", benchPoint},
}

func main() {
	var o options
	flag.IntVar(&o.rounds, "rounds", 9, "rounds of each comparison; 9 or more for a 95 % interval of use")
	flag.IntVar(&o.seconds, "seconds", 5, "how long each measurement takes")
	flag.StringVar(&o.dir, "dir", "/dev/shm", "where the disks that are compared are made")
	flag.StringVar(&o.far, "far", "/dev/shm", "where process server and vaults are made; at many rounds give a disk, capture leaves gigabytes there")
	flag.StringVar(&o.understudy, "understudy", "bin/understudy", "the program to measure")
	flag.StringVar(&o.out, "out", "", "directory for the figures, as bench-NAME.json")
	flag.Int64Var(&o.size, "size", 1<<30, "bytes of a disk that is written to, a multiple of 1 MiB")
	flag.Int64Var(&o.segments, "segments", 1<<30, "bytes that the segments of the warm point hold")
	flag.IntVar(&o.blocks, "blocks", 20_648_881, "blocks that are indexed on the big disk, one each 52 KiB: 20648881 is 1 TiB")
	flag.IntVar(&o.small, "small", 20_164, "blocks of the small disk: 20164 is 1 GiB")
	flag.Usage = usage
	flag.Parse()
	chosen, err := choose(flag.Args())
	if err != nil || o.rounds < 1 || o.seconds < 1 || o.size%(1<<20) != 0 || o.small < bootReads || o.blocks < o.small {
		fmt.Fprintln(os.Stderr, "bench:", errors.Join(err, fmt.Errorf("want -rounds and -seconds of at least 1, -size in MiB, -blocks ≥ -small ≥ %d", bootReads)))
		os.Exit(2)
	}
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	passed := true
	for _, b := range chosen {
		r, err := b.measure(ctx, o)
		if err != nil {
			stop()
			fmt.Fprintf(os.Stderr, "bench %s: %v\n", b.name, err)
			os.Exit(2)
		}
		passed = passed && r.Passed
	}
	stop()
	if !passed {
		os.Exit(1)
	}
}

func usage() {
	fmt.Fprintln(flag.CommandLine.Output(), "usage: bench [flags] NAME…")
	for _, b := range benches {
		fmt.Fprintf(flag.CommandLine.Output(), "  %-9s %s\n", b.name, b.about)
	}
	flag.PrintDefaults()
}

// choose finds benches by their names.
func choose(names []string) (out []bench, err error) {
	var known []string
	for _, b := range benches {
		known = append(known, b.name)
	}
	if len(names) == 0 {
		return nil, fmt.Errorf("nothing to measure: want some of %s", strings.Join(known, ", "))
	}
next:
	for _, n := range names {
		for _, b := range benches {
			if b.name == n {
				out = append(out, b)
				continue next
			}
		}
		return nil, fmt.Errorf("%q: want some of %s", n, strings.Join(known, ", "))
	}
	return out, nil
}

// measure runs one bench, shows what it came to, and keeps it.
func (b bench) measure(ctx context.Context, o options) (r report, err error) {
	dir, err := os.MkdirTemp(o.dir, "bench-"+b.name)
	if err != nil {
		return r, err
	}
	defer func() { err = errors.Join(err, os.RemoveAll(dir)) }()
	far, err := os.MkdirTemp(o.far, "bench-"+b.name)
	if err != nil {
		return r, err
	}
	defer func() { err = errors.Join(err, os.RemoveAll(far)) }()
	r.Result = lab.Result{Scenario: "bench-" + b.name, Passed: true}
	if err := b.run(ctx, o, dir, far, &r); err != nil {
		return r, err
	}
	if err := r.Print(os.Stdout); err != nil || o.out == "" {
		return r, err
	}
	text, err := json.MarshalIndent(r.Result, "", "  ")
	if err != nil {
		return r, err
	}
	if err := os.MkdirAll(o.out, 0o755); err != nil {
		return r, err
	}
	return r, os.WriteFile(filepath.Join(o.out, "bench-"+b.name+".json"), append(text, '\n'), 0o644)
}
