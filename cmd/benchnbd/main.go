// Command benchnbd compares `understudy nbd serve FILE` with `nbdkit file FILE` under fio, in interleaved rounds ABBA: each round
// measures each server twice, in mirrored order, so that a drift of the machine's speed falls on both. The ratio of a round is our
// mean over nbdkit's; the result is the median of the ratios with its 95 % interval, and how long each server worked per request.
//
//	benchnbd -rounds 9 -seconds 5 -out figures.json
package main

import (
	"context"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"math"
	"os"
	"os/signal"
	"path/filepath"

	"github.com/understudy-ha/understudy/lab"
)

// workload is a way to use a disk, in fio's words.
type workload struct {
	name, unit string
	args       []string
}

// workloads of the bench. The goal of each is a ratio of at least 0.9.
var workloads = []workload{
	{"4k_randwrite_qd32", "iops", []string{"--rw=randwrite", "--bs=4k", "--iodepth=32"}},
	{"4k_randwrite_qd1", "iops", []string{"--rw=randwrite", "--bs=4k", "--iodepth=1"}},
	{"1m_seqwrite_qd8", "MiB/s", []string{"--rw=write", "--bs=1M", "--iodepth=8"}},
}

const goal = 0.9

type options struct {
	rounds, seconds        int
	size                   int64
	dir, understudy, write string
}

func main() {
	o := options{size: 1 << 30}
	flag.IntVar(&o.rounds, "rounds", 9, "rounds ABBA a workload; 9 or more for a 95 % interval of use")
	flag.IntVar(&o.seconds, "seconds", 5, "how long each measurement takes")
	flag.StringVar(&o.dir, "dir", "/dev/shm", "where the disks are made")
	flag.StringVar(&o.understudy, "understudy", "bin/understudy", "the program to measure")
	flag.StringVar(&o.write, "out", "", "file for the figures, as JSON")
	flag.Parse()
	if flag.NArg() > 0 || o.rounds < 1 || o.seconds < 1 {
		fmt.Fprintln(os.Stderr, "benchnbd: want -rounds and -seconds of at least 1, and no arguments")
		os.Exit(2)
	}
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt)
	r, err := bench(ctx, o)
	stop()
	if err != nil {
		fmt.Fprintln(os.Stderr, "benchnbd:", err)
		os.Exit(2)
	}
	if !r.Passed {
		os.Exit(1)
	}
}

// bench makes the disks, starts both servers, and measures every workload.
func bench(ctx context.Context, o options) (r lab.Result, err error) {
	dir, err := os.MkdirTemp(o.dir, "benchnbd")
	if err != nil {
		return r, err
	}
	defer func() { err = errors.Join(err, os.RemoveAll(dir)) }()
	ours, err := start(ctx, dir, "understudy", o.size, func(disk, socket string) []string {
		return []string{o.understudy, "nbd", "serve", disk, "--listen", "unix:" + socket, "--name", "disk"}
	})
	if err != nil {
		return r, err
	}
	defer func() { err = errors.Join(err, ours.stop()) }()
	theirs, err := start(ctx, dir, "nbdkit", o.size, func(disk, socket string) []string {
		return []string{"nbdkit", "--foreground", "--unix", socket, "file", disk}
	})
	if err != nil {
		return r, err
	}
	defer func() { err = errors.Join(err, theirs.stop()) }()
	r = lab.Result{Scenario: "nbd-bench", Passed: true}
	for _, w := range workloads {
		if err := compare(ctx, &r, o, w, ours, theirs); err != nil {
			return r, err
		}
	}
	if err := r.Print(os.Stdout); err != nil || o.write == "" {
		return r, err
	}
	b, err := json.MarshalIndent(r, "", "  ")
	if err != nil {
		return r, err
	}
	if err := os.MkdirAll(filepath.Dir(o.write), 0o755); err != nil {
		return r, err
	}
	return r, os.WriteFile(o.write, append(b, '\n'), 0o644)
}

// compare runs one workload's rounds and adds what they came to.
func compare(ctx context.Context, r *lab.Result, o options, w workload, ours, theirs *server) error {
	var ratios []float64
	sums := map[*server]sample{}
	for i := range o.rounds {
		round := map[*server]float64{}
		for _, s := range []*server{ours, theirs, theirs, ours} {
			got, err := s.measure(ctx, w, o.seconds, o.size)
			if err != nil {
				return err
			}
			round[s] += got.value
			sums[s] = sums[s].plus(got)
		}
		ratios = append(ratios, round[ours]/round[theirs])
		fmt.Fprintf(os.Stderr, "%s round %d/%d: %.0f beside %.0f %s, ratio %.3f\n", w.name, i+1, o.rounds, round[ours]/2, round[theirs]/2, w.unit, ratios[i])
	}
	low, mid, high := medianInterval(ratios)
	add := func(name string, v float64, unit, peer string) {
		r.Figures = append(r.Figures, lab.Figure{Name: name, Value: math.Round(v*1000) / 1000, Unit: unit, Peer: peer, Fault: w.name})
	}
	for _, s := range []*server{ours, theirs} {
		peer := ""
		if s == theirs {
			peer = "nbdkit file"
		}
		add("rate", sums[s].value/float64(2*o.rounds), w.unit, peer)
		add("p99_us", sums[s].p99/float64(2*o.rounds), "µs", peer)
		add("cpu_us_per_request", sums[s].cpu/sums[s].requests, "µs", peer)
	}
	add("ratio_p50", mid, "ratio", "nbdkit file")
	add("ratio_low95", low, "ratio", "nbdkit file")
	add("ratio_high95", high, "ratio", "nbdkit file")
	passed := mid >= goal
	r.Passed = r.Passed && passed
	r.Checks = append(r.Checks, lab.Check{Name: fmt.Sprintf("%s at least %.1f of nbdkit file", w.name, goal), Passed: passed,
		Detail: fmt.Sprintf("ratio %.3f, 95 %% interval %.3f to %.3f, over %d ABBA rounds", mid, low, high, o.rounds)})
	return nil
}
