package engines

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"sync"
	"time"

	"github.com/understudy-ha/understudy/api"
)

// Engine is one engine at work. Set is called by one goroutine at a time, State by any.
type Engine interface {
	// Set makes the engine work towards a desired state, whole; it may be repeated, and is after it failed.
	Set(ctx context.Context, c Config) error
	// State says how the engine is now. It does not wait for Set.
	State() api.EngineState
	// Close ends it in good order, within ctx. Set has returned, and is not called again.
	Close(ctx context.Context) error
}

// Maker makes an engine that has nothing to do yet.
type Maker func(ctx context.Context, home Home) (Engine, error)

const (
	// setWait is how long whoever asks for a config to be taken up waits for that.
	setWait = 5 * time.Second
	// Between attempts to take up a config that failed: what it needs may be back.
	firstRetry = 250 * time.Millisecond
	maxRetry   = 5 * time.Second
)

// FailedAfter is how long a config may fail to be taken up before an engine calls that a failure.
const FailedAfter = 30 * time.Second

// Run runs one engine in its home until ctx ends or it is told to stop. Version is the program's.
func Run(ctx context.Context, h Home, version string, make Maker) (err error) {
	unlock, err := h.Lock()
	if err != nil {
		return err
	}
	defer unlock()
	c, err := h.ReadConfig()
	if err != nil {
		return err
	}
	if err := os.MkdirAll(h.Data(), 0o700); err != nil {
		return fmt.Errorf("engine home: %w", err)
	}
	e, err := make(ctx, h)
	if err != nil {
		return err
	}
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	l, err := listenControl(h)
	if err != nil {
		return errors.Join(err, e.Close(context.WithoutCancel(ctx)))
	}
	r := newRunner(ctx, h, e, cancel)
	r.version = version
	var work sync.WaitGroup
	work.Go(r.keep)
	work.Go(func() { h.keepLogShort(ctx) })
	slog.Info("engine is ready", "engine", c.Section.Engine, "owner", c.Section.Owner)
	serveControl(ctx, l, r.handle)
	work.Wait()
	return e.Close(context.WithoutCancel(ctx))
}

// runner takes up configs, one after the other, and answers control requests.
type runner struct {
	home    Home
	engine  Engine
	version string
	ctx     context.Context
	stop    func()
	kick    chan struct{}

	mu     sync.Mutex
	asked  uint64        // configs that somebody wants taken up
	tried  uint64        // those of them for which it was tried
	failed error         // of the newest attempt
	turn   chan struct{} // closed at the end of an attempt
}

func newRunner(ctx context.Context, h Home, e Engine, stop func()) *runner {
	return &runner{home: h, engine: e, ctx: ctx, stop: stop, kick: make(chan struct{}, 1), turn: make(chan struct{})}
}

// keep takes up the config, again when somebody asks for it, and until it succeeds.
func (r *runner) keep() {
	retry := firstRetry
	for r.ctx.Err() == nil {
		r.mu.Lock()
		n := r.asked
		r.mu.Unlock()
		c, err := r.home.ReadConfig()
		if err == nil {
			err = r.engine.Set(r.ctx, c)
		}
		r.mu.Lock()
		if err != nil && r.ctx.Err() == nil && (r.failed == nil || r.failed.Error() != err.Error()) {
			slog.Error("config not taken up", "err", err)
		}
		r.tried, r.failed = n, err
		close(r.turn)
		r.turn = make(chan struct{})
		r.mu.Unlock()
		var again <-chan time.Time
		if err == nil {
			retry = firstRetry
		} else {
			again = time.After(retry)
			retry = min(2*retry, maxRetry)
		}
		select {
		case <-r.ctx.Done():
		case <-r.kick:
		case <-again:
		}
	}
}

// set has the config taken up, and waits until that was tried, for setWait at most: then done is false, and it goes on.
func (r *runner) set() (done bool, err error) {
	r.mu.Lock()
	r.asked++
	n := r.asked
	r.mu.Unlock()
	select {
	case r.kick <- struct{}{}:
	default:
	}
	limit := time.After(setWait)
	for {
		r.mu.Lock()
		tried, failed, turn := r.tried, r.failed, r.turn
		r.mu.Unlock()
		if tried >= n {
			return true, failed
		}
		select {
		case <-turn:
		case <-limit:
			return false, nil
		case <-r.ctx.Done():
			return false, nil
		}
	}
}

func (r *runner) handle(q request) reply {
	switch q.Op {
	case opState:
		s := r.engine.State()
		s.Version = r.version
		return reply{State: &s}
	case opSet:
		done, err := r.set()
		return reply{Error: text(err), Busy: !done}
	case opStop:
		r.stop()
		return reply{}
	}
	return reply{Error: fmt.Sprintf("op %q: want state, set or stop", q.Op)}
}

func text(err error) string {
	if err == nil {
		return ""
	}
	return err.Error()
}

// NotTakenUp is the condition of an engine that could not take up its config.
func NotTakenUp(err error) api.Condition {
	return api.Condition{Code: "ConfigNotTakenUp", Severity: api.Critical, Message: err.Error(), Impacts: "the engine is not as its section wants it"}
}
