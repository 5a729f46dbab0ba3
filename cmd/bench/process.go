package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"strconv"
	"strings"
	"syscall"
	"time"
)

// process is a server or an engine that was started, on any core or on one.
type process struct {
	name string
	cmd  *exec.Cmd
	said bytes.Buffer
}

const anyCore = -1

// start starts a command; core pins it and all it starts.
func start(name string, core int, argv ...string) (*process, error) {
	if core != anyCore {
		argv = append([]string{"taskset", "-c", strconv.Itoa(core)}, argv...)
	}
	p := &process{name: name, cmd: exec.Command(argv[0], argv[1:]...)}
	p.cmd.Stdout, p.cmd.Stderr = &p.said, &p.said
	return p, p.cmd.Start()
}

// until waits for something that the process brings about.
func (p *process) until(ctx context.Context, what string, limit time.Duration, ok func() bool) error {
	ctx, cancel := context.WithTimeout(ctx, limit)
	defer cancel()
	for !ok() {
		select {
		case <-time.After(10 * time.Millisecond):
		case <-ctx.Done():
			return errors.Join(fmt.Errorf("%s: no %s: %w", p.name, what, ctx.Err()), p.stop(), errors.New(p.said.String()))
		}
	}
	return nil
}

// listens waits for a unix socket.
func (p *process) listens(ctx context.Context, socket string) error {
	return p.until(ctx, "socket "+socket, 10*time.Minute, func() bool {
		_, err := os.Stat(socket)
		return err == nil
	})
}

// stop ends it and tells what it said if it failed.
func (p *process) stop() error {
	if err := p.cmd.Process.Signal(syscall.SIGTERM); err != nil {
		return fmt.Errorf("stop %s: %w: %s", p.name, err, p.said.String())
	}
	if err := p.cmd.Wait(); err != nil {
		return fmt.Errorf("%s: %w: %s", p.name, err, p.said.String())
	}
	return nil
}

// cpu is the CPU time used so far, in µs.
func (p *process) cpu() (float64, error) {
	b, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", p.cmd.Process.Pid))
	if err != nil {
		return 0, err
	}
	f := strings.Fields(string(b[bytes.LastIndexByte(b, ')')+1:])) // from field 3
	if len(f) < 13 {
		return 0, fmt.Errorf("/proc/%d/stat: %d fields", p.cmd.Process.Pid, len(f))
	}
	user, err := strconv.ParseFloat(f[11], 64)
	if err != nil {
		return 0, err
	}
	system, err := strconv.ParseFloat(f[12], 64)
	return (user + system) * 10_000, err // in ticks of 10 ms
}

// peakRSS is the most memory it ever had, in bytes.
func (p *process) peakRSS() (float64, error) {
	b, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", p.cmd.Process.Pid))
	if err != nil {
		return 0, err
	}
	_, rest, found := strings.Cut(string(b), "VmHWM:")
	f := strings.Fields(rest)
	if !found || len(f) < 2 || f[1] != "kB" {
		return 0, fmt.Errorf("/proc/%d/status: no VmHWM", p.cmd.Process.Pid)
	}
	kib, err := strconv.ParseFloat(f[0], 64)
	return kib * 1024, err
}
