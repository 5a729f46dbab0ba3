package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"time"
)

// server is one contender, running.
type server struct {
	name, socket, uri string
	cmd               *exec.Cmd
	said              bytes.Buffer
}

// start makes a disk with every block written, and serves it.
func start(ctx context.Context, dir, name string, size int64, command func(disk, socket string) []string) (*server, error) {
	disk := filepath.Join(dir, name+".raw")
	if err := fill(disk, size); err != nil {
		return nil, err
	}
	s := &server{name: name, socket: filepath.Join(dir, name+".sock")}
	s.uri = "nbd+unix:///disk?socket=" + s.socket
	argv := command(disk, s.socket)
	s.cmd = exec.Command(argv[0], argv[1:]...)
	s.cmd.Stdout, s.cmd.Stderr = &s.said, &s.said
	if err := s.cmd.Start(); err != nil {
		return nil, err
	}
	ctx, cancel := context.WithTimeout(ctx, 30*time.Second)
	defer cancel()
	for {
		if _, err := os.Stat(s.socket); err == nil {
			return s, nil
		}
		select {
		case <-time.After(20 * time.Millisecond):
		case <-ctx.Done():
			return nil, errors.Join(fmt.Errorf("%s does not serve: %w", name, ctx.Err()), s.stop())
		}
	}
}

func fill(path string, size int64) error {
	f, err := os.Create(path)
	if err != nil {
		return err
	}
	block := bytes.Repeat([]byte{0x5a}, 1<<20)
	for at := int64(0); at < size && err == nil; at += int64(len(block)) {
		_, err = f.Write(block)
	}
	return errors.Join(err, f.Close())
}

// stop ends the server and tells what it said if it failed.
func (s *server) stop() error {
	if err := s.cmd.Process.Signal(syscall.SIGTERM); err != nil {
		return fmt.Errorf("stop %s: %w: %s", s.name, err, s.said.String())
	}
	if err := s.cmd.Wait(); err != nil {
		return fmt.Errorf("%s: %w: %s", s.name, err, s.said.String())
	}
	return nil
}

// sample is what one measurement came to: rate, 99th percentile of latency and CPU time of the server in µs, and requests.
type sample struct{ value, p99, cpu, requests float64 }

func (s sample) plus(o sample) sample {
	return sample{s.value + o.value, s.p99 + o.p99, s.cpu + o.cpu, s.requests + o.requests}
}

// measure runs fio once.
func (s *server) measure(ctx context.Context, w workload, seconds int, size int64) (sample, error) {
	before, err := s.cpu()
	if err != nil {
		return sample{}, err
	}
	args := append([]string{"--name=b", "--ioengine=nbd", "--uri=" + s.uri, "--time_based", fmt.Sprintf("--runtime=%d", seconds),
		fmt.Sprintf("--size=%d", size), "--output-format=json", "--randrepeat=0", "--norandommap"}, w.args...)
	ctx, cancel := context.WithTimeout(ctx, time.Duration(seconds)*time.Second+time.Minute)
	defer cancel()
	cmd := exec.CommandContext(ctx, "fio", args...)
	var failed bytes.Buffer
	cmd.Stderr = &failed
	out, err := cmd.Output()
	if err != nil {
		return sample{}, fmt.Errorf("fio on %s: %w: %s%s", s.name, err, failed.String(), out)
	}
	after, err := s.cpu()
	if err != nil {
		return sample{}, err
	}
	var report struct {
		Jobs []struct {
			Write struct {
				IOPS     float64 `json:"iops"`
				BW       float64 `json:"bw_bytes"`
				Requests float64 `json:"total_ios"`
				Latency  struct {
					Percentile map[string]float64 `json:"percentile"`
				} `json:"clat_ns"`
			} `json:"write"`
		} `json:"jobs"`
	}
	if i := bytes.IndexByte(out, '{'); i > 0 { // fio's notes come first
		out = out[i:]
	}
	if err := json.Unmarshal(out, &report); err != nil || len(report.Jobs) != 1 || report.Jobs[0].Write.Requests == 0 {
		return sample{}, fmt.Errorf("fio on %s: %v: no figures in %s", s.name, err, out)
	}
	got := report.Jobs[0].Write
	value := got.IOPS
	if w.unit == "MiB/s" {
		value = got.BW / (1 << 20)
	}
	return sample{value, got.Latency.Percentile["99.000000"] / 1000, after - before, got.Requests}, nil
}

// cpu is the CPU time the server has used, in µs.
func (s *server) cpu() (float64, error) {
	b, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", s.cmd.Process.Pid))
	if err != nil {
		return 0, err
	}
	f := strings.Fields(string(b[bytes.LastIndexByte(b, ')')+1:])) // from field 3
	if len(f) < 13 {
		return 0, fmt.Errorf("/proc/%d/stat: %d fields", s.cmd.Process.Pid, len(f))
	}
	user, err := strconv.ParseFloat(f[11], 64)
	if err != nil {
		return 0, err
	}
	system, err := strconv.ParseFloat(f[12], 64)
	return (user + system) * 10_000, err // in ticks of 10 ms
}
