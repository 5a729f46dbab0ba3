package controller

import (
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/understudy-ha/understudy/api"
	"github.com/understudy-ha/understudy/health"
	"github.com/understudy-ha/understudy/store"
)

func TestAFailoverIsStoredBeforeItHappens(t *testing.T) {
	w := newWorld(t)
	w.up(nil)
	w.probe("a", health.Fail, 3)
	w.pass(time.Second)
	a := w.assignment()
	if a.Active != "b" || a.Generation != 2 || a.Previous != "a" {
		t.Fatalf("assignment %+v, want b, generation 2, previous a", a)
	}
	j := w.job(a.Job)
	if j.Status.Phase != api.Succeeded || j.Spec.Kind != api.JobFailover {
		t.Fatalf("job %s %s: %s", j.Spec.Kind, j.Status.Phase, j.Status.Message)
	}
	intent := slices.Index(w.log, string(AfterIntent))
	push := slices.IndexFunc(w.log, func(s string) bool { return strings.HasPrefix(s, "push") })
	if intent < 0 || push < intent {
		t.Fatalf("a push came before its intent: %v", w.log)
	}
	for _, r := range []string{"default/edge", "default/core"} {
		if via := w.applied[r][0].Routes.Routes[0].Via; via != "10.0.1.2" {
			t.Errorf("%s routes via %s, want 10.0.1.2", r, via)
		}
	}
	if w := j.Status.Timeline[0].What; w != "detect" {
		t.Errorf("timeline begins with %s, want detect", w)
	}
}

func TestNothingMovesOntoAMemberNotKnownHealthy(t *testing.T) {
	w := newWorld(t)
	w.up(nil)
	w.probe("b", health.Fail, 3)
	w.probe("a", health.Fail, 3)
	w.pass(5 * time.Second)
	if a := w.assignment(); a.Active != "a" {
		t.Fatalf("moved to %s, which is down", a.Active)
	}
	w.put(api.RequestKey(dmz), api.Request{Kind: api.RequestFailover, To: "b", By: "ann", ID: "1"})
	w.pass(time.Second)
	if _, still := w.data[api.RequestKey(dmz)]; still || !slices.Contains(w.log, "event RequestRefused") {
		t.Fatalf("the request was not refused: %v", w.log)
	}
	if a := w.assignment(); a.Active != "a" {
		t.Fatalf("moved to %s on request, which is down", a.Active)
	}
}

func TestASuccessorResumesForward(t *testing.T) {
	w := newWorld(t)
	w.up(nil)
	w.mute["default/core"] = true
	w.probe("a", health.Fail, 3)
	w.pass(time.Second)
	if a := w.assignment(); a.Active != "b" {
		t.Fatalf("active %s, want b", a.Active)
	}
	w.mute["default/core"] = false
	w.start() // a new life that knows nothing
	w.pass(5 * time.Second)
	w.probe("b", health.OK, 10)
	w.pass(2 * time.Second)
	j := w.job(w.assignment().Job)
	if a := w.assignment(); a.Active != "b" || j.Status.Phase != api.Succeeded || len(j.Status.Epochs) != 2 {
		t.Fatalf("active %s, job %s by epochs %v; want b, Succeeded by two", a.Active, j.Status.Phase, j.Status.Epochs)
	}
	if via := w.applied["default/core"][0].Routes.Routes[0].Via; via != "10.0.1.2" {
		t.Errorf("core routes via %s, want 10.0.1.2", via)
	}
}

func TestADeadTargetSupersedesTheJob(t *testing.T) {
	w := newWorld(t)
	w.up(nil)
	w.mute["default/core"] = true
	w.put(api.RequestKey(dmz), api.Request{Kind: api.RequestFailover, By: "ann", ID: "1"})
	w.pass(500 * time.Millisecond)
	first := w.assignment()
	if first.Active != "b" {
		t.Fatalf("active %s, want b", first.Active)
	}
	w.probe("b", health.Fail, 3)
	w.mute["default/core"] = false
	w.pass(3 * time.Second)
	if a := w.assignment(); a.Active != "a" || a.Generation != first.Generation+1 {
		t.Fatalf("assignment %+v, want a again, one generation later", a)
	}
	if j := w.job(first.Job); j.Status.Phase != api.Superseded {
		t.Fatalf("first job is %s, want Superseded", j.Status.Phase)
	}
	if j := w.job(w.assignment().Job); j.Status.Phase != api.Succeeded {
		t.Fatalf("second job is %s: %s", j.Status.Phase, j.Status.Message)
	}
}

