// Package cloudtest is the suite that every cloud must pass: what a plan looks like,
// that a move lands, that doing it twice does nothing, that what belongs to others
// survives, that an old leadership is refused, and that a half-done move goes on
// forward.
//
// It knows no cloud. Each brings a Harness.
package cloudtest

import (
	"context"
	"errors"
	"fmt"
	"reflect"
	"testing"
	"time"

	"github.com/understudy-ha/understudy/api"
	"github.com/understudy-ha/understudy/cloud"
	"github.com/understudy-ha/understudy/cloud/cloudtest/graph"
)

// Harness is one cloud, fresh for each test, with a group whose addresses and routes are on Holder.
type Harness struct {
	Planner cloud.Planner
	Driver  cloud.Driver
	// Do carries out a step. Default: Driver.Do. A cloud whose steps are carried out by agents brings its own.
	Do func(context.Context, api.Token, api.Step) (string, error)
	// Group with at least two members, and its provider, both defaulted.
	Group    *api.ApplianceGroup
	Provider *api.Provider
	// Peers as in cloud.Move.
	Peers map[string]string
	// Holder has everything at the start; Other is the member it is moved to.
	Holder, Other string
	// Bystanders gives as text everything near the group's things that must not change by a move: other routes of the
	// tables, other settings of the NICs. nil if there are none.
	Bystanders func() string
	// Writes counts the changes made to the world so far. nil leaves out the no-op test's count.
	Writes func() int
	// Patience bounds one run. Default 30s.
	Patience time.Duration
}

// Run runs the suite. Each test gets its own harness.
func Run(t *testing.T, fresh func(*testing.T) *Harness) {
	tests := []struct {
		name string
		f    func(*testing.T, *Harness)
	}{
		{"PlanIsSound", planIsSound},
		{"MovesThereAndBack", movesThereAndBack},
		{"MovesFromUnknown", movesFromUnknown},
		{"TwiceIsNoOp", twiceIsNoOp},
		{"BystandersSurvive", bystandersSurvive},
		{"RefusesOldEpoch", refusesOldEpoch},
		{"RefusesOldGeneration", refusesOldGeneration},
		{"ResumesForward", resumesForward},
		{"TurnsAround", turnsAround},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) { test.f(t, fresh(t)) })
	}
	t.Run("ResumesAfterCrash", func(t *testing.T) { resumesAfterCrash(t, fresh) })
}

func token(epoch, generation int64) api.Token {
	return api.Token{ClusterID: "cloudtest", Epoch: epoch, Generation: generation}
}

func (h *Harness) move(from, to string, generation int64) cloud.Move {
	return cloud.Move{Group: h.Group, Provider: h.Provider, From: from, To: to, Generation: generation, Planned: true, Peers: h.Peers}
}

func (h *Harness) plan(t *testing.T, m cloud.Move) []api.Step {
	t.Helper()
	steps, err := h.Planner.Plan(m)
	if err != nil {
		t.Fatalf("plan %q to %q: %v", m.From, m.To, err)
	}
	return steps
}

func (h *Harness) context(t *testing.T) context.Context {
	d := h.Patience
	if d == 0 {
		d = 30 * time.Second
	}
	ctx, stop := context.WithTimeout(t.Context(), d)
	t.Cleanup(stop)
	return ctx
}

// do carries out one step, again while the error may pass.
func (h *Harness) do(ctx context.Context, tok api.Token, s api.Step) (string, error) {
	do := h.Do
	if do == nil {
		do = h.Driver.Do
	}
	for {
		outcome, err := do(ctx, tok, s)
		if err == nil || errors.Is(err, cloud.ErrPermanent) || errors.Is(err, cloud.ErrStale) || ctx.Err() != nil {
			return outcome, err
		}
		time.Sleep(10 * time.Millisecond)
	}
}

