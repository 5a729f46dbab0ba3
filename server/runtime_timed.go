package server

import (
	"context"
	"errors"
	"time"

	"github.com/understudy-ha/understudy/clock"
	"github.com/understudy-ha/understudy/controller"
	"github.com/understudy-ha/understudy/store"
)

// timed measures how long decisions take.
type timed struct {
	controller.Stepper
	m *metrics
}

// Step implements controller.Stepper.
func (t *timed) Step(now clock.Instant, ev controller.Event) []controller.Effect {
	began := time.Now()
	effects := t.Stepper.Step(now, ev)
	t.m.stepSeconds.Observe(time.Since(began).Seconds())
	return effects
}

// timedStore measures the transactions of the controller.
type timedStore struct {
	store.Store
	m *metrics
}

// Txn implements store.Store.
func (t *timedStore) Txn(ctx context.Context, conds []store.Cond, ops []store.Op) ([]store.Rev, error) {
	began := time.Now()
	revs, err := t.Store.Txn(ctx, conds, ops)
	t.m.txnSeconds.WithLabelValues(txnOutcome(err)).Observe(time.Since(began).Seconds())
	return revs, err
}

func txnOutcome(err error) string {
	switch {
	case err == nil:
		return "ok"
	case errors.Is(err, store.ErrConflict):
		return "conflict"
	case errors.Is(err, store.ErrUnknown):
		return "unknown"
	}
	return "unavailable"
}