func TestAnUnknownOutcomeIsReadBeforeAnythingElse(t *testing.T) {
	for _, err := range []error{store.ErrUnknown, store.ErrUnavailable, store.ErrConflict} {
		w := newWorld(t)
		w.up(nil)
		w.failTxn = err
		w.probe("a", health.Fail, 3)
		w.pass(3 * time.Second)
		if a := w.assignment(); a.Active != "b" || a.Generation != 2 {
			t.Errorf("after %v: assignment %+v, want b at generation 2", err, a)
		}
	}
}

func TestAnAbsentRouterBlocksTheJobAndItsReturnEndsThat(t *testing.T) {
	w := newWorld(t)
	w.up(nil)
	w.agents["default/core"] = false
	w.push(AgentGone{Node: "default/core", Session: w.core.agents["default/core"].session})
	w.probe("a", health.Fail, 3)
	w.pass(15 * time.Second)
	blocked := w.assignment().Job
	if j := w.job(blocked); j.Status.Phase != api.Blocked {
		t.Fatalf("job is %s, want Blocked", j.Status.Phase)
	}
	w.agents["default/core"] = true
	w.push(AgentHello{Node: "default/core", Session: 1 << 62, Life: "l"})
	w.pass(3 * time.Second)
	a := w.assignment()
	if j := w.job(a.Job); a.Job == blocked || j.Spec.Kind != api.JobRepair || j.Status.Phase != api.Succeeded {
		t.Fatalf("job %s is a %s and %s, want a Repair that Succeeded", a.Job, j.Spec.Kind, j.Status.Phase)
	}
	if via := w.applied["default/core"][0].Routes.Routes[0].Via; via != "10.0.1.2" {
		t.Errorf("core routes via %s, want 10.0.1.2", via)
	}
}

func TestDriftIsRepairedUnlessPaused(t *testing.T) {
	w := newWorld(t)
	w.up(nil)
	core := w.core.agents["default/core"]
	w.push(AgentReport{Node: "default/core", Session: core.session})
	w.pass(40 * time.Second)
	if j := w.job(w.assignment().Job); j.Spec.Kind != api.JobRepair {
		t.Fatalf("latest job is a %s, want Repair; %v", j.Spec.Kind, w.log)
	}
	var jobs int
	for key := range w.data {
		if strings.HasPrefix(key, "obj/Job/") {
			jobs++
		}
	}
	if jobs != 2 {
		t.Errorf("%d jobs, want the first and one repair", jobs)
	}
}

func TestAFailedHookBlocksAPlannedMove(t *testing.T) {
	w := newWorld(t)
	w.up(func(g *api.ApplianceGroup) { g.Spec.Hooks.Before = []api.Hook{{Name: "ask", Exec: "ask"}} })
	w.execErr["hook:before:ask"] = errBroken
	w.put(api.RequestKey(dmz), api.Request{Kind: api.RequestFailover, By: "ann", ID: "1"})
	w.pass(20 * time.Second)
	if len(w.applied["default/edge"]) > 0 && w.applied["default/edge"][0].Generation > 1 {
		t.Fatalf("edge was moved in spite of the hook")
	}
	w.probe("b", health.OK, 1)
	w.log = nil
}

func TestCancelStopsAtABoundaryAndSaysWhatHolds(t *testing.T) {
	w := newWorld(t)
	w.up(nil)
	w.mute["default/core"] = true
	w.put(api.RequestKey(dmz), api.Request{Kind: api.RequestFailover, By: "ann", ID: "1"})
	w.pass(500 * time.Millisecond)
	name := w.assignment().Job
	w.agents["default/core"] = false
	w.push(AgentGone{Node: "default/core", Session: w.core.agents["default/core"].session})
	w.settle()
	w.put(api.RequestKey(dmz), api.Request{Kind: api.RequestCancel, To: name, By: "ann", ID: "2"})
	w.pass(time.Second)
	j := w.job(name)
	if j.Status.Phase != api.Cancelled || !strings.Contains(j.Status.Message, "done: node:edge; may have happened: node:core") {
		t.Fatalf("job is %s: %q", j.Status.Phase, j.Status.Message)
	}
	w.pass(time.Minute)
	if w.assignment().Job != name {
		t.Fatal("drift repair went on with what an operator cancelled")
	}
}

func TestStopGivesTheLeaseBack(t *testing.T) {
	w := newWorld(t)
	w.up(nil)
	w.push(Stop{})
	w.pass(2 * time.Second)
	if !strings.Contains(string(w.data["lead/beat"].Value), `"released":true`) {
		t.Fatalf("beat is %s, want released", w.data["lead/beat"].Value)
	}
	before := w.now.Mono
	w.start()
	w.pass(time.Second)
	if !w.core.leading {
		t.Fatalf("no leader %v after a clean stop", w.now.Mono-before)
	}
}