func (h *Harness) run(ctx context.Context, tok api.Token, steps []api.Step) error {
	_, err := graph.Run(ctx, steps, func(ctx context.Context, s api.Step) (string, error) { return h.do(ctx, tok, s) })
	return err
}

// mustMove plans and runs a move and looks that everything is on its target.
func (h *Harness) mustMove(t *testing.T, from, to string, tok api.Token) {
	t.Helper()
	ctx := h.context(t)
	if err := h.run(ctx, tok, h.plan(t, h.move(from, to, tok.Generation))); err != nil {
		t.Fatalf("move %q to %q: %v", from, to, err)
	}
	h.mustBeOn(t, to)
}

func (h *Harness) mustBeOn(t *testing.T, member string) {
	t.Helper()
	s, err := h.Driver.Observe(h.context(t), h.Group)
	if err != nil {
		t.Fatalf("observe: %v", err)
	}
	if want := len(cloud.Claims(h.Group)); len(s.Holdings) != want {
		t.Fatalf("observe gives %d holdings, want %d: %+v", len(s.Holdings), want, s.Holdings)
	}
	if s.On() != member {
		t.Fatalf("everything should be on %s; astray: %s", member, show(s.Astray(member)))
	}
}

func show(hs []cloud.Holding) string {
	out := ""
	for _, h := range hs {
		out += fmt.Sprintf("\n  %s on %q (%s)", h.Thing, h.Member, h.Detail)
	}
	return out
}

func planIsSound(t *testing.T, h *Harness) {
	for _, from := range []string{"", h.Holder} {
		m := h.move(from, h.Other, 1)
		steps := h.plan(t, m)
		if again := h.plan(t, m); !reflect.DeepEqual(steps, again) {
			t.Errorf("from %q: the same move gives another plan", from)
		}
		ids := map[string]bool{}
		for _, s := range steps {
			if s.ID == "" || ids[s.ID] {
				t.Errorf("from %q: step id %q is empty or there twice", from, s.ID)
			}
			ids[s.ID] = true
			if s.State != api.StepPending {
				t.Errorf("step %s: state %q, want Pending", s.ID, s.State)
			}
			if s.Expected <= 0 || s.Worst < s.Expected || s.Deadline < s.Worst {
				t.Errorf("step %s: want 0 < expected %v ≤ worst %v ≤ deadline %v", s.ID, s.Expected, s.Worst, s.Deadline)
			}
		}
		if _, err := graph.CriticalPath(steps, func(s api.Step) time.Duration { return s.Expected.D() }); err != nil {
			t.Errorf("from %q: %v", from, err)
		}
	}
	for _, m := range []cloud.Move{h.move("", "nobody-by-this-name", 1), h.move("nobody-by-this-name", h.Other, 1)} {
		if _, err := h.Planner.Plan(m); err == nil {
			t.Errorf("plan from %q to %q: accepted, want a refusal of the unknown member", m.From, m.To)
		}
	}
}

func movesThereAndBack(t *testing.T, h *Harness) {
	h.mustBeOn(t, h.Holder)
	h.mustMove(t, h.Holder, h.Other, token(1, 1))
	h.mustMove(t, h.Other, h.Holder, token(1, 2))
	h.mustMove(t, h.Holder, h.Other, token(2, 3))
}

func movesFromUnknown(t *testing.T, h *Harness) {
	h.mustMove(t, "", h.Other, token(1, 1))
	h.mustMove(t, "", h.Holder, token(1, 2))
}

func twiceIsNoOp(t *testing.T, h *Harness) {
	h.mustMove(t, h.Holder, h.Other, token(1, 1))
	before := 0
	if h.Writes != nil {
		before = h.Writes()
	}
	h.mustMove(t, h.Holder, h.Other, token(1, 1))
	h.mustMove(t, "", h.Other, token(1, 1))
	if h.Writes != nil && h.Writes() != before {
		t.Errorf("moving to where everything is makes %d changes, want 0", h.Writes()-before)
	}
}

