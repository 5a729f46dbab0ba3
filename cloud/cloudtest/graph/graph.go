// Package graph runs a plan's steps the way a job does: a step starts when all it
// needs is done and nothing that shares its lock is running; everything else runs
// side by side. It is for tests and measurements; the product's jobs have their own
// durable engine.
package graph

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/understudy-ha/understudy/api"
)

// Timing says when a step ran, counted from the start of the run.
type Timing struct {
	ID         string
	Kind       api.StepKind
	Start, End time.Duration
	Outcome    string
	Err        error
}

// state of a run: which steps are waiting, running and done.
type state struct {
	steps   []api.Step
	waiting map[string]bool
	done    map[string]bool
	locked  map[string]bool
}

// newState refuses a graph with a step named twice or a need that is no step.
func newState(steps []api.Step) (*state, error) {
	s := &state{steps: steps, waiting: map[string]bool{}, done: map[string]bool{}, locked: map[string]bool{}}
	for _, step := range steps {
		if step.ID == "" || s.waiting[step.ID] {
			return nil, fmt.Errorf("graph: step id %q: want one that no other step has", step.ID)
		}
		s.waiting[step.ID] = true
	}
	for _, step := range steps {
		for _, n := range step.Needs {
			if !s.waiting[n] {
				return nil, fmt.Errorf("graph: step %s needs %q: no such step", step.ID, n)
			}
		}
	}
	return s, nil
}

// take gives the steps that may start now, in the plan's order, and marks them as running.
func (s *state) take() []api.Step {
	var out []api.Step
	for _, step := range s.steps {
		blocked := slices.ContainsFunc(step.Needs, func(n string) bool { return !s.done[n] })
		if !s.waiting[step.ID] || blocked || step.Lock != "" && s.locked[step.Lock] {
			continue
		}
		delete(s.waiting, step.ID)
		if step.Lock != "" {
			s.locked[step.Lock] = true
		}
		out = append(out, step)
	}
	return out
}

// finish frees a step's lock; a step that succeeded, or is optional, satisfies those that need it.
func (s *state) finish(step api.Step, ok bool) {
	if step.Lock != "" {
		delete(s.locked, step.Lock)
	}
	if ok || step.Optional {
		s.done[step.ID] = true
	}
}

// Run carries out the steps and returns when all that can run has run, with the timings in order of their ends. The
// error joins those of the steps; steps that need a failed one do not run.
func Run(ctx context.Context, steps []api.Step, do func(context.Context, api.Step) (string, error)) ([]Timing, error) {
	s, err := newState(steps)
	if err != nil {
		return nil, err
	}
	type ending struct {
		step api.Step
		t    Timing
	}
	ends := make(chan ending, len(steps)) // never full: a step ends once
	begin := time.Now()
	var out []Timing
	var errs []error
	running := 0
	for {
		for _, step := range s.take() {
			running++
			go func() {
				t := Timing{ID: step.ID, Kind: step.Kind, Start: time.Since(begin)}
				t.Outcome, t.Err = do(ctx, step)
				t.End = time.Since(begin)
				ends <- ending{step, t}
			}()
		}
		if running == 0 {
			break
		}
		e := <-ends
		running--
		s.finish(e.step, e.t.Err == nil)
		out = append(out, e.t)
		if e.t.Err != nil {
			errs = append(errs, e.t.Err)
		}
	}
	if len(errs) == 0 && len(s.waiting) > 0 {
		errs = append(errs, fmt.Errorf("graph: %d steps wait for each other", len(s.waiting)))
	}
	return out, errors.Join(errs...)
}

// CriticalPath is how long a run takes if each step takes what cost says and nothing else takes time.
func CriticalPath(steps []api.Step, cost func(api.Step) time.Duration) (time.Duration, error) {
	s, err := newState(steps)
	if err != nil {
		return 0, err
	}
	type running struct {
		step api.Step
		end  time.Duration
	}
	var now time.Duration
	var active []running
	for {
		for _, step := range s.take() {
			active = append(active, running{step, now + cost(step)})
		}
		if len(active) == 0 {
			break
		}
		slices.SortStableFunc(active, func(a, b running) int { return int(a.end - b.end) })
		now = active[0].end
		s.finish(active[0].step, true)
		active = active[1:]
	}
	if len(s.waiting) > 0 {
		return 0, fmt.Errorf("graph: %d steps wait for each other", len(s.waiting))
	}
	return now, nil
}
