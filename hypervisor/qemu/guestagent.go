package qemu

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"time"

	"github.com/understudy-ha/understudy/hypervisor"
)

// agentTimeout is how long the guest agent may take to answer that it is there.
const agentTimeout = 3 * time.Second

// say sends a command without waiting for an answer.
func (l *line) say(command string, arguments any) error {
	b, err := json.Marshal(map[string]any{"execute": command, "arguments": arguments})
	if err != nil {
		return err
	}
	_, err = l.conn.Write(append(b, '\n'))
	return err
}

// sync skips what the agent still had to say to somebody else: until our own number comes back.
func (l *line) sync() error {
	id := rand.Int64N(1 << 52)
	if err := l.say("guest-sync", map[string]any{"id": id}); err != nil {
		return err
	}
	for {
		var a answer
		if err := l.in.Decode(&a); err != nil {
			return err
		}
		if string(a.Return) == fmt.Sprint(id) {
			return nil
		}
	}
}

// agent converses with the guest agent of a running machine. One conversation at a time: others wait.
func (d *Driver) agent(ctx context.Context, name string, talk func(*line) error) error {
	m, err := d.definition(name)
	if err != nil {
		return err
	}
	if !m.GuestAgent {
		return fmt.Errorf("%w: the machine is defined without one", hypervisor.ErrNoAgent)
	}
	p, err := d.alive(name)
	if err != nil {
		return err
	}
	p.close()
	turn, err := lock(ctx, filepath.Join(d.dir(name), agentSocket+".lock"))
	if err != nil {
		return err
	}
	defer turn.Close()
	l, err := dial(ctx, d.dir(name), agentSocket)
	if err != nil {
		return fmt.Errorf("%w: %w", hypervisor.ErrNoAgent, err)
	}
	defer l.close()
	cancel := l.hurry(agentTimeout)
	err = l.sync()
	cancel()
	if err != nil {
		return fmt.Errorf("%w: %w", hypervisor.ErrNoAgent, err)
	}
	return talk(l)
}

// hurry ends the conversation after d unless it is cancelled before.
func (l *line) hurry(d time.Duration) (cancel func()) {
	t := time.AfterFunc(d, func() { l.conn.Close() })
	return func() { t.Stop() }
}

// AgentReady tells whether the guest agent answers.
func (d *Driver) AgentReady(ctx context.Context, name string) bool {
	return d.agent(ctx, name, func(l *line) error { return l.ask("guest-ping", nil, nil) }) == nil
}

// Freeze the guest's file systems.
func (d *Driver) Freeze(ctx context.Context, name string) (int, error) {
	n, err := d.freezing(ctx, name, "guest-fsfreeze-freeze")
	return n, fail("freeze", name, err)
}

// Thaw them.
func (d *Driver) Thaw(ctx context.Context, name string) (int, error) {
	n, err := d.freezing(ctx, name, "guest-fsfreeze-thaw")
	return n, fail("thaw", name, err)
}

func (d *Driver) freezing(ctx context.Context, name, command string) (n int, err error) {
	err = d.agent(ctx, name, func(l *line) error { return l.ask(command, nil, &n) })
	if errors.Is(err, os.ErrDeadlineExceeded) {
		err = fmt.Errorf("%w: %w", hypervisor.ErrNoAgent, err)
	}
	return n, err
}
