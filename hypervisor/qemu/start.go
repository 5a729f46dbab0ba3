package qemu

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"github.com/understudy-ha/understudy/hypervisor"
)

// Start a machine, or adopt it.
func (d *Driver) Start(ctx context.Context, m hypervisor.Machine) error {
	if err := m.Validate(); err != nil {
		return fail("start", m.Name, err)
	}
	if err := os.MkdirAll(d.dir(m.Name), 0o700); err != nil {
		return fail("start", m.Name, err)
	}
	return fail("start", m.Name, d.locked(ctx, m.Name, func() error { return d.start(ctx, m) }))
}

func (d *Driver) start(ctx context.Context, m hypervisor.Machine) error {
	dir := d.dir(m.Name)
	p, err := settle(ctx, dir)
	if err != nil {
		return err
	}
	if p != nil {
		err := d.adopt(ctx, p, m)
		gone := p.wait(0)
		p.close()
		if !gone {
			return err
		}
	}
	accel, err := d.Acceleration(ctx)
	if err != nil {
		return err
	}
	if err := prepare(dir, m); err != nil {
		return err
	}
	return d.launch(ctx, m, accel.Use)
}

// adopt accepts a running machine if it is what is wanted, and waits until it is up if another process has just started it. The
// definition on disk is that of the running one: it is written before a start, never while the machine runs.
func (d *Driver) adopt(ctx context.Context, p *process, m hypervisor.Machine) error {
	running, err := d.definition(m.Name)
	if err != nil {
		return err
	}
	if diff := running.Diff(m); diff != "" {
		return &hypervisor.Error{Op: "start", Machine: m.Name, Err: hypervisor.ErrDifferent, Hint: "it differs in " + diff + "; stop it first"}
	}
	return p.reach(ctx, d.dir(m.Name), func(l *line) error { return l.ask("query-status", nil, nil) })
}

// prepare writes what QEMU will find in the machine's directory.
func prepare(dir string, m hypervisor.Machine) error {
	b, err := json.MarshalIndent(m, "", "  ")
	if err != nil {
		return err
	}
	for _, old := range []string{pidFile, qmpSocket, agentSocket} {
		if err := os.Remove(filepath.Join(dir, old)); err != nil && !os.IsNotExist(err) {
			return err
		}
	}
	if err := os.WriteFile(filepath.Join(dir, serialFile), nil, 0o600); err != nil {
		return err
	}
	if m.Firmware == hypervisor.UEFI {
		if err := firmwareVariables(filepath.Join(dir, varsFile)); err != nil {
			return err
		}
	}
	return replaceFile(filepath.Join(dir, definitionFile), append(b, '\n'))
}

// firmwareVariables of a UEFI machine are its own, and kept over restarts.
func firmwareVariables(path string) error {
	if _, err := os.Stat(path); err == nil {
		return nil
	}
	b, err := os.ReadFile(ovmfVars)
	if err != nil {
		return fmt.Errorf("firmware uefi: %w; install the package ovmf", err)
	}
	return replaceFile(path, b)
}

// launch QEMU, and wait until it is a daemon: then its disks are open, its sockets listen, and it executes.
func (d *Driver) launch(ctx context.Context, m hypervisor.Machine, accel string) error {
	dir := d.dir(m.Name)
	alive, err := lock(ctx, filepath.Join(dir, aliveFile))
	if err != nil {
		return err
	}
	defer alive.Close()
	var stderr bytes.Buffer
	cmd := exec.CommandContext(ctx, d.cfg.Binary, arguments(m, dir, accel)...)
	cmd.Dir, cmd.Stderr, cmd.ExtraFiles = dir, &stderr, []*os.File{alive}
	cmd.WaitDelay = time.Second
	err = inNamespace(m.NetNS, cmd.Start)
	if err != nil {
		return err
	}
	err = cmd.Wait()
	if errors.Is(err, exec.ErrWaitDelay) { // the daemon still holds stderr; the parent ended well
		err = nil
	}
	if err != nil {
		return fmt.Errorf("qemu: %w: %s", errors.Join(err, ctx.Err()), strings.TrimSpace(stderr.String()))
	}
	return nil
}

// inNamespace runs start on a thread in the network namespace of path, which the process that it starts inherits. The
// thread ends with it.
func inNamespace(path string, start func() error) error {
	if path == "" {
		return start()
	}
	ns, err := os.Open(path)
	if err != nil {
		return fmt.Errorf("netns %q: %w", path, err)
	}
	defer ns.Close()
	result := make(chan error)
	go func() {
		runtime.LockOSThread() // never unlocked: the thread is not used again
		if err := unix.Setns(int(ns.Fd()), unix.CLONE_NEWNET); err != nil {
			result <- fmt.Errorf("netns %q: %w", path, err)
			return
		}
		result <- start()
	}()
	return <-result
}

// replaceFile whole, so that it outlives a power cut.
func replaceFile(path string, b []byte) error {
	tmp := path + ".tmp"
	f, err := os.OpenFile(tmp, os.O_CREATE|os.O_WRONLY|os.O_TRUNC, 0o600)
	if err != nil {
		return err
	}
	_, err = f.Write(b)
	if err == nil {
		err = f.Sync()
	}
	if err := errors.Join(err, f.Close()); err != nil {
		return err
	}
	if err := os.Rename(tmp, path); err != nil {
		return err
	}
	d, err := os.Open(filepath.Dir(path))
	if err != nil {
		return err
	}
	return errors.Join(d.Sync(), d.Close())
}
