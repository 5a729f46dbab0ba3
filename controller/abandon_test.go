package controller

import (
	"strings"
	"testing"
	"time"

	"github.com/understudy-ha/understudy/api"
	"github.com/understudy-ha/understudy/health"
	"github.com/understudy-ha/understudy/store"
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

// A leader that had led before once kept to the status that it wrote then, whatever another one had written since.
func TestANewLeaderWritesItsStatus(t *testing.T) {
	w := newWorld(t)
	w.up(nil)
	w.pass(2 * time.Second)
	w.cut = true
	w.pass(10 * time.Second)
	if w.core.leading {
		t.Fatal("still leads without a store")
	}
	key := api.StatusKey(dmz)
	w.data[key] = store.Entry{Key: key, Value: []byte(`{"message":"another leader's"}`), Rev: w.rev}
	w.cut = false
	w.pass(10 * time.Second)
	if got := string(w.data[key].Value); strings.Contains(got, "another leader's") {
		t.Fatalf("status %s", got)
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

// What the watch had shown was once forgotten again by a read that was older, so that a job was never seen any more.
func TestAnOldReadForgetsNothing(t *testing.T) {
	w := newWorld(t)
	w.up(nil)
	w.failTxn, w.slow = store.ErrUnknown, true
	w.probe("a", health.Fail, 3)
	w.pass(200 * time.Millisecond)
	w.transact(w.failed) // late
	w.settle()
	w.slow = false
	for _, r := range w.answers {
		w.push(r)
	}
	w.pass(2 * time.Second)
	if j := w.job(w.assignment().Job); j.Status.Phase != api.Succeeded || j.Spec.To != "b" {
		t.Fatalf("%s to %s is %s, want it to have moved to b", j.Metadata.Name, j.Spec.To, j.Status.Phase)
	}
}

// What was written here was once forgotten by a batch that the watch had gathered before, so that a running job was
// not superseded.
func TestAnOldBatchForgetsNoOwnWrite(t *testing.T) {
	const hook = "hook:before:ask"
	w := newWorld(t)
	w.up(func(g *api.ApplianceGroup) { g.Spec.Hooks.Before = []api.Hook{{Name: "ask", Exec: "ask"}} })
	w.held[hook] = true
	before := store.Batch{Complete: true, Changes: w.changes()}
	w.deaf = true
	w.put(api.RequestKey(dmz), api.Request{Kind: api.RequestFailover, By: "ann", ID: "1"})
	w.pass(time.Second)
	first := w.assignment().Job
	w.push(Changed{Batch: before})
	w.probe("b", health.Fail, 3)
	w.pass(time.Second)
	if j := w.job(first); j.Status.Phase != api.Superseded {
		t.Fatalf("%s is %s beside %s, want Superseded", first, j.Status.Phase, w.assignment().Job)
	}
}

// A request that came before the store had answered that the one before it was taken away was once forgotten with that one, and never
// answered.
func TestALateAnswerForgetsNoNewRequest(t *testing.T) {
	w := newWorld(t)
	w.up(nil)
	w.late = func() {
		w.put(api.RequestKey(dmz), api.Request{Kind: api.RequestFailover, To: "a", By: "bob", ID: "2"})
	}
	w.put(api.RequestKey(dmz), api.Request{Kind: api.RequestFailover, To: "b", By: "ann", ID: "1"})
	w.pass(10 * time.Second)
	if _, waits := w.data[api.RequestKey(dmz)]; waits || w.late != nil {
		t.Fatalf("bob's request waits: %v, with %+v", waits, w.assignment())
	}
}

// A leader that gave its lease back at once once left a push behind in a slow agent's socket: its tick was still good, so
// the agent let it in while the successor led.
func TestStopOutwaitsUnansweredPushes(t *testing.T) {
	released := func(w *world) bool { return strings.Contains(string(w.data["lead/beat"].Value), `"released":true`) }
	w := newWorld(t)
	w.up(nil)
	w.mute["default/edge"] = true
	w.put(api.RequestKey(dmz), api.Request{Kind: api.RequestFailover, By: "ann", ID: "1"})
	w.pass(10200 * time.Millisecond)
	if j := w.job(w.assignment().Job); j.Status.Phase != api.Blocked {
		t.Fatalf("%s is %s, want Blocked by the node that does not answer", j.Metadata.Name, j.Status.Phase)
	}
	w.push(Stop{})
	w.pass(testTiming.Wait() - 1500*time.Millisecond)
	if released(w) {
		t.Fatal("gave the lease back beside an unanswered push")
	}
	w.pass(3 * time.Second)
	if !released(w) || !w.core.stopped {
		t.Fatal("did not stop once the push was too old")
	}
}
