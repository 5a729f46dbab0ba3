package main

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"os/exec"
	"strconv"
	"time"
)

// workload is a way to use a disk, in fio's words.
type workload struct {
	name, unit string
	args       []string
}

// sample is what one measurement came to; what was not measured is 0.
type sample struct {
	value    float64 // rate in the workload's unit, or a time in ms
	p99, cpu float64 // 99th percentile of latency, and CPU time of the server, in µs
	requests float64
	rss      float64 // peak memory of the server in bytes
}

func rate(s sample) float64 { return s.value }
func tail(s sample) float64 { return s.p99 }
func rss(s sample) float64  { return s.rss }

func mean(list []sample) (m sample) {
	n := float64(len(list))
	for _, s := range list {
		m = sample{m.value + s.value/n, m.p99 + s.p99/n, m.cpu + s.cpu/n, m.requests + s.requests/n, m.rss + s.rss/n}
	}
	return m
}

// target is a disk that a process serves by NBD.
type target struct {
	*process
	uri  string
	size int64
	core int // of fio
}

func at(socket, export string) string { return "nbd+unix:///" + export + "?socket=" + socket }

// fio uses a disk once.
func (t target) fio(ctx context.Context, w workload, seconds int) (sample, error) {
	before, err := t.cpu()
	if err != nil {
		return sample{}, err
	}
	argv := append([]string{"fio", "--name=b", "--ioengine=nbd", "--uri=" + t.uri, "--time_based", fmt.Sprintf("--runtime=%d", seconds),
		fmt.Sprintf("--size=%d", t.size), "--output-format=json", "--randrepeat=0", "--norandommap"}, w.args...)
	if t.core != anyCore {
		argv = append([]string{"taskset", "-c", strconv.Itoa(t.core)}, argv...)
	}
	ctx, cancel := context.WithTimeout(ctx, time.Duration(seconds)*time.Second+time.Minute)
	defer cancel()
	cmd := exec.CommandContext(ctx, argv[0], argv[1:]...)
	var failed bytes.Buffer
	cmd.Stderr = &failed
	out, err := cmd.Output()
	if err != nil {
		return sample{}, fmt.Errorf("fio on %s: %w: %s%s", t.name, err, failed.String(), out)
	}
	after, err := t.cpu()
	if err != nil {
		return sample{}, err
	}
	s, err := readFio(out, w.unit)
	if err != nil {
		return s, fmt.Errorf("fio on %s: %w", t.name, err)
	}
	s.cpu = after - before
	return s, nil
}

// readFio reads fio's report of one job that only reads or only writes.
func readFio(out []byte, unit string) (s sample, err error) {
	type side struct {
		IOPS     float64 `json:"iops"`
		BW       float64 `json:"bw_bytes"`
		Requests float64 `json:"total_ios"`
		Latency  struct {
			Percentile map[string]float64 `json:"percentile"`
		} `json:"clat_ns"`
	}
	var report struct {
		Jobs []struct{ Read, Write side } `json:"jobs"`
	}
	if i := bytes.IndexByte(out, '{'); i > 0 { // fio's notes come first
		out = out[i:]
	}
	if err := json.Unmarshal(out, &report); err != nil || len(report.Jobs) != 1 {
		return s, fmt.Errorf("%v: no report of one job in %s", err, out)
	}
	got := report.Jobs[0].Write
	if got.Requests == 0 {
		got = report.Jobs[0].Read
	}
	if got.Requests == 0 {
		return s, fmt.Errorf("no requests in %s", out)
	}
	s = sample{value: got.IOPS, p99: got.Latency.Percentile["99.000000"] / 1000, requests: got.Requests}
	if unit == "MiB/s" {
		s.value = got.BW / (1 << 20)
	}
	return s, nil
}
