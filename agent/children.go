package agent

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"hash/crc32"
	"log/slog"
	"os"
	"os/exec"
	"path/filepath"
	"reflect"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"github.com/understudy-ha/understudy/api"
	"github.com/understudy-ha/understudy/engines"
	"github.com/understudy-ha/understudy/lead"
)

const (
	// askEvery is how often an engine's process is asked how it is.
	askEvery = 500 * time.Millisecond
	// startWait is how long a process may take until it listens.
	startWait = 30 * time.Second
	// Between starts of a process that does not stay up.
	firstRestart = 100 * time.Millisecond
	maxRestart   = 5 * time.Second
)

// children runs engines as processes that outlive the agent: one that is there already is adopted, one that died is
// started again. Setting never waits.
type children struct {
	dir      string
	program  string // whose verb "engine" is run
	identity string
	hooks    string
	version  string // of this agent; "" if it is not known
	log      *slog.Logger
	said     func(engine, owner string, s api.EngineState)

	ctx  context.Context
	stop context.CancelFunc
	work sync.WaitGroup
	mu   sync.Mutex
	by   map[string]*child
}

// child is one engine's process, looked after by one goroutine.
type child struct {
	c    *children
	home engines.Home
	poke chan struct{}
	// reread: the process is to take up its config again.
	reread atomic.Bool
	// renewed: one of another version was ended once.
	renewed bool

	mu   sync.Mutex
	want engines.Config
	rev  int // counts changes of want
}

func newChildren(cfg Config, said func(engine, owner string, s api.EngineState)) (*children, error) {
	program := cfg.Program
	if program == "" {
		var err error
		if program, err = os.Executable(); err != nil {
			return nil, fmt.Errorf("engines: %w", err)
		}
	}
	c := &children{dir: filepath.Join(cfg.Dir, "engines"), program: program, identity: filepath.Join(cfg.Dir, identityFile),
		hooks: filepath.Join(cfg.Dir, "hooks"), version: cfg.Version, log: cfg.Log, said: said, by: map[string]*child{}}
	c.ctx, c.stop = context.WithCancel(context.Background())
	return c, nil
}

// homeOf is the engine's directory: short, since sockets in it have short names, and legible.
func (c *children) homeOf(engine, owner string) engines.Home {
	return engines.Home(filepath.Join(c.dir, fmt.Sprintf("%s-%08x", engine, crc32.ChecksumIEEE([]byte(lead.SectionKey(engine, owner))))))
}

// set makes an engine's process work towards a section.
func (c *children) set(s api.Section, confirmed bool, secrets map[string]map[string]string) {
	key := lead.SectionKey(s.Engine, s.Owner)
	c.mu.Lock()
	ch := c.by[key]
	if ch == nil {
		ch = &child{c: c, home: c.homeOf(s.Engine, s.Owner), poke: make(chan struct{}, 1)}
		c.by[key] = ch
		c.work.Go(func() { ch.look(c.ctx) })
	}
	c.mu.Unlock()
	ch.mu.Lock()
	ch.want = engines.Config{Section: s, Confirmed: confirmed, Secrets: secrets, IdentityFile: c.identity, HooksDir: c.hooks}
	ch.rev++
	ch.mu.Unlock()
	select {
	case ch.poke <- struct{}{}:
	default:
	}
}

// reread makes every process read again what its config refers to: the agent's certificate was renewed.
func (c *children) reread() {
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, ch := range c.by {
		ch.reread.Store(true)
	}
}

// close lets go of the processes; they go on.
func (c *children) close() {
	c.stop()
	c.work.Wait()
}

func (ch *child) wanted() (engines.Config, int) {
	ch.mu.Lock()
	defer ch.mu.Unlock()
	return ch.want, ch.rev
}

// over tells whether the engine has nothing left to do, and nothing to look after.
func over(want engines.Config, s api.EngineState) bool {
	switch w := want.Section; {
	case w.Protect != nil:
		return w.Protect.Mode == "off" && s.Phase == "off" || w.Protect.Mode == "discard" && s.Phase == "discarded"
	case w.Site != nil:
		return w.Site.Mode != "writable" && (s.Phase == "stopped" || s.Phase == "discarded")
	case w.ProcessServer != nil:
		return w.ProcessServer.Retired && s.Phase == "retired"
	case w.Keeper != nil:
		return w.Keeper.Retired && s.Phase == "retired"
	}
	return false
}

// gone gives the phase of an engine of which nothing is to be left; "" of others.
func gone(want engines.Config) string {
	switch w := want.Section; {
	case w.Protect != nil && w.Protect.Mode == "discard", w.Site != nil && w.Site.Mode == "discard":
		return "discarded"
	case w.ProcessServer != nil && w.ProcessServer.Retired, w.Keeper != nil && w.Keeper.Retired:
		return "retired"
	}
	return ""
}

