package qemu

import (
	"context"
	"errors"
	"fmt"
	"os"
	"time"

	"github.com/understudy-ha/understudy/hypervisor"
)

// Stop a machine.
func (d *Driver) Stop(ctx context.Context, name string, grace time.Duration) (clean bool, err error) {
	err = d.locked(ctx, name, func() error {
		m, err := d.definition(name)
		if err != nil {
			return err
		}
		clean, err = d.stop(ctx, m, grace)
		return err
	})
	return clean, fail("stop", name, err)
}

func (d *Driver) stop(ctx context.Context, m hypervisor.Machine, grace time.Duration) (clean bool, err error) {
	dir := d.dir(m.Name)
	p, err := settle(ctx, dir)
	if err != nil || p == nil {
		return true, err
	}
	defer p.close()
	for end := time.Now().Add(grace); time.Until(end) > 0; {
		d.askToShutDown(ctx, m)
		if p.waitOr(ctx, min(askAgain, time.Until(end))) {
			return true, nil
		}
		if err := ctx.Err(); err != nil {
			return false, err
		}
	}
	// QEMU hands everything that it acknowledged to the disks before it quits. One that does not listen any more is killed.
	if err := monitor(ctx, dir, func(l *line) error { return l.ask("quit", nil, nil) }); err == nil || isGone(err) {
		if p.waitOr(ctx, quitGrace) {
			return false, nil
		}
	}
	return false, killIn(ctx, dir)
}

// askAgain is how long a guest that was asked to shut down is given before it is asked again: one that was still booting has not heard.
const askAgain = 15 * time.Second

// quitGrace is how long QEMU may take to bring what it holds to the disks.
const quitGrace = 20 * time.Second

// askToShutDown presses the power button and asks the guest agent; a guest may heed either.
func (d *Driver) askToShutDown(ctx context.Context, m hypervisor.Machine) {
	ctx, cancel := context.WithTimeout(ctx, 5*time.Second)
	defer cancel()
	_ = monitor(ctx, d.dir(m.Name), func(l *line) error { return l.ask("system_powerdown", nil, nil) })
	if m.GuestAgent {
		_ = d.agent(ctx, m.Name, func(l *line) error {
			defer l.hurry(2 * time.Second)() // it answers only when it refuses; the port stays open until it has read
			return l.ask("guest-shutdown", map[string]any{"mode": "powerdown"}, nil)
		})
	}
}

// waitOr waits for the process to end, at most d, or until ctx ends.
func (p *process) waitOr(ctx context.Context, d time.Duration) bool {
	for end := time.Now().Add(d); ctx.Err() == nil; {
		left := time.Until(end)
		if p.wait(min(left, 100*time.Millisecond)) {
			return true
		}
		if left <= 0 {
			return false
		}
	}
	return false
}

// Pause a machine's processors.
func (d *Driver) Pause(ctx context.Context, name string) error {
	return fail("pause", name, d.command(ctx, name, "stop", nil, nil))
}

// Resume them.
func (d *Driver) Resume(ctx context.Context, name string) error {
	return fail("resume", name, d.command(ctx, name, "cont", nil, nil))
}

// command to a running machine's monitor.
func (d *Driver) command(ctx context.Context, name, command string, arguments, out any) error {
	p, err := d.alive(name)
	if err != nil {
		return err
	}
	defer p.close()
	return p.reach(ctx, d.dir(name), func(l *line) error { return l.ask(command, arguments, out) })
}

// Screenshot of a machine.
func (d *Driver) Screenshot(ctx context.Context, name string) ([]byte, error) {
	b, err := d.screenshot(ctx, name)
	return b, fail("screenshot", name, err)
}

func (d *Driver) screenshot(ctx context.Context, name string) ([]byte, error) {
	if _, err := d.definition(name); err != nil {
		return nil, err
	}
	f, err := os.CreateTemp(d.dir(name), "screen-*.png")
	if err != nil {
		return nil, err
	}
	defer os.Remove(f.Name())
	defer f.Close()
	if err := d.command(ctx, name, "screendump", map[string]any{"filename": f.Name(), "format": "png"}, nil); err != nil {
		return nil, err
	}
	return os.ReadFile(f.Name())
}

// Status of a machine. It also bounds what the machine's serial port has left: somebody asks now and then of every one that runs.
func (d *Driver) Status(ctx context.Context, name string) (hypervisor.Status, error) {
	s, err := d.status(ctx, name)
	return s, fail("ask about", name, err)
}

func (d *Driver) status(ctx context.Context, name string) (hypervisor.Status, error) {
	p, err := d.alive(name)
	if errors.Is(err, hypervisor.ErrNotRunning) {
		return hypervisor.Status{State: hypervisor.Stopped}, nil
	}
	if err != nil {
		return hypervisor.Status{}, err
	}
	defer p.close()
	if err := boundSerial(d.dir(name)); err != nil && !errors.Is(err, os.ErrNotExist) {
		return hypervisor.Status{}, err
	}
	s := hypervisor.Status{PID: p.pid, Started: p.started, Accelerator: p.accelerator()}
	err = p.reach(ctx, d.dir(name), func(l *line) error {
		s.State, s.Reason, err = ask(l)
		return err
	})
	if err != nil && p.wait(time.Second) { // it ended while it was asked
		return hypervisor.Status{State: hypervisor.Stopped}, nil
	}
	if err != nil {
		return s, fmt.Errorf("process %d: its monitor does not answer: %w", p.pid, err)
	}
	return s, nil
}
