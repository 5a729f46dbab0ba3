package recovery

import (
	"testing"

	"github.com/understudy-ha/understudy/api"
)

// TestNoChangeIsForgotten: what changes in the spec while an operation is under way, or was about to be brought out when it began, is
// brought out after it.
func TestNoChangeIsForgotten(t *testing.T) {
	queue := func(v View, n int64) { v.Machine.Spec.QueueBytes = n }
	succeeded := &api.Job{Status: api.JobStatus{Phase: api.Succeeded}}
	for _, op := range []api.OperationKind{api.OpTestFailover, api.OpTestFailoverCleanup, api.OpShutdown, api.OpCommit, api.OpPause} {
		v := view().after()
		switch op {
		case api.OpTestFailoverCleanup:
			v = view().after(api.OpTestFailover)
		case api.OpCommit:
			v = view().after(api.OpFailover)
		}
		v.Request = &api.Request{Kind: api.RequestOperate, By: "o", Operation: &api.Operation{Operation: op}}
		quiet := Decide(v)
		queue(v, 77) // and nobody has been told yet
		d := Decide(v)
		for what, c := range map[string]struct {
			d     Decision
			wants bool
		}{"in peace": {quiet, false}, "beside a change": {d, op != api.OpPause}} {
			w := v
			w.Request, w.Job = nil, succeeded
			if what == "in peace" {
				queue(w, view().Machine.Spec.QueueBytes)
			} else {
				queue(w, 77)
			}
			w.Assignment = &api.Assignment{Generation: v.Generation, Machine: c.d.Next, Wanted: c.d.Wanted}
			if got := Decide(w).Kind == api.JobRepair; got != c.wants {
				t.Errorf("%s %s: a repair follows: %v, want %v", op, what, got, c.wants)
			}
		}
	}
}

// TestBindForgetsNoChange: what a job finds out does not hide what has changed since it was planned.
func TestBindForgetsNoChange(t *testing.T) {
	v := view().after()
	o := &api.Operation{Operation: api.OpFailover}
	next := v.next(o)
	v.Assignment = &api.Assignment{Generation: v.Generation, Machine: next, Wanted: v.Digest(next)}
	found := &api.Job{Status: api.JobStatus{Steps: []api.Step{{ID: stepChoose, State: api.StepDone, Point: &api.RecoveryPoint{ID: "p", Stream: "u-1", Seq: 42}}}}}
	if a := v.Bind(found); a == nil || a.Machine.Run.Point == nil || a.Wanted != v.Digest(a.Machine) {
		t.Fatalf("bound: %+v", a)
	}
	v.Machine.Spec.Recovery.Listen = "tcp:0.0.0.0:10809"
	if a := v.Bind(found); a == nil || a.Machine.Run.Point == nil || a.Wanted == v.Digest(a.Machine) {
		t.Errorf("bound after a change: %+v", a)
	}
}

// TestWithoutItsJob: a machine whose job nobody remembers is put right where a node is known to differ, and not otherwise.
func TestWithoutItsJob(t *testing.T) {
	v := view().after()
	v.Job, v.Assignment.Wanted = nil, "other"
	if d := Decide(v); d.Kind != "" {
		t.Errorf("%s begins", d.Kind)
	}
	v.Astray = []string{"host1 has protect at generation 0"}
	if d := Decide(v); d.Kind != api.JobRepair {
		t.Errorf("%q begins, want a repair", d.Kind)
	}
}

// TestALeftProcessServerGoesOn: it takes the stream until the source was told of the next one.
func TestALeftProcessServerGoesOn(t *testing.T) {
	v := view().after()
	takes := func(ps *api.ProcessServer) bool {
		return len(ProcessServer(ps, []View{v}).Section.ProcessServer.Streams) == 1
	}
	job := func() *api.Job {
		steps := v.Plan(nil, v.machine())
		for i := range steps {
			steps[i].State = api.StepDone
		}
		return &api.Job{Status: api.JobStatus{Phase: api.Running, Steps: steps}}
	}
	v.Assignment = v.Bind(job())
	if via := v.machine().Via; len(via) != 1 || via[0] != "10.0.0.5:9443" {
		t.Fatalf("ships via %v", via)
	}
	old := v.ProcessServer
	next := *old
	next.Header, next.Spec.Address = head(api.KindProcessServer, "ps3"), "10.0.0.6:9443"
	v.ProcessServer, v.Machine.Spec.ProcessServer = &next, "ps3"
	if !takes(old) || !takes(&next) {
		t.Errorf("before the source is told: the old one takes it: %v, the new one: %v", takes(old), takes(&next))
	}
	v.Assignment = v.Bind(job())
	if takes(old) || !takes(&next) {
		t.Errorf("after: the old one takes it: %v, the new one: %v", takes(old), takes(&next))
	}
}

