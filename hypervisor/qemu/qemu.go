// Package qemu runs machines by QEMU on this host.
//
// A machine has a directory: its definition, its pid file, the sockets of its monitor and its guest agent, and what it
// wrote to its serial port. QEMU is a daemon that outlives whoever started it; what is known about a machine is read from
// its directory and asked of its monitor each time, so that any process may go on where another one died.
package qemu

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"sort"
	"sync"
	"time"

	"github.com/understudy-ha/understudy/hypervisor"
)

// Config of a driver.
type Config struct {
	// Dir keeps the machines; it is made if it does not exist.
	Dir string
	// Binary is QEMU's program; "" for qemu-system-x86_64.
	Binary string
	// Accelerator is kvm, tcg or auto. "" and auto boot a kernel once to see whether kvm works, and remember the answer.
	Accelerator string
	// Memory is the directory where that answer is kept, which all drivers of a host may share; "" for Dir.
	Memory string
	// ProbeKernel is what auto boots; "" for the newest kernel in /boot. Where there is none, auto is tcg.
	ProbeKernel string
}

// Driver runs machines by QEMU. It implements hypervisor.Hypervisor.
type Driver struct {
	cfg Config

	mu    sync.Mutex // guards accel and a probe in progress
	accel Acceleration
}

var _ hypervisor.Hypervisor = (*Driver)(nil)

// Open the machines of a directory. Nothing is started or stopped.
func Open(cfg Config) (*Driver, error) {
	switch cfg.Accelerator {
	case "":
		cfg.Accelerator = "auto"
	case "auto", "kvm", "tcg":
	default:
		return nil, fmt.Errorf("accelerator %q: want auto, kvm or tcg", cfg.Accelerator)
	}
	if cfg.Binary == "" {
		cfg.Binary = "qemu-system-x86_64"
	}
	binary, err := exec.LookPath(cfg.Binary)
	if err != nil {
		return nil, fmt.Errorf("binary %q: %w; install the package qemu-system-x86", cfg.Binary, err)
	}
	cfg.Binary = binary
	if cfg.Dir, err = filepath.Abs(cfg.Dir); err != nil {
		return nil, err
	}
	if cfg.Memory == "" {
		cfg.Memory = cfg.Dir
	}
	for _, dir := range []string{cfg.Dir, cfg.Memory} {
		if err := os.MkdirAll(dir, 0o700); err != nil {
			return nil, err
		}
	}
	return &Driver{cfg: cfg}, nil
}

func (d *Driver) dir(name string) string { return filepath.Join(d.cfg.Dir, name) }

// fail wraps what went wrong; nil stays nil.
func fail(op, name string, err error) error {
	if err == nil {
		return nil
	}
	if e := (*hypervisor.Error)(nil); errors.As(err, &e) {
		return err
	}
	return &hypervisor.Error{Op: op, Machine: name, Err: err}
}

// Definition of a machine.
func (d *Driver) Definition(_ context.Context, name string) (hypervisor.Machine, error) {
	m, err := d.definition(name)
	return m, fail("read", name, err)
}

func (d *Driver) definition(name string) (hypervisor.Machine, error) {
	var m hypervisor.Machine
	if !hypervisor.ValidName(name) {
		return m, hypervisor.ErrNotFound
	}
	b, err := os.ReadFile(filepath.Join(d.dir(name), definitionFile))
	if errors.Is(err, fs.ErrNotExist) {
		return m, hypervisor.ErrNotFound
	}
	if err != nil {
		return m, err
	}
	if err := json.Unmarshal(b, &m); err != nil {
		return m, fmt.Errorf("%s: %w", definitionFile, err)
	}
	return m, nil
}

// List the machines.
func (d *Driver) List(context.Context) ([]string, error) {
	entries, err := os.ReadDir(d.cfg.Dir)
	if err != nil {
		return nil, err
	}
	var out []string
	for _, e := range entries {
		if _, err := os.Stat(filepath.Join(d.dir(e.Name()), definitionFile)); err == nil {
			out = append(out, e.Name())
		}
	}
	sort.Strings(out)
	return out, nil
}

// Remove a machine.
func (d *Driver) Remove(ctx context.Context, name string) error {
	if !hypervisor.ValidName(name) {
		return nil
	}
	dir := d.dir(name)
	if _, err := os.Stat(dir); errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	d.strike(name)
	return fail("remove", name, d.locked(ctx, name, func() error {
		if err := killIn(ctx, dir); err != nil {
			return err
		}
		// The definition first: a machine is gone or whole.
		if err := os.Remove(filepath.Join(dir, definitionFile)); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return err
		}
		return os.RemoveAll(dir)
	}))
}

// alive finds a defined machine's process; ErrNotRunning if it has none. The caller closes it.
func (d *Driver) alive(name string) (*process, error) {
	if _, err := d.definition(name); err != nil {
		return nil, err
	}
	p, err := find(d.dir(name))
	if err == nil && p == nil {
		err = hypervisor.ErrNotRunning
	}
	return p, err
}

// killGrace is how long the kernel may take to end a killed process.
const killGrace = 30 * time.Second

// Kill a machine's process.
func (d *Driver) Kill(ctx context.Context, name string) error {
	if _, err := d.definition(name); err != nil {
		return fail("kill", name, err)
	}
	d.strike(name)
	return fail("kill", name, d.locked(ctx, name, func() error { return killIn(ctx, d.dir(name)) }))
}

// strike kills a process that is there, without waiting for one who changes the machine: a graceful stop may take minutes.
func (d *Driver) strike(name string) {
	if p, err := find(d.dir(name)); err == nil && p != nil {
		_ = p.kill()
		p.close()
	}
}

func killIn(ctx context.Context, dir string) error {
	p, err := settle(ctx, dir)
	if err != nil || p == nil {
		return err
	}
	defer p.close()
	if err := p.kill(); err != nil {
		return err
	}
	if !p.wait(killGrace) {
		return fmt.Errorf("process %d does not end after SIGKILL", p.pid)
	}
	if err := os.Remove(filepath.Join(dir, pidFile)); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	return nil
}
