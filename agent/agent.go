// Package agent is what runs on a router or appliance: it keeps a session with every
// controller, lets package steward judge what they want, and carries it out on the
// host's network.
//
// What it has put into the kernel outlives it: an agent that stops, crashes or is
// upgraded removes nothing, and one that starts takes up what its directory says
// before it listens to anybody. Addresses under a grant are the exception: the kernel
// itself takes them away when the grant is over and nobody renews them.
package agent

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"time"

	"golang.org/x/sys/unix"

	"github.com/understudy-ha/understudy/clock"
	"github.com/understudy-ha/understudy/hostnet"
	"github.com/understudy-ha/understudy/steward"
)

// Config of an agent.
type Config struct {
	// Dir keeps identity and state; it is made if it is not there. One agent at a time may use it.
	Dir string
	// Controllers are the addresses (host:port) of every controller's agent endpoint. Needed to enrol; later those that the
	// cluster named at enrolment are used if it is empty.
	Controllers []string
	// Token is the one-time token of the first start. An agent that is enrolled ignores it.
	Token string
	// HealthListen is where the health endpoint listens (host:port); "" for no such endpoint. See health.
	HealthListen string
	// PeerListen is where other candidates ask for promises (host:port); "" for nowhere: then grants of groups with this
	// candidate end when no controller renews them.
	PeerListen string
	// PeerAddress is PeerListen as others reach it. Default: PeerListen.
	PeerAddress string
	// Program is the executable whose verb "engine" runs the engines that are processes of their own. Default: this one.
	Program string
	// Version of the program, for people.
	Version string
	// Log gets what people should know. Default: slog.Default().
	Log *slog.Logger
}

// ErrBusy says that another agent uses the directory.
var ErrBusy = errors.New("another agent runs in this directory")

// Run runs an agent in the network namespace of the process until ctx ends; that is no error. On the first start it
// enrols, trying again while no controller answers.
func Run(ctx context.Context, cfg Config) error {
	if cfg.Log == nil {
		cfg.Log = slog.Default()
	}
	if err := os.MkdirAll(cfg.Dir, 0o700); err != nil {
		return fmt.Errorf("agent directory: %w", err)
	}
	unlock, err := lockDir(cfg.Dir)
	if err != nil {
		return err
	}
	defer unlock()
	id, err := openIdentity(ctx, cfg)
	if err != nil {
		return err
	}
	disk, err := openDisk(cfg.Dir)
	if err != nil {
		return err
	}
	n, err := hostnet.Current()
	if err != nil {
		return err
	}
	defer n.Close()
	e, err := newEngines(n)
	if err != nil {
		return err
	}
	defer e.close()
	return run(ctx, cfg, id, disk, e)
}

// run starts the parts, each once, and waits for all of them.
func run(ctx context.Context, cfg Config, id *identity, disk *disk, e *hostEngines) error {
	boot, err := bootID()
	if err != nil {
		return err
	}
	ctx, cancel := context.WithCancel(ctx)
	var wg sync.WaitGroup
	defer wg.Wait()
	defer cancel()

	life := rand.Text()
	state, grants, err := disk.load()
	if err != nil {
		return err
	}
	l := newLoop(cfg, id, disk, e, life)
	l.at = clock.System()
	core, effects := steward.New(steward.Config{Timing: id.timing(), Life: life, Boot: boot}, l.at, state, grants)
	l.core = core
	if e.children, err = newChildren(cfg, l.engineSaid); err != nil {
		return err
	}
	defer e.children.close()
	l.perform(effects) // before anybody is listened to

	parts := []func(context.Context) error{l.run, disk.run, l.watchKernel, l.renewCertificate}
	if cfg.HealthListen != "" {
		ln, err := net.Listen("tcp", cfg.HealthListen)
		if err != nil {
			return fmt.Errorf("health endpoint: %w", err)
		}
		parts = append(parts, func(ctx context.Context) error { return serveHealth(ctx, ln, e.roles) })
	}
	if cfg.PeerListen != "" {
		ln, err := net.Listen("tcp", cfg.PeerListen)
		if err != nil {
			return fmt.Errorf("peer endpoint: %w", err)
		}
		parts = append(parts, func(ctx context.Context) error { return l.servePromises(ctx, ln) })
	}
	for _, address := range id.controllers(cfg) {
		parts = append(parts, func(ctx context.Context) error { return l.keepSession(ctx, address) })
	}
	cfg.Log.Info("agent is ready", "node", id.Tenant+"/"+id.Node, "version", cfg.Version, "sections", len(core.Report().Sections))
	failed := make(chan error, len(parts))
	for _, part := range parts {
		wg.Go(func() { failed <- part(ctx) }) // from here on the core is the loop's
	}
	select {
	case <-ctx.Done():
		return nil
	case err := <-failed:
		return err
	}
}

// lockDir takes the directory for this process.
func lockDir(dir string) (unlock func(), err error) {
	f, err := os.OpenFile(filepath.Join(dir, "lock"), os.O_CREATE|os.O_RDWR, 0o600)
	if err != nil {
		return nil, fmt.Errorf("agent directory: %w", err)
	}
	// An agent that was just killed may not be quite gone.
	for range 20 {
		if err = unix.Flock(int(f.Fd()), unix.LOCK_EX|unix.LOCK_NB); err == nil {
			return func() { f.Close() }, nil
		}
		time.Sleep(10 * time.Millisecond)
	}
	f.Close()
	return nil, fmt.Errorf("%s: %w", dir, ErrBusy)
}

// bootID names the boot of this machine.
func bootID() (string, error) {
	b, err := os.ReadFile("/proc/sys/kernel/random/boot_id")
	if err != nil {
		return "", fmt.Errorf("boot id: %w", err)
	}
	return strings.TrimSpace(string(b)), nil
}
