package server

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/understudy-ha/understudy/api"
	"github.com/understudy-ha/understudy/cloud"
	"github.com/understudy-ha/understudy/controller"
	"github.com/understudy-ha/understudy/store"
)

// readAfresh answers a Read; it gives everything or an error.
func readAfresh(ctx context.Context, st store.Store, e controller.Read) controller.Event {
	done := controller.ReadDone{ID: e.ID}
	for _, key := range e.Keys {
		entry, err := st.Get(ctx, key)
		switch {
		case err == nil:
			done.Entries = append(done.Entries, entry)
		case !errors.Is(err, store.ErrNotFound):
			return controller.ReadDone{ID: e.ID, Err: err}
		}
	}
	for _, prefix := range e.Prefixes {
		entries, err := st.List(ctx, prefix)
		if err != nil {
			return controller.ReadDone{ID: e.ID, Err: err}
		}
		done.Entries = append(done.Entries, entries...)
	}
	return done
}

// execute carries out one step that needs no agent.
func (l *loop) execute(ctx context.Context, e controller.Execute) controller.Event {
	if e.Step.Kind == api.StepChoose {
		return l.choose(ctx, e)
	}
	outcome, err := l.carryOut(ctx, e)
	return controller.StepDone{Job: e.Job.Metadata.Name, Step: e.Step.ID, Attempt: e.Attempt, Outcome: outcome, Err: err,
		Permanent: errors.Is(err, cloud.ErrPermanent)}
}

func (l *loop) choose(ctx context.Context, e controller.Execute) controller.Event {
	done := controller.StepDone{Job: e.Job.Metadata.Name, Step: e.Step.ID, Attempt: e.Attempt}
	if done.Point, done.Err = l.ports.choose(ctx, e); done.Err == nil {
		done.Outcome = fmt.Sprintf("%s of %s (%s), position %d", done.Point.ID, done.Point.At.UTC().Format(time.RFC3339Nano), done.Point.Consistency, done.Point.Seq)
	}
	done.Permanent = errors.Is(done.Err, cloud.ErrPermanent)
	return done
}

func (l *loop) carryOut(ctx context.Context, e controller.Execute) (string, error) {
	if e.Step.Kind == api.StepHook {
		return l.ports.hook(ctx, e)
	}
	if e.Group == nil {
		return "", fmt.Errorf("%w: step %s of kind %s: this controller cannot carry it out", cloud.ErrPermanent, e.Step.ID, e.Step.Kind)
	}
	d, err := l.ports.driver(e.Provider)
	if err != nil {
		return "", err
	}
	if e.Step.Kind != api.StepVerify {
		return d.Do(ctx, e.Token, e.Step)
	}
	state, err := d.Observe(ctx, e.Group)
	if err != nil {
		return "", err
	}
	if astray := state.Astray(e.Job.Spec.To); len(astray) > 0 {
		return "", fmt.Errorf("%s is on %q, want %s (%s)", astray[0].Thing, astray[0].Member, e.Job.Spec.To, astray[0].Detail)
	}
	return fmt.Sprintf("%d addresses and routes read back", len(state.Holdings)), nil
}

// observe reads where a group's things are.
func (l *loop) observe(ctx context.Context, e controller.Observe) controller.Event {
	done := controller.Observed{Group: e.Group.Ref()}
	d, err := l.ports.driver(e.Provider)
	if err != nil {
		done.Err = err
		return done
	}
	done.State, done.Err = d.Observe(ctx, e.Group)
	return done
}
