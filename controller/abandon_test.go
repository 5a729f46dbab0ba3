package controller

import (
	"testing"
	"time"

	"github.com/understudy-ha/understudy/api"
	"github.com/understudy-ha/understudy/health"
)

// A write whose outcome could not be read before leadership ended once kept its group from being written ever again.
func TestALostLeaderForgetsItsUnfinishedWrites(t *testing.T) {
	w := newWorld(t)
	w.up(nil)
	w.cut = true
	w.probe("a", health.Fail, 3)
	w.pass(10 * time.Second)
	if w.core.leading {
		t.Fatal("still leads without a store")
	}
	w.cut = false
	w.pass(10 * time.Second)
	if a := w.assignment(); a.Active != "b" {
		t.Fatalf("assignment %+v, want b once the store is back", a)
	}
}

// A controller that was told to stop while it followed must not begin to lead.
func TestAStoppedFollowerDoesNotLead(t *testing.T) {
	w := newWorld(t)
	w.up(nil)
	w.cut = true
	w.probe("a", health.Fail, 3)
	w.pass(10 * time.Second)
	w.push(Stop{})
	w.pass(time.Second)
	w.cut = false
	w.pass(10 * time.Second)
	if w.core.leading || !w.core.stopped {
		t.Fatalf("leading %v, stopped %v, want false, true", w.core.leading, w.core.stopped)
	}
}

// An answer for a superseded job once counted for its successor's step of the same name, when the answer to the
// transaction that superseded it had been lost.
func TestAnAnswerCountsForItsOwnJobOnly(t *testing.T) {
	const hook = "hook:before:ask"
	w := newWorld(t)
	w.up(func(g *api.ApplianceGroup) { g.Spec.Hooks.Before = []api.Hook{{Name: "ask", Exec: "ask"}} })
	w.held[hook] = true
	w.put(api.RequestKey(dmz), api.Request{Kind: api.RequestFailover, By: "ann", ID: "1"})
	w.pass(time.Second)
	if len(w.heldExec) != 1 {
		t.Fatalf("%d hooks under way, want 1", len(w.heldExec))
	}
	w.lost = func() {
		for _, h := range w.heldExec {
			w.push(StepDone{Job: h.Job.Metadata.Name, Step: h.Step.ID, Attempt: h.Attempt})
		}
		w.heldExec = nil
	}
	w.probe("b", health.Fail, 3)
	w.pass(time.Second)
	if len(w.heldExec) != 1 || w.heldExec[0].Job.Metadata.Name != w.assignment().Job {
		t.Fatalf("under way: %+v, want the hook of %s", w.heldExec, w.assignment().Job)
	}
}

// A step of a superseded job that waited for its next attempt once began again under its successor's name.
func TestNoAttemptOutlivesItsJob(t *testing.T) {
	const hook = "hook:before:ask"
	w := newWorld(t)
	w.up(func(g *api.ApplianceGroup) { g.Spec.Hooks.Before = []api.Hook{{Name: "ask", Exec: "ask"}} })
	w.execErr[hook] = errBroken
	w.put(api.RequestKey(dmz), api.Request{Kind: api.RequestFailover, By: "ann", ID: "1"})
	w.pass(5 * time.Second)
	old := w.assignment().Job
	if j := w.job(old); j.Status.Phase != api.Running {
		t.Fatalf("%s is %s, want it trying its hook again", old, j.Status.Phase)
	}
	w.held[hook] = true
	w.heldExec = nil
	w.lost = func() { w.cut = true }
	w.probe("b", health.Fail, 3)
	w.pass(2 * time.Second)
	if len(w.heldExec) != 0 {
		t.Fatalf("%s of %s runs under %s", hook, old, w.heldExec[0].Job.Metadata.Name)
	}
}