func bystandersSurvive(t *testing.T, h *Harness) {
	if h.Bystanders == nil {
		return
	}
	before := h.Bystanders()
	if before == "" {
		t.Fatal("the harness has no bystanders to look at")
	}
	h.mustMove(t, h.Holder, h.Other, token(1, 1))
	if after := h.Bystanders(); after != before {
		t.Errorf("a move changed what it should not:\nbefore %s\nafter  %s", before, after)
	}
	h.mustMove(t, h.Other, h.Holder, token(1, 2))
	if after := h.Bystanders(); after != before {
		t.Errorf("the move back changed what it should not:\nbefore %s\nafter  %s", before, after)
	}
}

func refusesOldEpoch(t *testing.T, h *Harness) {
	h.mustMove(t, h.Holder, h.Other, token(5, 7))
	h.mustRefuse(t, token(4, 8))
}

func refusesOldGeneration(t *testing.T, h *Harness) {
	h.mustMove(t, h.Holder, h.Other, token(5, 7))
	h.mustRefuse(t, token(5, 6))
}

// mustRefuse looks that an old token moves nothing back.
func (h *Harness) mustRefuse(t *testing.T, old api.Token) {
	t.Helper()
	err := h.run(h.context(t), old, h.plan(t, h.move(h.Other, h.Holder, old.Generation)))
	if !errors.Is(err, cloud.ErrStale) {
		t.Errorf("a move with token %+v after a newer one: %v, want ErrStale", old, err)
	}
	h.mustBeOn(t, h.Other)
}

// resumesForward stops after each number of steps and lets the next leader, who knows nothing, go on.
func resumesForward(t *testing.T, h *Harness) {
	n := len(h.plan(t, h.move(h.Holder, h.Other, 1)))
	generation := int64(0)
	from, to := h.Holder, h.Other
	for stop := range n {
		generation++
		steps := h.plan(t, h.move(from, to, generation))
		if err := h.runFirst(h.context(t), token(generation, generation), steps, stop); err != nil {
			t.Fatalf("first %d steps: %v", stop, err)
		}
		h.mustMove(t, "", to, token(generation+1, generation))
		from, to = to, from
		generation++
	}
}

// turnsAround stops half-way and goes back: the other member has become the target.
func turnsAround(t *testing.T, h *Harness) {
	steps := h.plan(t, h.move(h.Holder, h.Other, 1))
	if err := h.runFirst(h.context(t), token(1, 1), steps, (len(steps)+1)/2); err != nil {
		t.Fatal(err)
	}
	h.mustMove(t, "", h.Holder, token(2, 2))
}

// runFirst runs only the first n steps, one after the other in an order that their needs allow.
func (h *Harness) runFirst(ctx context.Context, tok api.Token, steps []api.Step, n int) error {
	done := map[string]bool{}
	for len(done) < n {
		for _, s := range steps {
			ready := !done[s.ID]
			for _, need := range s.Needs {
				ready = ready && done[need]
			}
			if !ready || len(done) == n {
				continue
			}
			if _, err := h.do(ctx, tok, s); err != nil {
				return err
			}
			done[s.ID] = true
		}
	}
	return nil
}

// resumesAfterCrash abandons a run at several moments, with effects under way, and lets the next leader go on.
func resumesAfterCrash(t *testing.T, fresh func(*testing.T) *Harness) {
	for _, after := range []time.Duration{0, 2 * time.Millisecond, 20 * time.Millisecond, 100 * time.Millisecond} {
		t.Run(after.String(), func(t *testing.T) {
			h := fresh(t)
			ctx, crash := context.WithTimeout(h.context(t), after)
			defer crash()
			_ = h.run(ctx, token(1, 1), h.plan(t, h.move(h.Holder, h.Other, 1))) // may fail anywhere: it is a crash
			h.mustMove(t, "", h.Other, token(2, 1))
		})
	}
}