// look keeps the process at the wanted state until ctx ends.
func (ch *child) look(ctx context.Context) {
	var written, taken, told int // revisions in the file, in the process, and whose state was told
	var last api.EngineState
	ended := false
	restart := firstRestart
	tick := time.NewTicker(askEvery)
	defer tick.Stop()
	for ctx.Err() == nil {
		want, rev := ch.wanted()
		if phase := gone(want); rev != written && phase != "" && !ch.home.Exists() { // nothing is left of it: no process need say so
			written, ended = rev, true
			s := api.EngineState{Phase: phase, Since: time.Now().UTC()}
			if want.Section.Site != nil {
				s.Instance = want.Section.Site.Instance
			}
			ch.c.said(want.Section.Engine, want.Section.Owner, s)
		}
		if rev != written {
			if err := ch.home.WriteConfig(want); err != nil {
				ch.fail(want, fmt.Errorf("write its config: %w", err))
				sleep(ctx, askEvery)
				continue
			}
			written, ended = rev, false
		}
		if !ended {
			reread := ch.reread.Swap(false)
			s, err := ch.ask(ctx, rev != taken || reread)
			if reread && err != nil {
				ch.reread.Store(true)
			}
			switch {
			case err == nil:
				taken, restart = rev, firstRestart
				// Whoever wants something waits for a state that is newer, even if it is the same.
				if told != rev || !reflect.DeepEqual(s, last) {
					last, told = s, rev
					ch.c.said(want.Section.Engine, want.Section.Owner, ch.withVersion(s))
				}
				ch.renew(ctx, want, s)
				if ended = over(want, s); ended {
					_ = ch.home.Stop(ctx) // one that does not stop does no harm
				}
			case errors.Is(err, engines.ErrTaking): // it says how it is meanwhile
				if !reflect.DeepEqual(s, last) {
					last = s
					ch.c.said(want.Section.Engine, want.Section.Owner, ch.withVersion(s))
				}
			case errors.Is(err, errAbsent):
				ended, err := ch.start()
				if err != nil {
					ch.fail(want, err)
				} else if ch.awaitUp(ctx, ended) {
					taken = rev // it has read the file
					continue
				}
				sleep(ctx, restart)
				restart = min(2*restart, maxRestart)
				continue
			default:
				ch.fail(want, err)
			}
		} else if gone(want) != "" {
			_ = ch.home.Remove() // one that is still busy is tried again
		}
		select {
		case <-ctx.Done():
		case <-ch.poke:
		case <-tick.C:
		}
	}
}

var errAbsent = errors.New("no process listens")

// ask asks the process how it is, after it has taken up a new config; engines.ErrTaking if it has not yet.
func (ch *child) ask(ctx context.Context, set bool) (s api.EngineState, err error) {
	var taking error
	if set {
		// A config that is not taken up shows in the state, and the process goes on trying.
		if err = ch.home.Set(ctx); errors.Is(err, engines.ErrTaking) {
			taking = err
		}
	}
	if !absent(err) {
		s, err = ch.home.Ask(ctx)
	}
	if absent(err) {
		return s, errAbsent
	}
	return s, cmp.Or(err, taking)
}

func absent(err error) bool {
	return errors.Is(err, syscall.ECONNREFUSED) || errors.Is(err, syscall.ENOENT)
}

// start starts the process in a session of its own, so that nothing that ends the agent ends it. The channel is closed when it has ended.
func (ch *child) start() (ended <-chan struct{}, err error) {
	log, err := os.OpenFile(ch.home.Log(), os.O_CREATE|os.O_WRONLY|os.O_APPEND, 0o600)
	if err != nil {
		return nil, err
	}
	defer log.Close()
	cmd := exec.Command(ch.c.program, "engine", "--dir", string(ch.home))
	cmd.Stdout, cmd.Stderr = log, log
	cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true}
	if err := cmd.Start(); err != nil {
		return nil, fmt.Errorf("start engine: %w", err)
	}
	ch.c.log.Info("engine started", "home", string(ch.home), "pid", cmd.Process.Pid)
	over := make(chan struct{})
	go func() {
		defer close(over)
		_ = cmd.Wait() // so that it does not stay behind as a zombie; how it ended is in its log
	}()
	return over, nil
}

// awaitUp waits until a started process listens. It tells whether it does; one that takes longer than startWait is left to itself.
func (ch *child) awaitUp(ctx context.Context, ended <-chan struct{}) bool {
	limit := time.After(startWait)
	for {
		if _, err := ch.home.Ask(ctx); err == nil {
			return true
		}
		select {
		case <-ctx.Done():
			return false
		case <-ended:
			return false
		case <-limit:
			return false
		case <-time.After(20 * time.Millisecond):
		}
	}
}

func (ch *child) fail(want engines.Config, err error) {
	ch.c.log.Warn("engine", "engine", want.Section.Engine, "owner", want.Section.Owner, "err", err)
}
