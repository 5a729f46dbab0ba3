package probe

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"
)

// Scheduler probes many targets, each at its own interval. A probe that is due while the process stalls is left out, not
// caught up with.
//
// A refused or reset connection starts a burst: probes at a fifth of the interval, until one succeeds or Fall results
// have come; another burst starts only after a success. So a process that died is known in a fifth of the time, and
// what counts are still results in a row.
type Scheduler struct {
	results func(Result)
	meter   stallMeter
	stop    context.CancelFunc
	ctx     context.Context

	mu      sync.Mutex
	closed  bool
	targets map[string]*runner
	period  chan time.Duration // of the beat, newest wins
	beating sync.WaitGroup
}

// ErrClosed says that the scheduler was closed.
var ErrClosed = errors.New("probe: scheduler is closed")

// New starts a scheduler without targets. It calls results for each probe that ended: for one target one after the
// other, in the order the probes were sent; for several targets at the same time. results must not block for
// long, and must not call Set or Close. Close the scheduler.
func New(results func(Result)) *Scheduler {
	s := &Scheduler{results: results, targets: map[string]*runner{}, period: make(chan time.Duration, 1)}
	s.ctx, s.stop = context.WithCancel(context.Background())
	s.beating.Go(s.beat)
	return s
}

// Set makes targets the whole set. Targets that did not change go on undisturbed; of those that are gone no result comes
// after Set has returned. A target that is invalid, or an ID that comes twice, refuses the whole set.
func (s *Scheduler) Set(targets []Target) error {
	next := make(map[string]Target, len(targets))
	for _, t := range targets {
		if err := t.Validate(); err != nil {
			return err
		}
		if _, twice := next[t.ID]; twice {
			return fmt.Errorf("probe %s: named twice", t.ID)
		}
		next[t.ID] = t
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closed {
		return ErrClosed
	}
	var gone []*runner
	for id, r := range s.targets {
		if t, keep := next[id]; !keep || t != r.target {
			r.stop()
			gone = append(gone, r)
			delete(s.targets, id)
		}
	}
	for _, r := range gone {
		r.wait()
	}
	s.setPeriod(next)
	for id, t := range next {
		if s.targets[id] == nil {
			s.targets[id] = start(s.ctx, t, &s.meter, s.results)
		}
	}
	return nil
}

// setPeriod lets the beat come often enough for the most sensitive target.
func (s *Scheduler) setPeriod(targets map[string]Target) {
	period := 100 * time.Millisecond
	for _, t := range targets {
		period = min(period, t.tolerance()/3)
	}
	select {
	case <-s.period:
	default:
	}
	s.period <- max(period, 5*time.Millisecond)
}

// beat keeps the stall meter going.
func (s *Scheduler) beat() {
	period := 100 * time.Millisecond
	timer := time.NewTimer(period)
	defer timer.Stop()
	for {
		select {
		case <-s.ctx.Done():
			return
		case period = <-s.period:
		case <-timer.C:
		}
		now := time.Now()
		s.meter.beat(now, now.Add(period))
		timer.Reset(period)
	}
}

// Close ends all probes and waits for them. No result comes after it.
func (s *Scheduler) Close() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.closed = true
	s.stop()
	for id, r := range s.targets {
		r.stop()
		r.wait()
		delete(s.targets, id)
	}
	s.beating.Wait()
}