// TestARetryRepeatsNothing: not even what an earlier try of the same operation has done.
func TestARetryRepeatsNothing(t *testing.T) {
	v := PlanView{Plan: &api.RecoveryPlan{Header: head(api.KindRecoveryPlan, "shop"), Spec: api.RecoveryPlanSpec{Groups: []api.PlanGroup{
		{Name: "g", Type: api.GroupBoot, Before: []api.PlanAction{{Name: "a", Webhook: "http://x/"}, {Name: "b", Webhook: "http://x/"}, {Name: "c", Webhook: "http://x/"}}}}}}}
	v.Assignment = &api.Assignment{Plan: &api.PlanAssignment{Operation: api.Operation{Operation: api.OpFailover}}}
	steps := v.Steps(&v.Assignment.Plan.Operation)
	for try, want := range []int{2, 1} {
		steps[0].State = api.StepDone
		v.Job = &api.Job{Header: head(api.KindJob, "j"), Status: api.JobStatus{Phase: api.Blocked, Steps: steps}}
		v.Request = &api.Request{Kind: api.RequestRetry, To: "j"}
		d := DecidePlan(v)
		if d.Refused != "" || len(d.Steps) != want || len(d.Steps[0].Needs) != 0 {
			t.Fatalf("try %d: %s, %s", try, d.Refused, show(d.Steps))
		}
		v.Assignment, steps = &api.Assignment{Plan: d.Next}, d.Steps
	}
}

// TestNobodyIsAskedToShutDownASiteThatIsGone: a plan does not wait for it.
func TestNobodyIsAskedToShutDownASiteThatIsGone(t *testing.T) {
	for gone, want := range map[string]int{"": 2, "host1": 1} {
		v := PlanView{Machines: map[string]View{"web": view(gone).after()}, Plan: &api.RecoveryPlan{Header: head(api.KindRecoveryPlan, "shop"),
			Spec: api.RecoveryPlanSpec{Groups: []api.PlanGroup{{Name: "s", Type: api.GroupShutdown, Items: []api.PlanItem{{Machine: "web"}}},
				{Name: "b", Type: api.GroupBoot, Items: []api.PlanItem{{Machine: "web"}}}}}}}
		if steps := v.Steps(&api.Operation{Operation: api.OpFailover, ShutdownSource: true}); len(steps) != want {
			t.Errorf("%q is gone: %s", gone, show(steps))
		}
	}
}

// TestLeftovers: only what is known to be of a machine that was deleted, or of an earlier one of the name, is taken away.
func TestLeftovers(t *testing.T) {
	v := view().after(api.OpDisable)
	ref := v.Machine.Ref()
	has := api.SectionStatus{Engine: api.EngineProtect, Owner: Owner(ref), Applied: api.Token{Generation: 1}, State: &api.EngineState{Phase: "protected"}}
	if _, ok := Leftover(ref, &v, v.Assignment, "host1", has); ok {
		t.Error("a machine that is there loses its disks")
	}
	s, ok := Leftover(ref, nil, v.Assignment, "host1", has)
	if !ok || s.Generation != 1 || s.Protect == nil || s.Protect.Mode != "discard" || s.Protect.UID != "u" {
		t.Errorf("a deleted machine: %v, %+v", ok, s)
	}
	protected := view().after()
	if _, ok := Leftover(ref, nil, protected.Assignment, "host1", has); ok {
		t.Error("a machine that nobody disabled")
	}
	has.State = &api.EngineState{Phase: "discarded"}
	if _, ok := Leftover(ref, nil, v.Assignment, "host1", has); ok {
		t.Error("what has gone already")
	}
	// Another machine of the name; the earlier one had come home, and was run in place.
	v.Machine.Spec.UID = "w"
	has = api.SectionStatus{Engine: api.EngineSite, Owner: Owner(ref), Applied: api.Token{Generation: 1}, State: &api.EngineState{Phase: "answering"}}
	if _, ok := Leftover(ref, &v, v.Assignment, "host1", has); ok {
		t.Error("before the new machine has begun")
	}
	v.Generation = 7
	v.Assignment = &api.Assignment{Generation: 7, Machine: v.first()}
	if s, ok := Leftover(ref, &v, v.Assignment, "host1", has); !ok || s.Site == nil || s.Site.Mode != "discard" || !s.Site.InPlace {
		t.Errorf("an earlier machine's run: %v, %+v", ok, s)
	}
	has.Applied.Generation = 7
	if _, ok := Leftover(ref, &v, v.Assignment, "host1", has); ok {
		t.Error("a run of the new machine")
	}
	has = api.SectionStatus{Engine: api.EngineProtect, Owner: Owner(ref), Applied: api.Token{Generation: 1}}
	if _, ok := Leftover(ref, &v, v.Assignment, "host1", has); ok {
		t.Error("what the new machine is to have there is left to its job")
	}
}
