package engines

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"sync"

	"github.com/understudy-ha/understudy/api"
)

// Engine is one engine at work. Set is called by one goroutine at a time, State by any.
type Engine interface {
	// Set makes the engine work towards a desired state, whole; it may be repeated. It returns when it is known that the config can be
	// taken up; what takes time goes on, and State tells of it.
	Set(ctx context.Context, c Config) error
	// State says how the engine is now.
	State() api.EngineState
	// Close ends it in good order, within ctx.
	Close(ctx context.Context) error
}

// Maker makes an engine that has nothing to do yet.
type Maker func(ctx context.Context, home Home) (Engine, error)

// Run runs one engine in its home until ctx ends or it is told to stop.
func Run(ctx context.Context, h Home, make Maker) (err error) {
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
	r := &runner{home: h, engine: e, stop: cancel, ctx: ctx}
	r.set(c)
	l, err := listenControl(h)
	if err != nil {
		return errors.Join(err, e.Close(context.WithoutCancel(ctx)))
	}
	slog.Info("engine is ready", "engine", c.Section.Engine, "owner", c.Section.Owner)
	serveControl(ctx, l, r.handle)
	return e.Close(context.WithoutCancel(ctx))
}

// runner answers control requests.
type runner struct {
	home   Home
	engine Engine
	ctx    context.Context
	stop   func()

	mu     sync.Mutex
	failed error // of the newest config
}

func (r *runner) set(c Config) error {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.failed = r.engine.Set(r.ctx, c)
	if r.failed != nil {
		slog.Error("config not taken up", "err", r.failed)
	}
	return r.failed
}

func (r *runner) handle(q request) reply {
	switch q.Op {
	case opState:
		s := r.engine.State()
		return reply{State: &s}
	case opSet:
		c, err := r.home.ReadConfig()
		if err == nil {
			err = r.set(c)
		}
		return reply{Error: text(err)}
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
