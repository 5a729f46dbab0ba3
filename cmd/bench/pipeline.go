package main

import (
	"context"
	"fmt"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
)

// parts of the pipeline, as replication's benchmark names them. The last is the whole.
var parts = []string{"framing", "seal", "put", "spool", "all"}

var benchLine = regexp.MustCompile(`(?m)^BenchmarkPipeline/(\w+?)(?:-\d+)?\s.*?([\d.]+) MB/s`)

// benchPipeline runs replication's benchmark: every round measures each part alone, and the whole.
func benchPipeline(ctx context.Context, o options, dir, _ string, r *report) error {
	program := filepath.Join(dir, "replication.test")
	if out, err := exec.CommandContext(ctx, "go", "test", "-c", "-o", program, "./replication").CombinedOutput(); err != nil {
		return fmt.Errorf("build replication's benchmark: %w: %s", err, out)
	}
	all := map[string][]float64{}
	var ratios []float64
	for i := range o.rounds {
		round, err := pipelineRound(ctx, program, dir, o.seconds)
		if err != nil {
			return err
		}
		slowest := parts[0]
		for _, p := range parts {
			all[p] = append(all[p], round[p])
			if p != "all" && round[p] < round[slowest] {
				slowest = p
			}
		}
		ratios = append(ratios, round["all"]/round[slowest])
		say("pipeline round %d/%d: %.0f MB/s beside its slowest part alone, %s: %.0f", i+1, o.rounds, round["all"], slowest, round[slowest])
	}
	for _, p := range parts {
		_, mid, _ := medianInterval(all[p])
		r.figure("pipeline_mb_per_s", mid, "MB/s", p, "64k writes, half compressible")
	}
	mid := r.ratios("pipeline_ratio", ratios, "slowest part alone", "64k writes, half compressible")
	r.check("the pipeline ships", slices.Min(all["all"]) > 0, "%.3f of its slowest part alone, over %d rounds", mid, o.rounds)
	return nil
}

func pipelineRound(ctx context.Context, program, dir string, seconds int) (map[string]float64, error) {
	cmd := exec.CommandContext(ctx, program, "-test.run=^$", "-test.bench=Pipeline", fmt.Sprintf("-test.benchtime=%ds", seconds))
	cmd.Dir = dir
	out, err := cmd.CombinedOutput()
	if err != nil {
		return nil, fmt.Errorf("replication's benchmark: %w: %s", err, out)
	}
	round := map[string]float64{}
	for _, m := range benchLine.FindAllSubmatch(out, -1) {
		if round[string(m[1])], err = strconv.ParseFloat(string(m[2]), 64); err != nil {
			return nil, err
		}
	}
	for _, p := range parts {
		if round[p] == 0 {
			return nil, fmt.Errorf("replication's benchmark says nothing of %s: %s", p, out)
		}
	}
	return round, nil
}
